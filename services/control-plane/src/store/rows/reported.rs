//! What an exporter said of a run last: columns of the run.

use serde::{Deserialize, Serialize};
use tracelift_core::{
    id::RunId,
    run::{Run, State},
    time::Timestamp,
};

use crate::store::{
    Reported, StoreError,
    sql::{self, Row, Value},
    transaction::Transaction,
};

/// What nothing is ever added up from.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct Record {
    stage: String,
    files: u32,
    hydrated_objects: u64,
    hydration_misses: u64,
    stage_seconds: [f64; 4],
}

/// An estimate stays until there is another one: it is of the whole run, whoever works on it.
pub(crate) fn save(tx: &mut dyn Transaction, run: RunId, reported: &Reported) -> Result<(), StoreError> {
    let Reported { stage, rows, bytes, files, rows_estimate, hydrated_objects, hydration_misses, stage_seconds } = reported.clone();
    let record = Record { stage, files, hydrated_objects, hydration_misses, stage_seconds };
    let mut columns: Vec<(&str, Value)> =
        vec![("reported", sql::json(&record)?), ("reported_rows", rows.into()), ("reported_bytes", bytes.into())];
    if let Some(estimate) = rows_estimate {
        columns.push(("rows_estimate", estimate.into()));
    }
    sql::update(tx, "runs", run, columns)
}

/// Whether this is more than was said before: rows, bytes, files or objects.
pub(crate) fn is_further(tx: &mut dyn Transaction, run: RunId, said: &Reported) -> Result<bool, StoreError> {
    let sql = "SELECT reported, reported_rows, reported_bytes, rows_estimate FROM runs WHERE id = $1";
    let Some(row) = sql::one(tx, sql, &[run.into()])? else { return Ok(false) };
    let counts = |reported: &Reported| (reported.rows, reported.bytes, reported.files, reported.hydrated_objects);
    Ok(counts(&of(&row)?) != counts(said))
}

/// It was said now.
pub(crate) fn touch(tx: &mut dyn Transaction, run: RunId, now: Timestamp) -> Result<(), StoreError> {
    sql::update(tx, "runs", run, vec![("updated_at", now.into())])
}

/// What an exporter said of files that it did not finish is not true any more.
pub(crate) fn forget(tx: &mut dyn Transaction, run: &Run) -> Result<(), StoreError> {
    let stage = match run.state {
        State::Queued { .. } => "queued",
        _ => "ended",
    };
    save(tx, run.id, &Reported { stage: stage.to_owned(), ..Reported::default() })
}

pub(crate) fn of(row: &Row) -> Result<Reported, StoreError> {
    let Record { stage, files, hydrated_objects, hydration_misses, stage_seconds } = row.json("reported")?;
    Ok(Reported {
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
