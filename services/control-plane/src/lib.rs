//! The control plane: owns destinations, exports, tasks, leases, credentials at rest and API keys.
//!
//! It never reads an exported row, never talks to ClickHouse and never writes a data file. From top
//! to bottom: `api` converts calls to domain values, [`store`] makes them durable, `dispatch`
//! assigns tasks to exporters.

#![allow(clippy::result_large_err, reason = "tonic::Status is what gRPC handlers return")]

mod admission;
mod api;
mod auth;
mod dispatch;
mod health;
mod keys;
mod logins;
mod planning;
mod rotation;
pub mod sealer;
mod settings;
pub mod store;
mod sweep;

use std::{future::Future, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    task::{JoinError, JoinSet},
};
use tokio_stream::Stream;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::transport::{Server, server::Connected};
use tower::ServiceBuilder;
use tracelift_bucket::Connector;
use tracelift_proto::{
    DESCRIPTORS, MAX_FLEET_BYTES, MAX_REQUEST_BYTES,
    fleet::v1::fleet_service_server::FleetServiceServer,
    v1::{
        admin_service_server::AdminServiceServer,
        destination_service_server::DestinationServiceServer,
        export_service_server::ExportServiceServer,
    },
};
use tracelift_runtime::{
    incoming::Incoming,
    listen::{self, ListenError},
    metrics::MetricsError,
    renamed,
    request::RequestLayer,
    secret::SecretError,
    shares::Places,
    tasks,
    tls::{Acceptor, TlsError},
};

pub use auth::{Tokens, hash};
pub use dispatch::LeaseTerms;
pub use settings::{Database, Settings};

use crate::{
    admission::AdmissionLayer,
    auth::AuthLayer,
    keys::Keys,
    logins::Logins,
    rotation::Rotation,
    sealer::{CredentialSealer, SealError},
    store::{
        Store, StoreError,
        postgres::{PostgresEngine, PostgresSettings},
        sqlite::SqliteEngine,
    },
};

/// The metrics of a control plane, each with what it counts since the process started.
pub const METRICS: &[(&str, &str)] = &[
    (
        "tracelift_leases_lapsed_total",
        "leases that passed a deadline; their runs were queued again",
    ),
    (TASKS_TIMED_OUT.new, "tasks that took longer than allowed"),
    (TASKS_TIMED_OUT.old, "deprecated: use tracelift_tasks_timed_out_total"),
    ("tracelift_exports_spawned_total", "exports that schedules have spawned"),
    ("tracelift_calls_refused_total", "calls refused because too many were under way"),
    ("tracelift_logins_refused_total", "calls refused for a missing or wrong key or token"),
    (
        "tracelift_exports_reconciled_total",
        "completed exports whose rows were counted in the trace store",
    ),
    (
        "tracelift_late_rows_total",
        "rows in the trace store that arrived after their export was complete",
    ),
    ("tracelift_vanished_rows_total", "exported rows that the trace store does not have any more"),
];

/// Streams of one connection at once: more than a gateway's watches and calls together.
const MAX_STREAMS: u32 = 8192;
/// Streams of one connection that its peer opened and reset before they were looked at, and that were
/// reset for the peer's mistakes (RUSTSEC-2024-0003); with more the connection ends.
const MAX_RESETS: usize = 64;
const MAX_LOCAL_RESETS: usize = 1024;
/// A peer that takes no data for this long loses its connection.
const STALL: Duration = Duration::from_secs(30);

/// Renamed in 0.2.0.
pub(crate) const TASKS_TIMED_OUT: renamed::Counter = renamed::Counter {
    old: "tracelift_runs_timed_out_total",
    new: "tracelift_tasks_timed_out_total",
};

/// Why the control plane fails to start or stops.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "each says what it is about")]
pub enum Error {
    #[error(
        "TRACELIFT_LEASE_SECONDS ({lease}) must be at least twice TRACELIFT_HEARTBEAT_SECONDS ({heartbeat}): leases would lapse between heartbeats"
    )]
    Terms { heartbeat: u32, lease: u32 },
    #[error(transparent)]
    Listen(#[from] ListenError),
    #[error(transparent)]
    Secret(#[from] SecretError),
    #[error(transparent)]
    CredentialSealer(#[from] SealError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error(transparent)]
    Metrics(#[from] MetricsError),
    #[error("signals cannot be waited for: {0}")]
    Signal(#[from] std::io::Error),
    #[error("the server failed: {0}")]
    Serve(#[from] tonic::transport::Error),
    #[error("reflection cannot be built: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
    #[error("a part of it died, which is a fault of ours: {0}; start it again, nothing is lost")]
    TaskPanicked(#[from] JoinError),
}

/// A control plane with its port bound and its store open.
pub struct ControlPlane {
    listener: TcpListener,
    address: SocketAddr,
    tls: Option<Acceptor>,
    service: Service,
}

/// A control plane without a port: it serves the connections it is given.
pub struct Service {
    settings: Settings,
    store: Arc<Store>,
    sealer: Arc<CredentialSealer>,
    rotation: Rotation,
    tokens: Tokens,
    connector: Connector,
}

impl std::fmt::Debug for ControlPlane {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ControlPlane").field("address", &self.address).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Service").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl ControlPlane {
    /// Opens the store, binds the port, reads the secrets. Nothing is served yet.
    pub async fn bind(settings: Settings) -> Result<Self, Error> {
        let store: Arc<Store> = match &settings.database {
            Database::File(path) => Arc::new(Store::from(SqliteEngine::open(path)?)),
            Database::Postgres(url) => {
                let (password, ca) =
                    (settings.database_password()?, settings.database_ca.as_deref());
                let postgres = PostgresSettings::new(
                    url,
                    password.as_ref(),
                    ca,
                    settings.database_connections.into(),
                )?;
                Arc::new(Store::from(PostgresEngine::open(&postgres).await?))
            }
        };
        Self::bind_with(settings, store).await
    }

    /// The same with the caller's own store.
    pub async fn bind_with(settings: Settings, store: Arc<Store>) -> Result<Self, Error> {
        let listener = listen::bind(settings.listen).await?;
        let address = listener
            .local_addr()
            .map_err(|source| ListenError { address: settings.listen, source })?;
        let tls = settings.tls.acceptor(address, &["h2"])?;
        let connector = Connector::new(settings.endpoints.policy());
        let service = Service::new(settings, store, connector).await?;
        Ok(Self { listener, address, tls, service })
    }

    /// The address that it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `stopping`, then notifies the exporters, lets calls finish within the grace
    /// period, and returns.
    pub async fn run(self, stopping: CancellationToken) -> Result<(), Error> {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        tracing::info!("listening on {scheme}://{}", self.address);
        let incoming = Incoming::new(self.listener, self.service.settings.max_connections, STALL);
        self.service.serve(incoming.stream(self.tls), stopping).await
    }
}

impl Service {
    /// Reads the secrets and prepares the service. `connector` connects to destinations to check
    /// them.
    pub async fn new(
        settings: Settings,
        store: Arc<Store>,
        connector: Connector,
    ) -> Result<Self, Error> {
        let (heartbeat, lease) = (settings.heartbeat_seconds, settings.lease_seconds);
        if lease < heartbeat.saturating_mul(2) {
            return Err(Error::Terms { heartbeat, lease });
        }
        let sealer = Arc::new(CredentialSealer::new(&settings.master_keys()?)?);
        let tokens = Tokens::new(settings.admin_token()?.as_ref(), &settings.fleet_token()?);
        let rotation =
            Rotation::begin(store.clone(), sealer.clone(), settings.replica_name()).await?;
        Ok(Self { settings, store, sealer, rotation, tokens, connector })
    }

    /// Serves incoming connections until `stopping`, as [`ControlPlane::run`] does.
    pub async fn serve<C, E>(
        self,
        incoming: impl Stream<Item = Result<C, E>> + Send,
        stopping: CancellationToken,
    ) -> Result<(), Error>
    where
        C: AsyncRead
            + AsyncWrite
            + Connected<ConnectInfo: Clone + Send + Sync>
            + Unpin
            + Send
            + 'static,
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let Self { settings, store, sealer, rotation, tokens, connector } = self;
        let sessions = TaskTracker::new();
        let (health, health_service) = tonic_health::server::health_reporter();
        let mut background = JoinSet::new(); // ends with `stopping`, and not before
        tasks::start_in(
            &mut background,
            "health",
            health::watch(store.clone(), health, stopping.clone()),
        );

        tasks::start_in(&mut background, "rotation", rotation.run(stopping.clone()));

        let keys = Keys::new(store.clone());
        tasks::start_in(&mut background, "keys", keys.clone().run(stopping.clone()));
        let admin = api::admin::Admin { store: store.clone() };
        let exports = api::exports::Exports {
            store: store.clone(),
            terms: settings.terms(),
            watches: Places::new(settings.max_watches, settings.share_of(settings.max_watches)),
            keys: keys.clone(),
            stopping: stopping.clone(),
        };
        let destinations = api::destinations::Destinations {
            store: store.clone(),
            sealer: sealer.clone(),
            connector,
            own_rights: settings.own_rights(),
        };
        let (dispatcher, queue) = dispatch::Dispatcher::new();
        let dispatcher = Arc::new(dispatcher);
        let fleet = api::fleet::Fleet {
            store: store.clone(),
            dispatcher: dispatcher.clone(),
            sealer,
            terms: settings.lease_terms(),
            own_rights: settings.own_rights(),
            stopping: stopping.clone(),
            sessions: sessions.clone(),
        };
        let reflection = || {
            tonic_reflection::server::Builder::configure()
                .register_encoded_file_descriptor_set(DESCRIPTORS)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        };

        // The only tower stack, outermost layer first.
        let stack = ServiceBuilder::new()
            .layer(RequestLayer)
            .layer(AuthLayer::new(tokens, keys, Logins::new(store.clone())))
            .layer(AdmissionLayer::new(settings.admission()))
            .into_inner();
        let mut server = Server::builder()
            .layer(stack)
            .timeout(Duration::from_secs(settings.call_timeout_seconds))
            .max_concurrent_streams(MAX_STREAMS)
            .http2_max_pending_accept_reset_streams(Some(MAX_RESETS))
            .http2_max_local_error_reset_streams(Some(MAX_LOCAL_RESETS))
            .http2_keepalive_interval(Some(Duration::from_secs(10)))
            .http2_keepalive_timeout(Some(Duration::from_secs(10)));
        let router = server
            .add_service(health_service)
            .add_service(reflection().build_v1()?)
            .add_service(reflection().build_v1alpha()?)
            .add_service(
                AdminServiceServer::new(admin).max_decoding_message_size(MAX_REQUEST_BYTES),
            )
            .add_service(
                DestinationServiceServer::new(destinations)
                    .max_decoding_message_size(MAX_REQUEST_BYTES),
            )
            .add_service(
                ExportServiceServer::new(exports).max_decoding_message_size(MAX_REQUEST_BYTES),
            )
            .add_service(
                FleetServiceServer::new(fleet)
                    .max_decoding_message_size(MAX_FLEET_BYTES)
                    .max_encoding_message_size(MAX_FLEET_BYTES),
            );

        let notifications = store.changes();
        let stopped = stopping.clone();
        tasks::start_in(&mut background, "dispatcher", async move {
            dispatcher.route_changes(notifications, stopped).await
        });
        tasks::start_in(
            &mut background,
            "claims",
            dispatch::assign_batch(store.clone(), queue, settings.at_once(), stopping.clone()),
        );
        tasks::start_in(
            &mut background,
            "sweep",
            sweep::sweep(store, settings.lease_terms(), settings.ageing(), stopping.clone()),
        );
        let served =
            router.serve_with_incoming_shutdown(incoming, stopping.clone().cancelled_owned());
        let server = async {
            let served = served.await;
            stopping.cancel(); // if it has ended by itself
            served?;
            sessions.close();
            sessions.wait().await;
            Ok(())
        };
        let all = async { tokio::try_join!(server, ended(&mut background)).map(drop) };
        let outcome = until_grace(all, &stopping, Duration::from_secs(settings.stop_seconds)).await;
        stopping.cancel(); // if a part of it has panicked
        background.shutdown().await;
        outcome
    }
}

/// Waits until all of `background` has ended, or one part of it has panicked: a control plane that
/// does only a part of its work must not look healthy.
async fn ended(background: &mut JoinSet<()>) -> Result<(), Error> {
    while let Some(ended) = background.join_next().await {
        ended?;
    }
    Ok(())
}

/// Waits for all of it, but no longer than `grace` after `stopping`: a watch can last forever, an
/// exporter that reads nothing can hold its session open, a database may not answer.
async fn until_grace(
    all: impl Future<Output = Result<(), Error>>,
    stopping: &CancellationToken,
    grace: Duration,
) -> Result<(), Error> {
    let out_of_grace = async {
        stopping.cancelled().await;
        tokio::time::sleep(grace).await;
    };
    tokio::select! {
        outcome = all => outcome,
        () = out_of_grace => {
            tracing::warn!("not everything ended in time; the rest is cut");
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use secrecy::SecretString;
    use tokio::io::DuplexStream;
    use tracelift_bucket::EndpointPolicy;

    use super::*;

    #[tokio::test]
    async fn a_database_that_does_not_answer_holds_up_no_control_plane_that_stops() {
        let mut settings = Settings::defaults();
        settings.master_keys =
            Some(SecretString::from("k1:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="));
        settings.fleet_token = Some(SecretString::from("fleet-token"));
        settings.stop_seconds = 0;
        let (store, asked) = Store::silent().unwrap();
        let connector = Connector::new(EndpointPolicy::default());
        let service = Service::new(settings, Arc::new(store), connector).await.unwrap();
        let stopping = CancellationToken::new();
        let nobody = tokio_stream::pending::<io::Result<DuplexStream>>();
        let plane = tasks::start("plane", service.serve(nobody, stopping.clone()));
        asked.notified().await;
        stopping.cancel();
        let stopped = tokio::time::timeout(Duration::from_secs(60), plane).await; // it would wait for ever
        stopped.expect("it does not stop").unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_part_that_dies_is_noticed_though_others_have_ended_as_they_should() {
        let mut background = JoinSet::new();
        tasks::start_in(&mut background, "ended", async {});
        tasks::start_in(&mut background, "dying", async { panic!("of old age") });
        assert!(
            matches!(ended(&mut background).await, Err(Error::TaskPanicked(died)) if died.is_panic())
        );
    }
}
