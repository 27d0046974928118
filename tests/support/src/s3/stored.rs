//! A stored object, opened for reading.

use std::{
    fs::File,
    io::{self, Read as _, Seek as _, SeekFrom},
    ops,
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use s3s::S3Result;
use s3s::dto::{ETag, Metadata, Range, StreamingBlob};
use tokio::io::AsyncReadExt as _;
use tokio_util::io::ReaderStream;

use super::journal::Known;

/// Up to this size, content is read in one go.
const SMALL: u64 = 256 << 10;

/// An object's file and what is known of it.
pub(super) struct Stored {
    file: File,
    length: u64,
    pub(super) modified: SystemTime,
    pub(super) etag: ETag,
    pub(super) metadata: Option<Metadata>,
}

impl Stored {
    /// Opens an object. One that was written as a plain file has an etag from its time.
    pub(super) fn open(path: &Path, known: Option<Known>) -> io::Result<Self> {
        let file = File::open(path)?;
        let about = file.metadata()?;
        let modified = about.modified()?;
        let time = || modified.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        let known =
            known.unwrap_or_else(|| Known { etag: format!("{:032x}", time()), metadata: None });
        Ok(Self {
            file,
            length: about.len(),
            modified,
            etag: ETag::Strong(known.etag),
            metadata: known.metadata,
        })
    }

    pub(super) fn length(&self) -> Option<i64> {
        i64::try_from(self.length).ok()
    }

    /// The bytes that a request asks for, and its `Content-Range`.
    pub(super) fn asked(
        &self,
        range: Option<Range>,
    ) -> S3Result<(ops::Range<u64>, Option<String>)> {
        let Some(range) = range else { return Ok((0..self.length, None)) };
        let bytes = range.check(self.length)?;
        let text = format!("bytes {}-{}/{}", bytes.start, bytes.end - 1, self.length);
        Ok((bytes, Some(text)))
    }

    /// These bytes of the content.
    pub(super) fn content(mut self, bytes: ops::Range<u64>) -> io::Result<StreamingBlob> {
        let length = bytes.end - bytes.start;
        self.file.seek(SeekFrom::Start(bytes.start))?;
        if length > SMALL {
            let file = tokio::fs::File::from_std(self.file).take(length);
            return Ok(StreamingBlob::wrap(ReaderStream::with_capacity(file, SMALL as usize)));
        }
        let mut content = Vec::new();
        self.file.take(length).read_to_end(&mut content)?;
        let whole = async move { Ok::<_, io::Error>(Bytes::from(content)) };
        Ok(StreamingBlob::wrap(futures::stream::once(whole)))
    }
}
