//! Measures a slice: what there is to read, and how many rows to request at once. Pure.
//!
//! ClickHouse bounds a block by rows only, while an exporter's memory is bounded in bytes. Sizing
//! blocks for the widest row would make all of them small, because one row in hundreds is many
//! times as wide as the others. So the slice is measured in short intervals of time, and a block
//! has as many rows as fit wherever it starts.

use std::sync::Arc;

use tracelift_core::time::Window;

use super::{filter::Pushdown, merging::Merging, tally::Counts, versions::Versions};

/// Maximum rows per block; more bring no speed.
const MOST: u64 = 2048;
/// Minimum rows per block; fewer cost much speed if only one row is wide.
const LEAST: u64 = 16;
/// Approximate size of a row's other fields, in bytes.
const ROW_BYTES: u64 = 1024;
/// Number of intervals into which a slice's window is divided.
const INTERVALS: i64 = 16_384;

/// A non-empty interval of the slice's window. Each version of a row counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Interval {
    pub(super) rows: u64,
    /// Size of its rows' inline fields, in bytes.
    pub(super) bytes: u64,
    /// Size of its widest row, in bytes.
    pub(super) widest: u64,
}

/// How to read the rows that count.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct ReadPlan {
    pub(super) merging: Merging,
    /// How versions of feedback are merged.
    pub(super) feedback: Merging,
    /// Whether ids of the export also occur at other start times.
    pub(super) moved: bool,
    /// The part of the export's filter that the server evaluates, compiled once for all queries.
    pub(super) pushdown: Option<Arc<Pushdown>>,
}

impl ReadPlan {
    /// How to read only the newest versions.
    pub(super) fn merged(&self) -> Versions {
        match self.merging {
            Merging::Final => Versions::Merged,
            Merging::Ours => Versions::Neighbours,
        }
    }
}

/// What there is to read, and how.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Extent {
    pub(super) plan: ReadPlan,
    pub(super) versions: Versions,
    /// Intervals in time order; `None` if they cannot be measured.
    intervals: Option<Vec<Interval>>,
    /// Rows per interval that the response must contain; `None` if they cannot be counted.
    pub(super) counts: Option<Counts>,
}

impl Extent {
    pub(super) fn of(plan: ReadPlan, versions: Versions, intervals: Vec<(i64, Interval)>) -> Self {
        let counts =
            Some(intervals.iter().map(|(number, interval)| (*number, interval.rows)).collect());
        Self {
            plan,
            versions,
            intervals: Some(intervals.into_iter().map(|(_, interval)| interval).collect()),
            counts,
        }
    }

    /// An extent of rows that cannot be measured and may be unreadable; they are read a few at a
    /// time.
    pub(super) fn unknown(plan: ReadPlan, versions: Versions, counts: Option<Counts>) -> Self {
        Self { plan, versions, intervals: None, counts }
    }

    /// Length of a window's intervals, in microseconds.
    pub(super) fn interval_of(window: Window) -> i64 {
        ((window.end().micros() - window.start().micros()) / INTERVALS).max(1)
    }

    /// Approximate number of rows.
    pub(crate) fn rows(&self) -> u64 {
        self.counts.iter().flatten().map(|(_, rows)| rows).sum()
    }

    /// The largest number of rows, within limits, that hold at most `bytes` wherever they start.
    pub(super) fn block_rows(&self, bytes: u64) -> u64 {
        let Some(intervals) = &self.intervals else { return LEAST };
        let widest = intervals.iter().map(|interval| interval.widest).max().unwrap_or_default();
        let fits = |rows: &u64| {
            rows * ROW_BYTES + (rows * widest).min(heaviest(intervals, *rows)) <= bytes
        };
        std::iter::successors(Some(MOST), |rows| Some(rows / 2))
            .take_while(|rows| *rows > LEAST)
            .find(fits)
            .unwrap_or(LEAST)
    }
}

/// The largest size of this many consecutive rows, wherever they start, in bytes.
fn heaviest(intervals: &[Interval], rows: u64) -> u64 {
    // Rows and bytes before each interval, and finally in total.
    let mut before = vec![(0, 0)];
    for interval in intervals {
        let (rows, bytes) = before[before.len() - 1];
        before.push((rows + interval.rows, bytes + interval.bytes));
    }
    let from = |begin: usize| {
        // Starting from the interval's last row, they extend at most to there.
        let reach = before[begin + 1].0 + rows;
        let last = before.partition_point(|(rows, _)| *rows < reach) - 1;
        before[(last + 1).min(intervals.len())].1 - before[begin].1
    };
    (0..intervals.len()).map(from).max().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MIB: u64 = 1 << 20;

    /// Rows of these widths, `to_a_stretch` per interval.
    fn extent(widths: &[u64], to_a_stretch: usize) -> Extent {
        let interval = |widths: &[u64]| {
            let widest = widths.iter().copied().max().unwrap_or_default();
            Interval { rows: widths.len() as u64, bytes: widths.iter().sum(), widest }
        };
        Extent::of(
            PLAN,
            Versions::Merged,
            (0..).zip(widths.chunks(to_a_stretch).map(interval)).collect(),
        )
    }

    const PLAN: ReadPlan = ReadPlan {
        merging: Merging::Final,
        feedback: Merging::Final,
        moved: false,
        pushdown: None,
    };

    #[test]
    fn a_few_wide_rows_among_many_do_not_make_blocks_small() {
        let widths: Vec<u64> =
            (0..100_000).map(|row| if row % 200 == 7 { 25_000 } else { 1_000 }).collect();
        assert_eq!(extent(&widths, 25).block_rows(8 * MIB), 2048);
        let clustered: Vec<u64> =
            (0..100_000).map(|row| if row < 500 { 25_000 } else { 1_000 }).collect();
        assert_eq!(extent(&clustered, 25).block_rows(8 * MIB), 256);
    }

    #[test]
    fn blocks_have_as_many_rows_as_the_widest_allow_when_stretches_say_less() {
        assert_eq!(extent(&[3 * MIB; 40], 40).block_rows(8 * MIB), 16, "not fewer than that");
        assert_eq!(extent(&[100_000; 1000], 1000).block_rows(8 * MIB), 64);
        assert_eq!(extent(&[10; 7], 1).block_rows(8 * MIB), 2048);
        assert_eq!((extent(&[], 1).block_rows(8 * MIB), extent(&[], 1).rows()), (2048, 0));
        let unknown = Extent::unknown(PLAN, Versions::Merged, Some([(3, 7)].into()));
        assert_eq!((unknown.block_rows(8 * MIB), unknown.rows()), (16, 7));
    }

    proptest! {
        #[test]
        fn no_block_is_larger_than_asked_for(
            widths in proptest::collection::vec(prop_oneof![0..2000_u64, 20_000..200_000_u64], 1..600),
            to_a_stretch in 1..60_usize,
            bytes in 100_000..4_000_000_u64,
        ) {
            let rows = extent(&widths, to_a_stretch).block_rows(bytes);
            prop_assert!(rows.is_power_of_two() && (LEAST..=MOST).contains(&rows));
            if rows > LEAST {
                let block = |rows: &[u64]| rows.iter().map(|width| width + ROW_BYTES).sum::<u64>();
                let size = usize::try_from(rows).unwrap().min(widths.len());
                prop_assert!(widths.windows(size).all(|rows| block(rows) <= bytes));
            }
        }
    }
}
