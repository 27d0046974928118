//! The rules of leases: hearing exporters, taking runs back. Every write is conditional on the
//! fence. Runs are given out by `claims`.

use std::collections::{BTreeMap, BTreeSet};

use tracelift_core::{
    export::ExportStatus,
    file::File,
    id::{ExportId, ExporterId, RunId},
    run::{Event, Fence, IllegalEvent, Lease, Run, State, Work},
    time::Timestamp,
};
use uuid::Uuid;

use super::{
    Access, Change, Heard, ReportError, Reported, StoreError, TimeLimits, Verdict,
    exports::{begin_partitions, begin_reconciliation, save_ended, settle, stop},
    rows::{destinations, exports, files, reported, runs},
    transaction::Transaction,
};

type Held = [(RunId, Fence)];

pub(super) fn hello(
    tx: &mut dyn Transaction,
    session: Uuid,
    lease: &Lease,
    held: &Held,
    max_retries: u32,
    now: Timestamp,
) -> Result<Vec<Verdict>, StoreError> {
    tx.lock_exporter(&lease.exporter)?;
    let leased = runs::leased_to(tx, &lease.exporter)?;
    let mut locked = runs::lock_all(
        tx,
        &leased.iter().map(|run| run.id).chain(held.iter().map(|(run, _)| *run)).collect(),
    )?;
    let mut changed = BTreeSet::new();
    for run in locked.values_mut() {
        let Some(theirs) = run.lease().filter(|theirs| theirs.exporter == lease.exporter) else {
            continue;
        };
        if held.contains(&(run.id, run.fence)) {
            continue;
        }
        let event = if theirs.incarnation == lease.incarnation {
            Event::HandedBack
        } else {
            Event::Lapsed { max_retries }
        };
        *run = take_back(tx, run.clone(), event, now)?;
        changed.insert(run.export);
    }
    let verdicts = verdicts(tx, &mut locked, lease, held, now)?;
    settle_all(tx, changed, now)?;
    tx.tell(Change::Connected { exporter: lease.exporter.clone(), session });
    Ok(verdicts)
}

pub(super) fn heartbeat(
    tx: &mut dyn Transaction,
    lease: &Lease,
    held: &Held,
    now: Timestamp,
) -> Result<Vec<Verdict>, StoreError> {
    let mut locked = runs::lock_all(tx, &held.iter().map(|(run, _)| *run).collect())?;
    verdicts(tx, &mut locked, lease, held, now)
}

fn verdicts(
    tx: &mut dyn Transaction,
    locked: &mut BTreeMap<RunId, Run>,
    lease: &Lease,
    held: &Held,
    now: Timestamp,
) -> Result<Vec<Verdict>, StoreError> {
    held.iter()
        .map(|(id, fence)| {
            locked
                .get_mut(id)
                .map_or(Ok(Verdict::Revoked), |run| verdict(tx, run, lease, *fence, now))
        })
        .collect()
}

fn verdict(
    tx: &mut dyn Transaction,
    run: &mut Run,
    lease: &Lease,
    fence: Fence,
    now: Timestamp,
) -> Result<Verdict, StoreError> {
    let event = Event::Renewed { until: lease.until };
    let same_process = run.lease().is_some_and(|held| {
        held.exporter == lease.exporter && held.incarnation == lease.incarnation
    });
    if same_process && run.hears(fence, &event) {
        let Ok(renewed) = run.clone().apply(event, now) else { return Ok(Verdict::Revoked) };
        runs::save(tx, &renewed)?;
        *run = renewed;
        return Ok(Verdict::Keep);
    }
    let stopped = matches!(run.state, State::Cancelled(_) | State::TimedOut(_));
    Ok(if stopped && run.fence.0 == fence.0 + 1 { Verdict::Cancel } else { Verdict::Revoked })
}

pub(super) fn report(
    tx: &mut dyn Transaction,
    id: RunId,
    fence: Fence,
    event: Event,
    grace: u32,
    now: Timestamp,
) -> Result<Heard, ReportError> {
    let mut locked = runs::lock_with_subject(tx, id)?;
    let Some(before) = locked.remove(&id) else { return Ok(Heard::Stale) };
    if !before.hears(fence, &event) {
        return Ok(if already_done(&before, fence, &event) {
            Heard::Yes(Box::new(before))
        } else {
            Heard::Stale
        });
    }
    let requeues = matches!(event, Event::HandedBack | Event::Declined | Event::Failed { .. });
    let run = before.clone().apply(event.clone(), now).map_err(ReportError::Illegal)?;
    save_ended(tx, &before, &run, now)?;
    match event {
        Event::FileDone(file) if file.number >= before.totals.files => {
            files::create(tx, id, &file)?
        }
        Event::CleanedUp { adopted } => {
            for left in locked.into_values() {
                cleaned_up(tx, left, adopted.clone(), now)?;
            }
        }
        Event::ExperimentsFound(found) => begin_partitions(tx, &run, &found, now)?,
        Event::Counted { rows } => exports::reconciled(tx, run.export, rows, now)?,
        _ => {}
    }
    if requeues {
        reported::forget(tx, &run)?;
        tx.tell(Change::Work);
    }
    let export = settle(tx, run.export, now)?;
    if run.work == Work::Finalise && export.status == ExportStatus::Completed {
        begin_reconciliation(tx, &export, grace, now)?;
    }
    Ok(Heard::Yes(Box::new(run)))
}

/// The last report of a run, sent again because its answer was lost.
fn already_done(run: &Run, fence: Fence, event: &Event) -> bool {
    let last = matches!(
        event,
        Event::Published
            | Event::CleanedUp { .. }
            | Event::ExperimentsFound(_)
            | Event::Counted { .. }
    );
    last && matches!(run.state, State::Completed(_)) && run.fence == fence
}

/// What a stopped run had left is gone; a file of it that was complete is kept.
fn cleaned_up(
    tx: &mut dyn Transaction,
    left: Run,
    adopted: Option<Box<File>>,
    now: Timestamp,
) -> Result<(), ReportError> {
    let files_before = left.totals.files;
    let run = left
        .apply(Event::CleanedUp { adopted: adopted.clone() }, now)
        .map_err(ReportError::Illegal)?;
    runs::save(tx, &run)?;
    if let Some(file) = adopted.filter(|_| run.totals.files > files_before) {
        files::create(tx, run.id, &file)?;
    }
    Ok(())
}

pub(super) fn progress(
    tx: &mut dyn Transaction,
    id: RunId,
    fence: Fence,
    said: &Reported,
    now: Timestamp,
) -> Result<Heard, StoreError> {
    let Some((mut run, before)) = runs::lock_reported(tx, id)? else { return Ok(Heard::Stale) };
    if run.lease().is_none() || run.fence != fence {
        return Ok(Heard::Stale);
    }
    if reported::is_further(&before, said)
        && let Ok(further) = run.clone().apply(Event::Progressed, now)
    {
        run = further;
    }
    run.updated_at = now;
    runs::save_reported(tx, &run, said)?;
    tx.tell(Change::Export(run.export));
    Ok(Heard::Yes(Box::new(run)))
}

pub(super) fn lapse(
    tx: &mut dyn Transaction,
    max_retries: u32,
    now: Timestamp,
) -> Result<usize, StoreError> {
    let lapsed = runs::lock_lapsed(tx, now)?;
    let count = lapsed.len();
    let mut changed = BTreeSet::new();
    for run in lapsed {
        let alive = run.lease().is_some_and(|lease| lease.until > now);
        let event =
            if alive { Event::Stalled { max_retries } } else { Event::Lapsed { max_retries } };
        changed.insert(take_back(tx, run, event, now)?.export);
    }
    settle_all(tx, changed, now)?;
    Ok(count)
}

pub(super) fn time_out(
    tx: &mut dyn Transaction,
    limits: TimeLimits,
    now: Timestamp,
) -> Result<usize, StoreError> {
    let ago = |seconds: u32| now.plus_seconds(-i64::from(seconds));
    let overdue = runs::overdue(tx, ago(limits.run), ago(limits.export))?;
    let locked = runs::lock_all(tx, &overdue.into_iter().collect())?;
    let (count, changed) = (locked.len(), locked.values().map(|run| run.export).collect());
    for run in locked.into_values() {
        stop(tx, run, Event::TimedOut, now)?;
    }
    settle_all(tx, changed, now)?;
    Ok(count)
}

fn take_back(
    tx: &mut dyn Transaction,
    run: Run,
    event: Event,
    now: Timestamp,
) -> Result<Run, StoreError> {
    let unheard = |error: IllegalEvent| StoreError::Corrupt(error.to_string());
    let before = run.clone();
    let run = run.apply(event, now).map_err(unheard)?;
    save_ended(tx, &before, &run, now)?;
    reported::forget(tx, &run)?;
    tx.tell(Change::Work);
    Ok(run)
}

/// Settles exports in the order of their ids, after every run was locked.
fn settle_all(
    tx: &mut dyn Transaction,
    changed: BTreeSet<ExportId>,
    now: Timestamp,
) -> Result<(), StoreError> {
    changed.into_iter().try_for_each(|export| settle(tx, export, now).map(drop))
}

pub(super) fn access(
    tx: &mut dyn Transaction,
    id: RunId,
    fence: Fence,
    exporter: &ExporterId,
    incarnation: &str,
) -> Result<Option<Access>, StoreError> {
    let Some(run) = runs::one(tx, id)? else { return Ok(None) };
    let holder = run
        .lease()
        .is_some_and(|lease| lease.exporter == *exporter && lease.incarnation == incarnation);
    if holder && run.fence == fence { destinations::access(tx, &run) } else { Ok(None) }
}
