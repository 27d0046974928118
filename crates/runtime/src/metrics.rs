//! Metrics for Prometheus, on a port of their own, when the operator sets one. Without it, counting
//! costs next to nothing.

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

/// Why metrics cannot be served.
#[derive(Debug, thiserror::Error)]
#[error("cannot serve metrics on {address}: {why}; choose another TRACELIFT_METRICS_LISTEN")]
pub struct MetricsError {
    address: SocketAddr,
    why: String,
}

/// Describes this process's counters; each is shown from the start, as 0.
pub fn describe(counters: &'static [(&'static str, &'static str)]) {
    for (name, meaning) in counters {
        metrics::describe_counter!(*name, *meaning);
        metrics::counter!(*name).increment(0);
    }
}

/// Serves the metrics of the whole process, if there is an address for them.
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
