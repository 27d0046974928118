//! The calls to the store, each one transaction of whichever database is in use.

mod tenants;

use tokio::sync::broadcast;
use tracelift_core::{
    destination::{Destination, StoreFeatures},
    file::File,
    id::{DestinationId, ExportId, ExporterId, TaskId, TenantId},
    limit::AtOnce,
    task::{Event, Fence, Lease, Progress, Verdict},
    time::Timestamp,
};
use uuid::Uuid;

use super::{
    Access, Act, Change, ClaimGrant, ClaimRequest, CreateDestinationOutcome, CreateOutcome,
    Deletion, Due, ExportFilter, ExportView, Holder, NewDestination, NewExport, NewIdentity, Page,
    Replica, ReportError, ReportOutcome, RequestKey, Retry, RunFiles, RunView, Store, StoreError,
    TimeLimits, Usage,
    rules::{self, claims, leases, recorded, schedules},
    tables::{self, destinations, files, tasks},
};
use crate::sealer::Sealed;

impl Store {
    /// Adds a destination, unless its idempotency key was used before.
    pub async fn create_destination(
        &self,
        act: Act,
        new: NewDestination,
    ) -> Result<CreateDestinationOutcome, StoreError> {
        self.engine.transact(move |tx| recorded::create_destination(tx, &act, &new)).await
    }

    /// The outcome recorded for a tenant's idempotency key among destinations, if any.
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

    /// Replaces how a tenant's destination authenticates; `None` if there is no such destination.
    pub async fn replace_identity(
        &self,
        act: Act,
        tenant: TenantId,
        id: DestinationId,
        new: NewIdentity,
        now: Timestamp,
    ) -> Result<Option<Destination>, StoreError> {
        self.engine
            .transact(move |tx| recorded::replace_identity(tx, &act, tenant, id, &new, now))
            .await
    }

    /// Records the features that the object store of a tenant's destination was found to support.
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

    /// Deletes a tenant's destination and its credentials, unless something is still to be written
    /// there.
    pub async fn delete_destination(
        &self,
        act: Act,
        tenant: TenantId,
        id: DestinationId,
        now: Timestamp,
    ) -> Result<Deletion, StoreError> {
        self.engine
            .transact(move |tx| recorded::delete_destination(tx, &act, tenant, id, now))
            .await
    }

    /// Every sealed value with its owner, for resealing under another key.
    pub async fn all_sealed(&self) -> Result<Vec<(TenantId, DestinationId, Sealed)>, StoreError> {
        self.engine.transact(|tx| destinations::all_sealed(tx)).await
    }

    /// Replaces `old` with `new`, unless it has changed in the meantime.
    pub async fn reseal(
        &self,
        id: DestinationId,
        old: Sealed,
        new: Sealed,
    ) -> Result<(), StoreError> {
        self.engine.transact(move |tx| destinations::reseal(tx, id, &old, &new)).await
    }

    /// Records that a control plane runs; returns all that were seen since `gone`, and forgets the
    /// others.
    pub async fn announce_replica(
        &self,
        replica: Replica,
        gone: Timestamp,
    ) -> Result<Vec<Replica>, StoreError> {
        self.engine.transact(move |tx| tables::replicas::announce(tx, &replica, gone)).await
    }

    /// Records that a control plane has stopped.
    pub async fn replica_gone(&self, id: Uuid) -> Result<(), StoreError> {
        self.engine.transact(move |tx| tables::replicas::gone(tx, id)).await
    }

    /// Adds an export and its tasks, if allowed.
    pub async fn create_export(
        &self,
        act: Act,
        new: NewExport,
    ) -> Result<CreateOutcome, StoreError> {
        self.engine.transact(move |tx| recorded::create_export(tx, &act, &new)).await
    }

    /// A tenant's usage of its limits.
    pub async fn usage(&self, tenant: TenantId, now: Timestamp) -> Result<Usage, StoreError> {
        self.engine.transact(move |tx| tables::quota::usage(tx, tenant, now)).await
    }

    /// Deletes expired idempotency keys.
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

    /// Cancels a tenant's export, unless it has ended; `None` if there is none.
    pub async fn cancel_export(
        &self,
        act: Act,
        tenant: TenantId,
        id: ExportId,
        now: Timestamp,
    ) -> Result<Option<ExportView>, StoreError> {
        self.engine.transact(move |tx| recorded::cancel_export(tx, &act, tenant, id, now)).await
    }

    /// The partitions of a tenant's export, oldest first; `None` if there is no such export.
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

    /// Up to `most` complete files of a partition with numbers greater than `after`; `None` if
    /// there is no such partition.
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

    /// Requeues a run that has failed or timed out; `None` if there is none.
    pub async fn retry_run(
        &self,
        act: Act,
        tenant: TenantId,
        export: ExportId,
        task: TaskId,
        now: Timestamp,
    ) -> Result<Option<Retry>, StoreError> {
        self.engine
            .transact(move |tx| recorded::retry_run(tx, &act, tenant, export, task, now))
            .await
    }

    /// The partitions of all exports that a tenant's schedule spawned; `None` if there is no such
    /// schedule.
    pub async fn schedule_runs(
        &self,
        tenant: TenantId,
        source: ExportId,
        page: Page,
    ) -> Result<Option<Vec<RunView>>, StoreError> {
        self.engine.transact(move |tx| tasks::views_of_schedule(tx, tenant, source, page)).await
    }

    /// Begins an exporter's session. Returns a verdict for each lease in `held`, in that order.
    /// Tasks leased to the exporter that it no longer holds are taken back: as lapsed if another
    /// process of the same name held them, as never received otherwise.
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

    /// Renews an exporter's leases. Returns a verdict for each lease in `held`, in that order.
    pub async fn heartbeat(
        &self,
        lease: Lease,
        held: Vec<(TaskId, Fence)>,
        now: Timestamp,
    ) -> Result<Vec<Verdict>, StoreError> {
        self.engine.transact(move |tx| leases::heartbeat(tx, &lease, &held, now)).await
    }

    /// Assigns queued tasks to exporters, round-robin until each is at capacity: within the limits,
    /// fairly between tenants, oldest exports first within each. Finalize, clean-up and reconcile
    /// tasks come first and are exempt from the limits. Returns a grant for each request, in the
    /// order of `asks`; of two requests of one exporter only the later one counts.
    pub async fn claim(
        &self,
        asks: Vec<ClaimRequest>,
        limits: AtOnce,
        now: Timestamp,
    ) -> Result<Vec<ClaimGrant>, StoreError> {
        self.engine.transact(move |tx| claims::claim(tx, &asks, limits, now)).await
    }

    /// Tasks stopped since then that this exporter was the last to hold, with the fence it held
    /// each under.
    pub async fn stopped(
        &self,
        exporter: ExporterId,
        since: Timestamp,
    ) -> Result<Vec<(TaskId, Fence)>, StoreError> {
        self.engine.transact(move |tx| tasks::stopped(tx, &exporter, since)).await
    }

    /// Applies a report about a task, unless its fence is stale or it comes from somebody else than
    /// the holder of its lease; `None` is the control plane itself. The rows of an export that it
    /// completes are reconciled no earlier than `grace` seconds after the end of its window.
    pub async fn report(
        &self,
        by: Option<Holder>,
        task: TaskId,
        fence: Fence,
        event: Event,
        grace: u32,
        now: Timestamp,
    ) -> Result<ReportOutcome, ReportError> {
        self.engine
            .transact(move |tx| {
                leases::report(tx, by.as_ref(), task, fence, event.clone(), grace, now)
            })
            .await
    }

    /// Stores the progress that an exporter reports for a task; dropped as [`Self::report`] does.
    pub async fn progress(
        &self,
        by: Option<Holder>,
        task: TaskId,
        fence: Fence,
        reported: Progress,
        now: Timestamp,
    ) -> Result<ReportOutcome, StoreError> {
        self.engine
            .transact(move |tx| leases::progress(tx, by.as_ref(), task, fence, &reported, now))
            .await
    }

    /// The complete files of a task, in order.
    pub async fn files(&self, task: TaskId) -> Result<Vec<File>, StoreError> {
        self.engine.transact(move |tx| files::all(tx, task)).await
    }

    /// What the holder of a lease may access.
    pub async fn access(
        &self,
        act: Act,
        lease: (TaskId, Fence),
        exporter: ExporterId,
        incarnation: String,
        now: Timestamp,
    ) -> Result<Option<Access>, StoreError> {
        self.engine
            .transact(move |tx| recorded::access(tx, &act, lease, &exporter, &incarnation, now))
            .await
    }

    /// Takes back every task whose lease has passed a deadline, to be retried; returns how many.
    pub async fn lapse(&self, max_retries: u32, now: Timestamp) -> Result<usize, StoreError> {
        self.engine.transact(move |tx| leases::lapse(tx, max_retries, now)).await
    }

    /// Takes slots back from tenants with more than their share while another one waits with nothing
    /// at work; returns how many tasks were asked for or taken.
    pub async fn rebalance(&self, limits: AtOnce, now: Timestamp) -> Result<usize, StoreError> {
        self.engine.transact(move |tx| rules::fairness::rebalance(tx, limits, now)).await
    }

    /// Stops tasks and exports that have taken too long; returns how many tasks.
    pub async fn time_out(&self, limits: TimeLimits, now: Timestamp) -> Result<usize, StoreError> {
        self.engine.transact(move |tx| leases::time_out(tx, limits, now)).await
    }

    /// Deletes the records of exports that ended before `limit`, a bounded number at a time;
    /// returns how many exports.
    pub async fn remove_ended(&self, limit: Timestamp) -> Result<usize, StoreError> {
        self.engine.transact(move |tx| tables::exports::remove_ended(tx, limit)).await
    }

    /// Schedules with a window that is due, up to a bound.
    pub async fn due_schedules(&self, due: Due) -> Result<Vec<ExportId>, StoreError> {
        self.engine.transact(move |tx| tables::schedules::due(tx, due)).await
    }

    /// Spawns exports for a schedule's due windows, oldest first, up to a bound; returns how many:
    /// 0 if another control plane holds the schedule.
    pub async fn spawn(
        &self,
        schedule: ExportId,
        due: Due,
        now: Timestamp,
    ) -> Result<usize, StoreError> {
        self.engine.transact(move |tx| schedules::spawn(tx, schedule, due, now)).await
    }

    /// The store's time, the only clock for leases.
    ///
    /// Calls take a `now` that was read beforehand. That it is slightly old by then always errs on
    /// the safe side: a lease lapses later, a wait ends later, and a lease lasts until a time that
    /// its exporter takes to be later still.
    pub async fn now(&self) -> Result<Timestamp, StoreError> {
        self.engine.time().await
    }

    /// Notifications, from now on.
    pub fn changes(&self) -> broadcast::Receiver<Change> {
        self.engine.notifications()
    }
}
