//! The rows of a slice as batches, with their feedback where it is exported.

use std::{iter::repeat_n, sync::Arc};

use arrow::{
    array::{ArrayRef, AsArray as _, RecordBatch, StringArray},
    datatypes::{DataType, Field, Schema, TimestampMicrosecondType},
};
use tokio_util::sync::CancellationToken;
use tracelift_core::{column::Column, failure::Failure, file::Cursor, time::Timestamp};
use uuid::Uuid;

use super::{
    Slice, Source,
    answer::Answer,
    cut,
    feedback::LookUp,
    query::out,
    versions::{Several, Single, Versions},
};

/// Batches of a slice.
pub(crate) struct Rows {
    table: Table,
    /// `None` when feedback is not exported: then no question is asked about it.
    feedback: Option<LookUp>,
}

impl Rows {
    pub(super) fn new(question: Question, versions: Versions, feedback: Option<LookUp>, drain: CancellationToken) -> Result<Self, Failure> {
        Ok(Self { table: Table::new(question, versions, drain)?, feedback })
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
        self.table.is_done() && self.feedback.as_ref().is_none_or(LookUp::is_done)
    }

    /// The last row that was read from the table.
    pub(crate) fn last(&self) -> Option<Cursor> {
        self.table.last
    }
}

/// The question for the rows of a slice.
pub(super) struct Question {
    pub(super) source: Source,
    pub(super) slice: Slice,
    pub(super) query_id: String,
    pub(super) block_rows: u64,
}

/// The answer to the rows' query.
pub(super) struct Table {
    question: Question,
    answer: Answer,
    /// While rows are read as they are stored.
    single: Option<Single>,
    drain: CancellationToken,
    last: Option<Cursor>,
}

impl Table {
    fn new(question: Question, versions: Versions, drain: CancellationToken) -> Result<Self, Failure> {
        let answer = question.source.table(&question.slice, versions, &question.query_id, question.block_rows)?;
        let single = (versions == Versions::AsStored).then(Single::default);
        Ok(Self { question, answer, single, drain, last: None })
    }

    /// The next batch of the table; nothing is lost when it is dropped while it waits.
    pub(super) async fn next(&mut self) -> Result<Option<RecordBatch>, Failure> {
        loop {
            if self.drain.is_cancelled() {
                return Ok(None);
            }
            let Some(read) = self.drain.run_until_cancelled(self.answer.next()).await else { return Ok(None) };
            let read = read?;
            let ended = read.is_none();
            let passed = match &mut self.single {
                Some(single) => single.pass(read),
                None => Ok(read),
            };
            match passed {
                Ok(Some(batch)) => return self.hand_on(batch).map(Some),
                Ok(None) if ended => return Ok(None),
                Ok(None) => {}
                Err(Several) => self.merge()?,
            }
        }
    }

    /// Asks again for the rows behind those that were handed on, in their newest version.
    fn merge(&mut self) -> Result<(), Failure> {
        let Question { source, slice, query_id, block_rows } = &self.question;
        tracing::debug!(query_id, "rows have several versions; ClickHouse merges them from here on");
        let rest = Slice { cursor: self.last.or(slice.cursor), ..slice.clone() };
        self.answer = source.table(&rest, Versions::Merged, &format!("{query_id}-merged"), *block_rows)?;
        self.single = None;
        Ok(())
    }

    fn hand_on(&mut self, batch: RecordBatch) -> Result<RecordBatch, Failure> {
        if let Some(last) = batch.num_rows().checked_sub(1) {
            self.last = Some(place(&batch, last).ok_or_else(|| cut("its rows have no place in the order"))?);
        }
        self.with_owner(batch)
    }

    /// With the columns that are the same in every row of a slice, and so not asked for.
    fn with_owner(&self, batch: RecordBatch) -> Result<RecordBatch, Failure> {
        let Slice { tenant, session, columns, .. } = &self.question.slice;
        let owner = [(Column::TenantId, tenant.to_string()), (Column::SessionId, session.to_string())];
        let owner: Vec<_> = owner.into_iter().filter(|(column, _)| columns.contains(*column)).collect();
        if owner.is_empty() {
            return Ok(batch);
        }
        let fields = owner.iter().map(|(column, _)| Arc::new(Field::new(out(column.name()), DataType::Utf8, false)));
        let fields: Vec<_> = batch.schema().fields().iter().cloned().chain(fields).collect();
        let same = |text: &String| Arc::new(StringArray::from_iter_values(repeat_n(text, batch.num_rows()))) as ArrayRef;
        let columns = batch.columns().iter().cloned().chain(owner.iter().map(|(_, text)| same(text))).collect();
        RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).map_err(cut)
    }

    fn is_done(&self) -> bool {
        self.answer.ended() && self.single.as_ref().is_none_or(Single::is_done)
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
