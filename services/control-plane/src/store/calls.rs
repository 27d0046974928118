//! Every call to the store, as one transaction of whichever database there is.

use async_trait::async_trait;
use tokio::sync::broadcast;
use tracelift_core::{
    destination::{Destination, Identity, StoreFeatures},
    file::File,
    id::{DestinationId, ExportId, ExporterId, KeyId, TaskId, TenantId},
    limit::AtOnce,
    task::{Event, Fence, Lease, Progress, Verdict},
    time::Timestamp,
};
use uuid::Uuid;

use super::{
    Access, ApiKey, Change, ClaimGrant, ClaimRequest, CreateDestinationOutcome, CreateOutcome,
    Deletion, Due, ExportFilter, ExportView, NewDestination, NewExport, Page, ReportError,
    ReportOutcome, RequestKey, Retry, RunFiles, RunView, Store, StoreError, Tenant, TimeLimits,
    Usage, claims, exports, leases,
    rows::{self, destinations, files, tasks, tenants},
    schedules,
    transaction::Database,
};
use crate::sealer::Sealed;

#[async_trait]
impl<D: Database> Store for D {
    async fn create_tenant(&self, tenant: Tenant) -> Result<(), StoreError> {
        self.transact(move |tx| tenants::create(tx, &tenant)).await
    }

    async fn tenants(&self) -> Result<Vec<Tenant>, StoreError> {
        self.transact(|tx| tenants::all(tx)).await
    }

    async fn has_tenant(&self, id: TenantId) -> Result<bool, StoreError> {
        self.transact(move |tx| tenants::exists(tx, id)).await
    }

    async fn create_key(&self, key: ApiKey, hash: [u8; 32]) -> Result<(), StoreError> {
        self.transact(move |tx| tenants::create_key(tx, &key, &hash)).await
    }

    async fn keys(&self, tenant: TenantId) -> Result<Vec<ApiKey>, StoreError> {
        self.transact(move |tx| tenants::keys(tx, tenant)).await
    }

    async fn revoke_key(&self, id: KeyId, now: Timestamp) -> Result<Option<ApiKey>, StoreError> {
        self.transact(move |tx| tenants::revoke_key(tx, id, now)).await
    }

    async fn key_by_hash(&self, hash: [u8; 32]) -> Result<Option<ApiKey>, StoreError> {
        self.transact(move |tx| tenants::key_by_hash(tx, &hash)).await
    }

    async fn create_destination(
        &self,
        new: NewDestination,
    ) -> Result<CreateDestinationOutcome, StoreError> {
        self.transact(move |tx| super::destinations::create(tx, &new)).await
    }

    async fn requested_destination(
        &self,
        tenant: TenantId,
        request: RequestKey,
        now: Timestamp,
    ) -> Result<Option<CreateDestinationOutcome>, StoreError> {
        self.transact(move |tx| super::destinations::requested(tx, tenant, &request, now)).await
    }

    async fn destination(
        &self,
        tenant: TenantId,
        id: DestinationId,
    ) -> Result<Option<Destination>, StoreError> {
        self.transact(move |tx| destinations::one(tx, tenant, id)).await
    }

    async fn destinations(&self, tenant: TenantId) -> Result<Vec<Destination>, StoreError> {
        self.transact(move |tx| destinations::all(tx, tenant)).await
    }

    async fn replace_identity(
        &self,
        tenant: TenantId,
        id: DestinationId,
        identity: Identity,
        sealed: Option<Sealed>,
        keys: Vec<String>,
        now: Timestamp,
    ) -> Result<Option<Destination>, StoreError> {
        self.transact(move |tx| {
            destinations::replace_identity(tx, tenant, id, &identity, sealed.as_ref(), &keys, now)
        })
        .await
    }

    async fn remember_features(
        &self,
        tenant: TenantId,
        id: DestinationId,
        features: StoreFeatures,
    ) -> Result<(), StoreError> {
        self.transact(move |tx| destinations::remember_features(tx, tenant, id, features)).await
    }

    async fn delete_destination(
        &self,
        tenant: TenantId,
        id: DestinationId,
        now: Timestamp,
    ) -> Result<Deletion, StoreError> {
        self.transact(move |tx| destinations::delete(tx, tenant, id, now)).await
    }

    async fn all_sealed(&self) -> Result<Vec<(TenantId, DestinationId, Sealed)>, StoreError> {
        self.transact(|tx| destinations::all_sealed(tx)).await
    }

    async fn reseal(&self, id: DestinationId, old: Sealed, new: Sealed) -> Result<(), StoreError> {
        self.transact(move |tx| destinations::reseal(tx, id, &old, &new)).await
    }

    async fn create_export(&self, new: NewExport) -> Result<CreateOutcome, StoreError> {
        self.transact(move |tx| exports::create(tx, &new)).await
    }

    async fn usage(&self, tenant: TenantId, now: Timestamp) -> Result<Usage, StoreError> {
        self.transact(move |tx| rows::quota::usage(tx, tenant, now)).await
    }

    async fn forget_requests(&self, now: Timestamp) -> Result<(), StoreError> {
        self.transact(move |tx| {
            rows::requests::forget(tx, now.plus_seconds(-rows::requests::REQUEST_SECONDS))
        })
        .await
    }

    async fn export(
        &self,
        tenant: TenantId,
        id: ExportId,
    ) -> Result<Option<ExportView>, StoreError> {
        self.transact(move |tx| rows::exports::view(tx, tenant, id)).await
    }

    async fn exports(
        &self,
        tenant: TenantId,
        wanted: ExportFilter,
        page: Page,
    ) -> Result<Vec<ExportView>, StoreError> {
        self.transact(move |tx| rows::exports::views(tx, tenant, &wanted, page)).await
    }

    async fn cancel_export(
        &self,
        tenant: TenantId,
        id: ExportId,
        now: Timestamp,
    ) -> Result<Option<ExportView>, StoreError> {
        self.transact(move |tx| exports::cancel(tx, tenant, id, now)).await
    }

    async fn tasks(
        &self,
        tenant: TenantId,
        export: ExportId,
        page: Page,
    ) -> Result<Option<Vec<RunView>>, StoreError> {
        self.transact(move |tx| tasks::views(tx, tenant, export, page)).await
    }

    async fn run(
        &self,
        tenant: TenantId,
        export: ExportId,
        task: TaskId,
    ) -> Result<Option<RunView>, StoreError> {
        self.transact(move |tx| tasks::view(tx, tenant, export, task)).await
    }

    async fn run_files(
        &self,
        tenant: TenantId,
        export: ExportId,
        task: TaskId,
        after: Option<u32>,
        most: u32,
    ) -> Result<Option<RunFiles>, StoreError> {
        self.transact(move |tx| tasks::files(tx, tenant, export, task, after, most)).await
    }

    async fn retry_run(
        &self,
        tenant: TenantId,
        export: ExportId,
        task: TaskId,
        now: Timestamp,
    ) -> Result<Option<Retry>, StoreError> {
        self.transact(move |tx| exports::retry(tx, tenant, export, task, now)).await
    }

    async fn schedule_runs(
        &self,
        tenant: TenantId,
        source: ExportId,
        page: Page,
    ) -> Result<Option<Vec<RunView>>, StoreError> {
        self.transact(move |tx| tasks::views_of_schedule(tx, tenant, source, page)).await
    }

    async fn hello(
        &self,
        session: Uuid,
        lease: Lease,
        held: Vec<(TaskId, Fence)>,
        max_retries: u32,
        now: Timestamp,
    ) -> Result<Vec<Verdict>, StoreError> {
        self.transact(move |tx| leases::hello(tx, session, &lease, &held, max_retries, now)).await
    }

    async fn heartbeat(
        &self,
        lease: Lease,
        held: Vec<(TaskId, Fence)>,
        now: Timestamp,
    ) -> Result<Vec<Verdict>, StoreError> {
        self.transact(move |tx| leases::heartbeat(tx, &lease, &held, now)).await
    }

    async fn claim(
        &self,
        asks: Vec<ClaimRequest>,
        limits: AtOnce,
        now: Timestamp,
    ) -> Result<Vec<ClaimGrant>, StoreError> {
        self.transact(move |tx| claims::claim(tx, &asks, limits, now)).await
    }

    async fn stopped(
        &self,
        exporter: ExporterId,
        since: Timestamp,
    ) -> Result<Vec<(TaskId, Fence)>, StoreError> {
        self.transact(move |tx| tasks::stopped(tx, &exporter, since)).await
    }

    async fn report(
        &self,
        task: TaskId,
        fence: Fence,
        event: Event,
        grace: u32,
        now: Timestamp,
    ) -> Result<ReportOutcome, ReportError> {
        self.transact(move |tx| leases::report(tx, task, fence, event.clone(), grace, now)).await
    }

    async fn progress(
        &self,
        task: TaskId,
        fence: Fence,
        reported: Progress,
        now: Timestamp,
    ) -> Result<ReportOutcome, StoreError> {
        self.transact(move |tx| leases::progress(tx, task, fence, &reported, now)).await
    }

    async fn files(&self, task: TaskId) -> Result<Vec<File>, StoreError> {
        self.transact(move |tx| files::all(tx, task)).await
    }

    async fn access(
        &self,
        task: TaskId,
        fence: Fence,
        exporter: ExporterId,
        incarnation: String,
    ) -> Result<Option<Access>, StoreError> {
        self.transact(move |tx| leases::access(tx, task, fence, &exporter, &incarnation)).await
    }

    async fn lapse(&self, max_retries: u32, now: Timestamp) -> Result<usize, StoreError> {
        self.transact(move |tx| leases::lapse(tx, max_retries, now)).await
    }

    async fn time_out(&self, limits: TimeLimits, now: Timestamp) -> Result<usize, StoreError> {
        self.transact(move |tx| leases::time_out(tx, limits, now)).await
    }

    async fn remove_ended(&self, limit: Timestamp) -> Result<usize, StoreError> {
        self.transact(move |tx| rows::exports::remove_ended(tx, limit)).await
    }

    async fn due_schedules(&self, due: Due) -> Result<Vec<ExportId>, StoreError> {
        self.transact(move |tx| rows::schedules::due(tx, due)).await
    }

    async fn spawn(
        &self,
        schedule: ExportId,
        due: Due,
        now: Timestamp,
    ) -> Result<usize, StoreError> {
        self.transact(move |tx| schedules::spawn(tx, schedule, due, now)).await
    }

    async fn now(&self) -> Result<Timestamp, StoreError> {
        self.time().await
    }

    fn changes(&self) -> broadcast::Receiver<Change> {
        self.notifications()
    }
}
