//! The REST gateway: LangSmith's bulk-export API in JSON on one side, the control plane's gRPC API
//! on the other.
//!
//! It is stateless and makes no decision that needs state: it validates a request field by field,
//! makes one call, and returns the response. Authorization and existence checks are left to the
//! control plane.

#![allow(clippy::result_large_err, reason = "tonic::Status is what gRPC clients return")]

mod body;
mod caller;
mod control_plane;
mod error;
mod json_reader;
mod middleware;
mod openapi;
mod path;
mod query;
mod request;
mod response;
mod routes;
mod serve;
mod validation;

use std::{io, net::SocketAddr, time::Duration};

use control_plane::ControlPlane;
use tokio_util::sync::CancellationToken;
use tracelift_runtime::{
    incoming::Incoming,
    listen::{self, ListenError},
    telemetry::LogSettings,
    tls::{Acceptor, ClientTls, ServerTls, TlsError},
};

/// How long requests in progress may take once the gateway is shutting down.
const GRACE: Duration = Duration::from_secs(30);
/// A client that takes nothing of a response for this long loses its connection.
const STALL: Duration = Duration::from_secs(30);

/// Tracelift's REST gateway
#[derive(Debug, Clone, clap::Parser)]
#[command(name = "tracelift-gateway", version)]
pub struct Settings {
    /// Address to listen on for HTTP; port 0 picks a free port
    #[arg(long, env = "TRACELIFT_GATEWAY_LISTEN", default_value = "127.0.0.1:7701")]
    pub listen: SocketAddr,
    /// Address of the control plane
    #[arg(long, env = "TRACELIFT_CONTROL_PLANE", default_value = "http://127.0.0.1:7700")]
    pub control_plane: String,
    /// Seconds after which a request fails with 504, 1 to 3600; creating a destination waits for
    /// the check of its bucket
    #[arg(long, env = "TRACELIFT_GATEWAY_REQUEST_TIMEOUT", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub request_timeout: u64,
    /// Requests in progress at once, at most 65536; further requests fail with 503
    #[arg(long, env = "TRACELIFT_GATEWAY_CONCURRENCY", default_value_t = 512, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub concurrency: u32,
    /// Connections at once, 1 to 1048576; further ones wait until one closes
    #[arg(long, env = "TRACELIFT_GATEWAY_CONNECTIONS", default_value_t = 4096, value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    pub connections: u32,
    /// Seconds that a connection may be idle or take to send the head of a request, 1 to 3600; more
    /// than the idle timeout of a proxy in front
    #[arg(long, env = "TRACELIFT_GATEWAY_IDLE_SECONDS", default_value_t = 75, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub idle_seconds: u64,
    /// Event streams at once, at most 65536; a caller may have a quarter of them
    #[arg(long, env = "TRACELIFT_GATEWAY_EVENT_STREAMS", default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub event_streams: u32,
    #[allow(missing_docs, reason = "a doc comment would replace the text of --help")]
    #[command(flatten)]
    pub tls: ClientTls,
    #[allow(missing_docs, reason = "a doc comment would replace the text of --help")]
    #[command(flatten)]
    pub server_tls: ServerTls,
    #[allow(missing_docs, reason = "a doc comment would replace the text of --help")]
    #[command(flatten)]
    pub log: LogSettings,
}

impl Settings {
    /// The defaults, on a free local port, with a plaintext control plane.
    pub fn local(control_plane: impl Into<String>) -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            control_plane: control_plane.into(),
            request_timeout: 60,
            concurrency: 512,
            connections: 4096,
            idle_seconds: 75,
            event_streams: 1024,
            tls: ClientTls::default(),
            server_tls: ServerTls::default(),
            log: LogSettings {
                log: "info".to_owned(),
                log_format: tracelift_runtime::telemetry::LogFormat::Text,
            },
        }
    }
}

/// Why the gateway failed to start or had to stop.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// Listening on the port failed.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The control plane's address or its certificates are invalid.
    #[error(transparent)]
    ControlPlane(#[from] TlsError),
    /// The port's address cannot be read.
    #[error("the port has no address: {0}")]
    Address(#[from] io::Error),
}

/// A gateway that is bound to its port and ready to run.
#[derive(Debug)]
pub struct Gateway {
    incoming: Incoming,
    tls: Option<Acceptor>,
    address: SocketAddr,
    service: axum::Router,
    idle: Duration,
    /// Ends event streams, which would delay shutdown.
    stopping: CancellationToken,
}

impl Gateway {
    /// Binds the port. The control plane does not have to be up yet.
    pub async fn bind(settings: Settings) -> Result<Self, GatewayError> {
        let (timeout, stopping) =
            (Duration::from_secs(settings.request_timeout), CancellationToken::new());
        let channel = || settings.tls.channel(&settings.control_plane);
        let plane = ControlPlane::new(channel()?, channel()?, &settings, stopping.clone());
        let limits = middleware::Limits { concurrency: settings.concurrency as usize, timeout };
        let listener = listen::bind(settings.listen).await?;
        let address = listener.local_addr()?;
        let tls = settings.server_tls.acceptor(address, &["http/1.1"])?;
        Ok(Self {
            tls,
            incoming: Incoming::new(listener, settings.connections, STALL),
            address,
            idle: Duration::from_secs(settings.idle_seconds),
            stopping,
            service: middleware::around(routes::api(), routes::probes(), limits).with_state(plane),
        })
    }

    /// The address it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `shutdown`, then finishes the requests in progress.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), GatewayError> {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        tracing::info!("listening on {scheme}://{}", self.address);
        let Self { incoming, tls, service, idle, stopping, .. } = self;
        let stop = async {
            shutdown.cancelled().await;
            stopping.cancel();
        };
        let served = serve::serve(incoming, tls, service, idle, stopping.clone());
        tokio::select! {
            _ = futures::future::join(served, stop) => {}
            () = overdue(shutdown.clone()) => tracing::warn!("requests were still under way after {} s, stopping anyway", GRACE.as_secs()),
        }
        Ok(())
    }
}

async fn overdue(shutdown: CancellationToken) {
    shutdown.cancelled().await;
    tokio::time::sleep(GRACE).await;
}
