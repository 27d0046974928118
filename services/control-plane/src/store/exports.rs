//! The rules of exports: planned, settled as their runs end, cancelled.

use tracelift_core::{
    export::{Export, ExportStatus, Projects},
    id::{ExportId, RunId, TenantId},
    limit::Quota,
    plan::{self, Experiment, Partition},
    run::{Event, Run, RunStatus, State, Work},
    time::Timestamp,
};
use uuid::Uuid;

use super::{
    Change, ExportView, Made, NewExport, Retry, StoreError,
    rows::{
        destinations, exports, quota, reported,
        requests::{self, EXPORTS, Known, REQUEST_SECONDS},
        runs, tenants,
    },
    transaction::Transaction,
};

pub(super) fn create(tx: &mut dyn Transaction, new: &NewExport) -> Result<Made, StoreError> {
    let NewExport { export, runs: planned, quota, request } = new;
    let (tenant, now) = (export.tenant, export.created_at);
    if request.is_some() || *quota != Quota::default() {
        tenants::lock(tx, tenant)?; // of two that come at once the later one sees the other
    }
    if let Some(request) = request
        && let Some(known) =
            requests::find(tx, &EXPORTS, tenant, request, now.plus_seconds(-REQUEST_SECONDS))?
    {
        return again(tx, tenant, &known);
    }
    if !destinations::lock(tx, tenant, export.spec.destination)? {
        return Ok(Made::NoDestination);
    }
    if let Some(full) = quota::full(tx, tenant, *quota, export.spec.every.is_some(), now)? {
        return Ok(Made::Full(full));
    }
    exports::create(tx, export)?;
    planned.iter().try_for_each(|run| runs::create(tx, run))?;
    if let Some(request) = request {
        requests::remember(tx, &EXPORTS, tenant, request, export.id.into(), now)?;
    }
    tx.tell(Change::Work);
    Ok(Made::Now(Box::new(ExportView::planned(export.clone(), planned))))
}

/// The answer that this key was given before.
fn again(
    tx: &mut dyn Transaction,
    tenant: TenantId,
    known: &Known<ExportId>,
) -> Result<Made, StoreError> {
    if !known.same {
        return Ok(Made::OtherRequest);
    }
    let view = exports::view(tx, tenant, known.made)?;
    let view = view.ok_or_else(|| {
        StoreError::Corrupt(format!("a key stands for export {}, which does not exist", known.made))
    })?;
    let export = view.export.as_made();
    // The partitions of experiments were not there yet.
    let runs_total =
        if export.spec.projects == Projects::Experiments { 0 } else { view.runs_total };
    Ok(Made::Before(Box::new(ExportView { runs_total, ..ExportView::planned(export, &[]) })))
}

pub(super) fn cancel(
    tx: &mut dyn Transaction,
    tenant: TenantId,
    id: ExportId,
    now: Timestamp,
) -> Result<Option<ExportView>, StoreError> {
    if exports::view(tx, tenant, id)?.is_none() {
        return Ok(None);
    }
    let locked = runs::lock_of_export(tx, id)?;
    let export = exports::lock(tx, id)?;
    if export.status.ended() {
        return exports::view(tx, tenant, id);
    }
    if runs::of_export(tx, id)?.len() != locked.len() {
        // The finalising run has appeared before the export was locked, and locks come in an order:
        // begin anew.
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
pub(super) fn stop(
    tx: &mut dyn Transaction,
    run: Run,
    event: Event,
    now: Timestamp,
) -> Result<(), StoreError> {
    let Ok(stopped) = run.clone().apply(event, now) else { return Ok(()) };
    if let Some(lease) = run.lease() {
        tx.tell(Change::Stopped {
            run: run.id,
            fence: run.fence,
            exporter: lease.exporter.clone(),
        });
    }
    save_ended(tx, &run, &stopped, now)?;
    reported::forget(tx, &stopped)
}

/// Saves a run; when it has just ended without completing, what it may have left in the bucket is
/// to be cleaned up.
pub(super) fn save_ended(
    tx: &mut dyn Transaction,
    before: &Run,
    after: &Run,
    now: Timestamp,
) -> Result<(), StoreError> {
    runs::save(tx, after)?;
    if after.leaves_something() && !before.leaves_something() && !runs::is_cleaned(tx, after.id)? {
        begin(tx, after.export, after.tenant, Work::CleanUp(after.id), now)?;
    }
    Ok(())
}

/// Queues a run again that has failed or timed out; its export, if it has ended for that, goes on.
pub(super) fn retry(
    tx: &mut dyn Transaction,
    tenant: TenantId,
    id: ExportId,
    run: RunId,
    now: Timestamp,
) -> Result<Option<Retry>, StoreError> {
    if runs::view(tx, tenant, id, run)?.is_none() {
        return Ok(None);
    }
    let Some(run) = runs::lock(tx, run)? else { return Ok(None) };
    let export = exports::lock(tx, id)?;
    if export.status == ExportStatus::Cancelled {
        return Ok(Some(Retry::Cancelled));
    }
    let Ok(again) = run.clone().apply(Event::Retried, now) else {
        return Ok(Some(Retry::Not(run.status())));
    };
    if !destinations::lock(tx, tenant, export.spec.destination)? {
        return Ok(Some(Retry::NoDestination));
    }
    runs::save(tx, &again)?;
    reported::forget(tx, &again)?;
    if export.status.ended() {
        exports::reopen(tx, id, now)?;
    }
    settle(tx, id, now)?;
    tx.tell(Change::Work);
    Ok(runs::view(tx, tenant, id, run.id)?.map(|view| Retry::Queued(Box::new(view))))
}

/// Queues a run.
fn begin(
    tx: &mut dyn Transaction,
    export: ExportId,
    tenant: TenantId,
    work: Work,
    now: Timestamp,
) -> Result<(), StoreError> {
    runs::create(tx, &Run::new(RunId(Uuid::now_v7()), export, tenant, work, now))?;
    tx.tell(Change::Work);
    Ok(())
}

/// Queues the count of a completed export's rows: not before its window has ended and rows have had
/// `grace` seconds to come, so that the late ones are counted.
pub(super) fn begin_reconciliation(
    tx: &mut dyn Transaction,
    export: &Export,
    grace: u32,
    now: Timestamp,
) -> Result<(), StoreError> {
    let not_before = export.spec.window.end().plus_seconds(i64::from(grace)).max(now);
    let run = Run::new(RunId(Uuid::now_v7()), export.id, export.tenant, Work::Reconcile, now);
    runs::create(tx, &Run { state: State::Queued { not_before }, ..run })?;
    tx.tell(Change::Work);
    Ok(())
}

/// Queues the partitions of the experiments that `finder` has found, in the transaction that ends
/// it.
pub(super) fn begin_partitions(
    tx: &mut dyn Transaction,
    finder: &Run,
    found: &[Experiment],
    now: Timestamp,
) -> Result<(), StoreError> {
    let (Work::FindExperiments(window), State::Completed(_)) = (finder.work, &finder.state) else {
        return Ok(());
    };
    let Ok(partitions) = plan::of_experiments(window, found) else { return Ok(()) };
    partitions.into_iter().try_for_each(|partition| {
        begin(tx, finder.export, finder.tenant, Work::Partition(partition), now)
    })
}

/// Brings an export's status up to date after one of its runs has changed, and begins its
/// finalising run when it is due. The export as it is then.
///
/// The export is locked before its runs are read: of two runs that end at the same time, the later
/// one sees both.
pub(super) fn settle(
    tx: &mut dyn Transaction,
    id: ExportId,
    now: Timestamp,
) -> Result<Export, StoreError> {
    tx.tell(Change::Export(id));
    let export = exports::lock(tx, id)?;
    if export.status.ended() {
        return Ok(export);
    }
    let (first, finalising) = runs::standing(tx, id)?;
    if first.is_empty() {
        return Err(StoreError::Corrupt(format!("export {} has no runs", export.id)));
    }
    if finalising.is_none() && first.iter().all(|status| *status == RunStatus::Completed) {
        begin(tx, id, export.tenant, Work::Finalise, now)?;
    }
    let status = ExportStatus::of_runs(&first, finalising);
    if !status.ended() {
        exports::go_on(tx, id, status, now)?;
        return Ok(Export { status, updated_at: now, ..export });
    }
    let error = if status == ExportStatus::Completed {
        None
    } else {
        why(&runs::of_export(tx, id)?, status)
    };
    exports::end(tx, id, status, error.as_deref(), now)?;
    Ok(Export { status, error, updated_at: now, finished_at: Some(now), ..export })
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
        Work::FindExperiments(window) => format!("finding the experiments of {window}"),
        Work::Partition(Partition { window, .. }) => format!("run {} of {window}", run.id),
        Work::Finalise | Work::CleanUp(_) | Work::Reconcile => {
            "writing the export's manifest".to_owned()
        }
    }
}
