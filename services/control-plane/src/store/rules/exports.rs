//! The rules of exports: create, settle as their tasks end, cancel, retry.

use tracelift_core::{
    export::{Export, ExportStatus, Projects},
    id::{ExportId, TaskId, TenantId},
    limit::Quota,
    plan::{self, Experiment, Partition},
    task::{Event, MAX_ATTEMPTS, RunStatus, State, Task, TaskKind},
    time::Timestamp,
};
use uuid::Uuid;

use crate::store::{
    Change, CreateOutcome, ExportView, NewExport, Retry, StoreError,
    tables::{
        destinations, exports, quota, reported,
        requests::{self, EXPORTS, Known, REQUEST_SECONDS},
        tasks, tenants,
    },
    transaction::Transaction,
};

pub(in crate::store) fn create(
    tx: &mut dyn Transaction,
    new: &NewExport,
) -> Result<CreateOutcome, StoreError> {
    let NewExport { export, tasks: planned, quota, request } = new;
    let (tenant, now) = (export.tenant, export.created_at);
    if request.is_some() || *quota != Quota::default() {
        tenants::lock(tx, tenant)?; // of two concurrent requests, the later one sees the other
    }
    if let Some(request) = request
        && let Some(known) =
            requests::find(tx, &EXPORTS, tenant, request, now.plus_seconds(-REQUEST_SECONDS))?
    {
        return again(tx, tenant, &known);
    }
    if !destinations::lock(tx, tenant, export.spec.destination)? {
        return Ok(CreateOutcome::NoDestination);
    }
    if let Some(full) = quota::full(tx, tenant, *quota, export.spec.every.is_some(), now)? {
        return Ok(CreateOutcome::Full(full));
    }
    exports::create(tx, export)?;
    planned.iter().try_for_each(|task| tasks::create(tx, task))?;
    if let Some(request) = request {
        requests::remember(tx, &EXPORTS, tenant, request, export.id.into(), now)?;
    }
    tx.tell(Change::TasksQueued);
    Ok(CreateOutcome::Now(Box::new(ExportView::planned(export.clone(), planned))))
}

/// The response that this key received before.
fn again(
    tx: &mut dyn Transaction,
    tenant: TenantId,
    known: &Known<ExportId>,
) -> Result<CreateOutcome, StoreError> {
    if !known.same {
        return Ok(CreateOutcome::OtherRequest);
    }
    let view = exports::view(tx, tenant, known.made)?;
    let view = view.ok_or_else(|| {
        StoreError::Corrupt(format!("a key stands for export {}, which does not exist", known.made))
    })?;
    let export = view.export.as_made();
    // At creation, the partitions of experiments did not exist yet.
    let runs_total =
        if export.spec.projects == Projects::Experiments { 0 } else { view.runs_total };
    Ok(CreateOutcome::Before(Box::new(ExportView {
        runs_total,
        ..ExportView::planned(export, &[])
    })))
}

/// The export, and whether this has cancelled it; `None` if there is none.
pub(in crate::store) fn cancel(
    tx: &mut dyn Transaction,
    tenant: TenantId,
    id: ExportId,
    now: Timestamp,
) -> Result<Option<(bool, ExportView)>, StoreError> {
    if exports::view(tx, tenant, id)?.is_none() {
        return Ok(None);
    }
    let locked = tasks::lock_of_export(tx, id)?;
    let export = exports::lock(tx, id)?;
    if export.status.ended() {
        return Ok(exports::view(tx, tenant, id)?.map(|view| (false, view)));
    }
    if tasks::of_export(tx, id)?.len() != locked.len() {
        // The finalize task was created before the export was locked, and locks are taken in a
        // fixed order: start over.
        return Err(StoreError::Contended);
    }
    for task in locked.into_iter().filter(|task| task.kind.counts()) {
        stop(tx, task, Event::Cancelled, now)?;
    }
    exports::end(tx, id, ExportStatus::Cancelled, None, now)?;
    tx.tell(Change::Export(id));
    Ok(exports::view(tx, tenant, id)?.map(|view| (true, view)))
}

/// Stops a task by `event`, unless it has ended, and notifies its exporter.
pub(in crate::store) fn stop(
    tx: &mut dyn Transaction,
    task: Task,
    event: Event,
    now: Timestamp,
) -> Result<(), StoreError> {
    let Ok(stopped) = task.clone().apply(event, now) else { return Ok(()) };
    if let Some(lease) = task.lease() {
        tx.tell(Change::Stopped {
            task: task.id,
            fence: task.fence,
            exporter: lease.exporter.clone(),
        });
    }
    save_ended(tx, &task, &stopped, now)?;
    reported::forget(tx, &stopped)
}

/// Saves a task; if it has just ended without completing, queues a clean-up of what it may have
/// left in the bucket.
pub(in crate::store) fn save_ended(
    tx: &mut dyn Transaction,
    before: &Task,
    after: &Task,
    now: Timestamp,
) -> Result<(), StoreError> {
    tasks::save(tx, after)?;
    if after.leaves_something() && !before.leaves_something() && !tasks::is_cleaned(tx, after.id)? {
        begin(tx, after.export, after.tenant, TaskKind::CleanUp(after.id), now)?;
    }
    Ok(())
}

/// Requeues a run that has failed or timed out; reopens its export if that has ended.
pub(in crate::store) fn retry(
    tx: &mut dyn Transaction,
    tenant: TenantId,
    id: ExportId,
    task: TaskId,
    now: Timestamp,
) -> Result<Option<Retry>, StoreError> {
    if tasks::view(tx, tenant, id, task)?.is_none() {
        return Ok(None);
    }
    let Some(task) = tasks::lock(tx, task)? else { return Ok(None) };
    let export = exports::lock(tx, id)?;
    if export.status == ExportStatus::Cancelled {
        return Ok(Some(Retry::Cancelled));
    }
    if task.attempt >= MAX_ATTEMPTS {
        return Ok(Some(Retry::Spent));
    }
    let Ok(again) = task.clone().apply(Event::Retried, now) else {
        return Ok(Some(Retry::Not(task.status())));
    };
    if !destinations::lock(tx, tenant, export.spec.destination)? {
        return Ok(Some(Retry::NoDestination));
    }
    tasks::save(tx, &again)?;
    reported::forget(tx, &again)?;
    if export.status.ended() {
        exports::reopen(tx, id, now)?;
    }
    settle(tx, id, now)?;
    tx.tell(Change::TasksQueued);
    Ok(tasks::view(tx, tenant, id, task.id)?.map(|view| Retry::Queued(Box::new(view))))
}

/// Queues a task.
fn begin(
    tx: &mut dyn Transaction,
    export: ExportId,
    tenant: TenantId,
    kind: TaskKind,
    now: Timestamp,
) -> Result<(), StoreError> {
    tasks::create(tx, &Task::new(TaskId(Uuid::now_v7()), export, tenant, kind, now))?;
    tx.tell(Change::TasksQueued);
    Ok(())
}

/// Queues the reconciliation of a completed export: not before its window has ended and another
/// `grace` seconds have passed, so that late rows are counted.
pub(in crate::store) fn begin_reconciliation(
    tx: &mut dyn Transaction,
    export: &Export,
    grace: u32,
    now: Timestamp,
) -> Result<(), StoreError> {
    let not_before = export.spec.window.end().plus_seconds(i64::from(grace)).max(now);
    let task =
        Task::new(TaskId(Uuid::now_v7()), export.id, export.tenant, TaskKind::Reconcile, now);
    tasks::create(tx, &Task { state: State::Queued { not_before }, ..task })?;
    tx.tell(Change::TasksQueued);
    Ok(())
}

/// Queues the partitions of the experiments that `finder` has found, in the transaction that
/// completes it.
pub(in crate::store) fn begin_partitions(
    tx: &mut dyn Transaction,
    finder: &Task,
    found: &[Experiment],
    now: Timestamp,
) -> Result<(), StoreError> {
    let (TaskKind::FindExperiments(window), State::Completed(_)) = (finder.kind, &finder.state)
    else {
        return Ok(());
    };
    let Ok(partitions) = plan::of_experiments(window, found) else { return Ok(()) };
    partitions.into_iter().try_for_each(|partition| {
        begin(tx, finder.export, finder.tenant, TaskKind::Partition(partition), now)
    })
}

/// Brings an export's status up to date after one of its tasks has changed, and queues its finalize
/// task when it is due. Returns the updated export.
///
/// The export is locked before its tasks are read: of two tasks that end at the same time, the
/// later one sees both.
pub(in crate::store) fn settle(
    tx: &mut dyn Transaction,
    id: ExportId,
    now: Timestamp,
) -> Result<Export, StoreError> {
    tx.tell(Change::Export(id));
    let export = exports::lock(tx, id)?;
    if export.status.ended() {
        return Ok(export);
    }
    let (first, finalizing) = tasks::standing(tx, id)?;
    if first.is_empty() {
        return Err(StoreError::Corrupt(format!("export {} has no runs", export.id)));
    }
    if finalizing.is_none() && first.iter().all(|status| *status == RunStatus::Completed) {
        begin(tx, id, export.tenant, TaskKind::Finalize, now)?;
    }
    let status = ExportStatus::of_runs(&first, finalizing);
    if !status.ended() {
        exports::go_on(tx, id, status, now)?;
        return Ok(Export { status, updated_at: now, ..export });
    }
    let error = if status == ExportStatus::Completed {
        None
    } else {
        why(&tasks::of_export(tx, id)?, status)
    };
    exports::end(tx, id, status, error.as_deref(), now)?;
    Ok(Export { status, error, updated_at: now, finished_at: Some(now), ..export })
}

/// A human-readable reason why an export ended without completing.
fn why(tasks: &[Task], status: ExportStatus) -> Option<String> {
    let with = |status| tasks.iter().find(|task| task.kind.counts() && task.status() == status);
    match status {
        ExportStatus::Failed => with(RunStatus::Failed).and_then(|task| Some(format!("{} failed: {}", name(task), task.errors.last()?))),
        ExportStatus::TimedOut => with(RunStatus::TimedOut).map(|task| {
            format!("{} took longer than the operator allows: export a shorter range, or ask for a longer time limit", name(task))
        }),
        _ => None,
    }
}

fn name(task: &Task) -> String {
    match task.kind {
        TaskKind::FindExperiments(window) => format!("finding the experiments of {window}"),
        TaskKind::Partition(Partition { window, .. }) => format!("run {} of {window}", task.id),
        TaskKind::Finalize | TaskKind::CleanUp(_) | TaskKind::Reconcile => {
            "writing the export's manifest".to_owned()
        }
    }
}
