//! What happens because time has passed: leases lapse.

use std::{sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

use crate::{
    dispatch::LeaseTerms,
    store::{Store, StoreError},
};

/// How often the sweep looks.
const INTERVAL: Duration = Duration::from_secs(1);

/// Queues runs again whose lease has lapsed, until told to stop.
///
/// Nothing lapses during the first lease time after a start, nor after the store was away: for exporters both are only a
/// longer disconnect.
pub(crate) async fn sweep(store: Arc<dyn Store>, terms: LeaseTerms, stopping: CancellationToken) {
    let grace = Duration::from_secs(u64::from(terms.lease_seconds));
    let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + grace, INTERVAL);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = stopping.cancelled() => return,
        }
        match lapse(store.as_ref(), terms).await {
            Ok(0) => {}
            Ok(lapsed) => tracing::warn!(lapsed, "leases have lapsed; their runs are queued again"),
            Err(error) => {
                tracing::error!(%error, "the sweep failed; it tries again when exporters have had time to be heard");
                ticks.reset_after(grace.max(INTERVAL));
            }
        }
    }
}

async fn lapse(store: &dyn Store, terms: LeaseTerms) -> Result<usize, StoreError> {
    store.lapse(terms.max_retries, store.now().await?).await
}

#[cfg(test)]
mod tests {
    use tracelift_core::time::Timestamp;
    use tracelift_runtime::{clock::Clock, tasks};

    use super::*;
    use crate::store::{
        Change,
        conformance::{LEASE, at, claim_one, export, owner, run_view},
        sqlite::SqliteStore,
    };

    struct Late;

    impl Clock for Late {
        fn now(&self) -> Timestamp {
            at(LEASE + 1)
        }
    }

    #[tokio::test]
    async fn a_lapsed_lease_is_found_and_the_sweep_stops_when_told() {
        let store = Arc::new(SqliteStore::in_memory().unwrap().with_clock(Arc::new(Late)));
        let mine = owner(store.as_ref(), 1).await;
        export(store.as_ref(), mine, 1, 1).await;
        let run = claim_one(store.as_ref(), "a", 0).await;
        let mut news = store.changes();
        let stopping = CancellationToken::new();
        let terms = LeaseTerms { heartbeat_seconds: 0, lease_seconds: 0, max_retries: 20 };
        let sweep = tasks::start("sweep", sweep(store.clone(), terms, stopping.clone()));
        while news.recv().await.unwrap() != Change::Work {}
        let queued = run_view(store.as_ref(), &run).await.run;
        assert_eq!((queued.lease(), queued.attempt), (None, 1));
        stopping.cancel();
        sweep.await.unwrap();
    }
}
