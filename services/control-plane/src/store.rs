//! The store: the only truth. Every call is one transaction, and every read that a caller can cause
//! names its tenant.
//!
//! SQLite is the default ([`sqlite`]), PostgreSQL serves several control planes at once
//! ([`postgres`]). Nothing above this trait knows which database there is. Down the line: `calls`
//! makes a call a transaction, `leases`, `exports` and `destinations` hold the rules, `rows` the
//! tables, `sql` the values.

mod calls;
mod claims;
#[cfg(test)]
pub(crate) mod conformance;
mod destinations;
mod exports;
mod inspect;
mod leases;
mod outcomes;
pub mod postgres;
mod rows;
mod schedules;
mod sql;
pub mod sqlite;
pub(crate) mod transaction;
mod views;

use async_trait::async_trait;
use tokio::sync::broadcast;
use tracelift_core::{
    destination::{Destination, Identity, StoreFeatures},
    file::File,
    id::{DestinationId, ExportId, ExporterId, KeyId, TaskId, TenantId},
    limit::AtOnce,
    task::{Event, Fence, IllegalEvent, Lease, Progress, Verdict},
    time::Timestamp,
};
use uuid::Uuid;

pub use outcomes::{
    Access, ClaimRequest, CreateDestinationOutcome, CreateOutcome, Deletion, Due, NewDestination,
    NewExport, ReportOutcome, RequestKey, Retry, TimeLimits,
};
pub use rows::quota::Full;
pub use views::{
    ApiKey, ClaimGrant, Claimed, ExportFilter, ExportView, Page, Permission, Place, RunFiles,
    RunView, Tenant, Usage,
};

use crate::sealer::Sealed;

/// News that a slow listener may fall behind by, before it misses some.
const NOTIFICATIONS: usize = 1024;

/// Why a call to the store failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// The database cannot be used now.
    #[error("the database is not available: {0}")]
    Unavailable(String),
    /// Where the database is said to be cannot be used.
    #[error("the database's address is not usable: {0}")]
    Address(String),
    /// Others kept changing the same rows.
    #[error("the database is busy with the same rows; try again")]
    Contended,
    /// What would be stored is there already.
    #[error("{0} exists already")]
    Exists(String),
    /// A stored value cannot be read back.
    #[error("the database holds a value that this version cannot read: {0}")]
    Corrupt(String),
    /// The database was made by a newer version.
    #[error(
        "the database has a newer schema than this version knows; run the newer version, or restore the backup made before it"
    )]
    NewerSchema,
}

/// Something that others may be waiting for, whichever control plane it happened in. Losing one
/// delays, never breaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// News may have been lost: look at the store.
    Missed,
    /// A run can be claimed.
    TasksQueued,
    /// An export or one of its runs looks different.
    Export(ExportId),
    /// A run was stopped while that exporter held it under that fence.
    Stopped {
        /// The run.
        task: TaskId,
        /// The fence its exporter knows.
        fence: Fence,
        /// Its exporter.
        exporter: ExporterId,
    },
    /// An exporter has said hello; its sessions of before are over.
    Connected {
        /// The exporter.
        exporter: ExporterId,
        /// Its session from now on.
        session: Uuid,
    },
}

/// What a report can fail with.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The report makes no sense.
    #[error(transparent)]
    Illegal(#[from] IllegalEvent),
}

/// Everything that is remembered.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// Adds a tenant.
    async fn create_tenant(&self, tenant: Tenant) -> Result<(), StoreError>;
    /// All tenants, newest first.
    async fn tenants(&self) -> Result<Vec<Tenant>, StoreError>;
    /// Whether there is such a tenant.
    async fn has_tenant(&self, id: TenantId) -> Result<bool, StoreError>;
    /// Adds a key by the hash of its secret.
    async fn create_key(&self, key: ApiKey, hash: [u8; 32]) -> Result<(), StoreError>;
    /// A tenant's keys, newest first.
    async fn keys(&self, tenant: TenantId) -> Result<Vec<ApiKey>, StoreError>;
    /// Ends a key; `None` when there is none.
    async fn revoke_key(&self, id: KeyId, now: Timestamp) -> Result<Option<ApiKey>, StoreError>;
    /// The good key with that hash.
    async fn key_by_hash(&self, hash: [u8; 32]) -> Result<Option<ApiKey>, StoreError>;

    /// Adds a destination, unless its key stands for one.
    async fn create_destination(
        &self,
        new: NewDestination,
    ) -> Result<CreateDestinationOutcome, StoreError>;
    /// What that key of a tenant's stands for among destinations, if anything.
    async fn requested_destination(
        &self,
        tenant: TenantId,
        request: RequestKey,
        now: Timestamp,
    ) -> Result<Option<CreateDestinationOutcome>, StoreError>;
    /// A tenant's destination.
    async fn destination(
        &self,
        tenant: TenantId,
        id: DestinationId,
    ) -> Result<Option<Destination>, StoreError>;
    /// A tenant's destinations, newest first.
    async fn destinations(&self, tenant: TenantId) -> Result<Vec<Destination>, StoreError>;
    /// Replaces by what a tenant's destination lets us in; `None` when there is no such
    /// destination.
    async fn replace_identity(
        &self,
        tenant: TenantId,
        id: DestinationId,
        identity: Identity,
        sealed: Option<Sealed>,
        keys: Vec<String>,
        now: Timestamp,
    ) -> Result<Option<Destination>, StoreError>;
    /// What the store of a tenant's destination knows, as it was found.
    async fn remember_features(
        &self,
        tenant: TenantId,
        id: DestinationId,
        features: StoreFeatures,
    ) -> Result<(), StoreError>;
    /// Forgets a tenant's destination and its credentials, unless something is still to be written
    /// there.
    async fn delete_destination(
        &self,
        tenant: TenantId,
        id: DestinationId,
        now: Timestamp,
    ) -> Result<Deletion, StoreError>;
    /// Every sealed value with its owner, for sealing anew under another key.
    async fn all_sealed(&self) -> Result<Vec<(TenantId, DestinationId, Sealed)>, StoreError>;
    /// Replaces `old` by `new`, unless it has changed meanwhile.
    async fn reseal(&self, id: DestinationId, old: Sealed, new: Sealed) -> Result<(), StoreError>;

    /// Adds an export and its runs, unless it may not be.
    async fn create_export(&self, new: NewExport) -> Result<CreateOutcome, StoreError>;
    /// What a tenant uses of its limits.
    async fn usage(&self, tenant: TenantId, now: Timestamp) -> Result<Usage, StoreError>;
    /// Forgets keys of requests that have become too old.
    async fn forget_requests(&self, now: Timestamp) -> Result<(), StoreError>;
    /// A tenant's export.
    async fn export(
        &self,
        tenant: TenantId,
        id: ExportId,
    ) -> Result<Option<ExportView>, StoreError>;
    /// A tenant's exports, newest first.
    async fn exports(
        &self,
        tenant: TenantId,
        wanted: ExportFilter,
        page: Page,
    ) -> Result<Vec<ExportView>, StoreError>;
    /// Cancels a tenant's export, unless it has ended; `None` when there is none.
    async fn cancel_export(
        &self,
        tenant: TenantId,
        id: ExportId,
        now: Timestamp,
    ) -> Result<Option<ExportView>, StoreError>;
    /// The partitions of a tenant's export, oldest first; `None` when there is no such export.
    async fn tasks(
        &self,
        tenant: TenantId,
        export: ExportId,
        page: Page,
    ) -> Result<Option<Vec<RunView>>, StoreError>;
    /// One partition.
    async fn run(
        &self,
        tenant: TenantId,
        export: ExportId,
        task: TaskId,
    ) -> Result<Option<RunView>, StoreError>;
    /// Up to `most` complete files of a partition, behind that number; `None` when there is no such
    /// partition.
    async fn run_files(
        &self,
        tenant: TenantId,
        export: ExportId,
        task: TaskId,
        after: Option<u32>,
        most: u32,
    ) -> Result<Option<RunFiles>, StoreError>;
    /// Queues a run again that has failed or timed out; `None` when there is none.
    async fn retry_run(
        &self,
        tenant: TenantId,
        export: ExportId,
        task: TaskId,
        now: Timestamp,
    ) -> Result<Option<Retry>, StoreError>;
    /// The partitions of all exports that a tenant's schedule spawned; `None` when there is no such
    /// schedule.
    async fn schedule_runs(
        &self,
        tenant: TenantId,
        source: ExportId,
        page: Page,
    ) -> Result<Option<Vec<RunView>>, StoreError>;

    /// An exporter says hello and begins a session: verdicts over what it holds, in that order.
    /// What it holds no more is given back: as lost when another process of that name held it,
    /// as never received otherwise.
    async fn hello(
        &self,
        session: Uuid,
        lease: Lease,
        held: Vec<(TaskId, Fence)>,
        max_retries: u32,
        now: Timestamp,
    ) -> Result<Vec<Verdict>, StoreError>;
    /// An exporter is alive: verdicts over what it holds, in that order.
    async fn heartbeat(
        &self,
        lease: Lease,
        held: Vec<(TaskId, Fence)>,
        now: Timestamp,
    ) -> Result<Vec<Verdict>, StoreError>;
    /// Gives queued runs to exporters, one after the other in turns, until each holds its capacity:
    /// within the limits, fairly between tenants, of each those of its oldest exports. What
    /// callers do not see comes first and under no limit. What each is given, in the order of
    /// `asks`; of two that are of one exporter only the later one is heard.
    async fn claim(
        &self,
        asks: Vec<ClaimRequest>,
        limits: AtOnce,
        now: Timestamp,
    ) -> Result<Vec<ClaimGrant>, StoreError>;
    /// Runs stopped since then that this exporter was the last to hold, under the fence it knows.
    async fn stopped(
        &self,
        exporter: ExporterId,
        since: Timestamp,
    ) -> Result<Vec<(TaskId, Fence)>, StoreError>;
    /// A report about a run, heard only under its newest fence. The rows of an export that it
    /// completes are counted `grace` seconds after its window has ended at the earliest.
    async fn report(
        &self,
        task: TaskId,
        fence: Fence,
        event: Event,
        grace: u32,
        now: Timestamp,
    ) -> Result<ReportOutcome, ReportError>;
    /// What an exporter says of a run it works on; dropped when stale.
    async fn progress(
        &self,
        task: TaskId,
        fence: Fence,
        reported: Progress,
        now: Timestamp,
    ) -> Result<ReportOutcome, StoreError>;
    /// The complete files of a run, in order.
    async fn files(&self, task: TaskId) -> Result<Vec<File>, StoreError>;
    /// What the holder of a lease may see.
    async fn access(
        &self,
        task: TaskId,
        fence: Fence,
        exporter: ExporterId,
        incarnation: String,
    ) -> Result<Option<Access>, StoreError>;
    /// Stops runs and exports that have taken too long; how many runs.
    async fn time_out(&self, limits: TimeLimits, now: Timestamp) -> Result<usize, StoreError>;
    /// Removes the records of exports that ended before `limit`, a bounded number at a time; how
    /// many exports.
    async fn remove_ended(&self, limit: Timestamp) -> Result<usize, StoreError>;
    /// Queues every run again whose lease has passed a deadline; how many.
    async fn lapse(&self, max_retries: u32, now: Timestamp) -> Result<usize, StoreError>;

    /// Schedules with a window that is due, a bounded number of them.
    async fn due_schedules(&self, due: Due) -> Result<Vec<ExportId>, StoreError>;
    /// Spawns the exports of a schedule's windows that are due, oldest first, a bounded number of
    /// them; how many. None when another control plane is at it.
    async fn spawn(
        &self,
        schedule: ExportId,
        due: Due,
        now: Timestamp,
    ) -> Result<usize, StoreError>;

    /// The store's time, the only one that leases are judged by.
    ///
    /// Calls take a `now` that was asked for before them. That it is a little old by then is always
    /// the safe side: a lease lapses later, a wait ends later, and a lease is given until what
    /// its exporter counts as later still.
    async fn now(&self) -> Result<Timestamp, StoreError>;
    /// News, from now on.
    fn changes(&self) -> broadcast::Receiver<Change>;
}
