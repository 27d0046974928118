//! Prometheus metrics, on a separate port if the operator sets one. Otherwise counting costs next
//! to nothing.

use std::net::SocketAddr;

use metrics_exporter_prometheus::PrometheusBuilder;

use crate::tasks;

/// Where to serve metrics.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct MetricsSettings {
    /// Address that serves Prometheus metrics at /metrics; off by default
    #[arg(long, env = "TRACELIFT_METRICS_LISTEN")]
    pub metrics_listen: Option<SocketAddr>,
}

/// The metrics endpoint could not be started.
#[derive(Debug, thiserror::Error)]
#[error("cannot serve metrics on {address}: {why}; choose another TRACELIFT_METRICS_LISTEN")]
pub struct MetricsError {
    address: SocketAddr,
    why: String,
}

/// Registers counters, given as name and description; each is reported as 0 from the start.
pub fn describe(counters: &'static [(&'static str, &'static str)]) {
    for (name, meaning) in counters {
        metrics::describe_counter!(*name, *meaning);
        metrics::counter!(*name).increment(0);
    }
}

/// Serves all metrics of the process if an address is configured.
pub fn serve(settings: &MetricsSettings) -> Result<(), MetricsError> {
    let Some(address) = settings.metrics_listen else { return Ok(()) };
    let failed = |why: &dyn std::fmt::Display| MetricsError { address, why: why.to_string() };
    let (recorder, listener) = PrometheusBuilder::new()
        .with_http_listener(address)
        .build()
        .map_err(|error| failed(&error))?;
    metrics::set_global_recorder(recorder).map_err(|error| failed(&error))?;
    tasks::detached("metrics", async move {
        if let Err(error) = listener.await {
            tracing::error!(?error, "metrics are no longer served");
        }
    });
    tracing::info!("metrics on http://{address}/metrics");
    Ok(())
}
