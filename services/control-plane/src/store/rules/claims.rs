//! The rules of claims: which tasks are queued, under which limits, and whose turn it is.
//!
//! Limits are counted per tenant, and only one transaction at a time claims a tenant's tasks,
//! because it first locks the tenant's row. So limits hold exactly, however many control planes
//! claim. A tenant with nothing to claim is not locked.

use std::collections::{BTreeMap, BTreeSet};

use tracelift_core::{
    assignment::ReadTime,
    export::Export,
    id::{ExportId, TaskId, TenantId},
    limit::{AtOnce, Queue, shares},
    plan::Partition,
    task::{Event, Lease, Progress, Task, TaskKind},
    time::Timestamp,
};

use super::{exports::settle, unseen};
use crate::store::{
    ClaimGrant, ClaimRequest, Claimed, StoreError,
    tables::{
        exports, files,
        queues::{self, Served},
        tasks,
    },
    transaction::Transaction,
};

pub(in crate::store) fn claim(
    tx: &mut dyn Transaction,
    asks: &[ClaimRequest],
    limits: AtOnce,
    now: Timestamp,
) -> Result<Vec<ClaimGrant>, StoreError> {
    let free = free(tx, asks)?;
    let slots = free.iter().sum();
    let mut given: Vec<_> =
        free.iter().map(|_| ClaimGrant { tasks: Vec::new(), room: false }).collect();
    if slots == 0 {
        return Ok(given);
    }
    // Whole exports wait for tasks without a window, so these come first.
    let mut next = unseen::next(tx, slots, now)?;
    let partitions = partitions(tx, slots - next.len(), limits, now)?;
    next.extend(partitions);
    let mut claimed = Vec::new();
    for (task, to) in next.into_iter().zip(in_turns(&free)) {
        let lease = lease(&asks[to].lease, task.kind);
        let Ok(task) = task.apply(Event::Claimed(lease), now) else { continue };
        tasks::save_reported(
            tx,
            &task,
            &Progress { stage: "assigned".to_owned(), ..Progress::default() },
        )?;
        claimed.push((task, to));
    }
    let begun: BTreeSet<_> = claimed
        .iter()
        .filter(|(task, _)| task.kind.counts())
        .map(|(task, _)| task.export)
        .collect();
    let mut exports = BTreeMap::new();
    for id in claimed.iter().map(|(task, _)| task.export).collect::<BTreeSet<_>>() {
        if begun.contains(&id) {
            exports::begin(tx, id, now)?;
        }
        exports.insert(id, settle(tx, id, now)?);
    }
    for (task, to) in claimed {
        let export = exports[&task.export].clone();
        given[to].tasks.push(with_details(tx, task, export)?);
    }
    for (given, free) in given.iter_mut().zip(free) {
        given.room = given.tasks.len() < free;
    }
    Ok(given)
}

/// Longest time without progress of a clean-up, in seconds. What it leaves behind, the lifecycle rule
/// of the bucket removes.
const CLEAN_UP_PATIENCE: u32 = 60;

fn lease(lease: &Lease, kind: TaskKind) -> Lease {
    let patience = match kind {
        TaskKind::CleanUp(_) => lease.patience.min(CLEAN_UP_PATIENCE),
        _ => lease.patience,
    };
    Lease { patience, ..lease.clone() }
}

/// How many more tasks each exporter may hold. Until the transaction ends, no other one assigns
/// tasks to these exporters or counts what they hold.
fn free(tx: &mut dyn Transaction, asks: &[ClaimRequest]) -> Result<Vec<usize>, StoreError> {
    // Two sessions of one exporter must not fill the same slots: only the later claim counts.
    let latest: BTreeMap<_, _> =
        asks.iter().enumerate().map(|(index, ask)| (&ask.lease.exporter, index)).collect();
    let exporters: Vec<_> = latest.keys().copied().collect();
    exporters.iter().try_for_each(|exporter| tx.lock_exporter(exporter))?;
    let held = tasks::held(tx, &exporters)?;
    let mut free = vec![0; asks.len()];
    for (exporter, index) in latest {
        let capacity = usize::try_from(asks[index].capacity).unwrap_or(usize::MAX);
        free[index] =
            capacity.saturating_sub(held.get(exporter.as_str()).copied().unwrap_or_default());
    }
    Ok(free)
}

/// The order in which slots are filled: round-robin, one slot per exporter and round, for as long
/// as each has any left.
fn in_turns(free: &[usize]) -> impl Iterator<Item = usize> {
    let most = free.iter().copied().max().unwrap_or_default();
    (0..most).flat_map(move |round| {
        free.iter().enumerate().filter(move |(_, free)| round < **free).map(|(index, _)| index)
    })
}

/// Up to `slots` partitions, locked: fairly between tenants, oldest exports first within each.
fn partitions(
    tx: &mut dyn Transaction,
    slots: usize,
    limits: AtOnce,
    now: Timestamp,
) -> Result<Vec<Task>, StoreError> {
    if slots == 0 {
        return Ok(Vec::new());
    }
    // Slots go to the tenants with the fewest tasks in progress, at least one each, so no more
    // tenants than slots are ever served.
    let mut served = Vec::new();
    for tenant in queues::waiting(tx, limits, slots, now)?.into_iter().collect::<BTreeSet<_>>() {
        served.push(queues::lock(tx, tenant)?);
    }
    served.sort_by_key(|served| (served.at_work, served.last, served.tenant));
    let mut waiting = Vec::new();
    for Served { tenant, .. } in &served {
        waiting.push(candidates(tx, *tenant, limits, slots, now)?);
    }
    let sizes = served
        .iter()
        .zip(&waiting)
        .map(|(served, waiting)| Queue { at_work: served.at_work, waiting: waiting.len() });
    let shares = shares(&sizes.collect::<Vec<_>>(), slots);
    let mut next = Vec::new();
    for ((served, waiting), share) in served.iter().zip(waiting).zip(shares) {
        next.extend(waiting.into_iter().take(share));
        if share > 0 {
            queues::serve(tx, served.tenant, now)?;
        }
    }
    // Skips tasks that are being stopped at this moment, and those that were stopped and retried
    // since.
    let mut free = tasks::lock_free(tx, &next)?;
    Ok(next.into_iter().filter_map(|id| free.remove(&id)).collect())
}

/// Up to `most` claimable partitions of a tenant, in order. The tenant is locked.
fn candidates(
    tx: &mut dyn Transaction,
    tenant: TenantId,
    limits: AtOnce,
    most: usize,
    now: Timestamp,
) -> Result<Vec<TaskId>, StoreError> {
    let mut exports = queues::begun(tx, tenant, limits, most, now)?;
    let room = match limits.exports {
        0 => most,
        limit => usize::try_from(limit)
            .unwrap_or(usize::MAX)
            .saturating_sub(queues::count_begun(tx, tenant)?)
            .min(most),
    };
    exports.extend(queues::not_begun(tx, tenant, room, now)?);
    exports.sort_by_key(|export| (export.created_at, export.id));
    let mut found = Vec::new();
    for export in exports {
        let most = most - found.len();
        let room = if limits.runs_per_export == 0 {
            most
        } else {
            (limits.runs_per_export as usize).saturating_sub(export.at_work).min(most)
        };
        found.extend(queues::partitions(tx, export.id, room, now)?);
    }
    Ok(found)
}

fn with_details(
    tx: &mut dyn Transaction,
    task: Task,
    export: Export,
) -> Result<Claimed, StoreError> {
    let files = if task.frozen { files::all(tx, task.id)? } else { Vec::new() };
    let published = match task.kind {
        TaskKind::FindExperiments(_) | TaskKind::Partition(_) | TaskKind::CleanUp(_) => Vec::new(),
        TaskKind::Finalize | TaskKind::Reconcile => published(tx, task.export)?,
    };
    let read = match task.kind {
        TaskKind::Finalize => exports::view(tx, task.tenant, task.export)?
            .map(|view| ReadTime { at: view.read_at, window_open: view.window_open })
            .unwrap_or_default(),
        _ => ReadTime::default(),
    };
    let leftover = match task.kind {
        TaskKind::CleanUp(subject) => tasks::one(tx, subject)?,
        _ => None,
    };
    Ok(Claimed { task, export, files, published, read, leftover })
}

fn published(
    tx: &mut dyn Transaction,
    export: ExportId,
) -> Result<Vec<(Partition, Task)>, StoreError> {
    let partition = |task: Task| task.kind.partition().map(|partition| (partition, task));
    Ok(tasks::of_export(tx, export)?.into_iter().filter_map(partition).collect())
}
