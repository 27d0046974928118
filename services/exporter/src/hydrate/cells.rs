//! Finds the offloaded fields of a batch.

use std::sync::Arc;

use arrow::array::{Array as _, AsArray as _, RecordBatch, StringArray};
use tracelift_core::{column::Column, failure::Failure, filter::Filter};

use super::{content_filter::ContentFilter, named, repeated::Repeated, unexpected};
use crate::{
    blob::Miss,
    pointer::{self, Pointer},
    source::{Slice, schema::SourceSchema},
};

/// An offloaded field.
#[derive(Debug, Clone)]
pub(crate) struct Cell {
    pub(super) row: usize,
    pub(super) column: Column,
    pub(super) pointer: Result<Pointer, Miss>,
    /// Set if other fields of the batch point to the same object.
    pub(super) repeated: Option<Arc<Repeated>>,
}

/// An offloadable column of a batch.
struct Offloaded<'a> {
    column: Column,
    inline: &'a StringArray,
    pointers: &'a StringArray,
}

impl Offloaded<'_> {
    /// The field of a row; `None` if it is not offloaded.
    fn cell(&self, schema: &SourceSchema, row: usize) -> Option<Cell> {
        let (column, text) = (self.column, self.pointers.value(row));
        if text.is_empty() || !is_placeholder(self.inline, row) {
            return None;
        }
        let pointer = pointer::decode(schema, column, text).map_err(Miss::Pointer).transpose()?;
        Some(Cell { row, column, pointer, repeated: None })
    }
}

/// The offloaded fields of a batch that are needed, by row, then by column. A field with a
/// non-empty inline value is not offloaded. Rows that do not match need none; rows that match
/// regardless of them need only the exported ones.
pub(crate) fn cells(
    batch: &RecordBatch,
    slice: &Slice,
    schema: &SourceSchema,
    decider: Option<&ContentFilter>,
) -> Result<Vec<Cell>, Failure> {
    let exported = |column: Column| slice.columns.contains(column);
    let deciding = slice.filter.as_ref().map(Filter::content).unwrap_or_default();
    let mut sources = Vec::new();
    for column in Column::ALL.iter().copied() {
        let Some(held) = schema.runs.pointer_column(column) else { continue };
        if exported(column) || deciding.contains(&column) {
            let pointers = named(batch, &held.name)?
                .as_string_opt::<i32>()
                .ok_or_else(|| unexpected(batch))?;
            let inline = named(batch, column.name())?
                .as_string_opt::<i32>()
                .ok_or_else(|| unexpected(batch))?;
            sources.push(Offloaded { column, inline, pointers });
        }
    }
    let mut needed = Vec::new();
    for row in 0..batch.num_rows() {
        let found: Vec<_> =
            sources.iter().filter_map(|offloaded| offloaded.cell(schema, row)).collect();
        let matches = decider
            .map_or(Some(true), |decider| decider.at_first(row, &found.iter().collect::<Vec<_>>()));
        needed.extend(found.into_iter().filter(|cell| match matches {
            Some(matches) => matches && exported(cell.column),
            None => true,
        }));
    }
    Ok(needed)
}

/// Inline values that may accompany a pointer without being the value: nothing, or something empty.
pub(crate) const PLACEHOLDERS: [&str; 5] = ["", "{}", "[]", "null", "\"\""];

fn is_placeholder(inline: &StringArray, row: usize) -> bool {
    inline.is_null(row) || PLACEHOLDERS.contains(&inline.value(row))
}
