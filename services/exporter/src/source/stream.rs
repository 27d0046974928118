//! The bytes of an ArrowStream answer as batches.

use std::collections::VecDeque;

use arrow::{array::RecordBatch, buffer::Buffer, ipc::reader::StreamDecoder};
use bytes::Bytes;
use clickhouse::query::BytesCursor;
use tokio_util::sync::CancellationToken;
use tracelift_core::failure::Failure;

use super::{cut, failure};

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
}

impl Rows {
    pub(super) fn new(bytes: BytesCursor, drain: CancellationToken) -> Self {
        let pending = Buffer::from(Bytes::new());
        Self { bytes, drain, decoder: StreamDecoder::new(), pending, ready: VecDeque::new(), tail: [0; 8], ended: false }
    }

    /// The next batch; `None` at the end of the slice, or when the process drains.
    pub(crate) async fn next(&mut self) -> Result<Option<RecordBatch>, Failure> {
        loop {
            if let Some(batch) = self.ready.pop_front() {
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
            match next.map_err(|error| failure(&error))? {
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

    fn remember_tail(&mut self, chunk: &[u8]) {
        let keep = chunk.len().min(self.tail.len());
        self.tail.rotate_left(keep);
        let from = self.tail.len() - keep;
        self.tail[from..].copy_from_slice(&chunk[chunk.len() - keep..]);
    }
}
