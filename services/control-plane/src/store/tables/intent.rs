//! The intent of a task, as one JSON text.

use serde::{Deserialize, Serialize};
use tracelift_core::{
    file::{Cursor, File, FileIntent, HydrationMiss, LeftOut},
    time::Timestamp,
};
use uuid::Uuid;

use crate::store::tables::oversized;

#[derive(Serialize, Deserialize)]
pub(super) struct IntentRecord {
    number: u32,
    key: String,
    upload_id: String,
    token: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    whole: Option<FileRecord>,
}

/// The contents of a file, apart from its number and key.
#[derive(Serialize, Deserialize)]
struct FileRecord {
    rows: u64,
    bytes: u64,
    sha256: String,
    min_start_time: i64,
    max_start_time: i64,
    cursor: (i64, Uuid),
    hydrated_objects: u64,
    hydration_misses: u64,
    misses: Vec<MissRecord>,
    #[serde(default)]
    oversized: oversized::Record,
    #[serde(default)]
    left_out: LeftOutRecord,
}

/// Row, column and reason.
pub(super) type MissRecord = (Uuid, String, String);

/// Records written by an earlier version leave nothing out.
#[derive(Default, Serialize, Deserialize)]
struct LeftOutRecord {
    undecided: u64,
    decided_against: u64,
    named: Vec<MissRecord>,
}

pub(super) fn miss_record(miss: &HydrationMiss) -> MissRecord {
    (miss.row_id, miss.column.clone(), miss.reason.clone())
}

pub(super) fn miss((row_id, column, reason): MissRecord) -> HydrationMiss {
    HydrationMiss { row_id, column, reason }
}

impl From<&FileIntent> for IntentRecord {
    fn from(intent: &FileIntent) -> Self {
        let FileIntent { number, key, upload_id, token, whole } = intent.clone();
        let whole = whole.map(|file| FileRecord {
            rows: file.rows,
            bytes: file.bytes,
            sha256: file.sha256,
            min_start_time: file.min_start_time.micros(),
            max_start_time: file.max_start_time.micros(),
            cursor: (file.cursor.start_time.micros(), file.cursor.id),
            hydrated_objects: file.hydrated_objects,
            hydration_misses: file.hydration_misses,
            misses: file.misses.iter().map(miss_record).collect(),
            oversized: oversized::record(file.oversized),
            left_out: LeftOutRecord {
                undecided: file.left_out.undecided,
                decided_against: file.left_out.decided_against,
                named: file.left_out.named.iter().map(miss_record).collect(),
            },
        });
        Self { number, key, upload_id, token, whole }
    }
}

impl TryFrom<IntentRecord> for FileIntent {
    type Error = &'static str;

    fn try_from(record: IntentRecord) -> Result<Self, &'static str> {
        let IntentRecord { number, key, upload_id, token, whole } = record;
        let whole = whole
            .map(|whole| whole.file(number, &key).map(Box::new).ok_or("a time is none"))
            .transpose()?;
        Ok(Self { number, key, upload_id, token, whole })
    }
}

impl FileRecord {
    fn file(self, number: u32, key: &str) -> Option<File> {
        Some(File {
            number,
            key: key.to_owned(),
            rows: self.rows,
            bytes: self.bytes,
            etag: String::new(),
            sha256: self.sha256,
            min_start_time: Timestamp::from_micros(self.min_start_time)?,
            max_start_time: Timestamp::from_micros(self.max_start_time)?,
            cursor: Cursor {
                start_time: Timestamp::from_micros(self.cursor.0)?,
                id: self.cursor.1,
            },
            hydrated_objects: self.hydrated_objects,
            hydration_misses: self.hydration_misses,
            misses: self.misses.into_iter().map(miss).collect(),
            oversized: oversized::from_record(&self.oversized),
            left_out: LeftOut {
                undecided: self.left_out.undecided,
                decided_against: self.left_out.decided_against,
                named: self.left_out.named.into_iter().map(miss).collect(),
            },
        })
    }
}
