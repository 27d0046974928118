//! Puts a source batch and its fetched fields together into batches of the file's schema, bounded in bytes.

use std::{collections::HashMap, sync::Arc};

use arrow::{
    array::{Array as _, ArrayRef, AsArray as _, BooleanArray, RecordBatch, StringBuilder},
    compute::{cast, filter_record_batch},
    datatypes::DataType,
};
use tracelift_core::{
    column::Column,
    failure::{Failure, FailureClass, Step},
    file::HydrationMiss,
};

use super::{Cell, Hydrated, Read, decide::Decider, exported, named, place, unexpected};
use crate::{blob::NoBlob, meter::Meter, schema, source::Slice};
use tokio::sync::OwnedSemaphorePermit;

/// One source batch on its way into the file.
pub(crate) struct Assembly<'a> {
    slice: &'a Slice,
    batch: Arc<RecordBatch>,
    /// Which rows match, unless all of them do.
    decider: Option<Decider>,
    /// Given back when it is dropped.
    _room: Option<OwnedSemaphorePermit>,
    /// Offloaded fields that have not come yet.
    awaited: std::vec::IntoIter<Cell>,
    /// The row of the first of those.
    awaited_row: Option<usize>,
    /// Fields that have come, by place.
    filled: HashMap<(usize, Column), Option<String>>,
    misses: Vec<(usize, HydrationMiss)>,
    bytes: u64,
    max_bytes: u64,
    /// Rows that have been handed on.
    done: usize,
}

impl<'a> Assembly<'a> {
    pub(super) fn new(slice: &'a Slice, read: Read, max_bytes: u64) -> Self {
        let Read { batch, cells, decider, room } = read;
        Self { _room: Some(room), ..Self::alone(slice, batch, cells, decider, max_bytes) }
    }

    /// Of a batch that takes nobody's room.
    pub(crate) fn alone(slice: &'a Slice, batch: Arc<RecordBatch>, cells: Vec<Cell>, decider: Option<Decider>, max_bytes: u64) -> Self {
        let mut awaited = cells.into_iter();
        let awaited_row = awaited.next().map(|cell| cell.row);
        let (filled, misses) = (HashMap::new(), Vec::new());
        Self { slice, batch, decider, _room: None, awaited, awaited_row, filled, misses, bytes: 0, max_bytes, done: 0 }
    }

    /// Whether every row was handed on.
    pub(super) fn is_done(&self) -> bool {
        self.done == self.batch.num_rows()
    }

    /// Takes in the next awaited field.
    pub(crate) fn fill(&mut self, cell: &Cell, found: Result<String, NoBlob>, meter: &Meter) -> Result<(), Failure> {
        let value = match found {
            Ok(text) => {
                self.bytes += text.len() as u64;
                meter.add_hydration(1, 0);
                Some(text)
            }
            Err(NoBlob::Miss(miss)) => {
                let (_, row_id) = place(&self.batch, cell.row)?;
                let (column, reason) = (cell.column.name().to_owned(), miss.reason().to_owned());
                self.misses.push((cell.row, HydrationMiss { row_id, column, reason }));
                meter.add_hydration(0, 1);
                None
            }
            Err(NoBlob::Failure(failure)) => return Err(failure),
        };
        self.filled.insert((cell.row, cell.column), value);
        self.awaited_row = self.awaited.next().map(|cell| cell.row);
        Ok(())
    }

    /// The next rows that are ready: when their fields fill a batch, or when the source batch ends. None when none of
    /// those matches.
    pub(crate) fn next(&mut self) -> Result<Option<Hydrated>, Failure> {
        let rows = self.batch.num_rows();
        let complete = self.awaited_row.unwrap_or(rows);
        let enough = complete == rows || self.bytes >= self.max_bytes;
        if !enough || complete == self.done {
            return Ok(None);
        }
        let range = self.done..complete;
        let (columns, version) = exported(self.slice);
        let arrays = columns.iter().map(|column| {
            let source = named(&self.batch, column.name())?.slice(range.start, range.len());
            let array = if column.offloadable() && !self.filled.is_empty() { self.merge(column, &source, range.start)? } else { source };
            typed(array, &schema::data_type(column, version))
        });
        let arrays = arrays.collect::<Result<Vec<_>, Failure>>()?;
        let mut batch = RecordBatch::try_new(schema::arrow(columns, version), arrays).map_err(|_| unexpected(&self.batch))?;
        let matching: Vec<usize> = range.clone().filter(|row| self.matches(*row)).collect();
        if matching.len() < range.len() {
            let kept: BooleanArray = range.map(|row| Some(matching.binary_search(&row).is_ok())).collect();
            batch = filter_record_batch(&batch, &kept).map_err(|_| unexpected(&self.batch))?;
        }
        // A field of the next row may be here already while another of the same row is awaited: it stays.
        let (filled, next): (HashMap<_, _>, HashMap<_, _>) =
            std::mem::take(&mut self.filled).into_iter().partition(|((row, _), _)| *row < complete);
        let (misses, missing): (Vec<_>, Vec<_>) = std::mem::take(&mut self.misses).into_iter().partition(|(row, _)| *row < complete);
        self.bytes = next.values().flatten().map(|text| text.len() as u64).sum();
        (self.filled, self.misses, self.done) = (next, missing, complete);
        let (Some(first), Some(last)) = (matching.first(), matching.last()) else { return Ok(None) };
        let kept = |row: &usize| matching.binary_search(row).is_ok();
        let objects = filled.iter().filter(|((row, _), value)| value.is_some() && kept(row)).count() as u64;
        let misses = misses.into_iter().filter(|(row, _)| kept(row)).map(|(_, miss)| miss).collect();
        Ok(Some(Hydrated { batch, first: place(&self.batch, *first)?.0, last: place(&self.batch, *last)?, objects, misses }))
    }

    fn matches(&self, row: usize) -> bool {
        let filled = |column| self.filled.get(&(row, column)).map(Option::as_deref);
        self.decider.as_ref().is_none_or(|decider| decider.at_last(row, &filled))
    }

    fn merge(&self, column: Column, source: &ArrayRef, from: usize) -> Result<ArrayRef, Failure> {
        let inline = source.as_string_opt::<i32>().ok_or_else(|| unexpected(&self.batch))?;
        let fetched: usize = (from..from + inline.len()).filter_map(|row| self.filled.get(&(row, column))?.as_ref()).map(String::len).sum();
        let mut merged = StringBuilder::with_capacity(inline.len(), fetched);
        for row in 0..inline.len() {
            match self.filled.get(&(from + row, column)) {
                Some(value) => merged.append_option(value.as_deref()),
                None if inline.is_valid(row) => merged.append_value(inline.value(row)),
                None => merged.append_null(),
            }
        }
        Ok(Arc::new(merged.finish()))
    }
}

/// The array in the type of the file. ClickHouse's types differ between versions in small ways.
fn typed(array: ArrayRef, wanted: &DataType) -> Result<ArrayRef, Failure> {
    if array.data_type() == wanted {
        return Ok(array);
    }
    cast(&array, wanted).map_err(|error| Failure {
        step: Step::Encode,
        class: FailureClass::Internal,
        detail: format!("a column cannot be brought from {} to {wanted}: {error}", array.data_type()),
    })
}
