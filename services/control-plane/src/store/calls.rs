//! Every call to the store, as one transaction of whichever database there is.

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
    Usage,
    rules::{self, claims, exports, leases, schedules},
    tables::{self, destinations, files, tasks, tenants},
};
use crate::sealer::Sealed;

impl Store {
    /// Adds a tenant.
    pub async fn create_tenant(&self, tenant: Tenant) -> Result<(), StoreError> {
        self.engine.transact(move |tx| tenants::create(tx, &tenant)).await
    }

    /// All tenants, newest first.
    pub async fn tenants(&self) -> Result<Vec<Tenant>, StoreError> {
        self.engine.transact(|tx| tenants::all(tx)).await
    }

    /// Whether there is such a tenant.
    pub async fn has_tenant(&self, id: TenantId) -> Result<bool, StoreError> {
        self.engine.transact(move |tx| tenants::exists(tx, id)).await
    }

    /// Adds a key by the hash of its secret.
    pub async fn create_key(&self, key: ApiKey, hash: [u8; 32]) -> Result<(), StoreError> {
        self.engine.transact(move |tx| tenants::create_key(tx, &key, &hash)).await
    }

    /// A tenant's keys, newest first.
    pub async fn keys(&self, tenant: TenantId) -> Result<Vec<ApiKey>, StoreError> {
        self.engine.transact(move |tx| tenants::keys(tx, tenant)).await
    }

    /// Ends a key; `None` when there is none.
    pub async fn revoke_key(
        &self,
        id: KeyId,
        now: Timestamp,
    ) -> Result<Option<ApiKey>, StoreError> {
        self.engine.transact(move |tx| tenants::revoke_key(tx, id, now)).await
    }

    /// The good key with that hash.
    pub async fn key_by_hash(&self, hash: [u8; 32]) -> Result<Option<ApiKey>, StoreError> {
        self.engine.transact(move |tx| tenants::key_by_hash(tx, &hash)).await
    }

    /// Adds a destination, unless its key stands for one.
    pub async fn create_destination(
        &self,
        new: NewDestination,
    ) -> Result<CreateDestinationOutcome, StoreError> {
        self.engine.transact(move |tx| rules::destinations::create(tx, &new)).await
    }

    /// What that key of a tenant's stands for among destinations, if anything.
    pub async fn requested_destination(
        &self,
        tenant: TenantId,
        request: RequestKey,
        now: Timestamp,
    ) -> Result<Option<CreateDestinationOutcome>, StoreError> {
        self.engine
            .transact(move |tx| rules::destinations::requested(tx, tenant, &request, now))
            .await
    }

    /// A tenant's destination.
    pub async fn destination(
        &self,
        tenant: TenantId,
        id: DestinationId,
    ) -> Result<Option<Destination>, StoreError> {
        self.engine.transact(move |tx| destinations::one(tx, tenant, id)).await
    }

    /// A tenant's destinations, newest first.
    pub async fn destinations(&self, tenant: TenantId) -> Result<Vec<Destination>, StoreError> {
        self.engine.transact(move |tx| destinations::all(tx, tenant)).await
    }

    /// Replaces how a tenant's destination authenticates; `None` when there is no such
    /// destination.
    pub async fn replace_identity(
        &self,
        tenant: TenantId,
        id: DestinationId,
        identity: Identity,
        sealed: Option<Sealed>,
        keys: Vec<String>,
        now: Timestamp,
    ) -> Result<Option<Destination>, StoreError> {
        self.engine
            .transact(move |tx| {
                destinations::replace_identity(
                    tx,
                    tenant,
                    id,
                    &identity,
                    sealed.as_ref(),
                    &keys,
                    now,
                )
            })
            .await
    }

    /// What the store of a tenant's destination knows, as it was found.
    pub async fn remember_features(
        &self,
        tenant: TenantId,
        id: DestinationId,
        features: StoreFeatures,
    ) -> Result<(), StoreError> {
        self.engine
            .transact(move |tx| destinations::remember_features(tx, tenant, id, features))
            .await
    }

    /// Forgets a tenant's destination and its credentials, unless something is still to be written
    /// there.
    pub async fn delete_destination(
        &self,
        tenant: TenantId,
        id: DestinationId,
        now: Timestamp,
    ) -> Result<Deletion, StoreError> {
        self.engine.transact(move |tx| destinations::delete(tx, tenant, id, now)).await
    }

    /// Every sealed value with its owner, for sealing anew under another key.
    pub async fn all_sealed(&self) -> Result<Vec<(TenantId, DestinationId, Sealed)>, StoreError> {
        self.engine.transact(|tx| destinations::all_sealed(tx)).await
    }

    /// Replaces `old` by `new`, unless it has changed meanwhile.
    pub async fn reseal(
        &self,
        id: DestinationId,
        old: Sealed,
        new: Sealed,
    ) -> Result<(), StoreError> {
        self.engine.transact(move |tx| destinations::reseal(tx, id, &old, &new)).await
    }

    /// Adds an export and its runs, unless it may not be.
    pub async fn create_export(&self, new: NewExport) -> Result<CreateOutcome, StoreError> {
        self.engine.transact(move |tx| exports::create(tx, &new)).await
    }

    /// What a tenant uses of its limits.
    pub async fn usage(&self, tenant: TenantId, now: Timestamp) -> Result<Usage, StoreError> {
        self.engine.transact(move |tx| tables::quota::usage(tx, tenant, now)).await
    }

    /// Forgets keys of requests that have become too old.
    pub async fn forget_requests(&self, now: Timestamp) -> Result<(), StoreError> {
        self.engine
            .transact(move |tx| {
                tables::requests::forget(tx, now.plus_seconds(-tables::requests::REQUEST_SECONDS))
            })
            .await
    }

    /// A tenant's export.
    pub async fn export(
        &self,
        tenant: TenantId,
        id: ExportId,
    ) -> Result<Option<ExportView>, StoreError> {
        self.engine.transact(move |tx| tables::exports::view(tx, tenant, id)).await
    }

    /// A tenant's exports, newest first.
    pub async fn exports(
        &self,
        tenant: TenantId,
        wanted: ExportFilter,
        page: Page,
    ) -> Result<Vec<ExportView>, StoreError> {
        self.engine.transact(move |tx| tables::exports::views(tx, tenant, &wanted, page)).await
    }

    /// Cancels a tenant's export, unless it has ended; `None` when there is none.
    pub async fn cancel_export(
        &self,
        tenant: TenantId,
        id: ExportId,
        now: Timestamp,
    ) -> Result<Option<ExportView>, StoreError> {
        self.engine.transact(move |tx| exports::cancel(tx, tenant, id, now)).await
    }

    /// The partitions of a tenant's export, oldest first; `None` when there is no such export.
    pub async fn tasks(
        &self,
        tenant: TenantId,
        export: ExportId,
        page: Page,
    ) -> Result<Option<Vec<RunView>>, StoreError> {
        self.engine.transact(move |tx| tasks::views(tx, tenant, export, page)).await
    }

    /// One partition.
    pub async fn run(
        &self,
        tenant: TenantId,
        export: ExportId,
        task: TaskId,
    ) -> Result<Option<RunView>, StoreError> {
        self.engine.transact(move |tx| tasks::view(tx, tenant, export, task)).await
    }

    /// Up to `most` complete files of a partition, behind that number; `None` when there is no such
    /// partition.
    pub async fn run_files(
        &self,
        tenant: TenantId,
        export: ExportId,
        task: TaskId,
        after: Option<u32>,
        most: u32,
    ) -> Result<Option<RunFiles>, StoreError> {
        self.engine.transact(move |tx| tasks::files(tx, tenant, export, task, after, most)).await
    }

    /// Queues a run again that has failed or timed out; `None` when there is none.
    pub async fn retry_run(
        &self,
        tenant: TenantId,
        export: ExportId,
        task: TaskId,
        now: Timestamp,
    ) -> Result<Option<Retry>, StoreError> {
        self.engine.transact(move |tx| exports::retry(tx, tenant, export, task, now)).await
    }

    /// The partitions of all exports that a tenant's schedule spawned; `None` when there is no such
    /// schedule.
    pub async fn schedule_runs(
        &self,
        tenant: TenantId,
        source: ExportId,
        page: Page,
    ) -> Result<Option<Vec<RunView>>, StoreError> {
        self.engine.transact(move |tx| tasks::views_of_schedule(tx, tenant, source, page)).await
    }

    /// An exporter says hello and begins a session: verdicts over what it holds, in that order.
    /// What it holds no more is given back: as lost when another process of that name held it,
    /// as never received otherwise.
    pub async fn hello(
        &self,
        session: Uuid,
        lease: Lease,
        held: Vec<(TaskId, Fence)>,
        max_retries: u32,
        now: Timestamp,
    ) -> Result<Vec<Verdict>, StoreError> {
        self.engine
            .transact(move |tx| leases::hello(tx, session, &lease, &held, max_retries, now))
            .await
    }

    /// An exporter is alive: verdicts over what it holds, in that order.
    pub async fn heartbeat(
        &self,
        lease: Lease,
        held: Vec<(TaskId, Fence)>,
        now: Timestamp,
    ) -> Result<Vec<Verdict>, StoreError> {
        self.engine.transact(move |tx| leases::heartbeat(tx, &lease, &held, now)).await
    }

    /// Gives queued runs to exporters, one after the other in turns, until each holds its capacity:
    /// within the limits, fairly between tenants, of each those of its oldest exports. What
    /// callers do not see comes first and under no limit. What each is given, in the order of
    /// `asks`; of two that are of one exporter only the later one is heard.
    pub async fn claim(
        &self,
        asks: Vec<ClaimRequest>,
        limits: AtOnce,
        now: Timestamp,
    ) -> Result<Vec<ClaimGrant>, StoreError> {
        self.engine.transact(move |tx| claims::claim(tx, &asks, limits, now)).await
    }

    /// Runs stopped since then that this exporter was the last to hold, under the fence it knows.
    pub async fn stopped(
        &self,
        exporter: ExporterId,
        since: Timestamp,
    ) -> Result<Vec<(TaskId, Fence)>, StoreError> {
        self.engine.transact(move |tx| tasks::stopped(tx, &exporter, since)).await
    }

    /// A report about a run, heard only under its newest fence. The rows of an export that it
    /// completes are counted `grace` seconds after its window has ended at the earliest.
    pub async fn report(
        &self,
        task: TaskId,
        fence: Fence,
        event: Event,
        grace: u32,
        now: Timestamp,
    ) -> Result<ReportOutcome, ReportError> {
        self.engine
            .transact(move |tx| leases::report(tx, task, fence, event.clone(), grace, now))
            .await
    }

    /// What an exporter says of a run it works on; dropped when stale.
    pub async fn progress(
        &self,
        task: TaskId,
        fence: Fence,
        reported: Progress,
        now: Timestamp,
    ) -> Result<ReportOutcome, StoreError> {
        self.engine.transact(move |tx| leases::progress(tx, task, fence, &reported, now)).await
    }

    /// The complete files of a run, in order.
    pub async fn files(&self, task: TaskId) -> Result<Vec<File>, StoreError> {
        self.engine.transact(move |tx| files::all(tx, task)).await
    }

    /// What the holder of a lease may see.
    pub async fn access(
        &self,
        task: TaskId,
        fence: Fence,
        exporter: ExporterId,
        incarnation: String,
    ) -> Result<Option<Access>, StoreError> {
        self.engine
            .transact(move |tx| leases::access(tx, task, fence, &exporter, &incarnation))
            .await
    }

    /// Queues every run again whose lease has passed a deadline; how many.
    pub async fn lapse(&self, max_retries: u32, now: Timestamp) -> Result<usize, StoreError> {
        self.engine.transact(move |tx| leases::lapse(tx, max_retries, now)).await
    }

    /// Stops runs and exports that have taken too long; how many runs.
    pub async fn time_out(&self, limits: TimeLimits, now: Timestamp) -> Result<usize, StoreError> {
        self.engine.transact(move |tx| leases::time_out(tx, limits, now)).await
    }

    /// Removes the records of exports that ended before `limit`, a bounded number at a time; how
    /// many exports.
    pub async fn remove_ended(&self, limit: Timestamp) -> Result<usize, StoreError> {
        self.engine.transact(move |tx| tables::exports::remove_ended(tx, limit)).await
    }

    /// Schedules with a window that is due, a bounded number of them.
    pub async fn due_schedules(&self, due: Due) -> Result<Vec<ExportId>, StoreError> {
        self.engine.transact(move |tx| tables::schedules::due(tx, due)).await
    }

    /// Spawns the exports of a schedule's windows that are due, oldest first, a bounded number of
    /// them; how many. None when another control plane is at it.
    pub async fn spawn(
        &self,
        schedule: ExportId,
        due: Due,
        now: Timestamp,
    ) -> Result<usize, StoreError> {
        self.engine.transact(move |tx| schedules::spawn(tx, schedule, due, now)).await
    }

    /// The store's time, the only one that leases are judged by.
    ///
    /// Calls take a `now` that was asked for before them. That it is a little old by then is always
    /// the safe side: a lease lapses later, a wait ends later, and a lease is given until what
    /// its exporter counts as later still.
    pub async fn now(&self) -> Result<Timestamp, StoreError> {
        self.engine.time().await
    }

    /// News, from now on.
    pub fn changes(&self) -> broadcast::Receiver<Change> {
        self.engine.notifications()
    }
}
