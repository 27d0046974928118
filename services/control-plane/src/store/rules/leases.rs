//! The rules of leases: handle exporters' messages, take tasks back. Every write is conditional on
//! the fence. Tasks are assigned by `claims`.

use std::collections::{BTreeMap, BTreeSet};

use tracelift_core::{
    export::ExportStatus,
    file::File,
    id::{ExportId, ExporterId, TaskId},
    task::{Event, Fence, IllegalEvent, Lease, Progress, State, Task, TaskKind, Verdict},
    time::Timestamp,
};
use uuid::Uuid;

use super::exports::{begin_partitions, begin_reconciliation, save_ended, settle, stop};
use crate::store::{
    Access, Change, Holder, ReportError, ReportOutcome, StoreError, TimeLimits,
    tables::{destinations, exports, files, reported, tasks},
    transaction::Transaction,
};

type Held = [(TaskId, Fence)];

pub(in crate::store) fn hello(
    tx: &mut dyn Transaction,
    session: Uuid,
    lease: &Lease,
    held: &Held,
    max_retries: u32,
    now: Timestamp,
) -> Result<Vec<Verdict>, StoreError> {
    tx.lock_exporter(&lease.exporter)?;
    let leased = tasks::leased_to(tx, &lease.exporter)?;
    let mut locked = tasks::lock_all(
        tx,
        &leased.iter().map(|task| task.id).chain(held.iter().map(|(task, _)| *task)).collect(),
    )?;
    let mut changed = BTreeSet::new();
    for task in locked.values_mut() {
        let Some(theirs) = task.lease().filter(|theirs| theirs.exporter == lease.exporter) else {
            continue;
        };
        if held.contains(&(task.id, task.fence)) {
            continue;
        }
        let event = if theirs.incarnation == lease.incarnation {
            Event::HandedBack
        } else {
            Event::Lapsed { max_retries }
        };
        *task = take_back(tx, task.clone(), event, now)?;
        changed.insert(task.export);
    }
    let verdicts = verdicts(tx, &mut locked, lease, held, now)?;
    settle_all(tx, changed, now)?;
    tx.tell(Change::Connected { exporter: lease.exporter.clone(), session });
    Ok(verdicts)
}

pub(in crate::store) fn heartbeat(
    tx: &mut dyn Transaction,
    lease: &Lease,
    held: &Held,
    now: Timestamp,
) -> Result<Vec<Verdict>, StoreError> {
    let mut locked = tasks::lock_all(tx, &held.iter().map(|(task, _)| *task).collect())?;
    verdicts(tx, &mut locked, lease, held, now)
}

fn verdicts(
    tx: &mut dyn Transaction,
    locked: &mut BTreeMap<TaskId, Task>,
    lease: &Lease,
    held: &Held,
    now: Timestamp,
) -> Result<Vec<Verdict>, StoreError> {
    held.iter()
        .map(|(id, fence)| {
            locked
                .get_mut(id)
                .map_or(Ok(Verdict::Revoked), |task| verdict(tx, task, lease, *fence, now))
        })
        .collect()
}

fn verdict(
    tx: &mut dyn Transaction,
    task: &mut Task,
    lease: &Lease,
    fence: Fence,
    now: Timestamp,
) -> Result<Verdict, StoreError> {
    let event = Event::Renewed { until: lease.until };
    let same_process = task.lease().is_some_and(|held| {
        held.exporter == lease.exporter && held.incarnation == lease.incarnation
    });
    if same_process && task.hears(fence, &event) {
        let Ok(renewed) = task.clone().apply(event, now) else { return Ok(Verdict::Revoked) };
        tasks::save(tx, &renewed)?;
        *task = renewed;
        let asked_back = task.lease().is_some_and(|lease| lease.asked_back.is_some());
        return Ok(if asked_back { Verdict::HandBack } else { Verdict::Keep });
    }
    let stopped = matches!(task.state, State::Cancelled(_) | State::TimedOut(_));
    Ok(if stopped && task.fence.0 == fence.0 + 1 { Verdict::Cancel } else { Verdict::Revoked })
}

pub(in crate::store) fn report(
    tx: &mut dyn Transaction,
    by: Option<&Holder>,
    id: TaskId,
    fence: Fence,
    event: Event,
    grace: u32,
    now: Timestamp,
) -> Result<ReportOutcome, ReportError> {
    let mut locked = tasks::lock_with_subject(tx, id)?;
    let Some(before) = locked.remove(&id) else { return Ok(ReportOutcome::Stale) };
    if !is_from_holder(tx, by, id)? {
        return Ok(ReportOutcome::Stale);
    }
    if !before.hears(fence, &event) {
        return Ok(if already_done(&before, fence, &event) {
            ReportOutcome::Applied(Box::new(before))
        } else {
            ReportOutcome::Stale
        });
    }
    let requeues = matches!(event, Event::HandedBack | Event::Declined | Event::Failed { .. });
    let task = before.clone().apply(event.clone(), now).map_err(ReportError::Illegal)?;
    save_ended(tx, &before, &task, now)?;
    match event {
        Event::FileDone(file) if file.number >= before.totals.files => {
            files::create(tx, id, &file)?
        }
        Event::CleanedUp { adopted } => {
            for left in locked.into_values() {
                cleaned_up(tx, left, adopted.clone(), now)?;
            }
        }
        Event::ExperimentsFound(found) => begin_partitions(tx, &task, &found, now)?,
        Event::Counted { rows } => exports::reconciled(tx, task.export, rows, now)?,
        _ => {}
    }
    if requeues {
        reported::forget(tx, &task)?;
        tx.tell(Change::TasksQueued);
    }
    let export = settle(tx, task.export, now)?;
    if task.kind == TaskKind::Finalize && export.status == ExportStatus::Completed {
        begin_reconciliation(tx, &export, grace, now)?;
    }
    Ok(ReportOutcome::Applied(Box::new(task)))
}

/// Whether this is a repeat of a task's last report, sent again because its acknowledgement was
/// lost.
fn already_done(task: &Task, fence: Fence, event: &Event) -> bool {
    let last = matches!(
        event,
        Event::Published
            | Event::CleanedUp { .. }
            | Event::ExperimentsFound(_)
            | Event::Counted { .. }
    );
    last && matches!(task.state, State::Completed(_)) && task.fence == fence
}

/// Records that the leftovers of a stopped task are gone; a file of it that was complete is kept.
fn cleaned_up(
    tx: &mut dyn Transaction,
    left: Task,
    adopted: Option<Box<File>>,
    now: Timestamp,
) -> Result<(), ReportError> {
    let files_before = left.totals.files;
    let task = left
        .apply(Event::CleanedUp { adopted: adopted.clone() }, now)
        .map_err(ReportError::Illegal)?;
    tasks::save(tx, &task)?;
    if let Some(file) = adopted.filter(|_| task.totals.files > files_before) {
        files::create(tx, task.id, &file)?;
    }
    Ok(())
}

/// Whether a report comes from the process that holds a task's lease, or held it last.
fn is_from_holder(
    tx: &mut dyn Transaction,
    by: Option<&Holder>,
    id: TaskId,
) -> Result<bool, StoreError> {
    by.map_or(Ok(true), |holder| tasks::was_held_by(tx, id, holder))
}

pub(in crate::store) fn progress(
    tx: &mut dyn Transaction,
    by: Option<&Holder>,
    id: TaskId,
    fence: Fence,
    said: &Progress,
    now: Timestamp,
) -> Result<ReportOutcome, StoreError> {
    let Some((mut task, before)) = tasks::lock_reported(tx, id)? else {
        return Ok(ReportOutcome::Stale);
    };
    if task.lease().is_none() || task.fence != fence || !is_from_holder(tx, by, id)? {
        return Ok(ReportOutcome::Stale);
    }
    if reported::is_further(&before, said)
        && let Ok(further) = task.clone().apply(Event::Progressed, now)
    {
        task = further;
    }
    task.updated_at = now;
    tasks::save_reported(tx, &task, said)?;
    tx.tell(Change::Export(task.export));
    Ok(ReportOutcome::Applied(Box::new(task)))
}

pub(in crate::store) fn lapse(
    tx: &mut dyn Transaction,
    max_retries: u32,
    now: Timestamp,
) -> Result<usize, StoreError> {
    let lapsed = tasks::lock_lapsed(tx, now)?;
    let count = lapsed.len();
    let mut changed = BTreeSet::new();
    for task in lapsed {
        let alive = task.lease().is_some_and(|lease| lease.until > now);
        let event =
            if alive { Event::Stalled { max_retries } } else { Event::Lapsed { max_retries } };
        changed.insert(take_back(tx, task, event, now)?.export);
    }
    settle_all(tx, changed, now)?;
    Ok(count)
}

pub(in crate::store) fn time_out(
    tx: &mut dyn Transaction,
    limits: TimeLimits,
    now: Timestamp,
) -> Result<usize, StoreError> {
    let ago = |seconds: u32| now.plus_seconds(-i64::from(seconds));
    let overdue = tasks::overdue(tx, ago(limits.task), ago(limits.export))?;
    let locked = tasks::lock_all(tx, &overdue.into_iter().collect())?;
    let (count, changed) = (locked.len(), locked.values().map(|task| task.export).collect());
    for task in locked.into_values() {
        stop(tx, task, Event::TimedOut, now)?;
    }
    settle_all(tx, changed, now)?;
    Ok(count)
}

pub(super) fn take_back(
    tx: &mut dyn Transaction,
    task: Task,
    event: Event,
    now: Timestamp,
) -> Result<Task, StoreError> {
    let unheard = |error: IllegalEvent| StoreError::Corrupt(error.to_string());
    let before = task.clone();
    let task = task.apply(event, now).map_err(unheard)?;
    save_ended(tx, &before, &task, now)?;
    reported::forget(tx, &task)?;
    tx.tell(Change::TasksQueued);
    Ok(task)
}

/// Settles exports in the order of their ids, after all tasks have been locked.
pub(super) fn settle_all(
    tx: &mut dyn Transaction,
    changed: BTreeSet<ExportId>,
    now: Timestamp,
) -> Result<(), StoreError> {
    changed.into_iter().try_for_each(|export| settle(tx, export, now).map(drop))
}

pub(in crate::store) fn access(
    tx: &mut dyn Transaction,
    id: TaskId,
    fence: Fence,
    exporter: &ExporterId,
    incarnation: &str,
) -> Result<Option<Access>, StoreError> {
    let Some(task) = tasks::one(tx, id)? else { return Ok(None) };
    let holder = task
        .lease()
        .is_some_and(|lease| lease.exporter == *exporter && lease.incarnation == incarnation);
    if holder && task.fence == fence { destinations::access(tx, &task) } else { Ok(None) }
}
