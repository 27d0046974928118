//! The bytes of a file, cut into parts of one size and hashed as they come.

use std::io::{self, Write};

use bytes::{Bytes, BytesMut};
use sha2::{Digest as _, Sha256};

use super::Encoded;
use crate::file_schema;

/// Where a writer's bytes go.
pub(super) struct PartSink {
    ready: Vec<Encoded>,
    part_bytes: usize,
    pending: BytesMut,
    digest: Sha256,
    bytes: u64,
}

impl PartSink {
    /// Parts of `part_bytes` bytes.
    pub(super) fn new(part_bytes: u64) -> Self {
        Self {
            ready: Vec::new(),
            part_bytes: usize::try_from(part_bytes).unwrap_or(usize::MAX),
            pending: BytesMut::new(),
            digest: Sha256::new(),
            bytes: 0,
        }
    }

    /// The parts that are full.
    pub(super) fn ready(&mut self) -> Vec<Encoded> {
        std::mem::take(&mut self.ready)
    }

    /// The bytes behind the last full part; empty when the file fell exactly on a part's end.
    pub(super) fn rest(&mut self) -> Bytes {
        self.pending.split().freeze()
    }

    /// All bytes so far.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Lower-case hex of their SHA-256.
    pub(super) fn sha256(&self) -> String {
        file_schema::hex(&self.digest.clone().finalize())
    }
}

impl Write for PartSink {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.digest.update(data);
        self.bytes += data.len() as u64;
        let mut rest = data;
        while !rest.is_empty() {
            let taken = rest.len().min(self.part_bytes - self.pending.len());
            self.pending.extend_from_slice(&rest[..taken]);
            rest = &rest[taken..];
            if self.pending.len() == self.part_bytes {
                let part =
                    std::mem::replace(&mut self.pending, BytesMut::with_capacity(self.part_bytes))
                        .freeze();
                self.ready.push(Encoded::Part(part));
            }
        }
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
