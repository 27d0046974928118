//! The gateway's connections to the control plane: one channel for calls, with a client per service,
//! and one for watches, so that no watch can take the room of calls.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, transport::Channel};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tracelift_proto::{
    MAX_FLEET_BYTES,
    v1::{
        admin_service_client::AdminServiceClient,
        destination_service_client::DestinationServiceClient,
        export_service_client::ExportServiceClient,
    },
};
use tracelift_runtime::shares::Places;

use crate::Settings;

/// How long to wait for the control plane's health check.
const PROBE: Duration = Duration::from_secs(2);

/// A channel that connects on first use, and the deadline of each call.
#[derive(Debug, Clone)]
pub(crate) struct ControlPlane {
    channel: Channel,
    watches: Channel,
    /// Sent to the control plane with every call.
    pub(crate) deadline: Duration,
    /// Places for event streams.
    pub(crate) event_streams: Places<u64>,
    /// Ends streams that would otherwise never end.
    pub(crate) stopping: CancellationToken,
}

impl ControlPlane {
    pub(crate) fn new(
        channel: Channel,
        watches: Channel,
        settings: &Settings,
        stopping: CancellationToken,
    ) -> Self {
        let deadline = Duration::from_secs(settings.request_timeout);
        let event_streams = Places::in_quarters(settings.event_streams as usize);
        Self { channel, watches, deadline, event_streams, stopping }
    }

    /// Responses may list the files of a large export, so they may be larger than requests.
    pub(crate) fn exports(&self) -> ExportServiceClient<Channel> {
        ExportServiceClient::new(self.channel.clone()).max_decoding_message_size(MAX_FLEET_BYTES)
    }

    /// For watches only.
    pub(crate) fn watches(&self) -> ExportServiceClient<Channel> {
        ExportServiceClient::new(self.watches.clone())
    }

    pub(crate) fn destinations(&self) -> DestinationServiceClient<Channel> {
        DestinationServiceClient::new(self.channel.clone())
            .max_decoding_message_size(MAX_FLEET_BYTES)
    }

    /// For what the admins of a workspace may do.
    pub(crate) fn administration(&self) -> AdminServiceClient<Channel> {
        AdminServiceClient::new(self.channel.clone()).max_decoding_message_size(MAX_FLEET_BYTES)
    }

    /// Checks that the control plane is reachable and serving. One without a health service is
    /// ready if it is reachable.
    pub(crate) async fn ready(&self) -> Result<(), Status> {
        let mut health = HealthClient::new(self.channel.clone());
        let check = health.check(HealthCheckRequest::default());
        let response = tokio::time::timeout(PROBE, check)
            .await
            .map_err(|_| Status::deadline_exceeded("no answer to a health check"))?;
        match response {
            Ok(response) if response.get_ref().status() == ServingStatus::Serving => Ok(()),
            Ok(_) => Err(Status::unavailable("the control plane is not serving")),
            Err(status)
                if matches!(
                    status.code(),
                    Code::Unimplemented | Code::NotFound | Code::Unauthenticated
                ) =>
            {
                Ok(())
            }
            Err(status) => Err(status),
        }
    }
}
