//! FleetService: the entry point for exporters. A stream that sends Hello becomes a session.

use std::{collections::HashMap, pin::Pin, sync::Arc, time::Duration};

use futures::Stream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::{Request, Response, Status, Streaming};
use tracelift_core::{Invalid, destination::Identity, id::ExporterId};
use tracelift_proto::{
    PROTOCOL,
    fleet::v1::{
        self, connect_request::Message as ExporterMessage, fleet_service_server::FleetService,
        get_destination_access_response::Identity as Entry,
    },
    status::invalid,
    v1::Credentials,
};
use tracing::Instrument as _;

use super::{sealer, unavailable};
use crate::{
    auth::act,
    dispatch::{Dispatcher, LeaseTerms, MAX_CAPACITY, Session},
    sealer::CredentialSealer,
    settings::AmbientCredentials,
    store::{Act, Store, Who},
};

pub(crate) struct Fleet {
    pub(crate) store: Arc<Store>,
    pub(crate) dispatcher: Arc<Dispatcher>,
    pub(crate) sealer: Arc<CredentialSealer>,
    pub(crate) terms: LeaseTerms,
    pub(crate) own_rights: AmbientCredentials,
    pub(crate) stopping: CancellationToken,
    pub(crate) sessions: TaskTracker,
}

/// How long an exporter may take to send Hello.
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);
/// Messages queued for a slow exporter; beyond that its session blocks, and its leases lapse if it
/// stays slow.
const OUTBOX: usize = 64;

#[tonic::async_trait]
impl FleetService for Fleet {
    type ConnectStream = Pin<Box<dyn Stream<Item = Result<v1::ConnectResponse, Status>> + Send>>;

    async fn connect(
        &self,
        request: Request<Streaming<v1::ConnectRequest>>,
    ) -> Result<Response<Self::ConnectStream>, Status> {
        let mut incoming = request.into_inner();
        let hello = tokio::time::timeout(HELLO_TIMEOUT, incoming.message()).await;
        let hello = match hello
            .map_err(|_| Status::deadline_exceeded("the exporter did not say hello in time"))??
        {
            Some(v1::ConnectRequest { message: Some(ExporterMessage::Hello(hello)) }) => hello,
            _ => return Err(Status::failed_precondition("the first message must be hello")),
        };
        let protocol = agree(hello.protocol_min, hello.protocol_max)?;
        let exporter = ExporterId::parse("hello.exporter_id", &hello.exporter_id)
            .map_err(|fault| invalid([fault]))?;
        if hello.incarnation.is_empty() || hello.incarnation.len() > 64 {
            return Err(invalid([Invalid::new(
                "hello.incarnation",
                "must have 1 to 64 characters",
            )]));
        }
        let (outbox, answers) = mpsc::channel(OUTBOX);
        let span = tracing::info_span!(
            "exporter",
            exporter = exporter.as_str(),
            incarnation = hello.incarnation
        );
        let session = Session {
            store: self.store.clone(),
            dispatcher: self.dispatcher.clone(),
            terms: self.terms,
            exporter,
            incarnation: hello.incarnation.clone(),
            capacity: hello.capacity.unwrap_or_default().tasks.min(MAX_CAPACITY),
            room: true,
            progress_due: HashMap::new(),
            outbox,
        };
        #[allow(
            clippy::disallowed_methods,
            reason = "the tracker waits for every session when the process stops"
        )]
        self.sessions
            .spawn(session.run(hello, protocol, incoming, self.stopping.clone()).instrument(span));
        Ok(Response::new(Box::pin(ReceiverStream::new(answers))))
    }

    async fn get_destination_access(
        &self,
        request: Request<v1::GetDestinationAccessRequest>,
    ) -> Result<Response<v1::GetDestinationAccessResponse>, Status> {
        let act = act(&request)?;
        let request = request.into_inner();
        let lease = (&request).try_into().map_err(|fault| invalid([fault]))?;
        let exporter = ExporterId::parse("exporter_id", &request.exporter_id)
            .map_err(|fault| invalid([fault]))?;
        let now = self.store.now().await.map_err(unavailable)?;
        let act = Act { who: Who::Exporter(Some(exporter.clone())), ..act };
        let access = self
            .store
            .access(act, lease, exporter, request.incarnation, now)
            .await
            .map_err(unavailable)?;
        let access = access.ok_or_else(|| {
            Status::permission_denied("only the holder of the task's lease may see its destination")
        })?;
        if !self.own_rights.allow(&access.identity) {
            let words = "the operator of this service no longer allows what this destination uses: give it credentials of its own";
            return Err(Status::failed_precondition(words));
        }
        let identity = match (&access.identity, &access.sealed) {
            (Identity::Role(arn), _) => Entry::AssumeRole(v1::AssumeRole {
                role_arn: arn.as_str().to_owned(),
                external_id: access.tenant.to_string(),
            }),
            (Identity::Environment, _) => Entry::Environment(v1::Environment {}),
            (Identity::Keys, None) => {
                return Err(Status::failed_precondition("the destination has been deleted"));
            }
            (Identity::Keys, Some(sealed)) => {
                let secrets =
                    self.sealer.open(access.tenant, access.destination, sealed).map_err(sealer)?;
                Entry::Credentials(Credentials {
                    access_key_id: secrets.access_key_id,
                    secret_access_key: secrets.secret_access_key,
                    session_token: secrets.session_token.unwrap_or_default(),
                })
            }
        };
        let (config, features) =
            (Some((&access.bucket).into()), Some(access.bucket.features.into()));
        Ok(Response::new(v1::GetDestinationAccessResponse {
            config,
            identity: Some(identity),
            features,
        }))
    }
}

/// The newest protocol version that both sides support.
fn agree(min: u32, max: u32) -> Result<u32, Status> {
    let newest = max.min(*PROTOCOL.end());
    if min <= max && newest >= min && PROTOCOL.contains(&newest) {
        return Ok(newest);
    }
    Err(Status::failed_precondition(format!(
        "no common protocol: the exporter speaks versions {min} to {max}, this control plane {} to {}; update the older one",
        PROTOCOL.start(),
        PROTOCOL.end()
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exporter_of_an_unknown_version_is_refused_with_both_ranges() {
        assert_eq!(agree(1, 7).unwrap(), 4);
        let refused = agree(5, 7).unwrap_err();
        assert!(
            refused.message().contains("versions 5 to 7, this control plane 4 to 4"),
            "{}",
            refused.message()
        );
    }
}
