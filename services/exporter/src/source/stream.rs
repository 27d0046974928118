//! The bytes of an ArrowStream answer as batches.

use std::collections::VecDeque;

use arrow::{
    array::{AsArray as _, RecordBatch},
    buffer::Buffer,
    datatypes::TimestampMicrosecondType,
    ipc::reader::StreamDecoder,
};
use bytes::Bytes;
use clickhouse::query::BytesCursor;
use tokio_util::sync::CancellationToken;
use tracelift_core::{column::Column, failure::Failure, file::Cursor, time::Timestamp};
use uuid::Uuid;

use super::{broken_off, cut, query::out};

/// How an Arrow stream ends: continuation marker and a length of zero.
const END_OF_STREAM: [u8; 8] = [0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0];

/// Batches of a running query.
pub(crate) struct Rows {
    bytes: BytesCursor,
    drain: CancellationToken,
    decoder: StreamDecoder,
    pending: Buffer,
    ready: VecDeque<RecordBatch>,
    tail: [u8; 8],
    ended: bool,
    last: Option<Cursor>,
}

impl Rows {
    pub(super) fn new(bytes: BytesCursor, drain: CancellationToken) -> Self {
        let pending = Buffer::from(Bytes::new());
        Self { bytes, drain, decoder: StreamDecoder::new(), pending, ready: VecDeque::new(), tail: [0; 8], ended: false, last: None }
    }

    /// The next batch; `None` at the end of the slice, or when the process drains.
    pub(crate) async fn next(&mut self) -> Result<Option<RecordBatch>, Failure> {
        loop {
            if let Some(batch) = self.ready.pop_front() {
                self.last = batch.num_rows().checked_sub(1).and_then(|row| place(&batch, row)).or(self.last);
                return Ok(Some(batch));
            }
            if self.drain.is_cancelled() {
                return Ok(None);
            }
            if !self.pending.is_empty() {
                if let Some(batch) = self.decoder.decode(&mut self.pending).map_err(cut)? {
                    self.ready.push_back(batch);
                }
                continue;
            }
            if self.ended {
                return Ok(None);
            }
            let drain = self.drain.clone();
            let Some(next) = drain.run_until_cancelled(self.bytes.next()).await else { return Ok(None) };
            match next.map_err(|error| broken_off(&error))? {
                Some(chunk) => {
                    self.remember_tail(&chunk);
                    self.pending = Buffer::from(chunk);
                }
                None if self.tail == END_OF_STREAM => {
                    self.decoder.finish().map_err(cut)?;
                    self.ended = true;
                }
                None => return Err(cut("it has no end marker")),
            }
        }
    }

    /// Whether the slice was read to its end, and not just stopped.
    pub(crate) fn complete(&self) -> bool {
        self.ended && self.ready.is_empty()
    }

    /// The last row that was read.
    pub(crate) fn last(&self) -> Option<Cursor> {
        self.last
    }

    fn remember_tail(&mut self, chunk: &[u8]) {
        let keep = chunk.len().min(self.tail.len());
        self.tail.rotate_left(keep);
        let from = self.tail.len() - keep;
        self.tail[from..].copy_from_slice(&chunk[chunk.len() - keep..]);
    }
}

/// The place of a row in the order of the run; `None` when the answer has not the columns for it.
pub(crate) fn place(batch: &RecordBatch, row: usize) -> Option<Cursor> {
    let named = |column: Column| batch.column_by_name(&out(column.name()));
    let times = named(Column::StartTime)?.as_primitive_opt::<TimestampMicrosecondType>()?;
    let ids = named(Column::Id)?.as_string_opt::<i32>()?;
    Some(Cursor { start_time: Timestamp::from_micros(times.value(row))?, id: Uuid::parse_str(ids.value(row)).ok()? })
}
