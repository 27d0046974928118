//! Access to a task's destination: requested under the lease, and held only while the job runs.

use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};
use tonic::{
    Code, Request, Status,
    metadata::{Ascii, MetadataValue, errors::InvalidMetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::Channel,
};
use tonic_types::StatusExt as _;
use tracelift_bucket::{Grant, Keys};
use tracelift_core::{
    Invalid,
    destination::{Bucket, RoleArn, StoreFeatures},
    failure::{Failure, FailureClass, Step},
};
use tracelift_proto::{
    BucketSecrets, MAX_FLEET_BYTES,
    fleet::v1::{
        self, fleet_service_client::FleetServiceClient, get_destination_access_response::Identity,
    },
};

use crate::lease::{JobError, Lease, StopReason};

/// Client of the control plane's fleet service that authenticates with the fleet token.
pub(crate) type FleetClient = FleetServiceClient<InterceptedService<Channel, Token>>;

/// Adds the fleet token to every call.
#[derive(Clone)]
pub(crate) struct Token(MetadataValue<Ascii>);

impl Token {
    pub(crate) fn new(token: &SecretString) -> Result<Self, InvalidMetadataValue> {
        let mut value: MetadataValue<Ascii> =
            format!("Bearer {}", token.expose_secret()).parse()?;
        value.set_sensitive(true);
        Ok(Self(value))
    }
}

impl Interceptor for Token {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert("authorization", self.0.clone());
        Ok(request)
    }
}

/// Creates a client over `channel`.
pub(crate) fn fleet(channel: Channel, token: Token) -> FleetClient {
    FleetServiceClient::with_interceptor(channel, token)
        .max_decoding_message_size(MAX_FLEET_BYTES)
        .max_encoding_message_size(MAX_FLEET_BYTES)
}

/// Requests destinations from the control plane.
#[derive(Clone)]
pub(crate) struct DestinationAccess {
    pub(crate) client: FleetClient,
    pub(crate) exporter: String,
    pub(crate) incarnation: String,
}

/// Delay between attempts while the control plane is unavailable.
const ASK_AGAIN: Duration = Duration::from_millis(500);
/// Longest delay between attempts, whatever the control plane says.
const MAX_WAIT: Duration = Duration::from_secs(10);
/// Timeout of one attempt.
const ASK_TIMEOUT: Duration = Duration::from_secs(10);

impl DestinationAccess {
    /// The bucket of a leased task and how to authenticate with it. Retries while the control plane
    /// is unavailable, until the lease ends.
    pub(crate) async fn destination(&self, lease: &Lease) -> Result<(Bucket, Grant), JobError> {
        loop {
            let question = v1::GetDestinationAccessRequest {
                task_id: lease.task.to_string(),
                fence: lease.fence.0,
                exporter_id: self.exporter.clone(),
                incarnation: self.incarnation.clone(),
            };
            let mut question = Request::new(question);
            question.set_timeout(ASK_TIMEOUT);
            let mut client = self.client.clone();
            let answer = tokio::select! {
                why = lease.halted() => return Err(JobError::Stopped(why)),
                answer = client.get_destination_access(question) => answer,
            };
            match answer {
                Ok(answer) => return usable(answer.into_inner()),
                Err(status) if status.code() == Code::PermissionDenied => {
                    return Err(JobError::Stopped(StopReason::Revoked));
                }
                // Whatever is not about this destination passes: the control plane is away or busy, or a
                // token or a master key is being changed.
                Err(status) if !is_final(status.code()) => {
                    tracing::debug!(code = ?status.code(), "the control plane is away or busy; asking again");
                    tokio::select! {
                        why = lease.halted() => return Err(JobError::Stopped(why)),
                        () = tokio::time::sleep(wait(&status)) => {}
                    }
                }
                // The destination was deleted, or the operator no longer permits what it uses;
                // retrying is pointless.
                Err(status) if status.code() == Code::FailedPrecondition => {
                    let class = FailureClass::CustomerConfig;
                    return Err(JobError::Failed(Failure {
                        class,
                        ..refused(status.message().to_owned())
                    }));
                }
                Err(status) => {
                    return Err(JobError::Failed(refused(format!(
                        "the control plane: {}",
                        status.message()
                    ))));
                }
            }
        }
    }
}

/// Whether asking again gives the same answer.
fn is_final(code: Code) -> bool {
    matches!(
        code,
        Code::FailedPrecondition
            | Code::InvalidArgument
            | Code::NotFound
            | Code::OutOfRange
            | Code::Unimplemented
            | Code::PermissionDenied
    )
}

/// How long to wait before asking again: what the control plane says, within bounds.
fn wait(status: &Status) -> Duration {
    let told = status.get_details_retry_info().and_then(|info| info.retry_delay);
    told.unwrap_or_default().clamp(ASK_AGAIN, MAX_WAIT)
}

fn usable(answer: v1::GetDestinationAccessResponse) -> Result<(Bucket, Grant), JobError> {
    let faults = |faults: Vec<Invalid>| {
        let text: Vec<_> = faults.iter().map(ToString::to_string).collect();
        JobError::Failed(refused(text.join("; ")))
    };
    let mut bucket = Bucket::try_from(answer.config.unwrap_or_default()).map_err(faults)?;
    bucket.features = answer.features.map(StoreFeatures::from).unwrap_or_default();
    let grant = match answer.identity {
        Some(Identity::Credentials(credentials)) => {
            let secrets = BucketSecrets::try_from(credentials).map_err(faults)?;
            Grant::Keys(Keys {
                access_key_id: secrets.access_key_id,
                secret_access_key: SecretString::from(secrets.secret_access_key),
                session_token: secrets.session_token.map(SecretString::from),
            })
        }
        Some(Identity::AssumeRole(role)) => {
            let arn =
                RoleArn::parse("role_arn", &role.role_arn).map_err(|fault| faults(vec![fault]))?;
            Grant::Role { arn, external_id: role.external_id }
        }
        Some(Identity::Environment(_)) => Grant::Environment,
        None => {
            return Err(JobError::Failed(refused(
                "the control plane gave no credentials: update this exporter".to_owned(),
            )));
        }
    };
    Ok((bucket, grant))
}

fn refused(detail: String) -> Failure {
    Failure { step: Step::Access, class: FailureClass::Internal, detail }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_answers_that_stay_the_same_are_final() {
        // The control plane is busy, a token or a master key is being changed, a proxy is in the way.
        for passing in [
            Code::ResourceExhausted,
            Code::Internal,
            Code::Unauthenticated,
            Code::Aborted,
            Code::Unavailable,
            Code::DeadlineExceeded,
            Code::Cancelled,
            Code::Unknown,
        ] {
            assert!(!is_final(passing), "{passing:?}");
        }
        for stays in [Code::FailedPrecondition, Code::InvalidArgument, Code::NotFound] {
            assert!(is_final(stays), "{stays:?}");
        }
    }

    #[test]
    fn it_is_waited_as_long_as_the_control_plane_says_within_bounds() {
        let busy = |seconds| tracelift_proto::status::overloaded("busy", seconds);
        assert_eq!(wait(&Status::internal("")), ASK_AGAIN);
        assert_eq!(wait(&busy(3)), Duration::from_secs(3));
        assert_eq!(wait(&busy(3600)), MAX_WAIT);
    }
}
