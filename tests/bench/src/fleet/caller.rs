//! A caller of the public API: one tenant with one destination.

use prost_types::Timestamp;
use tonic::transport::Endpoint;
use tracelift_proto::v1::{self, export_service_client::ExportServiceClient};
use tracelift_test_grpc::{Authorised, Bearer};
use uuid::Uuid;

use crate::Outcome;

/// Its connection with its key, its destination.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    client: ExportServiceClient<Authorised>,
    destination: String,
}

/// 2024-01-01.
const FIRST_DAY: i64 = 1_704_067_200;
const DAY: i64 = 86_400;

impl Caller {
    pub(crate) async fn connect(
        endpoint: &Endpoint,
        key: &str,
        destination: &str,
    ) -> Outcome<Self> {
        let channel = endpoint.connect().await?;
        let client = ExportServiceClient::with_interceptor(channel, Bearer::new(key));
        Ok(Self { client, destination: destination.to_owned() })
    }

    /// A new export of that many days of a project of its own; its id.
    pub(crate) async fn create(&self, days: u32) -> Outcome<String> {
        let at = |seconds| Some(Timestamp { seconds, nanos: 0 });
        let spec = v1::ExportSpec {
            destination_id: self.destination.clone(),
            session_id: Uuid::new_v4().to_string(),
            start_time: at(FIRST_DAY),
            end_time: at(FIRST_DAY + i64::from(days) * DAY),
            ..v1::ExportSpec::default()
        };
        let request =
            v1::CreateExportRequest { spec: Some(spec), ..v1::CreateExportRequest::default() };
        let made = self.client.clone().create_export(request).await?.into_inner();
        Ok(made.export.ok_or("the answer has no export")?.id)
    }

    /// Cancels one.
    pub(crate) async fn cancel(&self, id: String) -> Outcome<()> {
        self.client.clone().cancel_export(v1::CancelExportRequest { id }).await?;
        Ok(())
    }
}
