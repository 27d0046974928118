//! Versions of a row. A rewritten or withdrawn row coexists with its earlier versions until
//! ClickHouse merges the parts. FINAL merges while reading, which costs a fifth of the time in the
//! order of a partition, and most often there is nothing to merge.
//!
//! If the table's engine does not merge versions, or not by the documented key and version
//! ([`super::merging`]), rows are read as stored, newest version first, and merged here.
//!
//! In a table with the documented key, versions of a row are adjacent. So rows are read as stored
//! for as long as each has a single version and is not withdrawn, which gives the same result as
//! FINAL at that moment; from the first exception on, they are read with FINAL.

use arrow::{
    array::{AsArray as _, BooleanArray, BooleanBufferBuilder, RecordBatch},
    compute::filter_record_batch,
    datatypes::{TimestampMicrosecondType, UInt8Type},
};
use tracelift_core::column::Column;

use super::query::{MATCHES, WITHDRAWN, out};

/// How to read the versions of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Versions {
    /// Every version, as stored.
    AsStored,
    /// Only the newest, unless it withdraws the row; merged by the engine.
    Merged,
    /// Every version, newest first; merged here.
    Neighbours,
}

/// A row has several versions, or is withdrawn.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Several;

/// Passes batches as stored, delayed by one, because the next batch shows whether the last row of a
/// batch has another version.
#[derive(Debug, Default)]
pub(super) struct Single {
    held: Option<RecordBatch>,
}

impl Single {
    /// Returns the batch before `next` if each of its rows has a single version.
    pub(super) fn pass(
        &mut self,
        next: Option<RecordBatch>,
    ) -> Result<Option<RecordBatch>, Several> {
        if let Some(next) = &next {
            if next.num_rows() == 0 {
                return Ok(None); // it would separate its neighbours
            }
            let keys = Keys::of(next).ok_or(Several)?;
            let follows = self
                .held
                .as_ref()
                .and_then(Keys::of)
                .is_none_or(|held| held.last() != keys.first());
            if !follows || !keys.are_single() {
                return Err(Several);
            }
        }
        Ok(std::mem::replace(&mut self.held, next))
    }

    /// Whether everything has been passed on.
    pub(super) fn is_done(&self) -> bool {
        self.held.is_none()
    }
}

/// Merges adjacent versions, newest first: the newest counts, unless it withdraws the row or does
/// not match.
#[derive(Debug, Default)]
pub(super) struct Neighbours {
    last: Option<(i64, String)>,
}

impl Neighbours {
    /// The rows of a batch that count; `None` if the batch lacks the columns that identify rows.
    pub(super) fn merge(&mut self, batch: &RecordBatch) -> Option<RecordBatch> {
        let keys = Keys::of(batch)?;
        let matches = batch
            .column_by_name(&out(MATCHES))
            .map(|matches| matches.as_boolean_opt().ok_or(()))
            .transpose()
            .ok()?;
        let mut counts = BooleanBufferBuilder::new(batch.num_rows());
        for row in 0..batch.num_rows() {
            let newest = match row.checked_sub(1) {
                Some(before) => keys.key(before) != keys.key(row),
                None => self.last.as_ref().map(|(time, id)| (*time, id.as_str())) != keys.key(row),
            };
            counts.append(
                newest
                    && keys.withdrawn[row] == 0
                    && matches.is_none_or(|matches| matches.value(row)),
            );
        }
        if let Some((time, id)) = keys.last() {
            self.last = Some((time, id.to_owned()));
        }
        filter_record_batch(batch, &BooleanArray::new(counts.finish(), None)).ok()
    }
}

/// What identifies the rows of a batch within a tenant's project.
struct Keys<'a> {
    times: &'a [i64],
    ids: &'a arrow::array::StringArray,
    withdrawn: &'a [u8],
}

impl<'a> Keys<'a> {
    fn of(batch: &'a RecordBatch) -> Option<Self> {
        let named = |name: &str| batch.column_by_name(&out(name));
        Some(Self {
            times: named(Column::StartTime.name())?
                .as_primitive_opt::<TimestampMicrosecondType>()?
                .values(),
            ids: named(Column::Id.name())?.as_string_opt()?,
            withdrawn: named(WITHDRAWN)?.as_primitive_opt::<UInt8Type>()?.values(),
        })
    }

    fn key(&self, row: usize) -> Option<(i64, &str)> {
        Some((*self.times.get(row)?, self.ids.value(row)))
    }

    fn first(&self) -> Option<(i64, &str)> {
        self.key(0)
    }

    fn last(&self) -> Option<(i64, &str)> {
        self.key(self.times.len().checked_sub(1)?)
    }

    /// Whether no adjacent rows have equal keys, and none is withdrawn.
    fn are_single(&self) -> bool {
        let pairs = self.times.windows(2).enumerate();
        let mut at_once = pairs.filter(|(_, pair)| pair[0] == pair[1]);
        self.withdrawn.iter().all(|withdrawn| *withdrawn == 0)
            && at_once.all(|(row, _)| self.ids.value(row) != self.ids.value(row + 1))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, StringArray, TimestampMicrosecondArray, UInt8Array};
    use proptest::prelude::*;

    use super::*;

    /// Start time, id, withdrawn.
    type Stored = (i64, u8, bool);

    fn batch(rows: &[Stored]) -> RecordBatch {
        let times = TimestampMicrosecondArray::from_iter_values(rows.iter().map(|row| row.0));
        let ids: StringArray = rows.iter().map(|row| Some(row.1.to_string())).collect();
        let withdrawn = UInt8Array::from_iter_values(rows.iter().map(|row| u8::from(row.2)));
        let columns: [(String, ArrayRef); 3] = [
            (out("start_time"), Arc::new(times)),
            (out("id"), Arc::new(ids)),
            (out(WITHDRAWN), Arc::new(withdrawn)),
        ];
        RecordBatch::try_from_iter(columns).unwrap()
    }

    /// Rows passed on from these batches until one has several versions.
    fn passed(batches: &[&[Stored]]) -> (usize, bool) {
        let (mut single, mut rows) = (Single::default(), 0);
        for next in batches.iter().map(|rows| Some(batch(rows))).chain([None]) {
            match single.pass(next) {
                Ok(passed) => rows += passed.map_or(0, |batch| batch.num_rows()),
                Err(Several) => return (rows, true),
            }
        }
        (rows, !single.is_done())
    }

    #[test]
    fn rows_that_are_each_the_only_one_are_passed_on_and_others_never() {
        assert_eq!(passed(&[]), (0, false));
        assert_eq!(passed(&[&[(1, 1, false), (1, 2, false)], &[(2, 2, false)]]), (3, false));
        assert_eq!(
            passed(&[&[(1, 1, false)], &[(2, 1, false), (2, 1, false)]]),
            (0, true),
            "twice in a batch"
        );
        assert_eq!(
            passed(&[&[(1, 1, false)], &[(2, 1, false)], &[(2, 1, false)]]),
            (1, true),
            "twice across two"
        );
        assert_eq!(passed(&[&[(1, 1, false)], &[(2, 1, true)]]), (0, true), "withdrawn");
    }

    #[test]
    fn a_batch_that_does_not_tell_its_rows_apart_is_never_passed_on() {
        let unnamed = batch(&[(1, 1, false)]).project(&[0, 1]).unwrap();
        assert_eq!(Single::default().pass(Some(unnamed)), Err(Several));
    }

    #[test]
    fn of_neighbours_the_first_counts_unless_it_is_withdrawn_or_does_not_match() {
        let merged = |batches: &[&[Stored]]| {
            let mut neighbours = Neighbours::default();
            let rows =
                batches.iter().map(|rows| neighbours.merge(&batch(rows)).unwrap().num_rows());
            rows.collect::<Vec<_>>()
        };
        assert_eq!(
            merged(&[
                &[(1, 1, false), (1, 1, false), (1, 2, false)],
                &[(1, 2, false), (2, 2, false)]
            ]),
            [2, 1]
        );
        assert_eq!(
            merged(&[
                &[(1, 1, true), (1, 1, false)],
                &[(1, 1, false)],
                &[],
                &[(1, 1, false), (1, 2, false)]
            ]),
            [0, 0, 0, 1]
        );
        let rows = batch(&[(1, 1, false), (1, 1, false), (2, 2, false)]);
        let matches: ArrayRef = Arc::new(BooleanArray::from(vec![false, true, true]));
        let schema = rows.schema();
        let columns = schema
            .fields()
            .iter()
            .map(|field| field.name().clone())
            .zip(rows.columns().iter().cloned());
        let rows = RecordBatch::try_from_iter(columns.chain([(out(MATCHES), matches)])).unwrap();
        assert_eq!(
            Neighbours::default().merge(&rows).unwrap().num_rows(),
            1,
            "an older version that matches does not count"
        );
    }

    proptest! {
        #[test]
        fn whatever_the_batches_are_what_is_passed_on_comes_before_the_first_row_with_versions(
            mut rows in proptest::collection::vec((0..12_i64, 0..4_u8, proptest::bool::weighted(0.02)), 0..40),
            size in 1..9_usize,
        ) {
            rows.sort_unstable();
            let single = |row: &Stored| !row.2 && rows.iter().filter(|other| (other.0, other.1) == (row.0, row.1)).count() == 1;
            let first = rows.iter().position(|row| !single(row));
            let (passed, several) = passed(&rows.chunks(size).flat_map(|rows| [rows, &[]]).collect::<Vec<_>>());
            prop_assert_eq!(several, first.is_some());
            prop_assert!(passed <= first.unwrap_or(rows.len()));
            prop_assert!(first.is_some() || passed == rows.len());
        }
    }
}
