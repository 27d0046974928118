//! The health service: serving for as long as the store answers. A replica without its database
//! takes no calls.

use std::{sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;
use tonic_health::{ServingStatus, server::HealthReporter};

use crate::store::Store;

/// How often the store is queried.
const INTERVAL: Duration = Duration::from_secs(1);

/// Keeps the server's overall status up to date until `stopping`.
pub(crate) async fn watch(store: Arc<Store>, health: HealthReporter, stopping: CancellationToken) {
    let mut ticks = tokio::time::interval(INTERVAL);
    let mut answered = true;
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = stopping.cancelled() => return,
        }
        let now = store.now().await;
        match &now {
            Ok(_) if !answered => tracing::info!("the store answers again"),
            Err(error) if answered => {
                tracing::error!(%error, "the store does not answer; calls are refused")
            }
            _ => {}
        }
        answered = now.is_ok();
        let status = if answered { ServingStatus::Serving } else { ServingStatus::NotServing };
        health.set_service_status("", status).await;
    }
}
