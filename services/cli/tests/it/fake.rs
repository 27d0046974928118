//! A control plane with fixed answers, and the real binary to ask it.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    process::{Output, Stdio},
    sync::{Arc, Mutex},
};

use tokio::{net::TcpListener, process::Command};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Request, Response, Status, metadata::MetadataMap, transport::Server};
use tracelift_proto::v1::{
    self,
    admin_service_server::{AdminService, AdminServiceServer},
    destination_service_server::{DestinationService, DestinationServiceServer},
    export_service_server::{ExportService, ExportServiceServer},
};
use tracelift_runtime::tasks::{self, Owned};

pub(crate) const ID: &str = "0190d1a2-0000-7000-8000-000000000001";

type Change = Result<v1::WatchExportResponse, Status>;

/// What one watch brings; an open one never ends by itself.
pub(crate) struct Script {
    pub(crate) changes: Vec<Change>,
    pub(crate) open: bool,
}

#[derive(Default)]
struct Memory {
    refusal: Option<Status>,
    metadata: MetadataMap,
    asked: Vec<String>,
    scripts: VecDeque<Script>,
    held: Vec<tokio::sync::mpsc::Sender<Change>>,
}

#[derive(Clone, Default)]
pub(crate) struct Fake(Arc<Mutex<Memory>>);

impl Fake {
    pub(crate) fn refuse(&self, status: Status) {
        self.0.lock().unwrap().refusal = Some(status);
    }

    pub(crate) fn watch(&self, changes: Vec<Change>, open: bool) {
        self.0.lock().unwrap().scripts.push_back(Script { changes, open });
    }

    pub(crate) fn asked(&self) -> Vec<String> {
        self.0.lock().unwrap().asked.clone()
    }

    pub(crate) fn metadata(&self, name: &str) -> Option<String> {
        self.0.lock().unwrap().metadata.get(name).map(|value| value.to_str().unwrap().to_owned())
    }

    fn hear<T: std::fmt::Debug>(&self, request: Request<T>) -> Result<(), Status> {
        let mut memory = self.0.lock().unwrap();
        memory.metadata = request.metadata().clone();
        memory.asked.push(format!("{:?}", request.get_ref()));
        memory.refusal.clone().map_or(Ok(()), Err)
    }

    pub(crate) async fn serve(&self) -> World {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = Server::builder()
            .add_service(ExportServiceServer::new(self.clone()))
            .add_service(DestinationServiceServer::new(self.clone()))
            .add_service(AdminServiceServer::new(self.clone()))
            .serve_with_incoming(TcpListenerStream::new(listener));
        World {
            address,
            _server: Owned(tasks::start("fake", async move { server.await.unwrap() })),
        }
    }
}

pub(crate) struct World {
    pub(crate) address: SocketAddr,
    _server: Owned<()>,
}

impl World {
    /// The binary with an environment of its own.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        command(&format!("http://{}", self.address), args)
    }

    pub(crate) async fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().await.unwrap()
    }
}

pub(crate) fn command(server: &str, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tracelift"));
    command
        .env_clear()
        .env("TRACELIFT_GRPC", server)
        .env("TRACELIFT_API_KEY", "tl_key")
        .env("TRACELIFT_ADMIN_TOKEN", "admin");
    command.env("S3_ACCESS_KEY_ID", "AKIA").env("S3_SECRET_ACCESS_KEY", "hunter2");
    command
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// For snapshots: the exit code and both outputs.
pub(crate) fn shown(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    format!(
        "exit {:?}\n--- out\n{}--- err\n{}",
        output.status.code(),
        text(&output.stdout),
        text(&output.stderr)
    )
}

pub(crate) fn export(status: v1::ExportStatus, rows: u64) -> v1::Export {
    v1::Export {
        id: ID.into(),
        status: status.into(),
        progress: Some(v1::ExportProgress {
            runs_total: 2,
            rows_written: rows,
            rows_total_estimate: Some(100),
            ..Default::default()
        }),
        ..Default::default()
    }
}

pub(crate) fn change(status: v1::ExportStatus, rows: u64) -> Change {
    Ok(v1::WatchExportResponse { export: Some(export(status, rows)) })
}

#[tonic::async_trait]
impl ExportService for Fake {
    async fn create_export(
        &self,
        request: Request<v1::CreateExportRequest>,
    ) -> Result<Response<v1::CreateExportResponse>, Status> {
        self.hear(request)?;
        Ok(Response::new(v1::CreateExportResponse {
            export: Some(export(v1::ExportStatus::Created, 0)),
        }))
    }

    async fn get_export(
        &self,
        request: Request<v1::GetExportRequest>,
    ) -> Result<Response<v1::GetExportResponse>, Status> {
        self.hear(request)?;
        Ok(Response::new(v1::GetExportResponse {
            export: Some(export(v1::ExportStatus::Running, 50)),
        }))
    }

    async fn list_exports(
        &self,
        request: Request<v1::ListExportsRequest>,
    ) -> Result<Response<v1::ListExportsResponse>, Status> {
        self.hear(request)?;
        Ok(Response::new(v1::ListExportsResponse {
            exports: vec![export(v1::ExportStatus::Running, 50)],
            next_page_token: String::new(),
        }))
    }

    async fn cancel_export(
        &self,
        request: Request<v1::CancelExportRequest>,
    ) -> Result<Response<v1::CancelExportResponse>, Status> {
        self.hear(request)?;
        Ok(Response::new(v1::CancelExportResponse {
            export: Some(export(v1::ExportStatus::Cancelled, 50)),
        }))
    }

    type WatchExportStream = ReceiverStream<Change>;

    async fn watch_export(
        &self,
        request: Request<v1::WatchExportRequest>,
    ) -> Result<Response<Self::WatchExportStream>, Status> {
        self.hear(request)?;
        let mut memory = self.0.lock().unwrap();
        let script = memory.scripts.pop_front().ok_or_else(|| Status::unavailable("no more"))?;
        let (sender, receiver) = tokio::sync::mpsc::channel(script.changes.len().max(1));
        for change in script.changes {
            sender.try_send(change).unwrap();
        }
        if script.open {
            memory.held.push(sender);
        }
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn list_runs(
        &self,
        request: Request<v1::ListRunsRequest>,
    ) -> Result<Response<v1::ListRunsResponse>, Status> {
        self.hear(request)?;
        Ok(Response::new(v1::ListRunsResponse::default()))
    }

    async fn list_run_files(
        &self,
        request: Request<v1::ListRunFilesRequest>,
    ) -> Result<Response<v1::ListRunFilesResponse>, Status> {
        self.hear(request)?;
        Ok(Response::new(v1::ListRunFilesResponse::default()))
    }

    async fn get_run(
        &self,
        request: Request<v1::GetRunRequest>,
    ) -> Result<Response<v1::GetRunResponse>, Status> {
        self.hear(request)?;
        Err(Status::not_found("no such run"))
    }

    async fn retry_run(
        &self,
        request: Request<v1::RetryRunRequest>,
    ) -> Result<Response<v1::RetryRunResponse>, Status> {
        self.hear(request)?;
        let run = v1::ExportRun {
            id: ID.into(),
            status: v1::RunStatus::Running.into(),
            stage: "queued".into(),
            ..Default::default()
        };
        Ok(Response::new(v1::RetryRunResponse { run: Some(run) }))
    }

    async fn get_limits(
        &self,
        request: Request<v1::GetLimitsRequest>,
    ) -> Result<Response<v1::GetLimitsResponse>, Status> {
        self.hear(request)?;
        let running_exports = Some(v1::Limit { limit: 15, used: 3 });
        Ok(Response::new(v1::GetLimitsResponse {
            limits: Some(v1::Limits { running_exports, ..Default::default() }),
        }))
    }

    async fn list_schedule_runs(
        &self,
        request: Request<v1::ListScheduleRunsRequest>,
    ) -> Result<Response<v1::ListScheduleRunsResponse>, Status> {
        self.hear(request)?;
        Ok(Response::new(v1::ListScheduleRunsResponse::default()))
    }

    async fn validate_filter(
        &self,
        request: Request<v1::ValidateFilterRequest>,
    ) -> Result<Response<v1::ValidateFilterResponse>, Status> {
        let wrong = request.get_ref().filter.contains("wrong");
        self.hear(request)?;
        let error = v1::FilterError {
            field: "filter".into(),
            message: "at character 4: \"wrong\" is not a field".into(),
        };
        Ok(Response::new(v1::ValidateFilterResponse {
            valid: !wrong,
            errors: if wrong { vec![error] } else { Vec::new() },
        }))
    }
}

#[tonic::async_trait]
impl DestinationService for Fake {
    async fn create_destination(
        &self,
        request: Request<v1::CreateDestinationRequest>,
    ) -> Result<Response<v1::CreateDestinationResponse>, Status> {
        let keys = request.get_ref().credentials.as_ref();
        assert!(keys.is_some_and(
            |keys| keys.access_key_id == "AKIA" && keys.secret_access_key == "hunter2"
        ));
        self.hear(request)?;
        let destination =
            v1::Destination { id: ID.into(), display_name: "mine".into(), ..Default::default() };
        Ok(Response::new(v1::CreateDestinationResponse { destination: Some(destination) }))
    }

    async fn get_destination(
        &self,
        request: Request<v1::GetDestinationRequest>,
    ) -> Result<Response<v1::GetDestinationResponse>, Status> {
        self.hear(request)?;
        Ok(Response::new(v1::GetDestinationResponse {
            destination: Some(v1::Destination { id: ID.into(), ..Default::default() }),
        }))
    }

    async fn list_destinations(
        &self,
        request: Request<v1::ListDestinationsRequest>,
    ) -> Result<Response<v1::ListDestinationsResponse>, Status> {
        self.hear(request)?;
        Ok(Response::new(v1::ListDestinationsResponse::default()))
    }

    async fn update_destination_credentials(
        &self,
        request: Request<v1::UpdateDestinationCredentialsRequest>,
    ) -> Result<Response<v1::UpdateDestinationCredentialsResponse>, Status> {
        self.hear(request)?;
        Ok(Response::new(v1::UpdateDestinationCredentialsResponse {
            destination: Some(v1::Destination { id: ID.into(), ..Default::default() }),
        }))
    }

    async fn delete_destination(
        &self,
        request: Request<v1::DeleteDestinationRequest>,
    ) -> Result<Response<v1::DeleteDestinationResponse>, Status> {
        self.hear(request)?;
        Ok(Response::new(v1::DeleteDestinationResponse {}))
    }
}

#[tonic::async_trait]
impl AdminService for Fake {
    async fn create_tenant(
        &self,
        request: Request<v1::CreateTenantRequest>,
    ) -> Result<Response<v1::CreateTenantResponse>, Status> {
        self.hear(request)?;
        let tenant = v1::Tenant { id: ID.into(), display_name: "acme".into(), created_at: None };
        Ok(Response::new(v1::CreateTenantResponse { tenant: Some(tenant) }))
    }

    async fn list_tenants(
        &self,
        _: Request<v1::ListTenantsRequest>,
    ) -> Result<Response<v1::ListTenantsResponse>, Status> {
        Err(Status::unimplemented("not asked by the command"))
    }

    async fn create_api_key(
        &self,
        request: Request<v1::CreateApiKeyRequest>,
    ) -> Result<Response<v1::CreateApiKeyResponse>, Status> {
        self.hear(request)?;
        let api_key = v1::ApiKey {
            id: ID.into(),
            tenant_id: ID.into(),
            display_name: "ci".into(),
            ..Default::default()
        };
        Ok(Response::new(v1::CreateApiKeyResponse { api_key: Some(api_key), key: "tl_new".into() }))
    }

    async fn list_api_keys(
        &self,
        _: Request<v1::ListApiKeysRequest>,
    ) -> Result<Response<v1::ListApiKeysResponse>, Status> {
        Err(Status::unimplemented("not asked by the command"))
    }

    async fn revoke_api_key(
        &self,
        _: Request<v1::RevokeApiKeyRequest>,
    ) -> Result<Response<v1::RevokeApiKeyResponse>, Status> {
        Err(Status::unimplemented("not asked by the command"))
    }
}
