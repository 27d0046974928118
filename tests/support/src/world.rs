//! The whole system in one process: real services on real ports, the embedded ClickHouse and the S3
//! server, all connected over the network.

mod content;
mod exports;
mod services;

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

use secrecy::SecretString;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tonic::transport::{Channel, Endpoint};
use tracelift_control_plane::Database;
use tracelift_exporter::Exporter;
use tracelift_postgres_server::Postgres;
use tracelift_proto::v1::{
    self, admin_service_client::AdminServiceClient,
    destination_service_client::DestinationServiceClient,
    export_service_client::ExportServiceClient,
};
use tracelift_runtime::tasks;
use tracelift_test_grpc::{Authorised, Bearer};

use crate::{
    clickhouse::ClickHouse,
    dataset::TENANT_ID,
    s3::{ACCESS_KEY_ID, S3Server, SECRET_ACCESS_KEY},
};

pub use services::Running;
use services::{control_plane, database};

pub const SOURCE_BUCKET: &str = "traces";
pub const DESTINATION_BUCKET: &str = "exports";
const ADMIN_TOKEN: &str = "test-admin-token";
pub const FLEET_TOKEN: &str = "test-fleet-token";

/// Everything that one test needs.
pub struct World {
    pub clickhouse: ClickHouse,
    pub s3: S3Server,
    /// The address of the first control plane.
    pub grpc: String,
    control_planes: Vec<Replica>,
    database: Database,
    options: Options,
    /// Set if the control planes use PostgreSQL.
    pub postgres: Option<Arc<Postgres>>,
    api_key: String,
    pub dir: TempDir,
}

/// A control plane and its address; `running` is `None` while it is stopped.
struct Replica {
    running: Option<Running>,
    address: SocketAddr,
}

/// The configuration of a world.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Use PostgreSQL instead of SQLite.
    pub postgres: bool,
    /// Number of control planes on one database; more than one requires PostgreSQL.
    pub replicas: usize,
    /// Seconds that a run may go without progress.
    pub progress_seconds: u32,
    /// Grace period for late rows, in seconds.
    pub grace_seconds: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self { postgres: false, replicas: 1, progress_seconds: 600, grace_seconds: 600 }
    }
}

impl World {
    /// Starts everything but exporters, with an API key for the data set's tenant.
    pub async fn start() -> Self {
        Self::with(Options::default()).await
    }

    /// The same with the given options.
    pub async fn with(options: Options) -> Self {
        let dir = TempDir::new().expect("a folder");
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let s3 = S3Server::start(&dir.path().join("s3"), listener).expect("an S3 server");
        s3.create_bucket(SOURCE_BUCKET);
        s3.create_bucket(DESTINATION_BUCKET);
        let path = dir.path().join("clickhouse");
        let clickhouse = tokio::task::spawn_blocking(move || ClickHouse::start(&path, 0))
            .await
            .expect("no panic")
            .expect("ClickHouse");
        let (postgres, database) = database(&dir, options.postgres).await;
        let mut control_planes = Vec::new();
        for _ in 0..options.replicas {
            let (running, address) =
                control_plane(&database, SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), options).await;
            control_planes.push(Replica { running: Some(running), address });
        }
        let grpc = format!("http://{}", control_planes[0].address);
        let mut world = Self {
            clickhouse,
            s3,
            grpc,
            control_planes,
            database,
            options,
            postgres,
            api_key: String::new(),
            dir,
        };
        world.api_key = world.key_of(TENANT_ID).await;
        world
    }

    /// Creates an API key for a new tenant.
    pub async fn key_of(&self, tenant: &str) -> String {
        let mut admin =
            AdminServiceClient::with_interceptor(self.channel(), Bearer::new(ADMIN_TOKEN));
        let request =
            v1::CreateTenantRequest { id: tenant.to_owned(), display_name: "test".to_owned() };
        admin.create_tenant(request).await.expect("a tenant");
        let request = v1::CreateApiKeyRequest {
            tenant_id: tenant.to_owned(),
            display_name: "test".to_owned(),
            permission: 0,
            expires_at: None,
        };
        admin.create_api_key(request).await.expect("a key").into_inner().key
    }

    fn channel(&self) -> Channel {
        Endpoint::from_shared(self.grpc.clone()).expect("an address").connect_lazy()
    }

    /// The address of control plane `n`, counted from 0.
    pub fn grpc_of(&self, n: usize) -> String {
        format!("http://{}", self.control_planes[n].address)
    }

    /// The export service of control plane `n`.
    pub fn exports_at(&self, n: usize) -> ExportServiceClient<Authorised> {
        let channel = Endpoint::from_shared(self.grpc_of(n)).expect("an address").connect_lazy();
        ExportServiceClient::with_interceptor(channel, Bearer::new(&self.api_key))
    }

    pub fn exports(&self) -> ExportServiceClient<Authorised> {
        ExportServiceClient::with_interceptor(self.channel(), Bearer::new(&self.api_key))
    }

    pub fn destinations(&self) -> DestinationServiceClient<Authorised> {
        DestinationServiceClient::with_interceptor(self.channel(), Bearer::new(&self.api_key))
    }

    /// Settings of an exporter with this name: small files and batches, so that a few rows fill
    /// many of them.
    pub fn exporter_settings(&self, name: &str) -> tracelift_exporter::Settings {
        let mut settings = tracelift_exporter::Settings::defaults();
        settings.control_plane.clone_from(&self.grpc);
        settings.exporter_id = Some(name.to_owned());
        settings.fleet_token = Some(SecretString::from(FLEET_TOKEN));
        settings.endpoints.endpoints_allow = vec!["127.0.0.1".parse().expect("a rule")];
        settings.clickhouse.clickhouse_url.clone_from(&self.clickhouse.url);
        settings.blobs.blob_endpoint = Some(self.s3.url());
        settings.blobs.blob_bucket = SOURCE_BUCKET.to_owned();
        settings.blobs.blob_access_key_id = Some(SecretString::from(ACCESS_KEY_ID));
        settings.blobs.blob_secret_access_key = Some(SecretString::from(SECRET_ACCESS_KEY));
        settings
    }

    pub fn start_exporter(&self, settings: &tracelift_exporter::Settings) -> Running {
        let settings = settings.clone();
        Running::start("exporter", |stopping| {
            tasks::start("exporter", async move {
                Exporter::new(&settings).await.expect("an exporter").run(stopping).await
            })
        })
    }

    /// Starts an exporter with the usual settings.
    pub fn exporter(&self) -> Running {
        self.start_exporter(&self.exporter_settings("exporter-1"))
    }

    /// Stops every control plane.
    pub async fn stop_control_plane(&mut self) {
        for running in self.control_planes.iter_mut().filter_map(|replica| replica.running.take()) {
            running.stop().await;
        }
    }

    /// Restarts every control plane on the same port and database.
    pub async fn restart_control_plane(&mut self) {
        for n in 0..self.control_planes.len() {
            self.restart_replica(n).await;
        }
    }

    /// Stops control plane `n`, as on SIGTERM.
    pub async fn stop_replica(&mut self, n: usize) {
        if let Some(running) = self.control_planes[n].running.take() {
            running.stop().await;
        }
    }

    /// Restarts control plane `n` on the same port and database.
    pub async fn restart_replica(&mut self, n: usize) {
        let replica = &mut self.control_planes[n];
        replica.running =
            Some(control_plane(&self.database, replica.address, self.options).await.0);
    }

    /// Restarts ClickHouse on the same port and data.
    pub async fn restart_clickhouse(&mut self) {
        let port = self
            .clickhouse
            .url
            .rsplit(':')
            .next()
            .and_then(|port| port.parse().ok())
            .expect("a port");
        let path = self.dir.path().join("clickhouse");
        self.clickhouse = tokio::task::spawn_blocking(move || ClickHouse::start(&path, port))
            .await
            .expect("no panic")
            .expect("ClickHouse");
    }
}
