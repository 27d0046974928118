//! Exports, and the fold of their runs that makes their status.

use rusqlite::{OptionalExtension as _, Row, Transaction, named_params};
use tracelift_core::{
    column::Columns,
    export::{Compression, Export, ExportSpec, ExportStatus, FormatVersion},
    id::{ExportId, RunId, TenantId},
    run::{Event, Run, RunStatus, Work},
    time::Timestamp,
};
use uuid::Uuid;

use super::{News, destinations, fleet, record, runs};
use crate::store::{Change, ExportView, Page, StoreError};

/// Exports with what their partitions add up to.
const VIEW: &str = "
    SELECT e.*,
           count(r.id)                                         AS runs_total,
           coalesce(sum(r.state = 'completed'), 0)             AS runs_completed,
           coalesce(sum(max(r.rows, coalesce(json_extract(r.reported, '$.rows'), 0))), 0)   AS live_rows,
           coalesce(sum(max(r.bytes, coalesce(json_extract(r.reported, '$.bytes'), 0))), 0) AS live_bytes,
           coalesce(sum(r.files), 0)                           AS files,
           count(r.rows_estimate)                              AS runs_counted,
           coalesce(sum(r.rows_estimate), 0)                   AS rows_counted
    FROM exports e LEFT JOIN runs r ON r.export_id = e.id AND r.window_start IS NOT NULL";

pub(super) fn create(tx: &Transaction<'_>, news: &mut News, export: &Export, planned: &[Run]) -> Result<bool, StoreError> {
    if destinations::one(tx, export.tenant, export.spec.destination)?.is_none() {
        return Ok(false);
    }
    let spec = &export.spec;
    let values = named_params! {
        ":id": export.id.to_string(), ":tenant_id": export.tenant.to_string(), ":destination_id": spec.destination.to_string(),
        ":session_id": spec.session.to_string(), ":window_start": spec.window.start().micros(),
        ":window_end": spec.window.end().micros(), ":compression": spec.compression.as_str(),
        ":format_version": spec.format_version.as_str(), ":columns": record::to_json(&spec.columns.names())?,
        ":status": export.status.as_str(), ":source_id": export.source.map(|id| id.to_string()),
        ":created_at": export.created_at.micros(), ":updated_at": export.updated_at.micros(),
    };
    tx.execute(
        "INSERT INTO exports (id, tenant_id, destination_id, session_id, window_start, window_end, compression, format_version,
                              columns, status, source_id, created_at, updated_at)
         VALUES (:id, :tenant_id, :destination_id, :session_id, :window_start, :window_end, :compression, :format_version,
                 :columns, :status, :source_id, :created_at, :updated_at)",
        values,
    )?;
    for run in planned {
        runs::insert(tx, run)?;
    }
    news.push(Change::Work);
    Ok(true)
}

pub(super) fn view(tx: &Transaction<'_>, tenant: TenantId, id: ExportId) -> Result<Option<ExportView>, StoreError> {
    let mut query = tx.prepare_cached(&format!("{VIEW} WHERE e.id = ?1 AND e.tenant_id = ?2 GROUP BY e.id"))?;
    Ok(query.query_row((id.to_string(), tenant.to_string()), view_of).optional()?)
}

pub(super) fn views(tx: &Transaction<'_>, tenant: TenantId, page: Page) -> Result<Vec<ExportView>, StoreError> {
    let mut query = tx.prepare_cached(&format!(
        "{VIEW} WHERE e.id IN (SELECT id FROM exports WHERE tenant_id = ?1 ORDER BY created_at DESC, id DESC LIMIT ?2 OFFSET ?3)
         GROUP BY e.id ORDER BY e.created_at DESC, e.id DESC"
    ))?;
    let views = query.query_map((tenant.to_string(), limit(page), page.offset), view_of)?;
    Ok(views.collect::<Result<_, _>>()?)
}

/// SQLite's LIMIT: -1 is all.
pub(super) fn limit(page: Page) -> i64 {
    page.limit.map_or(-1, i64::from)
}

pub(super) fn cancel(
    tx: &Transaction<'_>,
    news: &mut News,
    tenant: TenantId,
    id: ExportId,
    now: Timestamp,
) -> Result<Option<ExportView>, StoreError> {
    let Some(found) = view(tx, tenant, id)? else { return Ok(None) };
    if found.export.status.ended() {
        return Ok(Some(found));
    }
    for run in runs::of_export(tx, id)? {
        let Some(stopped) = stop(&run, now) else { continue };
        runs::save(tx, &stopped)?;
        fleet::forget_reported(tx, &stopped)?;
        if let Some(lease) = run.lease() {
            news.push(Change::Stopped { run: run.id, fence: run.fence, exporter: lease.exporter.clone() });
        }
    }
    end(tx, id, ExportStatus::Cancelled, None, now)?;
    news.push(Change::Export(id));
    view(tx, tenant, id)
}

fn stop(run: &Run, now: Timestamp) -> Option<Run> {
    run.clone().apply(Event::Cancelled, now).ok()
}

/// Brings an export's status up to date after one of its runs has changed, and begins its finalising run when it is due.
pub(super) fn settle(tx: &Transaction<'_>, news: &mut News, id: ExportId, now: Timestamp) -> Result<(), StoreError> {
    news.push(Change::Export(id));
    let mut query = tx.prepare_cached("SELECT * FROM exports WHERE id = ?1")?;
    let export = query.query_row([id.to_string()], export)?;
    if export.status.ended() {
        return Ok(());
    }
    let all = runs::of_export(tx, id)?;
    let of = |finalising: bool| all.iter().filter(move |run| (run.work == Work::Finalise) == finalising);
    let partitions: Vec<_> = of(false).map(Run::status).collect();
    let finalising = of(true).map(Run::status).next();
    if finalising.is_none() && partitions.iter().all(|status| *status == RunStatus::Completed) {
        let run = Run::new(RunId(Uuid::now_v7()), id, export.tenant, export.spec.session, Work::Finalise, now);
        runs::insert(tx, &run)?;
        news.push(Change::Work);
    }
    let status = ExportStatus::of_runs(&partitions, finalising);
    if status.ended() {
        let failed = all.iter().find(|run| run.status() == RunStatus::Failed);
        let error = failed.and_then(|run| Some(format!("{} failed: {}", name(run), run.errors.last()?)));
        return end(tx, id, status, error.as_deref(), now);
    }
    let values = named_params! {":id": id.to_string(), ":status": status.as_str(), ":now": now.micros()};
    tx.execute(
        "UPDATE exports SET status = :status, updated_at = :now, started_at = CASE WHEN :status = 'Running' THEN coalesce(started_at, :now) END
         WHERE id = :id",
        values,
    )?;
    Ok(())
}

fn name(run: &Run) -> String {
    match run.work {
        Work::Partition(window) => format!("run {} of {}", run.id, window),
        Work::Finalise => "writing the export's manifest".to_owned(),
    }
}

fn end(tx: &Transaction<'_>, id: ExportId, status: ExportStatus, error: Option<&str>, now: Timestamp) -> Result<(), StoreError> {
    let values = named_params! {":id": id.to_string(), ":status": status.as_str(), ":error": error, ":now": now.micros()};
    tx.execute("UPDATE exports SET status = :status, error = :error, updated_at = :now, finished_at = :now WHERE id = :id", values)?;
    Ok(())
}

/// The export in a row of `exports`.
pub(super) fn export(row: &Row<'_>) -> rusqlite::Result<Export> {
    let names: Vec<String> = record::json(row, "columns")?;
    Ok(Export {
        id: record::id(row, "id")?,
        tenant: record::id(row, "tenant_id")?,
        spec: ExportSpec {
            destination: record::id(row, "destination_id")?,
            session: record::id(row, "session_id")?,
            window: record::optional_window(row)?.ok_or(rusqlite::Error::InvalidQuery)?,
            compression: record::word(row, "compression", |word| Compression::parse("compression", word))?,
            format_version: record::word(row, "format_version", |word| FormatVersion::parse("format_version", word))?,
            columns: Columns::parse("columns", &names).map_err(|faults| record::all_unreadable("columns", &faults))?,
        },
        status: record::word(row, "status", |word| ExportStatus::parse("status", word))?,
        source: record::optional_id(row, "source_id")?,
        error: row.get("error")?,
        created_at: record::time(row, "created_at")?,
        updated_at: record::time(row, "updated_at")?,
        finished_at: record::optional_time(row, "finished_at")?,
    })
}

fn view_of(row: &Row<'_>) -> rusqlite::Result<ExportView> {
    Ok(ExportView {
        export: export(row)?,
        runs_total: record::small(row, "runs_total")?,
        runs_completed: record::small(row, "runs_completed")?,
        rows: record::count(row, "live_rows")?,
        bytes: record::count(row, "live_bytes")?,
        files: record::small(row, "files")?,
        runs_counted: record::small(row, "runs_counted")?,
        rows_counted: record::count(row, "rows_counted")?,
        started_at: record::optional_time(row, "started_at")?,
    })
}
