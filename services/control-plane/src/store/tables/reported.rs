//! The progress that an exporter last reported for a task, in columns of the task.

use serde::{Deserialize, Serialize};
use tracelift_core::task::{Progress, State, Task};

use crate::store::{
    StoreError,
    sql::{self, Row},
    transaction::Transaction,
};

/// Values that are never summed up.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct Record {
    stage: String,
    files: u32,
    hydrated_objects: u64,
    hydration_misses: u64,
    stage_seconds: [f64; 4],
}

/// An estimate stays until it is replaced: it covers the whole task, whoever works on it.
pub(crate) fn columns(reported: &Progress) -> Result<sql::Columns, StoreError> {
    let Progress {
        stage,
        rows,
        bytes,
        files,
        rows_estimate,
        hydrated_objects,
        hydration_misses,
        stage_seconds,
    } = reported.clone();
    let record = Record { stage, files, hydrated_objects, hydration_misses, stage_seconds };
    let mut columns: sql::Columns = vec![
        ("reported", sql::json(&record)?),
        ("reported_rows", rows.into()),
        ("reported_bytes", bytes.into()),
    ];
    if let Some(estimate) = rows_estimate {
        columns.push(("rows_estimate", estimate.into()));
    }
    Ok(columns)
}

/// Whether the report is ahead of the previous one: in rows, bytes, files or objects.
pub(crate) fn is_further(before: &Progress, said: &Progress) -> bool {
    let counts = |reported: &Progress| {
        (reported.rows, reported.bytes, reported.files, reported.hydrated_objects)
    };
    counts(before) != counts(said)
}

/// Drops the progress of unfinished files, which no longer holds.
pub(crate) fn forget(tx: &mut dyn Transaction, task: &Task) -> Result<(), StoreError> {
    let stage = match task.state {
        State::Queued { .. } => "queued",
        _ => "ended",
    };
    sql::update(
        tx,
        "runs",
        task.id,
        columns(&Progress { stage: stage.to_owned(), ..Progress::default() })?,
    )
}

pub(crate) fn of(row: &Row) -> Result<Progress, StoreError> {
    let Record { stage, files, hydrated_objects, hydration_misses, stage_seconds } =
        row.json("reported")?;
    Ok(Progress {
        stage,
        rows: row.get("reported_rows")?,
        bytes: row.get("reported_bytes")?,
        files,
        rows_estimate: row.get("rows_estimate")?,
        hydrated_objects,
        hydration_misses,
        stage_seconds,
    })
}
