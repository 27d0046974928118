//! A Parquet file of a run, as it is recorded once it stands complete in the bucket.

use std::fmt;

use uuid::Uuid;

use crate::{Invalid, oversized::Oversized, time::Timestamp};

/// A place in the order (start_time, id as text) in which a run is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cursor {
    /// Start time of the row.
    pub start_time: Timestamp,
    /// Id of the row; UUIDs order as their lower-case text does.
    pub id: Uuid,
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{},{}", self.start_time, self.id.as_hyphenated())
    }
}

/// A complete file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// From 0, dense within the run.
    pub number: u32,
    /// Its key in the bucket, without the bucket's name.
    pub key: String,
    /// Rows; at least 1.
    pub rows: u64,
    /// Size in bytes.
    pub bytes: u64,
    /// As the store answered.
    pub etag: String,
    /// SHA-256 of the whole object, lower-case hex.
    pub sha256: String,
    /// Least start_time of its rows.
    pub min_start_time: Timestamp,
    /// Greatest start_time of its rows.
    pub max_start_time: Timestamp,
    /// Its last row.
    pub cursor: Cursor,
    /// Fields that were filled in from objects.
    pub hydrated_objects: u64,
    /// Fields that are null because their object could not be had.
    pub hydration_misses: u64,
    /// Some of those, named; at most [`MAX_NAMED_MISSES`].
    pub misses: Vec<HydrationMiss>,
    /// Values that are larger than warehouses take.
    pub oversized: Oversized,
}

/// How many misses of one file are named; all are counted.
pub const MAX_NAMED_MISSES: usize = 1000;

/// A field that is null in the file although its row has a pointer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HydrationMiss {
    /// Id of the row.
    pub row_id: Uuid,
    /// Name of the column.
    pub column: String,
    /// Why, in words.
    pub reason: String,
}

/// The write that is to make a file: recorded before its first byte is sent, and again, with what the file holds, before
/// the object can come to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileIntent {
    /// Which file of the run.
    pub number: u32,
    /// Its key.
    pub key: String,
    /// The multipart upload; empty for a single PutObject.
    pub upload_id: String,
    /// In the object's metadata, to tell ours from anybody else's.
    pub token: String,
    /// What the object will hold, its etag excepted, once all of that is known: with it a successor can take over an object
    /// whose completion was never reported.
    pub whole: Option<Box<File>>,
}

/// Totals over files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// How many files.
    pub files: u32,
    /// Their rows.
    pub rows: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Fields filled in from objects.
    pub hydrated_objects: u64,
    /// Fields that could not be filled in.
    pub hydration_misses: u64,
    /// Values that are larger than warehouses take.
    pub oversized: Oversized,
}

impl Totals {
    /// Over these files.
    pub fn of<'a>(files: impl IntoIterator<Item = &'a File>) -> Self {
        files.into_iter().fold(Self::default(), |sum, file| {
            sum.plus(Self {
                files: 1,
                rows: file.rows,
                bytes: file.bytes,
                hydrated_objects: file.hydrated_objects,
                hydration_misses: file.hydration_misses,
                oversized: file.oversized,
            })
        })
    }

    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            files: self.files + other.files,
            rows: self.rows + other.rows,
            bytes: self.bytes + other.bytes,
            hydrated_objects: self.hydrated_objects + other.hydrated_objects,
            hydration_misses: self.hydration_misses + other.hydration_misses,
            oversized: self.oversized.plus(other.oversized),
        }
    }
}

/// The SHA-256 that every recorded file must have: 64 lower-case hex digits.
pub fn check_sha256(field: &str, text: &str) -> Result<String, Invalid> {
    let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    (text.len() == 64 && text.bytes().all(hex))
        .then(|| text.to_owned())
        .ok_or_else(|| Invalid::new(field, "must be 64 lower-case hex digits"))
}
