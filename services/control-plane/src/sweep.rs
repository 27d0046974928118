//! Time-driven work: leases lapse, tasks and exports time out, schedules spawn exports, records of
//! ended exports and of the audit log are deleted.

use std::{sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;
use tracelift_core::{limit::AtOnce, time::Timestamp};

use crate::{
    dispatch::LeaseTerms,
    store::{Due, Store, StoreError, TimeLimits},
};

/// Age limits.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ageing {
    /// For tasks and exports in progress.
    pub(crate) limits: TimeLimits,
    /// For records of ended exports, in days; 0 means forever.
    pub(crate) retention_days: u32,
    /// For records of the audit log, in days; 0 means forever.
    pub(crate) audit_retention_days: u32,
    /// For a schedule's window, from its end until it is exported, in seconds.
    pub(crate) grace_seconds: u32,
    /// Exports of one schedule in progress at once; 0 means no limit.
    pub(crate) exports_per_schedule: u32,
    /// For tasks in progress, which decide whose turn it is.
    pub(crate) at_once: AtOnce,
}

/// Exports of deleted tenants ended in one sweep.
const ENDED_AT_ONCE: usize = 20;
/// How often the sweep runs.
const INTERVAL: Duration = Duration::from_secs(1);

/// Takes back tasks whose lease has lapsed, and does the other time-driven work, until `stopping`.
///
/// Nothing lapses during the first lease time after a start, nor after the store was unavailable:
/// to exporters, both are merely a longer disconnect.
pub(crate) async fn sweep(
    store: Arc<Store>,
    terms: LeaseTerms,
    ageing: Ageing,
    stopping: CancellationToken,
) {
    let grace = Duration::from_secs(u64::from(terms.lease_seconds));
    let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + grace, INTERVAL);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = stopping.cancelled() => return,
        }
        match look(store.as_ref(), terms, ageing).await {
            Ok(()) => {}
            Err(error) => {
                tracing::error!(%error, "the sweep failed; it tries again when exporters have had time to be heard");
                ticks.reset_after(grace.max(INTERVAL));
            }
        }
    }
}

async fn look(store: &Store, terms: LeaseTerms, ageing: Ageing) -> Result<(), StoreError> {
    let now = store.now().await?;
    let lapsed = store.lapse(terms.max_retries, now).await?;
    if lapsed > 0 {
        metrics::counter!("tracelift_leases_lapsed_total").increment(lapsed as u64);
        tracing::warn!(lapsed, "leases have lapsed; their runs are queued again");
    }
    let asked_back = store.rebalance(ageing.at_once, now).await?;
    if asked_back > 0 {
        tracing::info!(
            asked_back,
            "a tenant waits with nothing at work; tasks of others are asked back"
        );
    }
    let timed_out = store.time_out(ageing.limits, now).await?;
    if timed_out > 0 {
        crate::TASKS_TIMED_OUT.increment(timed_out as u64);
        tracing::warn!(timed_out, "runs took too long; they are stopped");
    }
    let due = Due {
        before: now.plus_seconds(-i64::from(ageing.grace_seconds)),
        under_way: ageing.exports_per_schedule,
    };
    spawn(store, due, now).await?;
    store.forget_requests(now).await?;
    end_deleted(store, now).await?;
    if ageing.retention_days > 0 {
        let removed = store
            .remove_ended(now.plus_seconds(-86_400 * i64::from(ageing.retention_days)))
            .await?;
        if removed > 0 {
            tracing::info!(removed, "records of old exports are removed; their files stay");
        }
    }
    if ageing.audit_retention_days > 0 {
        store
            .remove_records(now.plus_seconds(-86_400 * i64::from(ageing.audit_retention_days)))
            .await?;
    }
    Ok(())
}

/// Ends what deleted tenants have under way, a bounded number at a time. An export that cannot be read
/// does not hold up the sweep.
async fn end_deleted(store: &Store, now: Timestamp) -> Result<(), StoreError> {
    for _ in 0..ENDED_AT_ONCE {
        match store.end_next(now).await {
            Ok(true) => {}
            Ok(false) => break,
            Err(error @ (StoreError::Unavailable(_) | StoreError::Contended)) => return Err(error),
            Err(error) => {
                tracing::error!(%error, "an export of a deleted workspace cannot be ended");
                break;
            }
        }
    }
    Ok(())
}

/// Spawns due exports. A schedule that cannot be read does not hold up the others.
async fn spawn(store: &Store, due: Due, now: Timestamp) -> Result<(), StoreError> {
    for schedule in store.due_schedules(due).await? {
        match store.spawn(schedule, due, now).await {
            Ok(0) => {}
            Ok(spawned) => {
                metrics::counter!("tracelift_exports_spawned_total").increment(spawned as u64);
                tracing::info!(%schedule, spawned, "a schedule has spawned exports");
            }
            Err(error @ (StoreError::Unavailable(_) | StoreError::Contended)) => return Err(error),
            Err(error) => tracing::error!(%schedule, %error, "a schedule cannot go on"),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use tracelift_runtime::{clock::Clock, tasks};

    use super::*;
    use crate::store::{
        Change,
        conformance::{LEASE, at, claim_one, export, owner, run_view},
        sqlite::SqliteEngine,
    };

    struct Late;

    impl Clock for Late {
        fn now(&self) -> Timestamp {
            at(LEASE + 1)
        }
    }

    #[tokio::test]
    async fn a_lapsed_lease_is_found_and_the_sweep_stops_when_told() {
        let store =
            Arc::new(Store::from(SqliteEngine::in_memory().unwrap().with_clock(Arc::new(Late))));
        let mine = owner(store.as_ref(), 1).await;
        export(store.as_ref(), mine, 1, 1).await;
        let task = claim_one(store.as_ref(), "a", 0).await;
        let mut notifications = store.changes();
        let stopping = CancellationToken::new();
        let terms = LeaseTerms {
            heartbeat_seconds: 0,
            lease_seconds: 0,
            progress_seconds: 600,
            max_retries: 20,
            grace_seconds: 600,
        };
        let ageing = Ageing {
            limits: TimeLimits { task: 3600, export: 3600 },
            retention_days: 0,
            audit_retention_days: 0,
            grace_seconds: 600,
            exports_per_schedule: 0,
            at_once: AtOnce::default(),
        };
        let sweep = tasks::start("sweep", sweep(store.clone(), terms, ageing, stopping.clone()));
        while notifications.recv().await.unwrap() != Change::TasksQueued {}
        let queued = run_view(store.as_ref(), &task).await.task;
        assert_eq!((queued.lease(), queued.attempt), (None, 1));
        stopping.cancel();
        sweep.await.unwrap();
    }
}
