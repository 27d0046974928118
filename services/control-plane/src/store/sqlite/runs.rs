//! Runs and their files, as rows.

use rusqlite::{OptionalExtension as _, Row, Transaction, named_params};
use serde::{Deserialize, Serialize};
use tracelift_core::{
    file::{Cursor, File, FileIntent, HydrationMiss, Totals},
    id::{ExportId, ExporterId, RunId, TenantId},
    run::{Fence, Lease, Run, State, Work},
    time::Timestamp,
};
use uuid::Uuid;

use super::{destinations, exports, record};
use crate::store::{Page, Reported, RunView, StoreError};

pub(super) fn insert(tx: &Transaction<'_>, run: &Run) -> Result<(), StoreError> {
    let (start, end) = match run.work {
        Work::Partition(window) => (Some(window.start().micros()), Some(window.end().micros())),
        Work::Finalise => (None, None),
    };
    let values = named_params! {
        ":id": run.id.to_string(), ":export_id": run.export.to_string(), ":tenant_id": run.tenant.to_string(),
        ":session_id": run.session.to_string(), ":window_start": start, ":window_end": end, ":now": run.created_at.micros(),
    };
    tx.execute(
        "INSERT INTO runs (id, export_id, tenant_id, session_id, window_start, window_end, state, state_at, fence, attempt, errors,
                           files, rows, bytes, hydrated_objects, hydration_misses, frozen, created_at, updated_at)
         VALUES (:id, :export_id, :tenant_id, :session_id, :window_start, :window_end, 'queued', :now, 0, 0, '[]', 0, 0, 0, 0, 0, 0,
                 :now, :now)",
        values,
    )?;
    save(tx, run)
}

/// Writes what may change of a run.
pub(super) fn save(tx: &Transaction<'_>, run: &Run) -> Result<(), StoreError> {
    let (state, at) = match &run.state {
        State::Queued { not_before } => ("queued", *not_before),
        State::Leased(lease) => ("leased", lease.until),
        State::Completed(at) => ("completed", *at),
        State::Failed(at) => ("failed", *at),
        State::Cancelled(at) => ("cancelled", *at),
        State::TimedOut(at) => ("timed_out", *at),
    };
    let lease = run.lease();
    let intent = run.intent.as_ref().map(|intent| record::to_json(&IntentRecord::from(intent))).transpose()?;
    let values = named_params! {
        ":id": run.id.to_string(), ":state": state, ":state_at": at.micros(),
        ":exporter_id": lease.map(|lease| lease.exporter.as_str()), ":incarnation": lease.map(|lease| lease.incarnation.as_str()),
        ":fence": record::signed(run.fence.0), ":attempt": run.attempt, ":errors": record::to_json(&run.errors)?,
        ":files": run.totals.files, ":rows": record::signed(run.totals.rows), ":bytes": record::signed(run.totals.bytes),
        ":hydrated_objects": record::signed(run.totals.hydrated_objects),
        ":hydration_misses": record::signed(run.totals.hydration_misses),
        ":cursor_time": run.cursor.map(|cursor| cursor.start_time.micros()),
        ":cursor_id": run.cursor.map(|cursor| cursor.id.to_string()), ":intent": intent, ":frozen": run.frozen,
        ":updated_at": run.updated_at.micros(),
    };
    // The exporter's name stays after it is gone: people ask who did it.
    tx.prepare_cached(
        "UPDATE runs SET state = :state, state_at = :state_at, exporter_id = coalesce(:exporter_id, exporter_id),
                incarnation = coalesce(:incarnation, incarnation), fence = :fence, attempt = :attempt, errors = :errors, files = :files,
                rows = :rows, bytes = :bytes, hydrated_objects = :hydrated_objects, hydration_misses = :hydration_misses,
                cursor_time = :cursor_time, cursor_id = :cursor_id, intent = :intent, frozen = :frozen, updated_at = :updated_at
         WHERE id = :id",
    )?
    .execute(values)?;
    Ok(())
}

pub(super) fn one(tx: &Transaction<'_>, id: RunId) -> Result<Option<Run>, StoreError> {
    let mut query = tx.prepare_cached("SELECT * FROM runs WHERE id = ?1")?;
    Ok(query.query_row([id.to_string()], run).optional()?)
}

pub(super) fn of_export(tx: &Transaction<'_>, export: ExportId) -> Result<Vec<Run>, StoreError> {
    let mut query = tx.prepare_cached("SELECT * FROM runs WHERE export_id = ?1 ORDER BY window_start, id")?;
    let runs = query.query_map([export.to_string()], run)?;
    Ok(runs.collect::<Result<_, _>>()?)
}

/// Partitions with their export and destination; the columns of `runs` come last so that they win.
const VIEW: &str = "
    SELECT r.*, r.id AS run_id, d.bucket_name, d.prefix, d.region, d.endpoint_url, d.include_bucket_in_prefix, d.addressing, d.write_options
    FROM runs r JOIN exports e ON e.id = r.export_id JOIN destinations d ON d.id = e.destination_id
    WHERE r.tenant_id = ?1 AND r.window_start IS NOT NULL";

pub(super) fn views(tx: &Transaction<'_>, tenant: TenantId, export: ExportId, page: Page) -> Result<Option<Vec<RunView>>, StoreError> {
    if exports::view(tx, tenant, export)?.is_none() {
        return Ok(None);
    }
    let sql = format!("{VIEW} AND r.export_id = ?2 ORDER BY r.window_start, r.id LIMIT ?3 OFFSET ?4");
    let mut query = tx.prepare_cached(&sql)?;
    let found = query.query_map((tenant.to_string(), export.to_string(), exports::limit(page), page.offset), parts)?;
    found.map(|parts| complete(tx, parts?)).collect::<Result<_, _>>().map(Some)
}

pub(super) fn view(tx: &Transaction<'_>, tenant: TenantId, export: ExportId, id: RunId) -> Result<Option<RunView>, StoreError> {
    let mut query = tx.prepare_cached(&format!("{VIEW} AND r.export_id = ?2 AND r.id = ?3"))?;
    let found = query.query_row((tenant.to_string(), export.to_string(), id.to_string()), parts).optional()?;
    found.map(|parts| complete(tx, parts)).transpose()
}

pub(super) fn views_of_schedule(
    tx: &Transaction<'_>,
    tenant: TenantId,
    source: ExportId,
    page: Page,
) -> Result<Option<Vec<RunView>>, StoreError> {
    if exports::view(tx, tenant, source)?.is_none() {
        return Ok(None);
    }
    let sql = format!("{VIEW} AND e.source_id = ?2 ORDER BY r.window_start, r.id LIMIT ?3 OFFSET ?4");
    let mut query = tx.prepare_cached(&sql)?;
    let found = query.query_map((tenant.to_string(), source.to_string(), exports::limit(page), page.offset), parts)?;
    found.map(|parts| complete(tx, parts?)).collect::<Result<_, _>>().map(Some)
}

type Parts = (Run, tracelift_core::destination::Bucket, Reported, Option<String>);

fn parts(row: &Row<'_>) -> rusqlite::Result<Parts> {
    let record: ReportedRecord = record::json(row, "reported")?;
    let estimate: Option<i64> = row.get("rows_estimate")?;
    let reported = Reported { rows_estimate: estimate.and_then(|rows| u64::try_from(rows).ok()), ..record.into() };
    Ok((run(row)?, destinations::bucket(row)?, reported, row.get("exporter_id")?))
}

fn complete(tx: &Transaction<'_>, (run, bucket, reported, exporter): Parts) -> Result<RunView, StoreError> {
    let mut query = tx.prepare_cached("SELECT * FROM exports WHERE id = ?1")?;
    let export = query.query_row([run.export.to_string()], exports::export)?;
    let mut query = tx.prepare_cached("SELECT key FROM files WHERE run_id = ?1 ORDER BY number")?;
    let keys = query.query_map([run.id.to_string()], |row| row.get(0))?.collect::<Result<_, _>>()?;
    Ok(RunView { run, export, bucket, keys, reported, exporter })
}

pub(super) fn run(row: &Row<'_>) -> rusqlite::Result<Run> {
    let at = record::time(row, "state_at")?;
    let state = match row.get::<_, String>("state")?.as_str() {
        "queued" => State::Queued { not_before: at },
        "leased" => State::Leased(Lease {
            exporter: record::word(row, "exporter_id", |text| ExporterId::parse("exporter_id", text))?,
            incarnation: row.get("incarnation")?,
            until: at,
        }),
        "completed" => State::Completed(at),
        "failed" => State::Failed(at),
        "cancelled" => State::Cancelled(at),
        _ => State::TimedOut(at),
    };
    let cursor = match (record::optional_time(row, "cursor_time")?, record::optional_id::<Uuid>(row, "cursor_id")?) {
        (Some(start_time), Some(id)) => Some(Cursor { start_time, id }),
        _ => None,
    };
    let intent: Option<String> = row.get("intent")?;
    let intent: Option<IntentRecord> = intent.map(|_| record::json(row, "intent")).transpose()?;
    Ok(Run {
        id: record::id(row, "id")?,
        export: record::id(row, "export_id")?,
        tenant: record::id(row, "tenant_id")?,
        session: record::id(row, "session_id")?,
        work: record::optional_window(row)?.map_or(Work::Finalise, Work::Partition),
        state,
        fence: Fence(record::count(row, "fence")?),
        attempt: record::small(row, "attempt")?,
        errors: record::json(row, "errors")?,
        totals: Totals {
            files: record::small(row, "files")?,
            rows: record::count(row, "rows")?,
            bytes: record::count(row, "bytes")?,
            hydrated_objects: record::count(row, "hydrated_objects")?,
            hydration_misses: record::count(row, "hydration_misses")?,
        },
        cursor,
        intent: intent.map(|record| record.read().ok_or_else(|| record::unreadable("intent", "a time is none"))).transpose()?,
        frozen: row.get("frozen")?,
        created_at: record::time(row, "created_at")?,
        updated_at: record::time(row, "updated_at")?,
    })
}

pub(super) fn insert_file(tx: &Transaction<'_>, run: RunId, file: &File) -> Result<(), StoreError> {
    let misses: Vec<_> = file.misses.iter().map(|miss| (miss.row_id, &miss.column, &miss.reason)).collect();
    let values = named_params! {
        ":run_id": run.to_string(), ":number": file.number, ":key": file.key, ":rows": record::signed(file.rows),
        ":bytes": record::signed(file.bytes), ":etag": file.etag, ":sha256": file.sha256,
        ":min_start_time": file.min_start_time.micros(), ":max_start_time": file.max_start_time.micros(),
        ":cursor_time": file.cursor.start_time.micros(), ":cursor_id": file.cursor.id.to_string(),
        ":hydrated_objects": record::signed(file.hydrated_objects), ":hydration_misses": record::signed(file.hydration_misses),
        ":misses": record::to_json(&misses)?,
    };
    tx.execute(
        "INSERT INTO files (run_id, number, key, rows, bytes, etag, sha256, min_start_time, max_start_time, cursor_time, cursor_id,
                            hydrated_objects, hydration_misses, misses)
         VALUES (:run_id, :number, :key, :rows, :bytes, :etag, :sha256, :min_start_time, :max_start_time, :cursor_time, :cursor_id,
                 :hydrated_objects, :hydration_misses, :misses)",
        values,
    )?;
    Ok(())
}

pub(super) fn files(tx: &Transaction<'_>, run: RunId) -> Result<Vec<File>, StoreError> {
    let mut query = tx.prepare_cached("SELECT * FROM files WHERE run_id = ?1 ORDER BY number")?;
    let files = query.query_map([run.to_string()], file)?;
    Ok(files.collect::<Result<_, _>>()?)
}

fn file(row: &Row<'_>) -> rusqlite::Result<File> {
    let misses: Vec<(Uuid, String, String)> = record::json(row, "misses")?;
    Ok(File {
        number: record::small(row, "number")?,
        key: row.get("key")?,
        rows: record::count(row, "rows")?,
        bytes: record::count(row, "bytes")?,
        etag: row.get("etag")?,
        sha256: row.get("sha256")?,
        min_start_time: record::time(row, "min_start_time")?,
        max_start_time: record::time(row, "max_start_time")?,
        cursor: Cursor { start_time: record::time(row, "cursor_time")?, id: record::id(row, "cursor_id")? },
        hydrated_objects: record::count(row, "hydrated_objects")?,
        hydration_misses: record::count(row, "hydration_misses")?,
        misses: misses.into_iter().map(|(row_id, column, reason)| HydrationMiss { row_id, column, reason }).collect(),
    })
}

#[derive(Serialize, Deserialize)]
struct IntentRecord {
    number: u32,
    key: String,
    upload_id: String,
    token: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    whole: Option<FileRecord>,
}

/// What a file will hold, beside its number and key.
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
    misses: Vec<(Uuid, String, String)>,
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
            misses: file.misses.into_iter().map(|miss| (miss.row_id, miss.column, miss.reason)).collect(),
        });
        Self { number, key, upload_id, token, whole }
    }
}

impl IntentRecord {
    /// `None` when a time is none.
    fn read(self) -> Option<FileIntent> {
        let Self { number, key, upload_id, token, whole } = self;
        let file = |whole: FileRecord| {
            Some(Box::new(File {
                number,
                key: key.clone(),
                rows: whole.rows,
                bytes: whole.bytes,
                etag: String::new(),
                sha256: whole.sha256,
                min_start_time: Timestamp::from_micros(whole.min_start_time)?,
                max_start_time: Timestamp::from_micros(whole.max_start_time)?,
                cursor: Cursor { start_time: Timestamp::from_micros(whole.cursor.0)?, id: whole.cursor.1 },
                hydrated_objects: whole.hydrated_objects,
                hydration_misses: whole.hydration_misses,
                misses: whole.misses.into_iter().map(|(row_id, column, reason)| HydrationMiss { row_id, column, reason }).collect(),
            }))
        };
        let whole = match whole {
            Some(whole) => Some(file(whole)?),
            None => None,
        };
        Some(FileIntent { number, key, upload_id, token, whole })
    }
}

#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct ReportedRecord {
    stage: String,
    rows: u64,
    bytes: u64,
    files: u32,
    hydrated_objects: u64,
    hydration_misses: u64,
    stage_seconds: [f64; 4],
}

impl From<ReportedRecord> for Reported {
    fn from(record: ReportedRecord) -> Self {
        let ReportedRecord { stage, rows, bytes, files, hydrated_objects, hydration_misses, stage_seconds } = record;
        Self { stage, rows, bytes, files, rows_estimate: None, hydrated_objects, hydration_misses, stage_seconds }
    }
}

pub(super) fn save_reported(tx: &Transaction<'_>, run: RunId, reported: &Reported) -> Result<(), StoreError> {
    let Reported { stage, rows, bytes, files, rows_estimate, hydrated_objects, hydration_misses, stage_seconds } = reported.clone();
    let text = record::to_json(&ReportedRecord { stage, rows, bytes, files, hydrated_objects, hydration_misses, stage_seconds })?;
    tx.prepare_cached("UPDATE runs SET reported = ?2, rows_estimate = coalesce(?3, rows_estimate) WHERE id = ?1")?.execute((
        run.to_string(),
        text,
        rows_estimate.map(record::signed),
    ))?;
    Ok(())
}
