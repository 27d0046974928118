//! A control plane over a store that the test holds too, and those who call it.

use std::{
    future::Future,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use secrecy::SecretString;
use tokio_util::sync::CancellationToken;
use tonic::{
    Request, Status,
    metadata::MetadataValue,
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Channel, Endpoint},
};
use tracelift_control_plane::{
    ControlPlane, Error, Settings, hash,
    sealer::CredentialSealer,
    store::{Act, ApiKey, NewDestination, Permission, Store, Tenant, Who, sqlite::SqliteEngine},
};
use tracelift_core::{
    destination::{BucketInput, Destination, DisplayName, Identity},
    id::{DestinationId, KeyId, TenantId},
    time::Timestamp,
};
use tracelift_proto::{
    BucketSecrets,
    fleet::v1::fleet_service_client::FleetServiceClient,
    time_to,
    v1::{
        self, admin_service_client::AdminServiceClient,
        destination_service_client::DestinationServiceClient,
        export_service_client::ExportServiceClient,
    },
};
use tracelift_runtime::{
    clock::Clock,
    tasks::{self, Owned},
};
use uuid::Uuid;

pub(crate) const MASTER_KEYS: &str = "k1:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
pub(crate) const ADMIN: &str = "admin-token-of-the-test";
pub(crate) const FLEET: &str = "fleet-token-of-the-test";
pub(crate) const SESSION: &str = "0190d1a2-0000-7000-8000-000000000005";
pub(crate) const UNKNOWN: &str = "0190d1a2-0000-7000-8000-00000000dead";

/// Somebody's act, straight in the store.
pub(crate) fn act() -> Act {
    Act::by(Who::Anonymous)
}

/// Time as the test sets it.
#[derive(Debug)]
pub(crate) struct HandClock(Mutex<Timestamp>);

impl Clock for HandClock {
    fn now(&self) -> Timestamp {
        *self.0.lock().unwrap()
    }
}

impl Default for HandClock {
    fn default() -> Self {
        Self(Mutex::new(Timestamp::parse("t", "2024-06-01T12:00:00Z").unwrap()))
    }
}

impl HandClock {
    pub(crate) fn advance(&self, seconds: i64) {
        let mut now = self.0.lock().unwrap();
        *now = now.plus_seconds(seconds);
    }
}

/// A test that waits for what never comes fails instead of hanging; nothing is measured.
pub(crate) async fn soon<T>(kind: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), kind).await.expect("it never came")
}

pub(crate) struct Plane {
    pub(crate) store: Arc<Store>,
    pub(crate) clock: Arc<HandClock>,
    pub(crate) address: SocketAddr,
    stopping: CancellationToken,
    running: Owned<Result<(), Error>>,
}

/// The settings of every test.
pub(crate) fn settings() -> Settings {
    let mut settings = Settings::defaults();
    settings.listen = "127.0.0.1:0".parse().unwrap();
    settings.master_keys = Some(SecretString::from(MASTER_KEYS));
    settings.admin_token = Some(SecretString::from(ADMIN));
    settings.fleet_token = Some(SecretString::from(FLEET));
    settings.endpoints.endpoints_allow = vec!["127.0.0.1".parse().unwrap()];
    settings
}

pub(crate) async fn plane() -> Plane {
    plane_with(|_| {}).await
}

pub(crate) async fn plane_with(change: impl FnOnce(&mut Settings)) -> Plane {
    let clock = Arc::new(HandClock::default());
    let store = SqliteEngine::in_memory().unwrap().with_clock(clock.clone());
    plane_over(Arc::new(store.into()), clock, change).await.unwrap()
}

/// A plane over that store, whose clock that is.
pub(crate) async fn plane_over(
    store: Arc<Store>,
    clock: Arc<HandClock>,
    change: impl FnOnce(&mut Settings),
) -> Result<Plane, Error> {
    let mut settings = settings();
    change(&mut settings);
    let plane = ControlPlane::bind_with(settings, store.clone()).await?;
    let (address, stopping) = (plane.address(), CancellationToken::new());
    let running = Owned(tasks::start("plane", plane.run(stopping.clone())));
    Ok(Plane { store, clock, address, stopping, running })
}

impl Plane {
    /// Nobody in particular, with these headers.
    pub(crate) fn caller(&self, headers: &[(&'static str, &str)]) -> Caller {
        // HTTP/2's own windows: hyper's wider ones would take in megabytes for a caller that reads
        // nothing.
        let endpoint = Endpoint::from_shared(format!("http://{}", self.address)).unwrap();
        let channel = endpoint
            .initial_stream_window_size(65_535)
            .initial_connection_window_size(65_535)
            .connect_lazy();
        let headers = headers.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        Caller { channel, headers: Headers(headers) }
    }

    pub(crate) fn admin(&self) -> Caller {
        self.caller(&[("authorization", &format!("Bearer {ADMIN}"))])
    }

    pub(crate) fn fleet(&self) -> Caller {
        self.caller(&[("authorization", &format!("Bearer {FLEET}"))])
    }

    /// Workspace `n` with a key of each permission.
    pub(crate) async fn workspace(&self, n: u128) -> Workspace {
        let (tenant, created_at) = (TenantId(Uuid::from_u128(n)), self.store.now().await.unwrap());
        self.store
            .create_tenant(act(), Tenant::new(tenant, format!("workspace {n}"), created_at))
            .await
            .unwrap();
        let [manage, read, admin] =
            [(Permission::Manage, 1), (Permission::Read, 2), (Permission::Admin, 3)].map(
                |(permission, k)| {
                    let id = KeyId(Uuid::from_u128(n * 10 + k));
                    ApiKey {
                        id,
                        tenant,
                        display_name: "key".into(),
                        permission,
                        created_at,
                        revoked_at: None,
                        expires_at: None,
                        last_used_at: None,
                    }
                },
            );
        let secret = |key: &ApiKey| format!("tl_{}", key.id);
        let callers =
            [&manage, &read, &admin].map(|key| self.caller(&[("x-api-key", &secret(key))]));
        for key in [manage, read, admin] {
            let hashed = hash(&secret(&key));
            self.store.create_key(act(), key, hashed).await.unwrap();
        }
        let [manage, read, admin] = callers;
        Workspace { tenant, manage, read, admin }
    }

    /// A destination straight into the store; no bucket is asked.
    pub(crate) async fn destination(&self, owner: &Workspace) -> DestinationId {
        self.destination_by(owner, Identity::Keys).await
    }

    /// The same; its keys are stored however it authenticates.
    pub(crate) async fn destination_by(
        &self,
        owner: &Workspace,
        identity: Identity,
    ) -> DestinationId {
        let (id, now) = (DestinationId(Uuid::now_v7()), self.store.now().await.unwrap());
        let secrets = BucketSecrets {
            access_key_id: "AKIDTEST".into(),
            secret_access_key: "sk-test".into(),
            session_token: None,
        };
        let sealer = CredentialSealer::new(&SecretString::from(MASTER_KEYS)).unwrap();
        let sealed = sealer.seal(owner.tenant, id, &secrets).unwrap();
        let input = BucketInput {
            bucket_name: "traces".into(),
            prefix: "root".into(),
            endpoint_url: "https://s3.example.com".into(),
            ..Default::default()
        };
        let destination = Destination {
            id,
            tenant: owner.tenant,
            display_name: DisplayName::parse("display_name", "bucket").unwrap(),
            bucket: input.check().unwrap(),
            identity,
            credentials_keys: vec!["access_key_id".into(), "secret_access_key".into()],
            created_at: now,
            updated_at: now,
        };
        self.store
            .create_destination(act(), NewDestination::of(destination, Some(sealed)))
            .await
            .unwrap();
        id
    }

    /// From now on it stops.
    pub(crate) fn stop(&self) {
        self.stopping.cancel();
    }

    /// Waits until it has stopped.
    pub(crate) async fn stopped(mut self) -> Result<(), Error> {
        soon(&mut self.running.0).await.unwrap()
    }
}

/// A tenant's keys.
pub(crate) struct Workspace {
    pub(crate) tenant: TenantId,
    pub(crate) manage: Caller,
    pub(crate) read: Caller,
    pub(crate) admin: Caller,
}

impl Workspace {
    /// An export of `days` days from 2024-01-01 on, to a destination of its own.
    pub(crate) async fn export(&self, plane: &Plane, days: u8) -> v1::Export {
        let spec = spec(
            &plane.destination(self).await.to_string(),
            "2024-01-01T00:00:00Z",
            &format!("2024-01-{:02}T00:00:00Z", days + 1),
        );
        self.create(spec).await.unwrap()
    }

    pub(crate) async fn create(&self, spec: v1::ExportSpec) -> Result<v1::Export, Status> {
        let created = self
            .manage
            .exports()
            .create_export(v1::CreateExportRequest { spec: Some(spec), ..Default::default() })
            .await?;
        Ok(created.into_inner().export.unwrap())
    }

    pub(crate) async fn get(&self, id: &str) -> v1::Export {
        self.read
            .exports()
            .get_export(v1::GetExportRequest { id: id.to_owned() })
            .await
            .unwrap()
            .into_inner()
            .export
            .unwrap()
    }

    pub(crate) async fn tasks(&self, export: &str) -> Vec<v1::ExportRun> {
        let request = v1::ListRunsRequest { export_id: export.to_owned(), ..Default::default() };
        self.read.exports().list_runs(request).await.unwrap().into_inner().runs
    }

    pub(crate) async fn cancel(&self, id: &str) -> Result<v1::Export, Status> {
        let cancelled = self
            .manage
            .exports()
            .cancel_export(v1::CancelExportRequest { id: id.to_owned() })
            .await?;
        Ok(cancelled.into_inner().export.unwrap())
    }
}

pub(crate) fn spec(destination: &str, start: &str, end: &str) -> v1::ExportSpec {
    let time = |text| Some(time_to(Timestamp::parse("t", text).unwrap()));
    v1::ExportSpec {
        destination_id: destination.to_owned(),
        session_id: SESSION.to_owned(),
        start_time: time(start),
        end_time: time(end),
        ..v1::ExportSpec::default()
    }
}

/// Puts headers on every call.
#[derive(Debug, Clone)]
pub(crate) struct Headers(Vec<(&'static str, String)>);

impl Interceptor for Headers {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        for (name, value) in &self.0 {
            request.metadata_mut().insert(*name, MetadataValue::try_from(value).unwrap());
        }
        Ok(request)
    }
}

pub(crate) type Sent = InterceptedService<Channel, Headers>;

/// Somebody on one connection.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    pub(crate) channel: Channel,
    headers: Headers,
}

impl Caller {
    /// The same caller, asking another control plane.
    pub(crate) fn at(&self, plane: &Plane) -> Self {
        Self { channel: plane.caller(&[]).channel, headers: self.headers.clone() }
    }

    fn sent(&self) -> Sent {
        InterceptedService::new(self.channel.clone(), self.headers.clone())
    }

    pub(crate) fn admin(&self) -> AdminServiceClient<Sent> {
        AdminServiceClient::new(self.sent())
    }

    pub(crate) fn destinations(&self) -> DestinationServiceClient<Sent> {
        DestinationServiceClient::new(self.sent())
    }

    pub(crate) fn exports(&self) -> ExportServiceClient<Sent> {
        ExportServiceClient::new(self.sent())
    }

    pub(crate) fn fleet(&self) -> FleetServiceClient<Sent> {
        FleetServiceClient::new(self.sent())
    }
}

/// An answer for a snapshot: `OK`, or the code and the words.
pub(crate) fn shown<T>(answer: Result<T, Status>) -> String {
    match answer {
        Ok(_) => "OK".to_owned(),
        Err(status) => format!("{:?}: {}", status.code(), status.message()),
    }
}
