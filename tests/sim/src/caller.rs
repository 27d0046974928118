//! A tenant's client: creates a destination and exports, cancels some, watches all of them, and
//! retries whenever a response does not arrive.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use tokio::time::{sleep, timeout};
use tonic::{Code, Status};
use tracelift_core::time::Timestamp;
use tracelift_proto::{
    time_to,
    v1::{
        self, admin_service_client::AdminServiceClient,
        destination_service_client::DestinationServiceClient,
        export_service_client::ExportServiceClient,
    },
};
use tracelift_test_grpc::{Authorised, Bearer};

use crate::{
    bucket,
    data::{PROJECT, TENANT},
    hosts::{ADMIN_TOKEN, PORT, endpoint},
    net::Network,
    trace::Trace,
};

/// An export that the caller will create.
#[derive(Debug, Clone)]
pub struct PlannedExport {
    /// When to create it.
    pub after: Duration,
    /// Start and end, in microseconds.
    pub window: (i64, i64),
    pub compression: i32,
    /// Of all experiments, which are just the one project.
    pub all_experiments: bool,
    /// All columns, or only a few.
    pub all_columns: bool,
    /// How long after its creation to cancel it.
    pub cancelled_after: Option<Duration>,
}

/// The caller's side of the world.
#[derive(Clone)]
pub struct Caller {
    pub network: Network,
    pub control_planes: Vec<String>,
    pub wishes: Vec<PlannedExport>,
    pub trace: Trace,
    /// Set once the caller is done.
    pub content: Arc<AtomicBool>,
}

/// Timeout of a request, then the delay before a retry.
const PATIENCE: Duration = Duration::from_secs(6);
const AGAIN: Duration = Duration::from_millis(400);
/// A watch that is silent for this long is reopened.
const SILENCE: Duration = Duration::from_secs(20);

impl Caller {
    fn channels(&self, token: &str) -> Vec<Authorised> {
        let bearer = Bearer::new(token);
        let channel = |host: &String| {
            Authorised::new(self.network.channel(&format!("http://{host}:{PORT}")), bearer.clone())
        };
        self.control_planes.iter().map(channel).collect()
    }

    /// Tries one control plane after another until a call succeeds; `None` if the request cannot
    /// succeed.
    async fn ask<T>(
        &self,
        token: &str,
        what: &str,
        question: impl AsyncFn(Authorised) -> Result<T, Status>,
    ) -> Option<T> {
        for channel in self.channels(token).into_iter().cycle() {
            match timeout(PATIENCE, question(channel)).await {
                Ok(Ok(answer)) => return Some(answer),
                Ok(Err(status))
                    if matches!(
                        status.code(),
                        Code::AlreadyExists | Code::FailedPrecondition | Code::NotFound
                    ) =>
                {
                    self.trace.line(format_args!("caller: {what}: {}", status.message()));
                    return None;
                }
                Ok(Err(status)) => self.trace.line(format_args!(
                    "caller: {what}: {:?} {}",
                    status.code(),
                    status.message()
                )),
                Err(_) => self.trace.line(format_args!("caller: {what}: no answer")),
            }
            sleep(AGAIN).await;
        }
        None
    }

    /// Performs all planned requests.
    pub async fn run(self) -> turmoil::Result {
        let tenant =
            || v1::CreateTenantRequest { id: TENANT.to_string(), display_name: "sim".to_owned() };
        self.ask(ADMIN_TOKEN, "a tenant", async |channel| {
            AdminServiceClient::new(channel).create_tenant(tenant()).await
        })
        .await;
        let key = || v1::CreateApiKeyRequest {
            tenant_id: TENANT.to_string(),
            display_name: "sim".to_owned(),
            permission: 0,
            expires_at: None,
        };
        let key = self
            .ask(ADMIN_TOKEN, "a key", async |channel| {
                AdminServiceClient::new(channel).create_api_key(key()).await
            })
            .await;
        let key = key.expect("a tenant that exists gets a key").into_inner().key;
        let destination = loop {
            let made = self.ask(&key, "a destination", async |channel| {
                DestinationServiceClient::new(channel).create_destination(destination()).await
            });
            if let Some(made) = made.await.and_then(|made| made.into_inner().destination) {
                break made.id;
            }
            sleep(AGAIN).await;
        };
        futures::future::join_all(
            self.wishes.iter().map(|planned| self.export(&key, &destination, planned)),
        )
        .await;
        self.content.store(true, SeqCst);
        Ok(())
    }

    async fn export(&self, key: &str, destination: &str, planned: &PlannedExport) {
        sleep(planned.after).await;
        let made = self.ask(key, "an export", async |channel| {
            let request = v1::CreateExportRequest {
                spec: Some(spec(destination, planned)),
                ..Default::default()
            };
            ExportServiceClient::new(channel).create_export(request).await
        });
        let export =
            made.await.and_then(|made| made.into_inner().export).expect("an export that can be");
        self.trace.line(format_args!("caller: export {} is made", export.id));
        let cancel = async {
            let Some(after) = planned.cancelled_after else { return };
            sleep(after).await;
            let cancelled = self.ask(key, "a cancel", async |channel| {
                ExportServiceClient::new(channel)
                    .cancel_export(v1::CancelExportRequest { id: export.id.clone() })
                    .await
            });
            if cancelled.await.is_some() {
                self.trace.line(format_args!("caller: export {} is cancelled", export.id));
            }
        };
        tokio::join!(self.watch(key, &export.id), cancel);
    }

    /// Watches an export until it has ended, reopening a broken stream.
    async fn watch(&self, key: &str, id: &str) {
        loop {
            let request = v1::WatchExportRequest { id: id.to_owned() };
            let stream = self.ask(key, "a watch", async |channel| {
                ExportServiceClient::new(channel).watch_export(request.clone()).await
            });
            let Some(stream) = stream.await else { return };
            let mut stream = stream.into_inner();
            while let Ok(Ok(Some(answer))) = timeout(SILENCE, stream.message()).await {
                let status = answer.export.and_then(|export| export.status().known());
                if status.is_some_and(tracelift_core::export::ExportStatus::ended) {
                    self.trace.line(format_args!("caller: export {id} has ended: {status:?}"));
                    return;
                }
            }
            sleep(AGAIN).await;
        }
    }
}

fn destination() -> v1::CreateDestinationRequest {
    v1::CreateDestinationRequest {
        display_name: "sim".to_owned(),
        config: Some(v1::BucketConfig {
            bucket_name: bucket::DESTINATION.to_owned(),
            prefix: "p".to_owned(),
            endpoint_url: endpoint(),
            ..Default::default()
        }),
        credentials: Some(v1::Credentials {
            access_key_id: bucket::KEYS.0.to_owned(),
            secret_access_key: bucket::KEYS.1.to_owned(),
            session_token: String::new(),
        }),
        ..Default::default()
    }
}

fn spec(destination: &str, planned: &PlannedExport) -> v1::ExportSpec {
    let at = |micros| Some(time_to(Timestamp::from_micros(micros).expect("a time")));
    let few = ["id", "inputs", "outputs", "total_tokens"].map(str::to_owned);
    v1::ExportSpec {
        destination_id: destination.to_owned(),
        session_id: if planned.all_experiments { String::new() } else { PROJECT.to_string() },
        all_experiments: planned.all_experiments,
        start_time: at(planned.window.0),
        end_time: at(planned.window.1),
        compression: planned.compression,
        export_fields: if planned.all_columns { Vec::new() } else { few.to_vec() },
        ..Default::default()
    }
}
