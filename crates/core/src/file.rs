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
    /// Rows that were read and not exported, from behind the file before up to its last row.
    pub left_out: LeftOut,
}

/// How many misses of one file are named, and how many undecided fields of one run; all are
/// counted.
pub const MAX_NAMED_MISSES: usize = 1000;

/// Rows that the query gave and that are not exported, because the filter reads content that lies
/// in objects.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LeftOut {
    /// Rows that nobody can decide: content that the filter reads could not be had.
    pub undecided: u64,
    /// Rows that do not match, as their content says.
    pub decided_against: u64,
    /// The content of undecided rows that could not be had; at most [`MAX_NAMED_MISSES`].
    pub named: Vec<HydrationMiss>,
}

impl LeftOut {
    /// Adds others. Of their names as many are kept as may be.
    pub fn add(&mut self, other: Self) {
        self.undecided += other.undecided;
        self.decided_against += other.decided_against;
        let room = MAX_NAMED_MISSES.saturating_sub(self.named.len());
        self.named.extend(other.named.into_iter().take(room));
    }
}

/// A field whose content could not be had: null in the file, or the reason why its row is
/// undecided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HydrationMiss {
    /// Id of the row.
    pub row_id: Uuid,
    /// Name of the column.
    pub column: String,
    /// Why, in words.
    pub reason: String,
}

/// The write that is to make a file: recorded before its first byte is sent, and again, with what
/// the file holds, before the object can come to be.
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
    /// What the object will hold, its etag excepted, once all of that is known: with it a
    /// successor can take over an object whose completion was never reported.
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
    /// Rows that were read and that nobody can decide.
    pub undecided: u64,
    /// Rows that were read and do not match, as their content says.
    pub decided_against: u64,
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
                ..Self::of_left_out(&file.left_out)
            })
        })
    }

    /// Of rows that are in no file.
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
            undecided: self.undecided + other.undecided,
            decided_against: self.decided_against + other.decided_against,
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
