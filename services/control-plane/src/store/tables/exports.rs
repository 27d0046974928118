//! Exports, alone and with the totals of their tasks.

use std::collections::{BTreeMap, BTreeSet};

use tracelift_core::{
    column::Columns,
    export::{Compression, Export, ExportSpec, ExportStatus, FileFormat, FormatVersion, Projects},
    filter::Filter,
    id::{ExportId, SessionId, TenantId},
    schedule::Hours,
    time::Timestamp,
};

use super::{
    limit, offset, requests,
    tasks::{AT_ONCE, marks},
};
use crate::store::{
    ExportFilter, ExportView, Page, Place, StoreError,
    sql::{self, Row, Value},
    transaction::{Transaction, for_update, for_update_of_free},
};

/// Exports with the totals of their partitions, and when their partitions and the search for
/// experiments began to read. Sums of bigints are numeric in PostgreSQL, hence the casts.
const VIEW: &str = "
    SELECT e.*,
           count(CASE WHEN r.kind = 'partition' THEN 1 END) AS runs_total,
           count(CASE WHEN r.kind = 'partition' AND r.state = 'completed' THEN 1 END) AS runs_completed,
           CAST(coalesce(sum(CASE WHEN r.rows > r.reported_rows THEN r.rows ELSE r.reported_rows END), 0) AS bigint) AS live_rows,
           CAST(coalesce(sum(CASE WHEN r.bytes > r.reported_bytes THEN r.bytes ELSE r.reported_bytes END), 0) AS bigint) AS live_bytes,
           CAST(coalesce(sum(r.files), 0) AS bigint) AS files,
           CAST(coalesce(sum(r.undecided), 0) AS bigint) AS undecided,
           CAST(coalesce(sum(r.decided_against), 0) AS bigint) AS decided_against,
           count(r.rows_estimate) AS runs_counted,
           CAST(coalesce(sum(r.rows_estimate), 0) AS bigint) AS rows_counted,
           min(r.read_at) AS read_at,
           count(CASE WHEN r.read_at < r.window_end THEN 1 END) AS runs_open
    FROM exports e LEFT JOIN runs r ON r.export_id = e.id AND r.kind IN ('partition', 'find_experiments')";

pub(crate) fn create(tx: &mut dyn Transaction, export: &Export) -> Result<(), StoreError> {
    let spec = &export.spec;
    let columns = vec![
        ("id", export.id.into()),
        ("tenant_id", export.tenant.into()),
        ("destination_id", spec.destination.into()),
        ("session_id", spec.projects.one().into()),
        ("window_start", spec.window.start().into()),
        ("window_end", spec.window.end().into()),
        ("compression", spec.compression.as_str().into()),
        ("file_format", spec.format.as_str().into()),
        ("format_version", spec.format_version.as_str().into()),
        ("columns", sql::json(&spec.columns.names())?),
        ("filter", spec.filter.as_ref().map(Filter::text).into()),
        ("status", export.status.as_str().into()),
        ("source_id", export.source.into()),
        ("interval_hours", spec.every.map(Hours::get).into()),
        ("next_window", spec.every.map(|_| 0u32).into()),
        ("next_end", spec.every.map(|_| spec.window.end()).into()),
        ("created_at", export.created_at.into()),
        ("updated_at", export.updated_at.into()),
    ];
    sql::insert(tx, "exports", columns)
}

/// The exports that tasks belong to.
pub(crate) fn of_runs(
    tx: &mut dyn Transaction,
    ids: BTreeSet<ExportId>,
) -> Result<BTreeMap<ExportId, Export>, StoreError> {
    let mut found = BTreeMap::new();
    for ids in ids.into_iter().collect::<Vec<_>>().chunks(AT_ONCE) {
        let sql = format!("SELECT * FROM exports WHERE id IN ({})", marks(ids.len()));
        let values: Vec<_> = ids.iter().map(|id| Value::from(*id)).collect();
        for row in tx.query(&sql, &values)? {
            let export = export(&row)?;
            found.insert(export.id, export);
        }
    }
    Ok(found)
}

/// The same, locked: no other transaction settles or ends it until this one does.
pub(crate) fn lock(tx: &mut dyn Transaction, id: ExportId) -> Result<Export, StoreError> {
    let sql = format!("SELECT * FROM exports WHERE id = $1{}", for_update(tx));
    there(id, sql::one(tx, &sql, &[id.into()])?)
}

fn there(id: ExportId, found: Option<Row>) -> Result<Export, StoreError> {
    found.as_ref().map(export).transpose()?.ok_or_else(|| gone(id))
}

/// The error for a task without its export.
pub(crate) fn gone(id: ExportId) -> StoreError {
    StoreError::Corrupt(format!("a run belongs to export {id}, which does not exist"))
}

pub(crate) fn view(
    tx: &mut dyn Transaction,
    tenant: TenantId,
    id: ExportId,
) -> Result<Option<ExportView>, StoreError> {
    let sql = format!("{VIEW} WHERE e.id = $1 AND e.tenant_id = $2 GROUP BY e.id");
    sql::one(tx, &sql, &[id.into(), tenant.into()])?.as_ref().map(view_of).transpose()
}

pub(crate) fn views(
    tx: &mut dyn Transaction,
    tenant: TenantId,
    wanted: &ExportFilter,
    page: Page,
) -> Result<Vec<ExportView>, StoreError> {
    let mut values: Vec<Value> = vec![tenant.into(), limit(page), offset(page)];
    let mut mark = |value: Value| {
        values.push(value);
        format!("${}", values.len())
    };
    let mut conditions = vec!["tenant_id = $1".to_owned()];
    if !wanted.statuses.is_empty() {
        let marks: Vec<_> =
            wanted.statuses.iter().map(|status| mark(status.as_str().into())).collect();
        conditions.push(format!("status IN ({})", marks.join(", ")));
    }
    conditions.extend(wanted.destination.map(|id| format!("destination_id = {}", mark(id.into()))));
    conditions.extend(wanted.session.map(|id| format!("session_id = {}", mark(id.into()))));
    conditions.extend(page.after.map(|Place(made, id)| {
        format!("(created_at, id) < ({}, {})", mark(made.into()), mark(id.into()))
    }));
    let conditions = conditions.join(" AND ");
    let sql = format!(
        "{VIEW} WHERE e.id IN (SELECT id FROM exports WHERE {conditions} ORDER BY created_at DESC, id DESC LIMIT $2 OFFSET $3)
         GROUP BY e.id ORDER BY e.created_at DESC, e.id DESC"
    );
    tx.query(&sql, &values)?.iter().map(view_of).collect()
}

/// Records that a task of it was claimed: the first claim sets its start time.
pub(crate) fn begin(
    tx: &mut dyn Transaction,
    id: ExportId,
    now: Timestamp,
) -> Result<(), StoreError> {
    tx.execute(
        "UPDATE exports SET started_at = coalesce(started_at, $2) WHERE id = $1",
        &[id.into(), now.into()],
    )
}

/// Updates the status of an export in progress.
pub(crate) fn go_on(
    tx: &mut dyn Transaction,
    id: ExportId,
    status: ExportStatus,
    now: Timestamp,
) -> Result<(), StoreError> {
    sql::update(
        tx,
        "exports",
        id,
        vec![("status", status.as_str().into()), ("updated_at", now.into())],
    )
}

pub(crate) fn end(
    tx: &mut dyn Transaction,
    id: ExportId,
    status: ExportStatus,
    error: Option<&str>,
    now: Timestamp,
) -> Result<(), StoreError> {
    let columns: Vec<(&str, Value)> = vec![
        ("status", status.as_str().into()),
        ("error", error.into()),
        ("updated_at", now.into()),
        ("finished_at", now.into()),
    ];
    sql::update(tx, "exports", id, columns)
}

/// Reopens an ended export: nobody works on it yet, and its time limit starts with the next claim.
pub(crate) fn reopen(
    tx: &mut dyn Transaction,
    id: ExportId,
    now: Timestamp,
) -> Result<(), StoreError> {
    tx.execute(
        "UPDATE exports SET status = $2, updated_at = $3, error = NULL, finished_at = NULL, started_at = NULL,
                rows_before = coalesce((SELECT sum(r.rows) FROM runs r WHERE r.export_id = exports.id), 0)
         WHERE id = $1",
        &[id.into(), ExportStatus::Running.as_str().into(), now.into()],
    )
}

/// Records the result of its reconciliation.
pub(crate) fn reconciled(
    tx: &mut dyn Transaction,
    id: ExportId,
    rows: u64,
    now: Timestamp,
) -> Result<(), StoreError> {
    sql::update(
        tx,
        "exports",
        id,
        vec![("rows_in_source", rows.into()), ("reconciled_at", now.into())],
    )
}

/// Deletes exports that ended before `limit`, with all their tasks, up to a bound; returns how
/// many. An export stays while tasks of it are unfinished, and while exports that it spawned stay.
pub(crate) fn remove_ended(
    tx: &mut dyn Transaction,
    limit: Timestamp,
) -> Result<usize, StoreError> {
    let sql = format!(
        "SELECT e.id FROM exports e
         WHERE e.status IN ('Completed', 'Failed', 'Cancelled', 'TimedOut') AND e.finished_at <= $1
           AND NOT EXISTS (SELECT 1 FROM runs r WHERE r.export_id = e.id AND r.state IN ('queued', 'leased'))
           AND NOT EXISTS (SELECT 1 FROM exports c WHERE c.source_id = e.id)
         ORDER BY e.id LIMIT 100{}",
        for_update_of_free(tx)
    );
    // Locked, so that none of their runs is retried in the meantime.
    let ended = tx.query(&sql, &[limit.into()])?;
    for row in &ended {
        requests::forget_of(tx, row.get("id")?)?;
        let id = [row.get::<ExportId>("id")?.into()];
        tx.execute(
            "DELETE FROM files WHERE run_id IN (SELECT id FROM runs WHERE export_id = $1)",
            &id,
        )?;
        tx.execute("DELETE FROM runs WHERE export_id = $1 AND subject IS NOT NULL", &id)?;
        tx.execute("DELETE FROM runs WHERE export_id = $1", &id)?;
        tx.execute("DELETE FROM exports WHERE id = $1", &id)?;
    }
    Ok(ended.len())
}

pub(crate) fn export(row: &Row) -> Result<Export, StoreError> {
    let names: Vec<String> = row.json("columns")?;
    let filter: String = row.get::<Option<String>>("filter")?.unwrap_or_default();
    Ok(Export {
        id: row.get("id")?,
        tenant: row.get("tenant_id")?,
        spec: ExportSpec {
            destination: row.get("destination_id")?,
            projects: row
                .get::<Option<SessionId>>("session_id")?
                .map_or(Projects::Experiments, Projects::One),
            window: row.window()?.ok_or_else(|| {
                StoreError::Corrupt("column window_start: an export has a window".to_owned())
            })?,
            every: every(row)?,
            compression: row.word("compression", |word| Compression::parse("compression", word))?,
            format: row.word("file_format", |word| FileFormat::parse("file_format", word))?,
            format_version: row
                .word("format_version", |word| FormatVersion::parse("format_version", word))?,
            columns: row.checked("columns", Columns::parse("columns", &names))?,
            filter: row.checked("filter", Filter::parse("filter", &filter))?,
        },
        status: row.word("status", |word| ExportStatus::parse("status", word))?,
        source: row.get("source_id")?,
        error: row.get("error")?,
        created_at: row.get("created_at")?,
        updated_at: row.get("updated_at")?,
        finished_at: row.get("finished_at")?,
    })
}

fn every(row: &Row) -> Result<Option<Hours>, StoreError> {
    let hours =
        row.get::<Option<u32>>("interval_hours")?.map(|hours| Hours::new("interval_hours", hours));
    hours.transpose().map_err(|fault| sql::unreadable("interval_hours", fault))
}

fn view_of(row: &Row) -> Result<ExportView, StoreError> {
    Ok(ExportView {
        export: export(row)?,
        runs_total: row.get("runs_total")?,
        runs_completed: row.get("runs_completed")?,
        rows: row.get("live_rows")?,
        bytes: row.get("live_bytes")?,
        files: row.get("files")?,
        undecided: row.get("undecided")?,
        decided_against: row.get("decided_against")?,
        runs_counted: row.get("runs_counted")?,
        rows_counted: row.get("rows_counted")?,
        started_at: row.get("started_at")?,
        rows_before: row.get("rows_before")?,
        read_at: row.get("read_at")?,
        window_open: row.get::<u32>("runs_open")? > 0,
        reconciled: row.get::<Option<u64>>("rows_in_source")?.zip(row.get("reconciled_at")?),
    })
}
