//! DestinationService: nothing is saved until the bucket has accepted a probe.

use std::{sync::Arc, time::Duration};

use prost::Message as _;
use secrecy::SecretString;
use tonic::{Request, Response, Status};
use tracelift_bucket::{Connector, Grant, Keys};
use tracelift_core::{
    Invalid, InvalidKind,
    destination::{
        Bucket, BucketInput, Destination, DisplayName, Identity, RoleArn, StoreFeatures,
    },
    id::{DestinationId, TenantId},
    invalid::Faults,
};
use tracelift_proto::{
    BucketSecrets,
    status::invalid,
    v1::{self, destination_service_server::DestinationService},
};
use uuid::Uuid;

use super::{OTHER_REQUEST, pages, request_key, sealer, unavailable};
use crate::{
    auth::{Caller, act},
    sealer::{CredentialSealer, Sealed},
    settings::AmbientCredentials,
    store::{
        Act, Action, AuditEntry, CreateDestinationOutcome, Deletion, NewDestination, NewIdentity,
        Permission, Place, RequestKey, Store,
    },
};

pub(crate) struct Destinations {
    pub(crate) store: Arc<Store>,
    pub(crate) sealer: Arc<CredentialSealer>,
    pub(crate) connector: Connector,
    pub(crate) own_rights: AmbientCredentials,
}

/// Longest wait for one response of a bucket under test.
const CHECK_TIMEOUT: Duration = Duration::from_secs(10);
/// How often a request that fails transiently is attempted during a check.
const CHECK_ATTEMPTS: u32 = 2;

/// The authentication that a caller requests.
enum Entry {
    Keys(BucketSecrets),
    Role(RoleArn),
    Environment,
}

impl Entry {
    fn grant(&self, tenant: TenantId) -> Grant {
        match self {
            Self::Keys(secrets) => Grant::Keys(Keys {
                access_key_id: secrets.access_key_id.clone(),
                secret_access_key: SecretString::from(secrets.secret_access_key.as_str()),
                session_token: secrets.session_token.as_deref().map(SecretString::from),
            }),
            Self::Role(arn) => Grant::Role { arn: arn.clone(), external_id: tenant.to_string() },
            Self::Environment => Grant::Environment,
        }
    }

    /// What is stored in plain text.
    fn identity(&self) -> Identity {
        match self {
            Self::Keys(_) => Identity::Keys,
            Self::Role(arn) => Identity::Role(arn.clone()),
            Self::Environment => Identity::Environment,
        }
    }

    /// What is stored sealed.
    fn secrets(&self) -> Option<&BucketSecrets> {
        match self {
            Self::Keys(secrets) => Some(secrets),
            Self::Role(_) | Self::Environment => None,
        }
    }

    /// Names of the stored fields.
    fn names(&self) -> Vec<String> {
        let Some(secrets) = self.secrets() else { return Vec::new() };
        let token = secrets.session_token.as_ref().map(|_| "session_token");
        ["access_key_id", "secret_access_key"].into_iter().chain(token).map(str::to_owned).collect()
    }
}

impl Destinations {
    /// Keys, a role, or neither, if the operator allows it.
    fn entry(
        &self,
        credentials: Option<v1::Credentials>,
        role: &str,
    ) -> Result<Entry, Vec<Invalid>> {
        match (credentials, role) {
            (Some(_), role) if !role.is_empty() => {
                Err(vec![Invalid::new("aws_role_arn", "cannot be given together with credentials")])
            }
            (Some(credentials), _) => {
                let within = |faults: Vec<Invalid>| {
                    faults.into_iter().map(|fault| fault.within("credentials")).collect::<Vec<_>>()
                };
                Ok(Entry::Keys(credentials.try_into().map_err(within)?))
            }
            (None, "") if self.own_rights.environment => Ok(Entry::Environment),
            (None, "") => Err(vec![Invalid::missing("credentials")]),
            (None, role) => {
                let arn = RoleArn::parse("aws_role_arn", role).map_err(|fault| vec![fault])?;
                if !self.own_rights.roles {
                    let message =
                        "the operator of this service does not allow roles: give credentials";
                    return Err(vec![Invalid::new("aws_role_arn", message)]);
                }
                Ok(Entry::Role(arn))
            }
        }
    }

    /// The features that the object store supports, if the bucket accepts a probe. A refusal is
    /// recorded: with the address, and without what was answered there.
    async fn check(
        &self,
        act: &Act,
        tenant: TenantId,
        bucket: &Bucket,
        entry: &Entry,
    ) -> Result<StoreFeatures, Status> {
        let store =
            self.connector.store(bucket, &entry.grant(tenant), CHECK_TIMEOUT, CHECK_ATTEMPTS).await;
        let checked = match store {
            Ok(store) => tracelift_bucket::check(&*store, Uuid::new_v4()).await,
            Err(error) => Err(error),
        };
        let error = match checked {
            Ok(features) => return Ok(features),
            Err(error) => error,
        };
        tracing::info!(%error, bucket = bucket.name, "a destination was refused");
        let place = bucket.endpoint_url.as_deref().unwrap_or("AWS");
        let entry = AuditEntry {
            tenant: Some(tenant),
            action: Action::RefuseEndpoint,
            object: format!("{place} {}", bucket.name),
            refused: Some(error.fault.text().to_owned()),
        };
        let now = self.store.now().await.map_err(unavailable)?;
        self.store.record(act.clone(), entry, now).await.map_err(unavailable)?;
        Err(Status::failed_precondition(format!("Failed to validate S3 destination: {error}")))
    }

    fn sealed(
        &self,
        tenant: TenantId,
        id: DestinationId,
        entry: &Entry,
    ) -> Result<Option<Sealed>, Status> {
        entry
            .secrets()
            .map(|secrets| self.sealer.seal(tenant, id, secrets).map_err(sealer))
            .transpose()
    }

    async fn stored(&self, tenant: TenantId, id: &str) -> Result<Destination, Status> {
        let id = DestinationId::parse("id", id).map_err(|fault| invalid([fault]))?;
        let found = self.store.destination(tenant, id).await.map_err(unavailable)?;
        found.ok_or_else(|| absent(id))
    }
}

fn created(
    made: CreateDestinationOutcome,
) -> Result<Response<v1::CreateDestinationResponse>, Status> {
    match made {
        CreateDestinationOutcome::Now(destination)
        | CreateDestinationOutcome::Before(destination) => {
            Ok(Response::new(v1::CreateDestinationResponse {
                destination: Some(destination.as_ref().into()),
            }))
        }
        CreateDestinationOutcome::OtherRequest => Err(Status::already_exists(OTHER_REQUEST)),
    }
}

fn absent(id: DestinationId) -> Status {
    Status::not_found(format!("destination {id} does not exist"))
}

#[tonic::async_trait]
impl DestinationService for Destinations {
    async fn create_destination(
        &self,
        request: Request<v1::CreateDestinationRequest>,
    ) -> Result<Response<v1::CreateDestinationResponse>, Status> {
        let (caller, act) = (Caller::actor(&request, Permission::Manage)?, act(&request)?);
        let mut request = request.into_inner();
        let key = std::mem::take(&mut request.idempotency_key);
        let asked = request.encode_to_vec();
        let mut faults = Faults::default();
        let display_name = faults.take(DisplayName::parse("display_name", &request.display_name));
        let bucket = BucketInput::try_from(request.config.unwrap_or_default())
            .and_then(BucketInput::check_new);
        let bucket = faults.take_all("config", bucket);
        let entry = faults.take_all("", self.entry(request.credentials, &request.aws_role_arn));
        let key = faults.take(request_key(key));
        let fields = display_name.zip(bucket).zip(entry).zip(key);
        let (((display_name, bucket), entry), key) = faults.finish(fields).map_err(invalid)?;
        let request = key.map(|key| RequestKey { key, digests: self.sealer.digests(&asked) });
        let now = self.store.now().await.map_err(unavailable)?;
        if let Some(request) = request.clone()
            && let Some(known) = self
                .store
                .requested_destination(caller.tenant, request, now)
                .await
                .map_err(unavailable)?
        {
            return created(known);
        }
        let features = self.check(&act, caller.tenant, &bucket, &entry).await?;
        let bucket = Bucket { features, ..bucket };
        let id = DestinationId(Uuid::now_v7());
        let sealed = self.sealed(caller.tenant, id, &entry)?;
        let destination = Destination {
            id,
            tenant: caller.tenant,
            display_name,
            bucket,
            credentials_keys: entry.names(),
            identity: entry.identity(),
            created_at: now,
            updated_at: now,
        };
        created(
            self.store
                .create_destination(act, NewDestination { destination, sealed, request })
                .await
                .map_err(unavailable)?,
        )
    }

    async fn get_destination(
        &self,
        request: Request<v1::GetDestinationRequest>,
    ) -> Result<Response<v1::GetDestinationResponse>, Status> {
        let caller = Caller::actor(&request, Permission::Read)?;
        let destination = self.stored(caller.tenant, &request.get_ref().id).await?;
        Ok(Response::new(v1::GetDestinationResponse { destination: Some((&destination).into()) }))
    }

    async fn list_destinations(
        &self,
        request: Request<v1::ListDestinationsRequest>,
    ) -> Result<Response<v1::ListDestinationsResponse>, Status> {
        let tenant = Caller::actor(&request, Permission::Read)?.tenant;
        let v1::ListDestinationsRequest { limit, page_token } = request.get_ref();
        let all = self.store.destinations(tenant).await.map_err(unavailable)?;
        let place = |of: &Destination| Place(of.created_at, of.id.0);
        let show = |of: &Destination| (place(of), v1::Destination::from(of));
        let behind = |of: &Destination, after| place(of) < after;
        let (destinations, next_page_token) =
            pages::cut("destinations", all, (*limit, page_token), behind, show).await?;
        Ok(Response::new(v1::ListDestinationsResponse { destinations, next_page_token }))
    }

    async fn update_destination_credentials(
        &self,
        request: Request<v1::UpdateDestinationCredentialsRequest>,
    ) -> Result<Response<v1::UpdateDestinationCredentialsResponse>, Status> {
        let (caller, act) = (Caller::actor(&request, Permission::Manage)?, act(&request)?);
        let request = request.into_inner();
        let destination = self.stored(caller.tenant, &request.id).await?;
        let mut faults = Faults::default();
        let nothing = request.credentials.is_none() && request.aws_role_arn.is_empty();
        let entry = match nothing {
            true => Err(vec![
                Invalid::new("credentials", "is required, or aws_role_arn")
                    .of_kind(InvalidKind::Missing),
            ]),
            false => self.entry(request.credentials, &request.aws_role_arn),
        };
        let entry = faults.take_all("", entry);
        let entry = faults.finish(entry).map_err(invalid)?;
        let features = self.check(&act, caller.tenant, &destination.bucket, &entry).await?;
        self.store
            .remember_features(caller.tenant, destination.id, features)
            .await
            .map_err(unavailable)?;
        let sealed = self.sealed(caller.tenant, destination.id, &entry)?;
        let new = NewIdentity { identity: entry.identity(), sealed, keys: entry.names() };
        let now = self.store.now().await.map_err(unavailable)?;
        let changed = self.store.replace_identity(act, caller.tenant, destination.id, new, now);
        let changed = changed.await.map_err(unavailable)?.ok_or_else(|| absent(destination.id))?;
        Ok(Response::new(v1::UpdateDestinationCredentialsResponse {
            destination: Some((&changed).into()),
        }))
    }

    async fn delete_destination(
        &self,
        request: Request<v1::DeleteDestinationRequest>,
    ) -> Result<Response<v1::DeleteDestinationResponse>, Status> {
        let (tenant, act) = (Caller::actor(&request, Permission::Manage)?.tenant, act(&request)?);
        let id =
            DestinationId::parse("id", &request.get_ref().id).map_err(|fault| invalid([fault]))?;
        let now = self.store.now().await.map_err(unavailable)?;
        match self.store.delete_destination(act, tenant, id, now).await.map_err(unavailable)? {
            Deletion::Done => Ok(Response::new(v1::DeleteDestinationResponse {})),
            Deletion::Absent => Err(absent(id)),
            Deletion::InUse(export) => {
                let message = format!(
                    "destination {id} is in use by export {export}: wait until it has ended, or cancel it"
                );
                Err(Status::failed_precondition(message))
            }
        }
    }
}
