//! The whole system in one process: real services on real ports, the embedded ClickHouse and the S3
//! server, all connected over the network.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

use secrecy::SecretString;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use tonic::{
    Response, Status,
    transport::{Channel, Endpoint},
};
use tracelift_control_plane::{ControlPlane, Database};
use tracelift_exporter::Exporter;
use tracelift_postgres_server::Postgres;
use tracelift_proto::{
    pages, time_to,
    v1::{
        self, admin_service_client::AdminServiceClient,
        destination_service_client::DestinationServiceClient,
        export_service_client::ExportServiceClient,
    },
};
use tracelift_runtime::tasks;
use tracelift_test_grpc::{Authorised, Bearer};

use crate::{
    clickhouse::ClickHouse,
    dataset::{PROJECT_ID, TENANT_ID},
    rows::rows_of,
    s3::{ACCESS_KEY_ID, S3Server, SECRET_ACCESS_KEY},
};

pub const SOURCE_BUCKET: &str = "traces";
pub const DESTINATION_BUCKET: &str = "exports";
const ADMIN_TOKEN: &str = "test-admin-token";
pub const FLEET_TOKEN: &str = "test-fleet-token";
const MASTER_KEYS: &str = "test:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

/// A service running in this process.
pub struct Running {
    pub stopping: CancellationToken,
    task: JoinHandle<()>,
}

impl Running {
    fn start(name: &'static str, work: impl FnOnce(CancellationToken) -> JoinHandle<()>) -> Self {
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
        settings.allow_private_endpoints = true;
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

    /// Inserts rows into `runs`; missing columns have default values.
    pub async fn insert(&self, rows: &[Value]) {
        self.insert_into("runs", rows).await;
    }

    /// The same for another table with the same columns.
    pub async fn insert_into(&self, table: &str, rows: &[Value]) {
        let rows: Vec<_> = rows.iter().map(|row| full_row(row).to_string()).collect();
        self.clickhouse
            .client()
            .query_raw(&format!("INSERT INTO {table} FORMAT JSONEachRow\n{}", rows.join("\n")))
            .execute()
            .await
            .expect("rows");
    }

    /// Creates a destination with this prefix.
    pub async fn destination(&self, prefix: &str) -> String {
        self.destination_with(prefix, |_| {}).await.expect("a destination").id
    }

    /// Creates a destination with this prefix and a modified bucket configuration.
    pub async fn destination_with(
        &self,
        prefix: &str,
        change: impl FnOnce(&mut v1::BucketConfig),
    ) -> Result<v1::Destination, Status> {
        let mut request = v1::CreateDestinationRequest {
            display_name: "test".to_owned(),
            config: Some(v1::BucketConfig {
                bucket_name: DESTINATION_BUCKET.to_owned(),
                prefix: prefix.to_owned(),
                endpoint_url: self.s3.url(),
                ..Default::default()
            }),
            credentials: Some(v1::Credentials {
                access_key_id: ACCESS_KEY_ID.to_owned(),
                secret_access_key: SECRET_ACCESS_KEY.to_owned(),
                session_token: String::new(),
            }),
            ..Default::default()
        };
        change(request.config.as_mut().expect("just given"));
        let made = self.destinations().create_destination(request).await?.into_inner();
        Ok(made.destination.expect("a destination"))
    }

    /// Creates an export of the data set's project.
    pub async fn export(&self, start: &str, end: &str) -> String {
        self.export_with(start, end, |_| {}).await
    }

    pub async fn export_with(
        &self,
        start: &str,
        end: &str,
        change: impl FnOnce(&mut v1::ExportSpec),
    ) -> String {
        let at = |text| {
            Some(time_to(tracelift_core::time::Timestamp::parse("t", text).expect("a time")))
        };
        let mut spec = v1::ExportSpec {
            destination_id: self.destination("test").await,
            session_id: PROJECT_ID.to_owned(),
            start_time: at(start),
            end_time: at(end),
            ..Default::default()
        };
        change(&mut spec);
        let made = self
            .exports()
            .create_export(v1::CreateExportRequest { spec: Some(spec), ..Default::default() })
            .await
            .expect("an export")
            .into_inner();
        made.export.expect("an export").id
    }

    /// Watches an export until it has ended, reopening a broken stream.
    pub async fn ended(&self, id: &str) -> v1::Export {
        self.watched(id, |export| {
            export.status().known().is_some_and(tracelift_core::export::ExportStatus::ended)
        })
        .await
    }

    /// Watches an export until it satisfies `wanted`.
    pub async fn watched(&self, id: &str, wanted: impl Fn(&v1::Export) -> bool) -> v1::Export {
        loop {
            let request = v1::WatchExportRequest { id: id.to_owned() };
            let Ok(stream) = self.exports().watch_export(request).await else {
                tokio::task::yield_now().await;
                continue;
            };
            let mut stream = stream.into_inner();
            while let Ok(Some(answer)) = stream.message().await {
                let export = answer.export.expect("an export");
                if wanted(&export) {
                    return export;
                }
            }
        }
    }

    /// Polls until the export satisfies `wanted`; for changes after an export has ended, which a
    /// watch does not report.
    async fn asked(&self, id: &str, wanted: impl Fn(&v1::Export) -> bool) -> v1::Export {
        loop {
            let answer = self
                .exports()
                .get_export(v1::GetExportRequest { id: id.to_owned() })
                .await
                .expect("an export")
                .into_inner();
            let export = answer.export.expect("an export");
            if wanted(&export) {
                return export;
            }
        }
    }

    /// Waits until the export's rows have been counted in ClickHouse.
    pub async fn reconciled(&self, id: &str) -> v1::Reconciliation {
        let counted = self.asked(id, |export| export.reconciliation.is_some()).await;
        counted.reconciliation.expect("just seen")
    }

    /// Waits until an ended export has no open uploads, and returns its runs.
    pub async fn cleaned_up(&self, id: &str) -> Vec<v1::ExportRun> {
        loop {
            let runs = self.runs(id).await;
            let pending = |run: &v1::ExportRun| {
                run.result.as_ref().is_some_and(|result| result.pending_upload.is_some())
            };
            let open = self.s3.open_uploads().iter().any(|(key, _)| key.contains(id));
            if !open && !runs.iter().any(pending) {
                return runs;
            }
        }
    }

    /// The runs of an export.
    pub async fn runs(&self, id: &str) -> Vec<v1::ExportRun> {
        let runs = pages::follow(0, |limit, page_token| {
            let request =
                v1::ListRunsRequest { export_id: id.to_owned(), limit, offset: 0, page_token };
            let mut exports = self.exports();
            async move { exports.list_runs(request).await.map(Response::into_inner) }
        });
        runs.await.expect("runs")
    }

    /// Every row in the export's data tree, as read by a reader that globs it.
    pub fn rows(&self, id: &str) -> Vec<Value> {
        let keys = self
            .s3
            .keys(DESTINATION_BUCKET)
            .into_iter()
            .filter(|key| key.contains(&format!("/export_id={id}/tenant_id=")));
        keys.flat_map(|key| rows_of(&self.s3.get(DESTINATION_BUCKET, &key).expect("a file")))
            .collect()
    }

    /// The manifest of a run, or of the export if `run` is `None`, as stored in the bucket.
    pub fn manifest(&self, id: &str, run: Option<&str>) -> Value {
        let name =
            run.map_or_else(|| "manifest.json".to_owned(), |run| format!("run_id={run}.json"));
        let content = self
            .s3
            .get(DESTINATION_BUCKET, &format!("test/_manifests/export_id={id}/{name}"))
            .expect("a manifest");
        serde_json::from_slice(&content).expect("JSON")
    }

    /// Whether `_SUCCESS` exists.
    pub fn succeeded(&self, id: &str) -> bool {
        self.s3
            .get(DESTINATION_BUCKET, &format!("test/_manifests/export_id={id}/_SUCCESS"))
            .is_some()
    }
}

async fn database(dir: &TempDir, postgres: bool) -> (Option<Arc<Postgres>>, Database) {
    if !postgres {
        return (None, Database::from(dir.path().join("control-plane.db").as_path()));
    }
    let server =
        Arc::new(tokio::task::spawn_blocking(Postgres::start_new).await.expect("no panic"));
    let url = server.new_database().await;
    (Some(server), url.parse().expect("an address"))
}

async fn control_plane(
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
    settings.allow_private_endpoints = true;
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

fn full_row(given: &Value) -> Value {
    let id = given["id"].as_str().expect("a row has an id");
    let mut row = json!({
        "tenant_id": TENANT_ID, "session_id": PROJECT_ID, "trace_id": id, "name": "n", "run_type": "llm",
        "start_time": "2024-01-01 12:00:00.000000", "status": "success", "is_root": true, "dotted_order": "", "tags": [],
        "inputs": "", "outputs": "", "error": "", "extra": "", "events": "", "inputs_s3_urls": "", "outputs_s3_urls": "", "s3_urls": "",
        "prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3, "feedback_stats": "", "trace_tier": "longlived",
        "in_dataset": false, "app_path": "", "inserted_at": "2024-01-01 12:00:00.000000", "modified_at": "2024-01-01 12:00:00.000000",
        "is_deleted": 0,
    });
    for (name, value) in given.as_object().expect("an object") {
        row[name] = value.clone();
    }
    row
}
