//! The exporter: leases tasks from the control plane and runs a job for each, in `job`: rows →
//! hydrate → encode → upload → publish.
//!
//! It plans nothing, never decides on retries, and never opens the control plane's database.

mod access;
mod agent;
mod backoff;
mod blob;
mod budget;
mod destination;
mod encode;
mod file_schema;
mod hydrate;
mod job;
mod lease;
mod meter;
mod network;
mod pointer;
mod publish;
mod report;
mod resend;
mod settings;
mod source;
pub mod stages;
mod upload;
mod width;

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tonic::metadata::errors::InvalidMetadataValue;
use tracelift_bucket::BucketError;
use tracelift_core::{Invalid, id::ExporterId};
use tracelift_runtime::{metrics::MetricsError, renamed, secret::SecretError, tls::TlsError};
use uuid::Uuid;

pub use blob::KeyPrefix;
pub use network::Network;
pub use settings::{
    Blobs, ClickHouse, Limits, Patience, RENAMED, Settings, TransportCompression, UniqueBy,
};
pub use source::{filter::Pushdown, schema::SourceSchema};

use crate::{
    access::{DestinationAccess, Token},
    agent::{Agent, InFlight},
    blob::BlobStore,
    hydrate::Hydrator,
    job::JobContext,
    report::Reporter,
    source::Source,
};

/// Counters of an exporter: name and description. They start at 0 with the process.
pub const METRICS: &[(&str, &str)] = &[
    (ROWS_ENCODED.new, "rows encoded, including those of files that were not completed"),
    (ROWS_ENCODED.old, "deprecated: use tracelift_rows_encoded_total"),
    ("tracelift_bytes_uploaded_total", "bytes that destinations took"),
    ("tracelift_destination_throttled_total", "times that a destination asked to slow down"),
];

/// Renamed in 0.2.0.
pub(crate) const ROWS_ENCODED: renamed::Counter =
    renamed::Counter { old: "tracelift_rows_read_total", new: "tracelift_rows_encoded_total" };

/// The exporter cannot start.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "each says what it is about")]
pub enum Error {
    #[error(transparent)]
    Secret(#[from] SecretError),
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("the store of offloaded fields: {0}")]
    Blobs(#[from] BucketError),
    #[error("the fleet token must be printable ASCII")]
    Token(#[from] InvalidMetadataValue),
    #[error("the exporter's name {0}")]
    Name(Invalid),
    #[error(transparent)]
    Metrics(#[from] MetricsError),
    #[error("signals cannot be waited for: {0}")]
    Signal(#[from] std::io::Error),
}

/// An exporter that is ready to connect.
pub struct Exporter {
    agent: Agent,
}

impl std::fmt::Debug for Exporter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Exporter").field("exporter", &self.agent.exporter).finish_non_exhaustive()
    }
}

impl Exporter {
    /// Reads the secrets and creates the clients. Connects to nothing yet.
    pub async fn new(settings: &Settings) -> Result<Self, Error> {
        Self::with_network(settings, Network::new(settings)?).await
    }

    /// Like [`new`](Self::new), over the caller's network.
    pub async fn with_network(settings: &Settings, network: Network) -> Result<Self, Error> {
        let limits = settings.limits;
        let name = settings.exporter_id.clone().unwrap_or_else(host_name);
        let exporter = ExporterId::parse("", &name).map_err(Error::Name)?.to_string();
        let incarnation = Uuid::new_v4().to_string();
        let client = access::fleet(network.control_plane, Token::new(&settings.fleet_token()?)?);
        let source = Source::new(network.clickhouse, &settings.clickhouse, &limits)?;
        let (reporter, reports) =
            Reporter::new(usize::try_from(limits.exporter_slots).unwrap_or(1));
        let context = JobContext {
            hydrator: Hydrator {
                source: source.clone(),
                blobs: BlobStore::new(&settings.blobs, &network.blobs).await?,
                concurrency: usize::from(settings.blobs.blob_concurrency),
                limits,
            },
            source,
            connector: network.destinations,
            access: DestinationAccess {
                client: client.clone(),
                exporter: exporter.clone(),
                incarnation: incarnation.clone(),
            },
            reporter,
            limits,
        };
        let agent = Agent {
            client,
            exporter,
            incarnation,
            capacity: limits.slots(),
            drain_time: Duration::from_secs(settings.drain_seconds),
            context,
            reports,
            in_flight: InFlight::default(),
        };
        Ok(Self { agent })
    }

    /// Runs until `stopping` is cancelled, then finishes the files in progress and hands its tasks
    /// back.
    pub async fn run(self, stopping: CancellationToken) {
        tracing::info!(
            exporter = self.agent.exporter,
            runs = self.agent.capacity,
            "exporter started"
        );
        let source = self.agent.context.source.clone();
        let inspected = async {
            match source.inspect().await {
                Ok(()) => tracing::debug!("the trace store can be read"),
                Err(failure) => {
                    tracing::error!(%failure, "the trace store cannot be read as it is now")
                }
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = inspected => {}
            () = self.agent.run(stopping) => {}
        }
        tracing::info!("exporter stopped");
    }
}

fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim();
    if name.is_empty() { "exporter".to_owned() } else { name.to_owned() }
}
