//! A caller of the public API: one tenant with one destination.

use prost_types::Timestamp;
use tonic::{
    Request,
    metadata::{Ascii, MetadataValue},
    transport::{Channel, Endpoint},
};
use tracelift_proto::v1::{self, export_service_client::ExportServiceClient};
use uuid::Uuid;

use crate::Outcome;

/// Its key, its destination, its connection.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    client: ExportServiceClient<Channel>,
    key: MetadataValue<Ascii>,
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
        let client = ExportServiceClient::new(endpoint.connect().await?);
        Ok(Self { client, key: key.parse()?, destination: destination.to_owned() })
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
        let request = self.keyed(v1::CreateExportRequest {
            spec: Some(spec),
            ..v1::CreateExportRequest::default()
        });
        let made = self.client.clone().create_export(request).await?.into_inner();
        Ok(made.export.ok_or("the answer has no export")?.id)
    }

    /// Cancels one.
    pub(crate) async fn cancel(&self, id: String) -> Outcome<()> {
        self.client.clone().cancel_export(self.keyed(v1::CancelExportRequest { id })).await?;
        Ok(())
    }

    fn keyed<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.metadata_mut().insert("x-api-key", self.key.clone());
        request
    }
}
