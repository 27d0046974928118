//! Parquet files of a partition, as recorded once they are complete in the bucket.

use std::fmt;

use uuid::Uuid;

use crate::{Invalid, oversized::Oversized, time::Timestamp};

/// A position in the order in which a partition is read: start time, then id as text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cursor {
    /// Start time of the row.
    pub start_time: Timestamp,
    /// Id of the row. UUIDs sort like their lower-case text.
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
    /// Sequence number within the partition: from 0, without gaps.
    pub number: u32,
    /// Object key, without the bucket name.
    pub key: String,
    /// Number of rows; at least 1.
    pub rows: u64,
    /// Size in bytes.
    pub bytes: u64,
    /// ETag as the store returned it.
    pub etag: String,
    /// SHA-256 of the whole object, lower-case hex.
    pub sha256: String,
    /// Smallest `start_time` of its rows.
    pub min_start_time: Timestamp,
    /// Largest `start_time` of its rows.
    pub max_start_time: Timestamp,
    /// Position of its last row.
    pub cursor: Cursor,
    /// Fields filled in from objects.
    pub hydrated_objects: u64,
    /// Misses: fields that are null because their object could not be fetched.
    pub hydration_misses: u64,
    /// The first misses by name, at most [`MAX_NAMED_MISSES`].
    pub misses: Vec<HydrationMiss>,
    /// Counts of values and rows that exceed the limits of common warehouses.
    pub oversized: Oversized,
    /// Rows that were read after the previous file's last row, up to this file's, but not exported.
    pub left_out: LeftOut,
}

/// How many misses of one file, and undecided fields of one partition, are named. All are counted.
pub const MAX_NAMED_MISSES: usize = 1000;

/// Rows that the query returned but that are not exported, because the filter reads offloaded
/// content.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LeftOut {
    /// Undecided rows: content that the filter reads could not be fetched.
    pub undecided: u64,
    /// Rows that do not match according to their content.
    pub decided_against: u64,
    /// Content that could not be fetched for undecided rows; at most [`MAX_NAMED_MISSES`].
    pub named: Vec<HydrationMiss>,
}

impl LeftOut {
    /// Adds the counts of `other`, and its names up to [`MAX_NAMED_MISSES`].
    pub fn add(&mut self, other: Self) {
        self.undecided += other.undecided;
        self.decided_against += other.decided_against;
        let room = MAX_NAMED_MISSES.saturating_sub(self.named.len());
        self.named.extend(other.named.into_iter().take(room));
    }
}

/// A field whose content could not be fetched. It is null in the file, or the reason why its row is
/// undecided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HydrationMiss {
    /// Id of the row.
    pub row_id: Uuid,
    /// Column name.
    pub column: String,
    /// Why it could not be fetched, for people.
    pub reason: String,
}

/// The intent to write a file. Recorded before the first byte is sent and again, with the file's
/// contents, before the object can exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileIntent {
    /// Number of the file within the partition.
    pub number: u32,
    /// Object key.
    pub key: String,
    /// Id of the multipart upload; empty for a single PutObject.
    pub upload_id: String,
    /// Random token in the object's metadata that distinguishes our object from anybody else's.
    pub token: String,
    /// What the object will hold, except its ETag, once that is known. With it, a successor can
    /// adopt an object whose completion was never reported.
    pub whole: Option<Box<File>>,
}

/// Totals over files and rows that were left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Number of files.
    pub files: u32,
    /// Rows in the files.
    pub rows: u64,
    /// Size in bytes.
    pub bytes: u64,
    /// Fields filled in from objects.
    pub hydrated_objects: u64,
    /// Fields that could not be filled in.
    pub hydration_misses: u64,
    /// Counts of values and rows that exceed the limits of common warehouses.
    pub oversized: Oversized,
    /// Undecided rows.
    pub undecided: u64,
    /// Rows that do not match according to their content.
    pub decided_against: u64,
}

impl Totals {
    /// Totals of these files.
    pub fn of<'a>(files: impl IntoIterator<Item = &'a File>) -> Self {
        files.into_iter().fold(Self::default(), |sum, file| {
            sum.plus(Self {
                files: 1,
                rows: file.rows,
                bytes: file.bytes,
                hydrated_objects: file.hydrated_objects,
                hydration_misses: file.hydration_misses,
                oversized: file.oversized,
                ..Self::of_left_out(&file.left_out)
            })
        })
    }

    /// Totals of rows that are in no file.
    pub fn of_left_out(left_out: &LeftOut) -> Self {
        Self {
            undecided: left_out.undecided,
            decided_against: left_out.decided_against,
            ..Self::default()
        }
    }

    /// Rows that were read: exported, undecided or decided against.
    pub fn candidates(self) -> u64 {
        self.rows + self.undecided + self.decided_against
    }

    /// The sum of both.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            files: self.files + other.files,
            rows: self.rows + other.rows,
            bytes: self.bytes + other.bytes,
            hydrated_objects: self.hydrated_objects + other.hydrated_objects,
            hydration_misses: self.hydration_misses + other.hydration_misses,
            oversized: self.oversized.plus(other.oversized),
            undecided: self.undecided + other.undecided,
            decided_against: self.decided_against + other.decided_against,
        }
    }
}

/// Checks that `text` is a SHA-256 in 64 lower-case hex digits; anything else is an error on
/// `field`.
pub fn check_sha256(field: &str, text: &str) -> Result<String, Invalid> {
    let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    (text.len() == 64 && text.bytes().all(hex))
        .then(|| text.to_owned())
        .ok_or_else(|| Invalid::new(field, "must be 64 lower-case hex digits"))
}
