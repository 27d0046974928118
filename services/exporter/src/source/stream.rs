//! The rows of a slice as batches, with their feedback if it is exported.

use std::{iter::repeat_n, sync::Arc};

use arrow::{
    array::{ArrayRef, AsArray as _, RecordBatch, StringArray},
    datatypes::{DataType, Field, Schema, TimestampMicrosecondType},
};
use tokio_util::sync::CancellationToken;
use tracelift_core::{
    column::Column,
    failure::{Failure, FailureClass, Step},
    file::Cursor,
    time::Timestamp,
};
use uuid::Uuid;

use super::{
    Slice, Source,
    answer::Answer,
    extent::{Extent, ReadPlan},
    failures::cut,
    feedback::LookUp,
    query::out,
    tally::{self, Counts, Tally},
    versions::{Neighbours, Several, Single, Versions},
};

/// Batches of a slice.
pub(crate) struct Rows {
    table: Table,
    /// `None` if feedback is not exported; then it is not queried.
    feedback: Option<LookUp>,
}

impl Rows {
    pub(super) fn new(
        question: QueryRequest,
        extent: &Extent,
        feedback: Option<LookUp>,
        drain: CancellationToken,
    ) -> Result<Self, Failure> {
        Ok(Self { table: Table::new(question, extent, drain)?, feedback })
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

    /// Number of rows read.
    pub(crate) fn count(&self) -> u64 {
        self.table.count
    }

    /// Position of the last row read from the table.
    pub(crate) fn last(&self) -> Option<Cursor> {
        self.table.last
    }
}

/// The query for the rows of a slice.
pub(super) struct QueryRequest {
    pub(super) source: Source,
    pub(super) slice: Slice,
    pub(super) plan: ReadPlan,
    pub(super) query_id: String,
    pub(super) block_rows: u64,
}

/// The response to the rows' query.
pub(super) struct Table {
    question: QueryRequest,
    answer: Answer,
    merge: Merge,
    /// Compares rows with the previous count; `None` if they could not be counted.
    tally: Option<Tally>,
    /// Intervals with fewer rows than counted. The current batch is held back until they are
    /// explained.
    short: Vec<tally::Shortfall>,
    /// A second count, made after the response began.
    counted_again: Option<Counts>,
    /// A batch ready to be handed on.
    ready: Option<RecordBatch>,
    /// The response has been checked to its end.
    judged: bool,
    drain: CancellationToken,
    last: Option<Cursor>,
    count: u64,
}

/// How to treat the versions in a response.
enum Merge {
    /// The engine has merged them.
    Done,
    /// Rows as stored, as long as each has a single version.
    Single(Single),
    /// One row has several. What was read after the rows handed on is discarded and queried again.
    ToBeAsked,
    /// The exporter merges them.
    Neighbours(Neighbours),
}

impl Table {
    fn new(
        question: QueryRequest,
        extent: &Extent,
        drain: CancellationToken,
    ) -> Result<Self, Failure> {
        let QueryRequest { source, slice, plan, query_id, block_rows } = &question;
        let answer = source.table(slice, plan, extent.versions, query_id, *block_rows)?;
        let merge = match extent.versions {
            Versions::AsStored => Merge::Single(Single::default()),
            Versions::Merged => Merge::Done,
            Versions::Neighbours => Merge::Neighbours(Neighbours::default()),
        };
        let tally = extent.counts.clone().map(|counts| question.tally(counts));
        let (short, counted_again, ready) = (Vec::new(), None, None);
        Ok(Self {
            question,
            answer,
            merge,
            tally,
            short,
            counted_again,
            ready,
            judged: false,
            drain,
            last: None,
            count: 0,
        })
    }

    /// The next batch of the table. Cancel-safe: dropping the future loses nothing.
    pub(super) async fn next(&mut self) -> Result<Option<RecordBatch>, Failure> {
        loop {
            if self.drain.is_cancelled() {
                return Ok(None);
            }
            if matches!(self.merge, Merge::ToBeAsked) {
                self.ask_merged().await?;
            }
            if !self.short.is_empty() {
                self.explain().await?;
            }
            if let Some(ready) = self.ready.take() {
                return Ok(Some(ready));
            }
            let Some(read) = self.drain.run_until_cancelled(self.answer.next()).await else {
                return Ok(None);
            };
            let read = read?;
            let ended = read.is_none();
            match self.merged(read)? {
                Ok(Some(batch)) => self.take_in(batch)?,
                Ok(None) if ended && self.judged => return Ok(None),
                Ok(None) if ended => self.end(),
                Ok(None) => {}
                // Set before any await, because this future may be dropped, and the batch with it.
                Err(Several) => self.merge = Merge::ToBeAsked,
            }
        }
    }

    fn merged(
        &mut self,
        read: Option<RecordBatch>,
    ) -> Result<Result<Option<RecordBatch>, Several>, Failure> {
        match &mut self.merge {
            Merge::Done => Ok(Ok(read)),
            Merge::ToBeAsked => Ok(Err(Several)),
            Merge::Single(single) => Ok(single.pass(read)),
            Merge::Neighbours(neighbours) => {
                let merge = |batch| {
                    neighbours.merge(&batch).ok_or_else(|| cut("it does not tell its rows apart"))
                };
                Ok(Ok(read.map(merge).transpose()?))
            }
        }
    }

    /// Queries the rows after those handed on again, in their newest version.
    async fn ask_merged(&mut self) -> Result<(), Failure> {
        let QueryRequest { source, slice, plan, query_id, block_rows } = &self.question;
        tracing::debug!(
            query_id,
            "rows have several versions; ClickHouse merges them from here on"
        );
        let rest = Slice { cursor: self.last.or(slice.cursor), ..slice.clone() };
        let counts = source.counts(&rest, plan, Versions::Merged).await?;
        self.answer = source.table(
            &rest,
            plan,
            Versions::Merged,
            &format!("{query_id}-merged"),
            *block_rows,
        )?;
        (self.merge, self.counted_again, self.tally) =
            (Merge::Done, None, Some(self.question.tally(counts)));
        self.question.slice.cursor = rest.cursor;
        Ok(())
    }

    fn take_in(&mut self, batch: RecordBatch) -> Result<(), Failure> {
        let no_place = || cut("its rows have no place in the order");
        if let Some(last) = batch.num_rows().checked_sub(1) {
            self.last = Some(place(&batch, last).ok_or_else(no_place)?);
        }
        if let Some(tally) = &mut self.tally {
            tally.take(times(&batch).ok_or_else(no_place)?);
            self.short = tally.short();
        }
        self.count += batch.num_rows() as u64;
        self.ready = Some(self.with_owner(batch)?);
        Ok(())
    }

    fn end(&mut self) {
        self.judged = true;
        if let Some(tally) = &mut self.tally {
            tally.end();
            self.short = tally.short();
        }
    }

    /// Counts again, in the newest versions, because rows may have vanished meanwhile. Fails if
    /// they have not.
    async fn explain(&mut self) -> Result<(), Failure> {
        let QueryRequest { source, slice, plan, .. } = &self.question;
        let after = match self.counted_again.take() {
            Some(after) => after,
            None => source.counts(slice, plan, plan.merged()).await?,
        };
        let missing = tally::missing(&self.short, &after);
        if let (1.., Some(first)) = (missing, self.short.first()) {
            return Err(short(slice, first, missing));
        }
        tracing::info!(
            rows = self.short.len(),
            "rows were withdrawn, deleted or moved while they were read"
        );
        (self.short, self.counted_again) = (Vec::new(), Some(after));
        Ok(())
    }

    /// Adds the columns that are equal in all rows of a slice and therefore not selected.
    fn with_owner(&self, batch: RecordBatch) -> Result<RecordBatch, Failure> {
        let Slice { tenant, session, columns, .. } = &self.question.slice;
        let owner =
            [(Column::TenantId, tenant.to_string()), (Column::SessionId, session.to_string())];
        let owner: Vec<_> =
            owner.into_iter().filter(|(column, _)| columns.contains(*column)).collect();
        if owner.is_empty() {
            return Ok(batch);
        }
        let fields = owner
            .iter()
            .map(|(column, _)| Arc::new(Field::new(out(column.name()), DataType::Utf8, false)));
        let fields: Vec<_> = batch.schema().fields().iter().cloned().chain(fields).collect();
        let same = |text: &String| {
            Arc::new(StringArray::from_iter_values(repeat_n(text, batch.num_rows()))) as ArrayRef
        };
        let columns = batch
            .columns()
            .iter()
            .cloned()
            .chain(owner.iter().map(|(_, text)| same(text)))
            .collect();
        RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).map_err(cut)
    }

    fn is_done(&self) -> bool {
        let merged = match &self.merge {
            Merge::Single(single) => single.is_done(),
            Merge::ToBeAsked => false,
            Merge::Done | Merge::Neighbours(_) => true,
        };
        self.answer.ended()
            && merged
            && self.judged
            && self.ready.is_none()
            && self.short.is_empty()
    }

    /// Cancelled when no more rows should be read.
    pub(super) fn drain(&self) -> CancellationToken {
        self.drain.clone()
    }
}

impl QueryRequest {
    fn tally(&self, counts: Counts) -> Tally {
        let window = self.slice.window;
        Tally::new(window.start().micros(), Extent::interval_of(window), counts)
    }
}

/// A failure: the response lacks rows that exist.
fn short(slice: &Slice, first: &tally::Shortfall, missing: u64) -> Failure {
    let from = slice.window.start().micros() + first.interval * Extent::interval_of(slice.window);
    let from = Timestamp::from_micros(from).unwrap_or(slice.window.start());
    let detail = format!(
        "ClickHouse's answer lacks {missing} rows that it counts, the first of them at {from} or soon after: look for what cuts or filters \
         answers (the profile of the exporter's user, a row policy, a proxy), and for a replica that lags behind"
    );
    Failure { step: Step::Read, class: FailureClass::SourceShort, detail }
}

fn times(batch: &RecordBatch) -> Option<&[i64]> {
    let times = batch.column_by_name(&out(Column::StartTime.name()))?;
    Some(times.as_primitive_opt::<TimestampMicrosecondType>()?.values())
}

/// The position of a row in the partition's order; `None` if the response lacks the columns for it.
pub(crate) fn place(batch: &RecordBatch, row: usize) -> Option<Cursor> {
    let named = |column: Column| batch.column_by_name(&out(column.name()));
    let times = named(Column::StartTime)?.as_primitive_opt::<TimestampMicrosecondType>()?;
    let ids = named(Column::Id)?.as_string_opt::<i32>()?;
    Some(Cursor {
        start_time: Timestamp::from_micros(times.value(row))?,
        id: Uuid::parse_str(ids.value(row)).ok()?,
    })
}
