//! The real services as hosts: the settings that each starts with, and the token that stops it as
//! SIGTERM would.

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use secrecy::SecretString;
use tokio_util::sync::CancellationToken;
use tracelift_bucket::{Connector, EndpointPolicy};
use tracelift_control_plane::{
    Service,
    store::{Store, sqlite::SqliteEngine},
};
use tracelift_exporter::Exporter;

use crate::{bucket, clickhouse, net::Network};

pub const ADMIN_TOKEN: &str = "sim-admin-token";
const FLEET_TOKEN: &str = "sim-fleet-token";
const MASTER_KEYS: &str = "sim:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
/// The port of control planes.
pub const PORT: u16 = 7700;
/// The database shared by all control planes. Each start opens it separately, so notifications
/// never pass from one to another.
pub const DATABASE: &str = "file:tracelift?mode=memory&cache=shared";

/// Stops the current incarnation of a service.
#[derive(Clone, Default)]
pub struct Stopping(Arc<Mutex<CancellationToken>>);

impl Stopping {
    /// The token of a new incarnation.
    fn renewed(&self) -> CancellationToken {
        let mut token = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *token = CancellationToken::new();
        token.clone()
    }

    /// Stops gracefully, as on SIGTERM.
    pub fn stop(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).cancel();
    }
}

/// Runs a control plane.
pub async fn control_plane(network: Network, stopping: Stopping) -> turmoil::Result {
    let mut settings = tracelift_control_plane::Settings::defaults();
    settings.master_keys = Some(SecretString::from(MASTER_KEYS));
    settings.admin_token = Some(SecretString::from(ADMIN_TOKEN));
    settings.fleet_token = Some(SecretString::from(FLEET_TOKEN));
    settings.heartbeat_seconds = 1;
    settings.max_calls_per_second = 0; // callers ask again and again
    settings.lease_seconds = 4;
    settings.stop_seconds = 1;
    settings.max_retries = 1_000_000; // no seed can exhaust them: a permanent failure is a bug
    let store = Arc::new(Store::from(SqliteEngine::open(Path::new(DATABASE))?));
    let connector = Connector::over(network.http(), EndpointPolicy::unrestricted());
    let service = Service::new(settings, store, connector).await?;
    let incoming = network.listen(PORT).await?;
    Ok(service.serve(incoming, stopping.renewed()).await?)
}

/// Runs an exporter whose files hold few rows, so that a few hundred rows fill many.
pub async fn exporter(
    network: Network,
    stopping: Stopping,
    name: String,
    control_plane: String,
) -> turmoil::Result {
    let mut settings = tracelift_exporter::Settings::defaults();
    settings.control_plane = format!("http://{control_plane}:{PORT}");
    settings.exporter_id = Some(name);
    settings.fleet_token = Some(SecretString::from(FLEET_TOKEN));
    settings.clickhouse.clickhouse_url = format!("http://clickhouse:{}", clickhouse::PORT);
    settings.blobs.blob_endpoint = Some(endpoint());
    settings.blobs.blob_bucket = bucket::SOURCE.to_owned();
    settings.blobs.blob_access_key_id = Some(SecretString::from(bucket::KEYS.0));
    settings.blobs.blob_secret_access_key = Some(SecretString::from(bucket::KEYS.1));
    settings.drain_seconds = 5;
    settings.limits.exporter_slots = 2;
    settings.limits.memory_bytes = u64::MAX / 2;
    (settings.limits.file_bytes, settings.limits.row_group_bytes) = (6_000, 4_000);
    (settings.limits.part_bytes, settings.limits.batch_bytes) = (2_000, 16_000);
    let connector = Connector::over(network.http(), EndpointPolicy::unrestricted());
    let ways = tracelift_exporter::Network {
        control_plane: network.channel(&settings.control_plane),
        clickhouse: network.clickhouse(),
        blobs: connector.clone(),
        destinations: connector,
    };
    Exporter::with_network(&settings, ways).await?.run(stopping.renewed()).await;
    Ok(())
}

/// The endpoint of S3.
pub fn endpoint() -> String {
    format!("http://s3:{}", bucket::PORT)
}
