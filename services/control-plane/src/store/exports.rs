//! The rules of exports: planned, settled as their runs end, cancelled.

use tracelift_core::{
    export::{Export, ExportStatus},
    id::{ExportId, RunId, TenantId},
    run::{Event, Run, RunStatus, Work},
    time::Timestamp,
};
use uuid::Uuid;

use super::{
    Change, ExportView, StoreError,
    rows::{destinations, exports, reported, runs},
    transaction::Transaction,
};

pub(super) fn create(tx: &mut dyn Transaction, export: &Export, planned: &[Run]) -> Result<bool, StoreError> {
    if destinations::one(tx, export.tenant, export.spec.destination)?.is_none() {
        return Ok(false);
    }
    exports::create(tx, export)?;
    for run in planned {
        runs::create(tx, run)?;
    }
    tx.tell(Change::Work);
    Ok(true)
}

pub(super) fn cancel(tx: &mut dyn Transaction, tenant: TenantId, id: ExportId, now: Timestamp) -> Result<Option<ExportView>, StoreError> {
    if exports::view(tx, tenant, id)?.is_none() {
        return Ok(None);
    }
    let locked = runs::lock_of_export(tx, id)?;
    let export = exports::lock(tx, id)?;
    if export.status.ended() {
        return exports::view(tx, tenant, id);
    }
    if runs::of_export(tx, id)?.len() != locked.len() {
        // The finalising run has appeared before the export was locked, and locks come in an order: begin anew.
        return Err(StoreError::Contended);
    }
    for run in locked {
        let Ok(stopped) = run.clone().apply(Event::Cancelled, now) else { continue };
        runs::save(tx, &stopped)?;
        reported::forget(tx, &stopped)?;
        if let Some(lease) = run.lease() {
            tx.tell(Change::Stopped { run: run.id, fence: run.fence, exporter: lease.exporter.clone() });
        }
    }
    exports::end(tx, id, ExportStatus::Cancelled, None, now)?;
    tx.tell(Change::Export(id));
    exports::view(tx, tenant, id)
}

/// Brings an export's status up to date after one of its runs has changed, and begins its finalising run when it is due.
///
/// The export is locked before its runs are read: of two runs that end at the same time, the later one sees both.
pub(super) fn settle(tx: &mut dyn Transaction, id: ExportId, now: Timestamp) -> Result<(), StoreError> {
    tx.tell(Change::Export(id));
    let export = exports::lock(tx, id)?;
    if export.status.ended() {
        return Ok(());
    }
    let all = runs::of_export(tx, id)?;
    let of = |finalising: bool| all.iter().filter(move |run| (run.work == Work::Finalise) == finalising);
    let partitions: Vec<_> = of(false).map(Run::status).collect();
    let finalising = of(true).map(Run::status).next();
    if finalising.is_none() && partitions.iter().all(|status| *status == RunStatus::Completed) {
        let run = Run::new(RunId(Uuid::now_v7()), id, export.tenant, export.spec.session, Work::Finalise, now);
        runs::create(tx, &run)?;
        tx.tell(Change::Work);
    }
    let status = ExportStatus::of_runs(&partitions, finalising);
    if !status.ended() {
        return exports::go_on(tx, id, status, now);
    }
    let failed = all.iter().find(|run| run.status() == RunStatus::Failed);
    let error = failed.and_then(|run| Some(format!("{} failed: {}", name(run), run.errors.last()?)));
    exports::end(tx, id, status, error.as_deref(), now)
}

fn name(run: &Run) -> String {
    match run.work {
        Work::Partition(window) => format!("run {} of {}", run.id, window),
        Work::Finalise => "writing the export's manifest".to_owned(),
    }
}
