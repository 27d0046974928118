//! A control plane that gives fixed answers, or one refusal, and remembers what it was asked.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use tokio::{
    net::TcpListener,
    sync::{Notify, mpsc},
};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, metadata::MetadataMap, transport::Server};
use tracelift_proto::v1::{
    self,
    destination_service_server::{DestinationService, DestinationServiceServer},
    export_service_server::{ExportService, ExportServiceServer},
};
use tracelift_runtime::tasks::{self, Owned};

pub(crate) const EXPORT: &str = "0190d1a2-0000-7000-8000-000000000001";
pub(crate) const RUN: &str = "0190d1a2-0000-7000-8000-000000000002";
pub(crate) const DESTINATION: &str = "0190d1a2-0000-7000-8000-000000000003";
pub(crate) const TENANT: &str = "0190d1a2-0000-7000-8000-000000000004";
pub(crate) const PROJECT: &str = "0190d1a2-0000-7000-8000-000000000005";

#[derive(Default)]
struct Memory {
    refusal: Option<Status>,
    asked: Vec<String>,
    metadata: MetadataMap,
    hang: bool,
    ended: bool,
    pages: bool,
    files: u32,
    watch: Option<Watch>,
}

/// The fake's end of a watch.
pub(crate) type Watch = mpsc::Sender<Result<v1::WatchExportResponse, Status>>;

/// The fake, shared between its server and the test.
#[derive(Clone, Default)]
pub(crate) struct Fake {
    memory: Arc<Mutex<Memory>>,
    pub(crate) entered: Arc<Notify>,
    watched: Arc<Notify>,
}

impl Fake {
    /// From now on every call is refused so.
    pub(crate) fn refuse(&self, status: Status) {
        self.memory.lock().unwrap().refusal = Some(status);
    }

    /// From now on no call is answered.
    pub(crate) fn hang(&self) {
        self.memory.lock().unwrap().hang = true;
    }

    /// From now on runs come in two pages, unless two are asked for.
    pub(crate) fn page(&self) {
        self.memory.lock().unwrap().pages = true;
    }

    /// From now on the first run has more files than it is told with.
    pub(crate) fn many_files(&self) {
        self.memory.lock().unwrap().files = 2;
    }

    fn runs(&self) -> Vec<v1::ExportRun> {
        let (mut runs, files) = (runs(), self.memory.lock().unwrap().files);
        if let Some(result) = runs[0].result.as_mut().filter(|_| files > 0) {
            result.files = files;
        }
        runs
    }

    /// From now on the export has ended.
    pub(crate) fn end(&self) {
        self.memory.lock().unwrap().ended = true;
    }

    /// The watch that somebody begins.
    pub(crate) async fn watch(&self) -> Watch {
        self.watched.notified().await;
        self.memory.lock().unwrap().watch.take().unwrap()
    }

    /// The messages it was sent, as `Debug` prints them.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.memory.lock().unwrap().asked.clone()
    }

    /// A metadata value of the last call.
    pub(crate) fn metadata(&self, name: &str) -> Option<String> {
        self.memory
            .lock()
            .unwrap()
            .metadata
            .get(name)
            .map(|value| value.to_str().unwrap().to_owned())
    }

    async fn hear<T: std::fmt::Debug>(&self, request: Request<T>) -> Result<(), Status> {
        let hang = {
            let mut memory = self.memory.lock().unwrap();
            memory.metadata = request.metadata().clone();
            memory.asked.push(format!("{:?}", request.get_ref()));
            if let Some(status) = &memory.refusal {
                return Err(status.clone());
            }
            memory.hang
        };
        self.entered.notify_one();
        if hang {
            std::future::pending::<()>().await;
        }
        Ok(())
    }

    /// Serves on a free port until the guard is dropped.
    pub(crate) async fn serve(&self) -> (SocketAddr, Owned<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let server = Server::builder()
            .add_service(ExportServiceServer::new(self.clone()))
            .add_service(DestinationServiceServer::new(self.clone()))
            .serve_with_incoming_shutdown(TcpListenerStream::new(listener), stop.cancelled_owned());
        (address, Owned(tasks::start("fake", async move { server.await.unwrap() })))
    }
}

fn at(seconds: i64) -> Option<prost_types::Timestamp> {
    Some(prost_types::Timestamp { seconds: 1_747_153_200 + seconds, nanos: 123_456_000 })
}

pub(crate) fn export() -> v1::Export {
    v1::Export {
        id: EXPORT.into(),
        tenant_id: TENANT.into(),
        spec: Some(v1::ExportSpec {
            destination_id: DESTINATION.into(),
            session_id: PROJECT.into(),
            all_experiments: false,
            start_time: at(-86_400),
            end_time: at(0),
            compression: v1::Compression::Zstandard.into(),
            format_version: v1::FormatVersion::V1.into(),
            export_fields: Vec::new(),
            interval_hours: 0,
            filter: "eq(run_type, \"llm\")".into(),
        }),
        status: v1::ExportStatus::Running.into(),
        created_at: at(10),
        updated_at: at(11),
        finished_at: None,
        source_export_id: String::new(),
        progress: Some(v1::ExportProgress {
            runs_total: 3,
            runs_completed: 1,
            rows_written: 1000,
            bytes_written: 123_456,
            files_written: 2,
            rows_total_estimate: Some(3000),
            eta_seconds: None,
            rows_undecided: 2,
        }),
        error: String::new(),
        reconciliation: Some(v1::Reconciliation {
            rows_exported: 1000,
            rows_in_source: 1002,
            reconciled_at: at(13),
            ..Default::default()
        }),
        read_at: at(-1),
        window_open: true,
    }
}

pub(crate) fn runs() -> Vec<v1::ExportRun> {
    let done = v1::ExportRun {
        id: RUN.into(),
        export_id: EXPORT.into(),
        session_id: PROJECT.into(),
        status: v1::RunStatus::Completed.into(),
        retry_number: 11,
        errors: (0..11).map(|attempt| format!("lost {attempt}")).collect(),
        created_at: at(10),
        updated_at: at(12),
        finished_at: at(12),
        start_time: at(-86_400),
        end_time: at(0),
        prefix: "root".into(),
        result: Some(v1::RunResult {
            rows_written: 1000,
            bytes_written: 123_456,
            exported_files: vec!["bucket/root/export_id=1/0-00000.parquet".into()],
            export_path: "root/export_id=1".into(),
            latest_cursor: "2025-05-12T16:20:34.123456+00:00,0190".into(),
            hydrated_objects: 2000,
            hydration_misses: 1,
            pending_upload: Some(v1::PendingUpload {
                target_cursor: "2025-05-12T17:20:34.123456+00:00,0191".into(),
                file_path: "bucket/root/export_id=1/0-00001.parquet".into(),
                rows_count: 500,
            }),
            undecided: 2,
            decided_against: 3,
            undecided_fields: vec![v1::UndecidedField {
                id: RUN.into(),
                column: "extra".into(),
                reason: "the object does not exist".into(),
            }],
            files: 1,
        }),
        stage: "done".into(),
        progress: Some(v1::RunProgress {
            rows: 1000,
            bytes: 123_456,
            files: 1,
            rows_estimate: Some(1000),
            hydrated_objects: 2000,
            hydration_misses: 1,
            stage_seconds: Some(v1::StageSeconds {
                read: 0.5,
                hydrate: 1.25,
                encode: 0.75,
                upload: 0.25,
            }),
        }),
        exporter_id: "exporter-1".into(),
    };
    let fresh = v1::ExportRun {
        status: v1::RunStatus::Created.into(),
        retry_number: 0,
        errors: Vec::new(),
        finished_at: None,
        result: Some(v1::RunResult::default()),
        stage: "queued".into(),
        progress: None,
        exporter_id: String::new(),
        ..done.clone()
    };
    vec![done, fresh]
}

fn limits() -> v1::Limits {
    let of = |limit, used| Some(v1::Limit { limit, used });
    v1::Limits {
        running_exports: of(15, 3),
        runs_per_export: of(45, 12),
        exports_per_hour: of(0, 7),
        active_schedules: None,
        queued_exports: 2,
        run_timeout_seconds: 14_400,
        export_timeout_seconds: 86_400,
        retries_per_run: 20,
        days_per_export: 366,
        schedule_days_back: 366,
        exports_per_schedule: 0,
    }
}

pub(crate) fn destination() -> v1::Destination {
    v1::Destination {
        id: DESTINATION.into(),
        tenant_id: TENANT.into(),
        display_name: "My S3 Destination".into(),
        config: Some(v1::BucketConfig {
            bucket_name: "traces".into(),
            prefix: "root".into(),
            endpoint_url: "https://storage.googleapis.com".into(),
            include_bucket_in_prefix: Some(true),
            ..Default::default()
        }),
        credentials_keys: vec!["access_key_id".into(), "secret_access_key".into()],
        created_at: at(0),
        updated_at: at(1),
        aws_role_arn: String::new(),
        features: Some(v1::StoreFeatures {
            checksums: true,
            conditional_writes: false,
            object_size: true,
        }),
    }
}

#[tonic::async_trait]
impl ExportService for Fake {
    async fn create_export(
        &self,
        request: Request<v1::CreateExportRequest>,
    ) -> Result<Response<v1::CreateExportResponse>, Status> {
        let all_experiments =
            request.get_ref().spec.as_ref().is_some_and(|spec| spec.all_experiments);
        self.hear(request).await?;
        let mut made = export();
        if let Some(spec) = made.spec.as_mut().filter(|_| all_experiments) {
            (spec.session_id, spec.all_experiments) = (String::new(), true);
        }
        Ok(Response::new(v1::CreateExportResponse { export: Some(made) }))
    }

    async fn get_export(
        &self,
        request: Request<v1::GetExportRequest>,
    ) -> Result<Response<v1::GetExportResponse>, Status> {
        self.hear(request).await?;
        let mut export = export();
        if self.memory.lock().unwrap().ended {
            export.set_status(v1::ExportStatus::Completed);
        }
        Ok(Response::new(v1::GetExportResponse { export: Some(export) }))
    }

    async fn list_exports(
        &self,
        request: Request<v1::ListExportsRequest>,
    ) -> Result<Response<v1::ListExportsResponse>, Status> {
        self.hear(request).await?;
        Ok(Response::new(v1::ListExportsResponse {
            exports: vec![export()],
            next_page_token: String::new(),
        }))
    }

    async fn cancel_export(
        &self,
        request: Request<v1::CancelExportRequest>,
    ) -> Result<Response<v1::CancelExportResponse>, Status> {
        self.hear(request).await?;
        let cancelled = v1::Export {
            status: v1::ExportStatus::Cancelled.into(),
            finished_at: at(20),
            ..export()
        };
        Ok(Response::new(v1::CancelExportResponse { export: Some(cancelled) }))
    }

    type WatchExportStream = ReceiverStream<Result<v1::WatchExportResponse, Status>>;

    async fn watch_export(
        &self,
        request: Request<v1::WatchExportRequest>,
    ) -> Result<Response<Self::WatchExportStream>, Status> {
        self.hear(request).await?;
        let (sender, receiver) = mpsc::channel(8);
        self.memory.lock().unwrap().watch = Some(sender);
        self.watched.notify_one();
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn list_runs(
        &self,
        request: Request<v1::ListRunsRequest>,
    ) -> Result<Response<v1::ListRunsResponse>, Status> {
        let (limit, page_token) = (request.get_ref().limit, request.get_ref().page_token.clone());
        self.hear(request).await?;
        let pages = self.memory.lock().unwrap().pages;
        let next_page_token = if pages && page_token.is_empty() && limit != 2 {
            "second".to_owned()
        } else {
            String::new()
        };
        Ok(Response::new(v1::ListRunsResponse { runs: self.runs(), next_page_token }))
    }

    async fn list_run_files(
        &self,
        request: Request<v1::ListRunFilesRequest>,
    ) -> Result<Response<v1::ListRunFilesResponse>, Status> {
        let token = request.get_ref().page_token.clone();
        self.hear(request).await?;
        let next_page_token = if token.is_empty() { "second".to_owned() } else { String::new() };
        Ok(Response::new(v1::ListRunFilesResponse {
            files: vec![format!("bucket/{token}")],
            next_page_token,
        }))
    }

    async fn get_run(
        &self,
        request: Request<v1::GetRunRequest>,
    ) -> Result<Response<v1::GetRunResponse>, Status> {
        self.hear(request).await?;
        Ok(Response::new(v1::GetRunResponse { run: self.runs().into_iter().next() }))
    }

    async fn retry_run(
        &self,
        request: Request<v1::RetryRunRequest>,
    ) -> Result<Response<v1::RetryRunResponse>, Status> {
        self.hear(request).await?;
        Ok(Response::new(v1::RetryRunResponse { run: self.runs().pop() }))
    }

    async fn get_limits(
        &self,
        request: Request<v1::GetLimitsRequest>,
    ) -> Result<Response<v1::GetLimitsResponse>, Status> {
        self.hear(request).await?;
        Ok(Response::new(v1::GetLimitsResponse { limits: Some(limits()) }))
    }

    async fn list_schedule_runs(
        &self,
        request: Request<v1::ListScheduleRunsRequest>,
    ) -> Result<Response<v1::ListScheduleRunsResponse>, Status> {
        self.hear(request).await?;
        Ok(Response::new(v1::ListScheduleRunsResponse::default()))
    }

    async fn validate_filter(
        &self,
        request: Request<v1::ValidateFilterRequest>,
    ) -> Result<Response<v1::ValidateFilterResponse>, Status> {
        let wrong = request.get_ref().filter.contains("wrong");
        self.hear(request).await?;
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
        self.hear(request).await?;
        Ok(Response::new(v1::CreateDestinationResponse { destination: Some(destination()) }))
    }

    async fn get_destination(
        &self,
        request: Request<v1::GetDestinationRequest>,
    ) -> Result<Response<v1::GetDestinationResponse>, Status> {
        self.hear(request).await?;
        Ok(Response::new(v1::GetDestinationResponse { destination: Some(destination()) }))
    }

    async fn list_destinations(
        &self,
        request: Request<v1::ListDestinationsRequest>,
    ) -> Result<Response<v1::ListDestinationsResponse>, Status> {
        self.hear(request).await?;
        Ok(Response::new(v1::ListDestinationsResponse {
            destinations: vec![destination()],
            next_page_token: String::new(),
        }))
    }

    async fn update_destination_credentials(
        &self,
        request: Request<v1::UpdateDestinationCredentialsRequest>,
    ) -> Result<Response<v1::UpdateDestinationCredentialsResponse>, Status> {
        self.hear(request).await?;
        Ok(Response::new(v1::UpdateDestinationCredentialsResponse {
            destination: Some(destination()),
        }))
    }

    async fn delete_destination(
        &self,
        request: Request<v1::DeleteDestinationRequest>,
    ) -> Result<Response<v1::DeleteDestinationResponse>, Status> {
        self.hear(request).await?;
        Ok(Response::new(v1::DeleteDestinationResponse {}))
    }
}
