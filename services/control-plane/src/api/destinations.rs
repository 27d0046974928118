//! DestinationService: nothing is saved before the bucket has taken a probe.

use std::{sync::Arc, time::Duration};

use secrecy::SecretString;
use tonic::{Request, Response, Status};
use tracelift_bucket::{Connector, Keys};
use tracelift_core::{
    Invalid,
    destination::{Bucket, Destination, DisplayName},
    id::{DestinationId, TenantId},
    invalid::Faults,
};
use tracelift_proto::{
    BucketSecrets,
    status::invalid,
    v1::{self, destination_service_server::DestinationService},
};
use uuid::Uuid;

use super::{unavailable, vault};
use crate::{
    auth::Caller,
    store::{Permission, Store},
    vault::Vault,
};

pub(crate) struct Destinations {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) vault: Arc<Vault>,
    pub(crate) connector: Connector,
}

/// Longest wait for one answer of a bucket that is being checked.
const CHECK_TIMEOUT: Duration = Duration::from_secs(10);
/// How often a transient fault is tried while checking.
const CHECK_ATTEMPTS: u32 = 2;

impl Destinations {
    async fn check(&self, bucket: &Bucket, secrets: &BucketSecrets) -> Result<(), Status> {
        let keys = Keys {
            access_key_id: secrets.access_key_id.clone(),
            secret_access_key: SecretString::from(secrets.secret_access_key.as_str()),
            session_token: secrets.session_token.as_deref().map(SecretString::from),
        };
        let client = self.connector.client(bucket, &keys, CHECK_TIMEOUT, CHECK_ATTEMPTS);
        let checked = match client {
            Ok(client) => tracelift_bucket::check(&client, Uuid::new_v4()).await,
            Err(error) => Err(error),
        };
        checked.map_err(|error| {
            tracing::info!(%error, bucket = bucket.name, "a destination was refused");
            Status::failed_precondition(format!("Failed to validate S3 destination: {error}"))
        })
    }

    async fn stored(&self, tenant: TenantId, id: &str) -> Result<Destination, Status> {
        let id = DestinationId::parse("id", id).map_err(|fault| invalid([fault]))?;
        let found = self.store.destination(tenant, id).await.map_err(unavailable)?;
        found.ok_or_else(|| absent(id))
    }
}

fn absent(id: DestinationId) -> Status {
    Status::not_found(format!("destination {id} does not exist"))
}

fn names(secrets: &BucketSecrets) -> Vec<String> {
    let token = secrets.session_token.as_ref().map(|_| "session_token");
    ["access_key_id", "secret_access_key"].into_iter().chain(token).map(str::to_owned).collect()
}

fn secrets(credentials: Option<v1::Credentials>) -> Result<BucketSecrets, Vec<Invalid>> {
    match credentials {
        Some(credentials) => credentials.try_into(),
        None => Err(vec![Invalid::new("", "is required")]),
    }
}

#[tonic::async_trait]
impl DestinationService for Destinations {
    async fn create_destination(
        &self,
        request: Request<v1::CreateDestinationRequest>,
    ) -> Result<Response<v1::CreateDestinationResponse>, Status> {
        let caller = Caller::of(&request, Permission::Manage)?;
        let request = request.into_inner();
        let mut faults = Faults::default();
        let display_name = faults.take(DisplayName::parse("display_name", &request.display_name));
        let bucket = faults.take_all("config", Bucket::try_from(request.config.unwrap_or_default()));
        let secrets = faults.take_all("credentials", secrets(request.credentials));
        let fields = display_name.zip(bucket).zip(secrets);
        let ((display_name, bucket), secrets) = faults.finish(fields).map_err(invalid)?;
        self.check(&bucket, &secrets).await?;
        let now = self.store.now().await.map_err(unavailable)?;
        let id = DestinationId(Uuid::now_v7());
        let sealed = self.vault.seal(caller.tenant, id, &secrets).map_err(vault)?;
        let destination = Destination {
            id,
            tenant: caller.tenant,
            display_name,
            bucket,
            credentials_keys: names(&secrets),
            created_at: now,
            updated_at: now,
        };
        self.store.create_destination(destination.clone(), sealed).await.map_err(unavailable)?;
        Ok(Response::new(v1::CreateDestinationResponse { destination: Some((&destination).into()) }))
    }

    async fn get_destination(&self, request: Request<v1::GetDestinationRequest>) -> Result<Response<v1::GetDestinationResponse>, Status> {
        let caller = Caller::of(&request, Permission::Read)?;
        let destination = self.stored(caller.tenant, &request.get_ref().id).await?;
        Ok(Response::new(v1::GetDestinationResponse { destination: Some((&destination).into()) }))
    }

    async fn list_destinations(
        &self,
        request: Request<v1::ListDestinationsRequest>,
    ) -> Result<Response<v1::ListDestinationsResponse>, Status> {
        let caller = Caller::of(&request, Permission::Read)?;
        let destinations = self.store.destinations(caller.tenant).await.map_err(unavailable)?;
        Ok(Response::new(v1::ListDestinationsResponse { destinations: destinations.iter().map(Into::into).collect() }))
    }

    async fn update_destination_credentials(
        &self,
        request: Request<v1::UpdateDestinationCredentialsRequest>,
    ) -> Result<Response<v1::UpdateDestinationCredentialsResponse>, Status> {
        let caller = Caller::of(&request, Permission::Manage)?;
        let request = request.into_inner();
        let destination = self.stored(caller.tenant, &request.id).await?;
        let mut faults = Faults::default();
        let secrets = faults.take_all("credentials", secrets(request.credentials));
        let secrets = faults.finish(secrets).map_err(invalid)?;
        self.check(&destination.bucket, &secrets).await?;
        let sealed = self.vault.seal(caller.tenant, destination.id, &secrets).map_err(vault)?;
        let now = self.store.now().await.map_err(unavailable)?;
        let changed = self.store.replace_credentials(caller.tenant, destination.id, sealed, names(&secrets), now);
        let changed = changed.await.map_err(unavailable)?.ok_or_else(|| absent(destination.id))?;
        Ok(Response::new(v1::UpdateDestinationCredentialsResponse { destination: Some((&changed).into()) }))
    }
}
