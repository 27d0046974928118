//! The rules of giving runs out: what waits, under which limits, whose turn it is.
//!
//! Limits are counted within a tenant, and a tenant's runs are given out by one transaction at a time: its row is locked
//! first. So they hold exactly, however many control planes give out. What nobody waits for locks nothing.

use std::collections::BTreeSet;

use tracelift_core::{
    id::{ExportId, RunId, TenantId},
    limit::{AtOnce, Queue, shares},
    run::{Event, Lease, Run, Work},
    time::Timestamp,
};

use super::{
    Claimed, Given, PublishedRun, Reported, StoreError,
    exports::settle,
    rows::{
        exports, files,
        queues::{self, Served},
        reported, runs,
    },
    transaction::Transaction,
};

pub(super) fn claim(tx: &mut dyn Transaction, lease: &Lease, capacity: u32, limits: AtOnce, now: Timestamp) -> Result<Given, StoreError> {
    tx.lock_exporter(&lease.exporter)?; // two sessions of one name must not fill the same slots
    let held = runs::leased_to(tx, &lease.exporter)?.len();
    let free = usize::try_from(capacity).unwrap_or(usize::MAX).saturating_sub(held);
    if free == 0 {
        return Ok(Given { runs: Vec::new(), room: false });
    }
    // Whole exports wait for what callers do not see, so it comes first and under no limit.
    let mut next = runs::lock_queued_unseen(tx, free, now)?;
    let partitions = partitions(tx, free - next.len(), limits, now)?;
    next.extend(partitions);
    let mut claimed = Vec::new();
    for run in next {
        let Ok(run) = run.apply(Event::Claimed(lease.clone()), now) else { continue };
        runs::save(tx, &run)?;
        reported::save(tx, run.id, &Reported { stage: "assigned".to_owned(), ..Reported::default() })?;
        claimed.push(run);
    }
    let begun: BTreeSet<_> = claimed.iter().filter(|run| run.work.counts()).map(|run| run.export).collect();
    for export in claimed.iter().map(|run| run.export).collect::<BTreeSet<_>>() {
        if begun.contains(&export) {
            exports::begin(tx, export, now)?;
        }
        settle(tx, export, now)?;
    }
    let runs = claimed.into_iter().map(|run| with_details(tx, run)).collect::<Result<Vec<_>, _>>()?;
    Ok(Given { room: runs.len() < free, runs })
}

/// Up to `slots` partitions, locked: fairly between tenants, of each those of its oldest exports.
fn partitions(tx: &mut dyn Transaction, slots: usize, limits: AtOnce, now: Timestamp) -> Result<Vec<Run>, StoreError> {
    if slots == 0 {
        return Ok(Vec::new());
    }
    // Slots are given to the tenants with least at work, one each at least: no more of them than slots are ever served.
    let mut served = Vec::new();
    for tenant in queues::waiting(tx, limits, slots, now)?.into_iter().collect::<BTreeSet<_>>() {
        served.push(queues::lock(tx, tenant)?);
    }
    served.sort_by_key(|served| (served.at_work, served.last, served.tenant));
    let mut waiting = Vec::new();
    for Served { tenant, .. } in &served {
        waiting.push(candidates(tx, *tenant, limits, slots, now)?);
    }
    let sizes = served.iter().zip(&waiting).map(|(served, waiting)| Queue { at_work: served.at_work, waiting: waiting.len() });
    let shares = shares(&sizes.collect::<Vec<_>>(), slots);
    let mut next = Vec::new();
    for ((served, waiting), share) in served.iter().zip(waiting).zip(shares) {
        for id in waiting.into_iter().take(share) {
            // One that is being stopped at this moment is passed over, and one that was stopped and asked for anew since.
            let free = runs::lock_free(tx, id)?;
            if !runs::is_cleaned(tx, id)? {
                next.extend(free);
            }
        }
        if share > 0 {
            queues::serve(tx, served.tenant, now)?;
        }
    }
    Ok(next)
}

/// Up to `most` partitions of a tenant that may be given out now, in order. The tenant is locked.
fn candidates(tx: &mut dyn Transaction, tenant: TenantId, limits: AtOnce, most: usize, now: Timestamp) -> Result<Vec<RunId>, StoreError> {
    let mut exports = queues::begun(tx, tenant, limits, most, now)?;
    let room = match limits.exports {
        0 => most,
        limit => usize::try_from(limit).unwrap_or(usize::MAX).saturating_sub(queues::count_begun(tx, tenant)?).min(most),
    };
    exports.extend(queues::not_begun(tx, tenant, room, now)?);
    exports.sort_by_key(|export| (export.created_at, export.id));
    let mut found = Vec::new();
    for export in exports {
        let most = most - found.len();
        let room =
            if limits.runs_per_export == 0 { most } else { (limits.runs_per_export as usize).saturating_sub(export.at_work).min(most) };
        found.extend(queues::partitions(tx, export.id, room, now)?);
    }
    Ok(found)
}

fn with_details(tx: &mut dyn Transaction, run: Run) -> Result<Claimed, StoreError> {
    let export = exports::of_run(tx, run.export)?;
    let files = if run.frozen { files::all(tx, run.id)? } else { Vec::new() };
    let published = match run.work {
        Work::FindExperiments(_) | Work::Partition(_) | Work::CleanUp(_) => Vec::new(),
        Work::Finalise | Work::Reconcile => published(tx, run.export)?,
    };
    let left = match run.work {
        Work::CleanUp(subject) => runs::one(tx, subject)?,
        _ => None,
    };
    Ok(Claimed { run, export, files, published, left })
}

fn published(tx: &mut dyn Transaction, export: ExportId) -> Result<Vec<PublishedRun>, StoreError> {
    let partition = |run: Run| run.work.partition().map(|partition| PublishedRun { run, partition });
    Ok(runs::of_export(tx, export)?.into_iter().filter_map(partition).collect())
}
