//! What happens because time has passed: leases lapse.

use std::{sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;
use tracelift_runtime::clock::SharedClock;

use crate::{dispatch::LeaseTerms, store::Store};

/// How often the sweep looks.
const INTERVAL: Duration = Duration::from_secs(1);

/// Queues runs again whose lease has lapsed, until told to stop.
///
/// Nothing lapses during the first lease time after a start: a restart of the control plane is only a longer disconnect.
pub(crate) async fn sweep(store: Arc<dyn Store>, clock: SharedClock, terms: LeaseTerms, stopping: CancellationToken) {
    let grace = Duration::from_secs(u64::from(terms.lease_seconds));
    let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + grace, INTERVAL);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = stopping.cancelled() => return,
        }
        match store.lapse(terms.max_retries, clock.now()).await {
            Ok(0) => {}
            Ok(lapsed) => tracing::warn!(lapsed, "leases have lapsed; their runs are queued again"),
            Err(error) => tracing::error!(%error, "the sweep failed; it tries again"),
        }
    }
}
