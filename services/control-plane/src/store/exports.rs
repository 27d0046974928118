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
    for run in locked.into_iter().filter(|run| run.work.counts()) {
        stop(tx, run, Event::Cancelled, now)?;
    }
    exports::end(tx, id, ExportStatus::Cancelled, None, now)?;
    tx.tell(Change::Export(id));
    exports::view(tx, tenant, id)
}

/// Stops a run by `event`, unless it has ended; its exporter is told.
pub(super) fn stop(tx: &mut dyn Transaction, run: Run, event: Event, now: Timestamp) -> Result<(), StoreError> {
    let Ok(stopped) = run.clone().apply(event, now) else { return Ok(()) };
    if let Some(lease) = run.lease() {
        tx.tell(Change::Stopped { run: run.id, fence: run.fence, exporter: lease.exporter.clone() });
    }
    save_ended(tx, &run, &stopped, now)?;
    reported::forget(tx, &stopped)
}

/// Saves a run; when it has just ended without completing, what it may have left in the bucket is to be cleaned up.
pub(super) fn save_ended(tx: &mut dyn Transaction, before: &Run, after: &Run, now: Timestamp) -> Result<(), StoreError> {
    runs::save(tx, after)?;
    if after.leaves_something() && !before.leaves_something() {
        begin(tx, after.export, after, Work::CleanUp(after.id), now)?;
    }
    Ok(())
}

/// Queues a run that callers do not see; `like` says whose it is.
fn begin(tx: &mut dyn Transaction, export: ExportId, like: &Run, work: Work, now: Timestamp) -> Result<(), StoreError> {
    runs::create(tx, &Run::new(RunId(Uuid::now_v7()), export, like.tenant, like.session, work, now))?;
    tx.tell(Change::Work);
    Ok(())
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
    let partitions: Vec<_> = all.iter().filter(|run| matches!(run.work, Work::Partition(_))).map(Run::status).collect();
    let finalising = all.iter().find(|run| run.work == Work::Finalise).map(Run::status);
    let any = all.first().ok_or_else(|| StoreError::Corrupt(format!("export {} has no runs", export.id)))?;
    if finalising.is_none() && partitions.iter().all(|status| *status == RunStatus::Completed) {
        begin(tx, id, any, Work::Finalise, now)?;
    }
    let status = ExportStatus::of_runs(&partitions, finalising);
    if !status.ended() {
        return exports::go_on(tx, id, status, now);
    }
    // Where a filter reads content the trace store alone cannot say how many rows there are.
    let countable = export.spec.filter.as_ref().is_none_or(|filter| !filter.reads_content());
    if status == ExportStatus::Completed && countable {
        begin(tx, id, any, Work::Reconcile, now)?;
    }
    exports::end(tx, id, status, why(&all, status).as_deref(), now)
}

/// Why an export ended without completing, for people.
fn why(runs: &[Run], status: ExportStatus) -> Option<String> {
    let with = |status| runs.iter().find(|run| run.work.counts() && run.status() == status);
    match status {
        ExportStatus::Failed => with(RunStatus::Failed).and_then(|run| Some(format!("{} failed: {}", name(run), run.errors.last()?))),
        ExportStatus::TimedOut => with(RunStatus::TimedOut).map(|run| {
            format!("{} took longer than the operator allows: export a shorter range, or ask for a longer time limit", name(run))
        }),
        _ => None,
    }
}

fn name(run: &Run) -> String {
    match run.work {
        Work::Partition(window) => format!("run {} of {}", run.id, window),
        Work::Finalise | Work::CleanUp(_) | Work::Reconcile => "writing the export's manifest".to_owned(),
    }
}
