//! Reads an ArrowStream response as batches, with text in place of ClickHouse Strings. A response
//! without Arrow's end marker was truncated, whatever the transport says.

use arrow::{array::RecordBatch, buffer::Buffer, ipc::reader::StreamDecoder};
use bytes::Bytes;
use clickhouse::query::BytesCursor;
use tracelift_core::failure::Failure;

use super::{
    failures::{broken_off, cut},
    text::texts,
};

/// The end of an Arrow stream: continuation marker and a length of zero.
const END_OF_STREAM: [u8; 8] = [0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0];

/// Batches of a running query.
pub(super) struct Answer {
    bytes: BytesCursor,
    decoder: StreamDecoder,
    pending: Buffer,
    tail: [u8; 8],
    ended: bool,
}

impl Answer {
    pub(super) fn new(bytes: BytesCursor) -> Self {
        Self {
            bytes,
            decoder: StreamDecoder::new(),
            pending: Buffer::from(Bytes::new()),
            tail: [0; 8],
            ended: false,
        }
    }

    /// The next batch; `None` at the end of the response. Cancel-safe: dropping the future loses
    /// nothing.
    pub(super) async fn next(&mut self) -> Result<Option<RecordBatch>, Failure> {
        loop {
            if !self.pending.is_empty() {
                if let Some(batch) = self.decoder.decode(&mut self.pending).map_err(cut)? {
                    return texts(&batch).map(Some);
                }
                continue;
            }
            if self.ended {
                return Ok(None);
            }
            match self.bytes.next().await.map_err(|error| broken_off(&error))? {
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

    /// Whether it was read to its end.
    pub(super) fn ended(&self) -> bool {
        self.ended
    }

    fn remember_tail(&mut self, chunk: &[u8]) {
        let keep = chunk.len().min(self.tail.len());
        self.tail.rotate_left(keep);
        let from = self.tail.len() - keep;
        self.tail[from..].copy_from_slice(&chunk[chunk.len() - keep..]);
    }
}
