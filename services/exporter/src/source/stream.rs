//! The rows of a slice as batches, with their feedback where it is exported.

use arrow::{
    array::{AsArray as _, RecordBatch},
    datatypes::TimestampMicrosecondType,
};
use tokio_util::sync::CancellationToken;
use tracelift_core::{column::Column, failure::Failure, file::Cursor, time::Timestamp};
use uuid::Uuid;

use super::{answer::Answer, feedback::LookUp, query::out};

/// Batches of a slice.
pub(crate) struct Rows {
    table: Table,
    /// `None` when feedback is not exported: then no question is asked about it.
    feedback: Option<LookUp>,
}

impl Rows {
    pub(super) fn new(answer: Answer, feedback: Option<LookUp>, drain: CancellationToken) -> Self {
        Self { table: Table { answer, drain, last: None }, feedback }
    }

    /// The next batch; `None` at the end of the slice, or when the process drains.
    pub(crate) async fn next(&mut self) -> Result<Option<RecordBatch>, Failure> {
        match &mut self.feedback {
            Some(feedback) => feedback.next(&mut self.table).await,
            None => self.table.next().await,
        }
    }

    /// Whether the slice was read to its end, and not just stopped.
    pub(crate) fn complete(&self) -> bool {
        self.table.answer.ended() && self.feedback.as_ref().is_none_or(LookUp::is_done)
    }

    /// The last row that was read from the table.
    pub(crate) fn last(&self) -> Option<Cursor> {
        self.table.last
    }
}

/// The answer to the rows' query.
pub(super) struct Table {
    answer: Answer,
    drain: CancellationToken,
    last: Option<Cursor>,
}

impl Table {
    /// The next batch of the table; nothing is lost when it is dropped while it waits.
    pub(super) async fn next(&mut self) -> Result<Option<RecordBatch>, Failure> {
        if self.drain.is_cancelled() {
            return Ok(None);
        }
        let Some(next) = self.drain.run_until_cancelled(self.answer.next()).await else { return Ok(None) };
        let next = next?;
        let last = next.as_ref().and_then(|batch| place(batch, batch.num_rows().checked_sub(1)?));
        self.last = last.or(self.last);
        Ok(next)
    }

    /// Cancelled when no further rows should be read.
    pub(super) fn drain(&self) -> CancellationToken {
        self.drain.clone()
    }
}

/// The place of a row in the order of the run; `None` when the answer has not the columns for it.
pub(crate) fn place(batch: &RecordBatch, row: usize) -> Option<Cursor> {
    let named = |column: Column| batch.column_by_name(&out(column.name()));
    let times = named(Column::StartTime)?.as_primitive_opt::<TimestampMicrosecondType>()?;
    let ids = named(Column::Id)?.as_string_opt::<i32>()?;
    Some(Cursor { start_time: Timestamp::from_micros(times.value(row))?, id: Uuid::parse_str(ids.value(row)).ok()? })
}
