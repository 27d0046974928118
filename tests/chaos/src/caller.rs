//! A client of whichever control plane responds: it waits, tries another one and retries, as a good
//! client does.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::time::{Instant, sleep, timeout};
use tonic::{Code, Status, transport::Endpoint};
use tracelift_proto::{
    pages, time_to,
    v1::{
        self, admin_service_client::AdminServiceClient,
        destination_service_client::DestinationServiceClient,
    },
};
use tracelift_test_grpc::{Authorised, Bearer};
use tracelift_test_support::{
    dataset::{PROJECT_ID, TENANT_ID},
    s3::{ACCESS_KEY_ID, SECRET_ACCESS_KEY},
    world::DESTINATION_BUCKET,
};

use crate::{fleet::ADMIN_TOKEN, plan::Wanted, source};

type Exports = v1::export_service_client::ExportServiceClient<Authorised>;

#[derive(Clone)]
pub(crate) struct Caller {
    exports: Vec<Exports>,
    destination: String,
    next: Arc<AtomicUsize>,
}

/// A call that takes longer is retried on another control plane.
const PATIENCE: Duration = Duration::from_secs(3);
/// Everything is up again long before this.
const DEADLINE: Duration = Duration::from_secs(90);

pub(crate) const PREFIX: &str = "chaos";

impl Caller {
    /// Creates the tenant, the API key and the destination.
    pub(crate) async fn start(control_planes: &[String], bucket: &str) -> Self {
        let channel = |url: &String| {
            let endpoint = Endpoint::from_shared(url.clone()).expect("an address");
            endpoint.connect_timeout(PATIENCE).connect_lazy()
        };
        let mut admin = AdminServiceClient::with_interceptor(
            channel(&control_planes[0]),
            Bearer::new(ADMIN_TOKEN),
        );
        let tenant =
            v1::CreateTenantRequest { id: TENANT_ID.to_owned(), display_name: "chaos".to_owned() };
        admin.create_tenant(tenant).await.expect("a tenant");
        let key = v1::CreateApiKeyRequest {
            tenant_id: TENANT_ID.to_owned(),
            display_name: "chaos".to_owned(),
            permission: 0,
            expires_at: None,
        };
        let key = admin.create_api_key(key).await.expect("a key").into_inner().key;
        let mut destinations = DestinationServiceClient::with_interceptor(
            channel(&control_planes[0]),
            Bearer::new(&key),
        );
        let made = destinations
            .create_destination(destination(bucket))
            .await
            .expect("a destination")
            .into_inner();
        let exports = control_planes
            .iter()
            .map(|url| Exports::new(Authorised::new(channel(url), Bearer::new(&key))))
            .collect();
        Self {
            exports,
            destination: made.destination.expect("a destination").id,
            next: Arc::default(),
        }
    }

    /// Retries until there is a response, or an error that a retry cannot fix.
    async fn ask<T, F>(&self, call: impl Fn(Exports) -> F) -> Result<T, Status>
    where
        F: Future<Output = Result<tonic::Response<T>, Status>>,
    {
        let began = Instant::now();
        loop {
            let turn = self.next.fetch_add(1, Ordering::Relaxed) % self.exports.len();
            let status = match timeout(PATIENCE, call(self.exports[turn].clone())).await {
                Ok(Ok(answer)) => return Ok(answer.into_inner()),
                Ok(Err(status)) => status,
                Err(_) => Status::deadline_exceeded("no answer"),
            };
            let lasting = [
                Code::InvalidArgument,
                Code::NotFound,
                Code::FailedPrecondition,
                Code::PermissionDenied,
                Code::Unauthenticated,
            ];
            if lasting.contains(&status.code()) || began.elapsed() > DEADLINE {
                return Err(status);
            }
            sleep(Duration::from_millis(100)).await;
        }
    }

    /// Creates an export and returns its id. A lost response leaves another export behind, which is
    /// found in the list.
    pub(crate) async fn create(&self, wanted: &Wanted) -> Result<String, Status> {
        let spec = v1::ExportSpec {
            destination_id: self.destination.clone(),
            session_id: PROJECT_ID.to_owned(),
            start_time: Some(time_to(source::start().plus_seconds(wanted.seconds.start))),
            end_time: Some(time_to(source::start().plus_seconds(wanted.seconds.end))),
            compression: wanted.compression,
            ..Default::default()
        };
        let request = v1::CreateExportRequest { spec: Some(spec), ..Default::default() };
        let made = self
            .ask(|mut exports| {
                let request = request.clone();
                async move { exports.create_export(request).await }
            })
            .await?;
        Ok(made.export.expect("an export").id)
    }

    pub(crate) async fn cancel(&self, id: &str) -> Result<(), Status> {
        let request = v1::CancelExportRequest { id: id.to_owned() };
        self.ask(|mut exports| {
            let request = request.clone();
            async move { exports.cancel_export(request).await }
        })
        .await
        .map(drop)
    }

    pub(crate) async fn list(&self) -> Result<Vec<v1::Export>, Status> {
        let page = async |limit, page_token| {
            let request = v1::ListExportsRequest { limit, page_token, ..Default::default() };
            self.ask(|mut exports| {
                let request = request.clone();
                async move { exports.list_exports(request).await }
            })
            .await
        };
        pages::follow(1000, page).await
    }

    pub(crate) async fn runs(&self, id: &str) -> Result<Vec<v1::ExportRun>, Status> {
        let page = async |limit, page_token| {
            let request =
                v1::ListRunsRequest { export_id: id.to_owned(), limit, offset: 0, page_token };
            self.ask(|mut exports| {
                let request = request.clone();
                async move { exports.list_runs(request).await }
            })
            .await
        };
        pages::follow(0, page).await
    }
}

fn destination(bucket: &str) -> v1::CreateDestinationRequest {
    v1::CreateDestinationRequest {
        display_name: "chaos".to_owned(),
        config: Some(v1::BucketConfig {
            bucket_name: DESTINATION_BUCKET.to_owned(),
            prefix: PREFIX.to_owned(),
            endpoint_url: bucket.to_owned(),
            ..Default::default()
        }),
        credentials: Some(v1::Credentials {
            access_key_id: ACCESS_KEY_ID.to_owned(),
            secret_access_key: SECRET_ACCESS_KEY.to_owned(),
            session_token: String::new(),
        }),
        ..Default::default()
    }
}
