//! The services of a world, each a task of this process.

use std::{net::SocketAddr, sync::Arc};

use secrecy::SecretString;
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracelift_control_plane::{ControlPlane, Database};
use tracelift_postgres_server::Postgres;
use tracelift_runtime::tasks;

use super::{ADMIN_TOKEN, FLEET_TOKEN, Options};

const MASTER_KEYS: &str = "test:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

/// A service running in this process.
pub struct Running {
    pub stopping: CancellationToken,
    task: JoinHandle<()>,
}

impl Running {
    pub(super) fn start(
        name: &'static str,
        work: impl FnOnce(CancellationToken) -> JoinHandle<()>,
    ) -> Self {
        let stopping = CancellationToken::new();
        tracing::debug!(name, "started");
        Self { task: work(stopping.clone()), stopping }
    }

    /// Stops gracefully, as on SIGTERM.
    pub async fn stop(mut self) {
        self.stopping.cancel();
        (&mut self.task).await.expect("it ends well");
    }

    /// Stops abruptly, as on SIGKILL: nothing more is sent or written.
    pub async fn crash(mut self) {
        self.task.abort();
        let _ = (&mut self.task).await;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub(super) async fn database(dir: &TempDir, postgres: bool) -> (Option<Arc<Postgres>>, Database) {
    if !postgres {
        return (None, Database::from(dir.path().join("control-plane.db").as_path()));
    }
    let server =
        Arc::new(tokio::task::spawn_blocking(Postgres::start_new).await.expect("no panic"));
    let url = server.new_database().await;
    (Some(server), url.parse().expect("an address"))
}

pub(super) async fn control_plane(
    database: &Database,
    listen: SocketAddr,
    options: Options,
) -> (Running, SocketAddr) {
    let mut settings = tracelift_control_plane::Settings::defaults();
    settings.listen = listen;
    settings.database = database.clone();
    settings.master_keys = Some(SecretString::from(MASTER_KEYS));
    settings.admin_token = Some(SecretString::from(ADMIN_TOKEN));
    settings.fleet_token = Some(SecretString::from(FLEET_TOKEN));
    settings.endpoints.endpoints_allow = vec!["127.0.0.1".parse().expect("a rule")];
    settings.max_calls_per_second = 0; // tests ask again and again
    settings.heartbeat_seconds = 1;
    settings.lease_seconds = 3;
    settings.progress_seconds = options.progress_seconds;
    settings.schedule_grace_seconds = options.grace_seconds;
    settings.stop_seconds = 1;
    let bound = ControlPlane::bind(settings).await.expect("a control plane");
    let address = bound.address();
    let running = Running::start("control plane", |stopping| {
        tasks::start("control plane", async move { bound.run(stopping).await.expect("it serves") })
    });
    (running, address)
}
