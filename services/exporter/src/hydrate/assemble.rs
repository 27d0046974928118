//! Combines a source batch and its fetched fields into batches of the file's schema, bounded in
//! bytes.

use std::{collections::HashMap, ops::Range, sync::Arc};

use arrow::{
    array::{
        Array as _, ArrayRef, AsArray as _, BooleanArray, Int64Array, RecordBatch, StringBuilder,
    },
    compute::{cast, filter_record_batch},
    datatypes::{DataType, Int64Type},
};
use tracelift_core::{
    column::Column,
    failure::{Failure, FailureClass, Step},
    file::{HydrationMiss, LeftOut, MAX_NAMED_MISSES},
};

use super::{
    Cell, Hydrated, HydratedRows, Read, content_filter::ContentFilter, exported, named, place,
    unexpected,
};
use crate::{blob::FetchError, file_schema, meter::Meter, source::Slice};
use tokio::sync::OwnedSemaphorePermit;
use uuid::Uuid;

/// A source batch being assembled.
pub(crate) struct Assembly {
    slice: Arc<Slice>,
    batch: Arc<RecordBatch>,
    /// Decides which rows match; `None` if all do.
    decider: Option<ContentFilter>,
    /// Released on drop.
    _room: Option<OwnedSemaphorePermit>,
    /// Offloaded fields that have not arrived yet.
    awaited: std::vec::IntoIter<Cell>,
    /// Row of the first field that has not arrived.
    awaited_row: Option<usize>,
    /// Fields that have arrived, by position; `None` for misses.
    filled: HashMap<(usize, Column), Option<String>>,
    misses: Vec<(usize, HydrationMiss)>,
    bytes: u64,
    max_bytes: u64,
    /// Rows handed on so far.
    done: usize,
}

impl Assembly {
    pub(super) fn new(slice: Arc<Slice>, read: Read, max_bytes: u64) -> Self {
        let Read { batch, cells, decider, room } = read;
        Self { _room: Some(room), ..Self::alone(slice, batch, cells, decider, max_bytes) }
    }

    /// Assembles a batch that takes up no shared room.
    pub(crate) fn alone(
        slice: Arc<Slice>,
        batch: Arc<RecordBatch>,
        cells: Vec<Cell>,
        decider: Option<ContentFilter>,
        max_bytes: u64,
    ) -> Self {
        let mut awaited = cells.into_iter();
        let awaited_row = awaited.next().map(|cell| cell.row);
        let (filled, misses) = (HashMap::new(), Vec::new());
        Self {
            slice,
            batch,
            decider,
            _room: None,
            awaited,
            awaited_row,
            filled,
            misses,
            bytes: 0,
            max_bytes,
            done: 0,
        }
    }

    /// Whether every row has been handed on.
    pub(super) fn is_done(&self) -> bool {
        self.done == self.batch.num_rows()
    }

    /// Whether [`Assembly::next`] has rows to decide on their content.
    pub(super) fn is_to_decide(&self) -> bool {
        self.decider.is_some() && self.ready().is_some()
    }

    /// Adds the next awaited field.
    pub(crate) fn fill(
        &mut self,
        cell: &Cell,
        found: Result<String, FetchError>,
        meter: &Meter,
    ) -> Result<(), Failure> {
        let value = match found {
            Ok(text) => {
                self.bytes += text.len() as u64;
                meter.add_hydration(1, 0);
                Some(text)
            }
            Err(FetchError::Miss(miss)) => {
                let row_id = place(&self.batch, cell.row)?.id;
                let (column, reason) = (cell.column.name().to_owned(), miss.reason());
                self.misses.push((cell.row, HydrationMiss { row_id, column, reason }));
                meter.add_hydration(0, 1);
                None
            }
            Err(FetchError::Failure(failure)) => return Err(failure),
        };
        self.filled.insert((cell.row, cell.column), value);
        self.awaited_row = self.awaited.next().map(|cell| cell.row);
        Ok(())
    }

    /// The rows that are ready: once their fields fill a batch, or the source batch ends.
    fn ready(&self) -> Option<Range<usize>> {
        let rows = self.batch.num_rows();
        let complete = self.awaited_row.unwrap_or(rows);
        let enough = complete == rows || self.bytes >= self.max_bytes;
        (enough && complete != self.done).then_some(self.done..complete)
    }

    /// The next rows that are ready.
    pub(crate) fn next(&mut self) -> Result<Option<Hydrated>, Failure> {
        let Some(range) = self.ready() else { return Ok(None) };
        let complete = range.end;
        let judged: Vec<_> = range.clone().map(|row| self.matches(row)).collect();
        let batch = if judged.contains(&Some(true)) {
            Some(self.batch(range.clone(), &judged)?)
        } else {
            None
        };
        // A field of the next row may have arrived while another one of that row has not; keep it.
        let (filled, next): (HashMap<_, _>, HashMap<_, _>) =
            std::mem::take(&mut self.filled).into_iter().partition(|((row, _), _)| *row < complete);
        let (misses, missing): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.misses).into_iter().partition(|(row, _)| *row < complete);
        self.bytes = next.values().flatten().map(|text| text.len() as u64).sum();
        (self.filled, self.misses, self.done) = (next, missing, complete);
        let last = judged
            .iter()
            .rposition(|judged| *judged == Some(true))
            .map(|index| range.start + index);
        let (before, behind) = match last {
            Some(last) => (
                self.left_out(range.start..last, &judged, range.start, &misses),
                self.left_out(last..range.end, &judged, range.start, &misses),
            ),
            None => {
                (LeftOut::default(), self.left_out(range.clone(), &judged, range.start, &misses))
            }
        };
        let first =
            judged.iter().position(|judged| *judged == Some(true)).map(|index| range.start + index);
        let (Some(batch), Some(first), Some(last)) = (batch, first, last) else {
            return Ok(Some(Hydrated { rows: None, before, behind }));
        };
        let matches = |row: usize| judged[row - range.start] == Some(true);
        let mut misses: Vec<_> =
            misses.into_iter().filter(|(row, _)| matches(*row)).map(|(_, miss)| miss).collect();
        let exported: Vec<_> = range.clone().filter(|row| matches(*row)).collect();
        let batch =
            without_overflow(batch, |row| Ok(place(&self.batch, exported[row])?.id), &mut misses)?;
        let rows = HydratedRows {
            batch,
            first: place(&self.batch, first)?.start_time,
            last: place(&self.batch, last)?,
            objects: filled
                .iter()
                .filter(|((row, _), value)| value.is_some() && matches(*row))
                .count() as u64,
            misses,
        };
        Ok(Some(Hydrated { rows: Some(rows), before, behind }))
    }

    /// The matching rows of a range, as they go into the file.
    fn batch(&self, range: Range<usize>, judged: &[Option<bool>]) -> Result<RecordBatch, Failure> {
        let (columns, version) = exported(&self.slice);
        let arrays = columns.iter().map(|column| {
            let source = named(&self.batch, column.name())?.slice(range.start, range.len());
            let array = if column.offloadable() && !self.filled.is_empty() {
                self.merge(column, &source, range.start)?
            } else {
                source
            };
            typed(array, &file_schema::data_type(column, version))
        });
        let arrays = arrays.collect::<Result<Vec<_>, Failure>>()?;
        let batch = RecordBatch::try_new(file_schema::arrow(columns, version), arrays)
            .map_err(|_| unexpected(&self.batch))?;
        if judged.iter().all(|judged| *judged == Some(true)) {
            return Ok(batch);
        }
        let kept: BooleanArray = judged.iter().map(|judged| Some(*judged == Some(true))).collect();
        filter_record_batch(&batch, &kept).map_err(|_| unexpected(&self.batch))
    }

    /// The rows of a range that are not exported; `judged` starts at row `from`.
    fn left_out(
        &self,
        range: Range<usize>,
        judged: &[Option<bool>],
        from: usize,
        misses: &[(usize, HydrationMiss)],
    ) -> LeftOut {
        let Some(decider) = &self.decider else { return LeftOut::default() };
        let of_range = &judged[range.start - from..range.end - from];
        let count = |outcome| of_range.iter().filter(|judged| **judged == outcome).count() as u64;
        let undecided = |row: usize| range.contains(&row) && judged[row - from].is_none();
        let named = misses
            .iter()
            .filter(|(row, miss)| undecided(*row) && decider.reads(&miss.column))
            .map(|(_, miss)| miss.clone());
        LeftOut {
            undecided: count(None),
            decided_against: count(Some(false)),
            named: named.take(MAX_NAMED_MISSES).collect(),
        }
    }

    /// Whether a row matches; `None` if that depends on content that could not be fetched.
    fn matches(&self, row: usize) -> Option<bool> {
        let filled = |column| self.filled.get(&(row, column)).map(Option::as_deref);
        self.decider.as_ref().map_or(Some(true), |decider| decider.at_last(row, &filled))
    }

    fn merge(&self, column: Column, source: &ArrayRef, from: usize) -> Result<ArrayRef, Failure> {
        let inline = source.as_string_opt::<i32>().ok_or_else(|| unexpected(&self.batch))?;
        let fetched: usize = (from..from + inline.len())
            .filter_map(|row| self.filled.get(&(row, column))?.as_ref())
            .map(String::len)
            .sum();
        let mut merged = StringBuilder::with_capacity(inline.len(), fetched);
        for row in 0..inline.len() {
            match self.filled.get(&(from + row, column)) {
                // Empty text is null, as it is inline.
                Some(value) => {
                    merged.append_option(value.as_deref().filter(|text| !text.is_empty()))
                }
                None if inline.is_valid(row) => merged.append_value(inline.value(row)),
                None => merged.append_null(),
            }
        }
        Ok(Arc::new(merged.finish()))
    }
}

/// Unsigned token counts beyond the range of a signed 64-bit integer arrive as negative numbers;
/// they become null and are named.
fn without_overflow(
    batch: RecordBatch,
    id: impl Fn(usize) -> Result<Uuid, Failure>,
    misses: &mut Vec<HydrationMiss>,
) -> Result<RecordBatch, Failure> {
    let mut columns = batch.columns().to_vec();
    for (index, field) in batch.schema().fields().iter().enumerate() {
        let Some(numbers) = columns[index].as_primitive_opt::<Int64Type>() else { continue };
        if numbers.values().iter().all(|number| *number >= 0) {
            continue;
        }
        for row in
            (0..numbers.len()).filter(|row| numbers.is_valid(*row) && numbers.value(*row) < 0)
        {
            let reason = "the number does not fit into a signed integer of 64 bits".to_owned();
            misses.push(HydrationMiss { row_id: id(row)?, column: field.name().clone(), reason });
        }
        let held: Int64Array =
            numbers.iter().map(|number| number.filter(|number| *number >= 0)).collect();
        columns[index] = Arc::new(held);
    }
    RecordBatch::try_new(batch.schema(), columns).map_err(|_| unexpected(&batch))
}

/// Casts an array to the file's type. ClickHouse's types differ slightly between versions.
fn typed(array: ArrayRef, wanted: &DataType) -> Result<ArrayRef, Failure> {
    if array.data_type() == wanted {
        return Ok(array);
    }
    cast(&array, wanted).map_err(|error| Failure {
        step: Step::Encode,
        class: FailureClass::Internal,
        detail: format!(
            "a column cannot be brought from {} to {wanted}: {error}",
            array.data_type()
        ),
    })
}
