//! Looks up the feedback on the rows of a slice, batch by batch, while the next batch is read.
//!
//! Not a join in the rows' query: that would break the order of the rows and hold the feedback of a
//! whole project in ClickHouse's memory. Memory is bounded by splitting: a response arrives in row
//! order, and rows whose feedback fills a piece are handed on without the rest. Two things can
//! exceed a piece: the feedback on one row, and a ClickHouse block of
//! [`super::FEEDBACK_BLOCK_ROWS`] rows.

mod json;
pub(super) mod sql;

use std::{collections::HashSet, sync::Arc};

use arrow::{
    array::{Array as _, ArrayRef, AsArray as _, RecordBatch},
    datatypes::{DataType, Field, Schema, UInt64Type},
};
use tracelift_core::{
    column::Column,
    failure::{Failure, FailureClass, Step},
};

use super::{Slice, Source, answer::Answer, merging::Merging, query, stream::Table};
pub(super) use json::{FIELDS, Kind};
use json::{Fields, Lists};

/// Maximum rows per query: their ids are one form field, which ClickHouse limits to 128 KiB.
const MOST_IDS: usize = 2048;

/// Looks up the feedback on every row.
pub(super) struct LookUp {
    source: Source,
    slice: Slice,
    merging: Merging,
    /// Each query's id is this plus a number, so that [`Source::kill`] finds it.
    query_id: String,
    questions: u64,
    piece_bytes: u64,
    in_hand: Option<InHand>,
    /// What has been read of the table meanwhile.
    prefetch: Option<Result<Option<RecordBatch>, Failure>>,
}

impl LookUp {
    pub(super) fn new(
        source: Source,
        slice: &Slice,
        merging: Merging,
        query_id: &str,
        piece_bytes: u64,
    ) -> Self {
        let (slice, query_id) = (slice.clone(), query_id.to_owned());
        Self {
            source,
            slice,
            merging,
            query_id,
            questions: 0,
            piece_bytes,
            in_hand: None,
            prefetch: None,
        }
    }

    /// The next rows with their feedback; `None` at the end of the table, or when the process
    /// drains.
    pub(super) async fn next(&mut self, table: &mut Table) -> Result<Option<RecordBatch>, Failure> {
        let drain = table.drain();
        loop {
            let Some(in_hand) = &mut self.in_hand else {
                let next = match self.prefetch.take() {
                    Some(prefetch) => prefetch?,
                    None => table.next().await?,
                };
                let Some(batch) = next else { return Ok(None) };
                self.in_hand = Some(InHand::new(batch));
                continue;
            };
            if in_hand.is_to_be_asked() {
                self.questions += 1;
                let id = format!("{}-{}", self.query_id, self.questions);
                in_hand.ask(|ids| self.source.feedback(&self.slice, self.merging, ids, &id))?;
            }
            tokio::select! {
                biased;
                () = drain.cancelled() => return Ok(None),
                piece = in_hand.next(self.piece_bytes) => match piece? {
                    Some(piece) => return Ok(Some(piece)),
                    None => self.in_hand = None,
                },
                prefetch = table.next(), if self.prefetch.is_none() => self.prefetch = Some(prefetch),
            }
        }
    }

    /// Whether every row read from the table has been handed on.
    pub(super) fn is_done(&self) -> bool {
        self.in_hand.is_none() && !matches!(self.prefetch, Some(Ok(Some(_)) | Err(_)))
    }
}

/// A batch of the table being processed.
struct InHand {
    rows: RecordBatch,
    /// Rows handed on so far.
    done: usize,
    /// Rows queried so far.
    asked: usize,
    /// The response about the last of those, from row [`Self::from`] on.
    answer: Option<Answer>,
    from: usize,
    /// A block of the response, and how much of it has been used.
    block: Option<(Block, usize)>,
    lists: Lists,
}

impl InHand {
    fn new(rows: RecordBatch) -> Self {
        Self {
            rows,
            done: 0,
            asked: 0,
            answer: None,
            from: 0,
            block: None,
            lists: Lists::default(),
        }
    }

    /// Whether all queried rows have been handed on, but not all rows.
    fn is_to_be_asked(&self) -> bool {
        self.answer.is_none() && self.asked < self.rows.num_rows()
    }

    /// Queries the feedback on the next rows. A duplicate id starts a query of its own, so that
    /// each of its rows gets a response.
    fn ask(
        &mut self,
        question: impl FnOnce(&[&str]) -> Result<Answer, Failure>,
    ) -> Result<(), Failure> {
        let column = self
            .rows
            .column_by_name(&query::out(Column::Id.name()))
            .and_then(|ids| ids.as_string_opt::<i32>());
        let column = column.ok_or_else(|| unexpected(&self.rows))?;
        let mut seen = HashSet::new();
        let rows = self.asked..self.rows.num_rows();
        let ids: Vec<_> = rows
            .map(|row| column.value(row))
            .take(MOST_IDS)
            .take_while(|id| seen.insert(*id))
            .collect();
        self.answer = Some(question(&ids)?);
        (self.from, self.asked) = (self.asked, self.asked + ids.len());
        Ok(())
    }

    /// The next rows whose feedback has arrived; `None` once all have been handed on. Cancel-safe:
    /// dropping the future loses nothing.
    async fn next(&mut self, piece_bytes: u64) -> Result<Option<RecordBatch>, Failure> {
        loop {
            if self.take_in(piece_bytes)? {
                return self.piece().map(Some);
            }
            let Some(answer) = &mut self.answer else { return Ok(None) };
            match answer.next().await.map_err(|failure| about(failure, &self.rows, self.from))? {
                Some(block) => self.block = Some((Block::read(&block, self.asked - self.from)?, 0)),
                None => {
                    self.answer = None;
                    self.lists.finish(self.asked);
                    return self.piece().map(Some);
                }
            }
        }
    }

    /// Uses up the block until the rows with complete feedback fill a piece; returns whether they
    /// do.
    fn take_in(&mut self, piece_bytes: u64) -> Result<bool, Failure> {
        let Some((block, taken)) = &mut self.block else { return Ok(false) };
        while let Some((nth, feedback)) = block.feedback(*taken) {
            *taken += 1;
            let row = self.from + nth;
            self.lists.add(row, &feedback).map_err(|cause| unreadable(&self.rows, row, &cause))?;
            if self.lists.bytes() > piece_bytes {
                return Ok(true);
            }
        }
        self.block = None;
        Ok(false)
    }

    /// The rows whose lists are finished.
    fn piece(&mut self) -> Result<RecordBatch, Failure> {
        let lists = self.lists.take();
        let rows = self.rows.slice(self.done, lists.len());
        self.done += lists.len();
        let field = Field::new(query::out(Column::Feedbacks.name()), DataType::Utf8, false);
        let fields: Vec<_> =
            rows.schema().fields().iter().cloned().chain([Arc::new(field)]).collect();
        let columns = rows.columns().iter().cloned().chain([Arc::new(lists) as ArrayRef]).collect();
        RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).map_err(|_| unexpected(&rows))
    }
}

/// Rows of the feedback table, in the order of the trace rows they belong to.
struct Block {
    /// For each, the index (from 0) of the queried row it belongs to.
    on: Vec<usize>,
    fields: Fields,
}

impl Block {
    fn read(batch: &RecordBatch, asked: usize) -> Result<Self, Failure> {
        let read = || {
            let on = batch.column_by_name(sql::ON)?.as_primitive_opt::<UInt64Type>()?;
            let on: Option<Vec<_>> =
                on.values().iter().map(|nth| usize::try_from(*nth).ok()?.checked_sub(1)).collect();
            let on = on.filter(|on| on.is_sorted() && on.last().is_none_or(|nth| *nth < asked))?;
            Some(Self { on, fields: Fields::read(batch)? })
        };
        read().ok_or_else(|| unexpected(batch))
    }

    fn feedback(&self, index: usize) -> Option<(usize, String)> {
        Some((*self.on.get(index)?, self.fields.json(index)))
    }
}

fn unexpected(batch: &RecordBatch) -> Failure {
    let columns: Vec<_> = batch
        .schema()
        .fields()
        .iter()
        .map(|field| format!("{} {}", field.name(), field.data_type()))
        .collect();
    let detail = format!(
        "ClickHouse answered something else than feedback on the rows in their order: {}",
        columns.join(", ")
    );
    Failure { step: Step::Read, class: FailureClass::Internal, detail }
}

/// Adds the position of the first queried row to a failure.
fn about(failure: Failure, rows: &RecordBatch, from: usize) -> Failure {
    let Some(place) = super::place(rows, from) else { return failure };
    let detail = format!(
        "{} (asked for the feedback on the rows from {} of {} on)",
        failure.detail, place.id, place.start_time
    );
    Failure { detail, ..failure }
}

/// A failure for a row whose feedback does not fit into a text column.
fn unreadable(rows: &RecordBatch, row: usize, cause: &json::TooLarge) -> Failure {
    let row = super::place(rows, row)
        .map(|row| format!(" {} of {}", row.id, row.start_time))
        .unwrap_or_default();
    Failure {
        step: Step::Read,
        class: FailureClass::SourceRow,
        detail: format!("the row{row} cannot be read: {cause}"),
    }
}
