//! Compares received rows with a previous count, to detect a truncated response whatever truncated
//! it.
//!
//! The rows of a response arrive in time order, and were counted per interval of time when it was
//! requested. Once a later interval arrives, earlier ones must be complete. An incomplete one may
//! have lost rows meanwhile, so it is counted again: only rows that existed before and still exist
//! afterwards are missing from a response in between.

use std::{collections::BTreeMap, iter::Peekable, vec};

/// Rows by interval.
pub(super) type Counts = BTreeMap<i64, u64>;

/// The intervals of a response being read.
#[derive(Debug)]
pub(super) struct Tally {
    start: i64,
    width: i64,
    /// Expected intervals, in order.
    expected: Peekable<vec::IntoIter<(i64, u64)>>,
    /// The interval of the last row, and how many of its rows have arrived.
    current: Option<(i64, u64)>,
    short: Vec<Shortfall>,
}

/// An interval with fewer rows than counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shortfall {
    pub(super) interval: i64,
    pub(super) came: u64,
    pub(super) counted: u64,
}

impl Tally {
    /// A tally of intervals of `width` microseconds, starting at `start`.
    pub(super) fn new(start: i64, width: i64, counts: Counts) -> Self {
        let expected = counts.into_iter().collect::<Vec<_>>().into_iter().peekable();
        Self { start, width, expected, current: None, short: Vec::new() }
    }

    /// Records the start times of the next rows.
    pub(super) fn take(&mut self, times: &[i64]) {
        for time in times {
            let interval = (time - self.start) / self.width;
            match &mut self.current {
                Some((current, came)) if *current == interval => *came += 1,
                _ => {
                    self.pass(Some(interval));
                    self.current = Some((interval, 1));
                }
            }
        }
    }

    /// Records the end of the rows.
    pub(super) fn end(&mut self) {
        self.pass(None);
    }

    /// Takes the intervals that are over but incomplete; each is returned once.
    pub(super) fn short(&mut self) -> Vec<Shortfall> {
        std::mem::take(&mut self.short)
    }

    /// Checks every interval before `next`, or all if there is none.
    fn pass(&mut self, next: Option<i64>) {
        let current = self.current.take();
        while let Some((interval, counted)) =
            self.expected.next_if(|(interval, _)| next.is_none_or(|next| *interval < next))
        {
            let came =
                current.filter(|(current, _)| *current == interval).map_or(0, |(_, came)| came);
            if came < counted {
                self.short.push(Shortfall { interval, came, counted });
            }
        }
    }
}

/// Missing rows, given a later count: those that existed before and still do.
pub(super) fn missing(short: &[Shortfall], after: &Counts) -> u64 {
    let still = |short: &Shortfall| {
        after.get(&short.interval).copied().unwrap_or_default().min(short.counted)
    };
    short.iter().map(|short| still(short).saturating_sub(short.came)).sum()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn counts(times: &[i64]) -> Counts {
        times.iter().fold(Counts::new(), |mut counts, time| {
            *counts.entry(time / 10).or_default() += 1;
            counts
        })
    }

    /// What is missing from a response with rows at `came`, given the rows before and after.
    fn lacks(before: &[i64], came: &[i64], after: &[i64], batch: usize) -> u64 {
        let mut tally = Tally::new(0, 10, counts(before));
        let mut short = Vec::new();
        for times in came.chunks(batch) {
            tally.take(times);
            short.extend(tally.short());
        }
        tally.end();
        short.extend(tally.short());
        missing(&short, &counts(after))
    }

    #[test]
    fn an_answer_that_lacks_rows_is_noticed_wherever_they_are_missing() {
        let all: Vec<i64> = (0..100).collect();
        assert_eq!(lacks(&all, &all, &all, 7), 0);
        assert_eq!(lacks(&all, &all[..30], &all, 7), 70, "the end");
        assert_eq!(lacks(&all, &all[30..], &all, 7), 30, "the beginning");
        assert_eq!(lacks(&all, &[], &all, 7), 100);
        let holes: Vec<_> = all.iter().copied().filter(|time| time % 10 != 3).collect();
        assert_eq!(lacks(&all, &holes, &all, 7), 10);
    }

    #[test]
    fn rows_that_come_or_go_meanwhile_are_not_missing() {
        let all: Vec<i64> = (0..100).collect();
        assert_eq!(lacks(&all, &all[..30], &all[..30], 7), 0, "they were deleted");
        assert_eq!(lacks(&all[..30], &all[..30], &all, 7), 0, "they came later");
        assert_eq!(lacks(&all[..30], &all, &all, 7), 0, "they came in time");
    }

    #[test]
    fn a_short_stretch_is_told_before_rows_of_later_ones_are_handed_on() {
        let mut tally = Tally::new(0, 10, counts(&[1, 2, 3, 25]));
        tally.take(&[1, 3]);
        assert_eq!(tally.short(), []);
        tally.take(&[25]);
        assert_eq!(tally.short(), [Shortfall { interval: 0, came: 2, counted: 3 }]);
    }

    proptest! {
        #[test]
        fn what_is_missing_is_exactly_what_was_there_all_the_time_where_nothing_else_happens(
            mut rows in proptest::collection::vec((0..200_i64, any::<bool>()), 0..80),
            batch in 1..9_usize,
        ) {
            rows.sort_unstable();
            let all: Vec<_> = rows.iter().map(|row| row.0).collect();
            let came: Vec<_> = rows.iter().filter(|row| row.1).map(|row| row.0).collect();
            prop_assert_eq!(lacks(&all, &came, &all, batch), (all.len() - came.len()) as u64);
            prop_assert_eq!(lacks(&came, &came, &all, batch), 0);
            prop_assert_eq!(lacks(&all, &came, &came, batch), 0);
        }
    }
}
