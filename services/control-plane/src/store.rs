//! The store: the only truth. Every call is one transaction, and every read that a caller can cause names its tenant.
//!
//! SQLite is the default ([`sqlite`]), PostgreSQL serves several control planes at once ([`postgres`]). Nothing above this
//! trait knows which database there is. Down the line: `calls` makes a call a transaction, `leases` and `exports` hold the
//! rules, `rows` the tables, `sql` the values.

mod calls;
mod claims;
#[cfg(test)]
pub(crate) mod conformance;
mod exports;
mod inspect;
mod leases;
pub mod postgres;
mod rows;
mod schedules;
mod sql;
pub mod sqlite;
mod transaction;

use async_trait::async_trait;
use tokio::sync::broadcast;
use tracelift_core::{
    destination::{Bucket, Destination, Identity},
    export::{Export, ExportStatus},
    file::File,
    id::{DestinationId, ExportId, ExporterId, KeyId, RunId, SessionId, TenantId},
    limit::{AtOnce, Quota},
    run::{Event, Fence, IllegalEvent, Lease, Run, RunStatus},
    time::{Timestamp, Window},
};
use uuid::Uuid;

pub use rows::quota::Full;

use crate::vault::Sealed;

/// News that a slow listener may fall behind by, before it misses some.
const NEWS: usize = 1024;

/// Why a call to the store failed.
#[derive(Debug, thiserror::Error)]
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
    #[error("the database has a newer schema than this version knows; run the newer version, or restore the backup made before it")]
    NewerSchema,
}

/// A workspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tenant {
    /// Its id.
    pub id: TenantId,
    /// What people call it.
    pub display_name: String,
    /// When it was made.
    pub created_at: Timestamp,
}

/// What a key may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Permission {
    /// List and get.
    Read,
    /// Everything within the tenant.
    Manage,
}

/// An API key, without its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKey {
    /// Its id.
    pub id: KeyId,
    /// The one tenant it belongs to.
    pub tenant: TenantId,
    /// What people call it.
    pub display_name: String,
    /// What it may be used for.
    pub permission: Permission,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it stopped being good.
    pub revoked_at: Option<Timestamp>,
}

/// Which part of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page {
    /// At most that many; `None` for all.
    pub limit: Option<u32>,
    /// After that many.
    pub offset: u32,
}

/// Which exports of a list; nothing means all.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Wanted {
    /// Those with one of these.
    pub statuses: Vec<ExportStatus>,
    /// Those to this one.
    pub destination: Option<DestinationId>,
    /// Those of this project.
    pub session: Option<SessionId>,
}

/// An export with what its runs add up to.
#[derive(Debug, Clone, PartialEq)]
pub struct ExportView {
    /// The export.
    pub export: Export,
    /// Its partitions.
    pub runs_total: u32,
    /// Those that are complete.
    pub runs_completed: u32,
    /// Rows, those in unfinished files included.
    pub rows: u64,
    /// Bytes, those of unfinished files included.
    pub bytes: u64,
    /// Complete files.
    pub files: u32,
    /// Runs whose rows were counted.
    pub runs_counted: u32,
    /// Their rows.
    pub rows_counted: u64,
    /// When the first run was taken, since it was last begun anew.
    pub started_at: Option<Timestamp>,
    /// Rows that were there when it was last begun anew.
    pub rows_before: u64,
    /// After it was completed: how many rows the trace store had, and when.
    pub reconciled: Option<(u64, Timestamp)>,
}

impl ExportView {
    /// An export that nobody has worked on.
    #[must_use]
    pub fn planned(export: Export, runs: usize) -> Self {
        Self {
            export,
            runs_total: u32::try_from(runs).unwrap_or(u32::MAX),
            runs_completed: 0,
            rows: 0,
            bytes: 0,
            files: 0,
            runs_counted: 0,
            rows_counted: 0,
            started_at: None,
            rows_before: 0,
            reconciled: None,
        }
    }
}

/// An export that a caller asks for.
#[derive(Debug, Clone, PartialEq)]
pub struct NewExport {
    /// The export.
    pub export: Export,
    /// Its runs.
    pub runs: Vec<Run>,
    /// What its tenant may ask for.
    pub quota: Quota,
    /// Under which key the request may be repeated.
    pub request: Option<RequestKey>,
}

impl NewExport {
    /// Under no limit and no key.
    #[must_use]
    pub fn of(export: Export, runs: Vec<Run>) -> Self {
        Self { export, runs, quota: Quota::default(), request: None }
    }
}

/// A key that a caller has given to a request, so that it can be repeated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestKey {
    /// The caller's text.
    pub key: String,
    /// SHA-256 of what was asked for.
    pub hash: [u8; 32],
}

/// What became of a new export.
#[derive(Debug, Clone, PartialEq)]
pub enum Made {
    /// It is stored.
    Now(Box<ExportView>),
    /// The same was asked for under that key before; as it was answered then.
    Before(Box<ExportView>),
    /// Something else was asked for under that key.
    OtherRequest,
    /// Its destination is not the tenant's.
    NoDestination,
    /// The tenant has as many as it may.
    Full(Full),
}

/// What became of a run that was asked for anew.
#[derive(Debug, Clone, PartialEq)]
pub enum Retry {
    /// It waits for an exporter.
    Queued(Box<RunView>),
    /// Its export was cancelled.
    Cancelled,
    /// It has not failed: that is where it stands.
    Not(RunStatus),
    /// Its destination has been deleted.
    NoDestination,
}

/// What a tenant uses of its limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Exports that are worked on.
    pub running_exports: u32,
    /// Exports that wait for that.
    pub queued_exports: u32,
    /// Exports and schedules made by callers within the last hour.
    pub exports_last_hour: u32,
    /// Schedules under way.
    pub schedules: u32,
    /// Runs at work of the export with most of them.
    pub busiest_export: u32,
}

/// What an exporter said of a run last.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Reported {
    /// What it was doing.
    pub stage: String,
    /// Rows, those in the unfinished file included.
    pub rows: u64,
    /// Bytes, those of the unfinished file included.
    pub bytes: u64,
    /// Complete files.
    pub files: u32,
    /// Rows that the whole run should have.
    pub rows_estimate: Option<u64>,
    /// Fields filled in from objects.
    pub hydrated_objects: u64,
    /// Fields that could not be filled in.
    pub hydration_misses: u64,
    /// Seconds in read, hydrate, encode, upload.
    pub stage_seconds: [f64; 4],
}

/// A run with everything a caller may see of it.
#[derive(Debug, Clone, PartialEq)]
pub struct RunView {
    /// The run.
    pub run: Run,
    /// Its export.
    pub export: Export,
    /// The destination's bucket.
    pub bucket: Bucket,
    /// Keys of its complete files, in order.
    pub keys: Vec<String>,
    /// What its exporter said last.
    pub reported: Reported,
    /// Who holds it, or held it last.
    pub exporter: Option<String>,
}

/// A partition as the export's manifest lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishedRun {
    /// The run.
    pub run: Run,
    /// Its partition.
    pub window: Window,
}

/// A run that was claimed, with all that its exporter needs.
#[derive(Debug, Clone, PartialEq)]
pub struct Claimed {
    /// The run, under its new fence.
    pub run: Run,
    /// Its export.
    pub export: Export,
    /// Its complete files, when it is past its commit point.
    pub files: Vec<File>,
    /// The export's partitions, when the run is the finalising one.
    pub published: Vec<PublishedRun>,
    /// The run to clean up after, when that is what there is to do.
    pub left: Option<Run>,
}

/// How long things may take, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeLimits {
    /// A run, from when it was first taken.
    pub run: u32,
    /// An export, from when its first run was taken.
    pub export: u32,
}

/// What became of a report.
#[derive(Debug, Clone, PartialEq)]
pub enum Heard {
    /// It is stored.
    Yes(Box<Run>),
    /// It came from somebody who no longer holds the run.
    Stale,
}

/// What an exporter should do with a lease that it believes to hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Go on; the lease is renewed.
    Keep,
    /// The export was cancelled: clean up.
    Cancel,
    /// Somebody else's now: touch nothing.
    Revoked,
}

/// Something that others may be waiting for, whichever control plane it happened in. Losing one delays, never breaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// News may have been lost: look at the store.
    Missed,
    /// A run can be claimed.
    Work,
    /// An export or one of its runs looks different.
    Export(ExportId),
    /// A run was stopped while that exporter held it under that fence.
    Stopped {
        /// The run.
        run: RunId,
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

/// The bucket and the sealed credentials that a lease gives access to.
#[derive(Debug)]
pub struct Access {
    /// Whose.
    pub tenant: TenantId,
    /// Which destination.
    pub destination: DestinationId,
    /// Where it is.
    pub bucket: Bucket,
    /// By what it lets us in.
    pub identity: Identity,
    /// The keys, when it is by keys.
    pub sealed: Option<Sealed>,
}

/// What became of a destination that was to be deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Deletion {
    /// It is gone.
    Done,
    /// There is none.
    Absent,
    /// That export still writes to it, or that schedule will.
    InUse(ExportId),
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

    /// Adds a destination with its sealed credentials, when it has any.
    async fn create_destination(&self, destination: Destination, sealed: Option<Sealed>) -> Result<(), StoreError>;
    /// A tenant's destination.
    async fn destination(&self, tenant: TenantId, id: DestinationId) -> Result<Option<Destination>, StoreError>;
    /// A tenant's destinations, newest first.
    async fn destinations(&self, tenant: TenantId) -> Result<Vec<Destination>, StoreError>;
    /// Replaces by what a tenant's destination lets us in; `None` when there is no such destination.
    async fn replace_identity(
        &self,
        tenant: TenantId,
        id: DestinationId,
        identity: Identity,
        sealed: Option<Sealed>,
        keys: Vec<String>,
        now: Timestamp,
    ) -> Result<Option<Destination>, StoreError>;
    /// Forgets a tenant's destination and its credentials, unless something is still to be written there.
    async fn delete_destination(&self, tenant: TenantId, id: DestinationId, now: Timestamp) -> Result<Deletion, StoreError>;
    /// Every sealed value with its owner, for sealing anew under another key.
    async fn all_sealed(&self) -> Result<Vec<(TenantId, DestinationId, Sealed)>, StoreError>;
    /// Replaces `old` by `new`, unless it has changed meanwhile.
    async fn reseal(&self, id: DestinationId, old: Sealed, new: Sealed) -> Result<(), StoreError>;

    /// Adds an export and its runs, unless it may not be.
    async fn create_export(&self, new: NewExport) -> Result<Made, StoreError>;
    /// What a tenant uses of its limits.
    async fn usage(&self, tenant: TenantId, now: Timestamp) -> Result<Usage, StoreError>;
    /// Forgets keys of requests that have become too old.
    async fn forget_requests(&self, now: Timestamp) -> Result<(), StoreError>;
    /// A tenant's export.
    async fn export(&self, tenant: TenantId, id: ExportId) -> Result<Option<ExportView>, StoreError>;
    /// A tenant's exports, newest first.
    async fn exports(&self, tenant: TenantId, wanted: Wanted, page: Page) -> Result<Vec<ExportView>, StoreError>;
    /// Cancels a tenant's export, unless it has ended; `None` when there is none.
    async fn cancel_export(&self, tenant: TenantId, id: ExportId, now: Timestamp) -> Result<Option<ExportView>, StoreError>;
    /// The partitions of a tenant's export, oldest first; `None` when there is no such export.
    async fn runs(&self, tenant: TenantId, export: ExportId, page: Page) -> Result<Option<Vec<RunView>>, StoreError>;
    /// One partition.
    async fn run(&self, tenant: TenantId, export: ExportId, run: RunId) -> Result<Option<RunView>, StoreError>;
    /// Queues a run again that has failed or timed out; `None` when there is none.
    async fn retry_run(&self, tenant: TenantId, export: ExportId, run: RunId, now: Timestamp) -> Result<Option<Retry>, StoreError>;
    /// The partitions of all exports that a tenant's schedule spawned; `None` when there is no such schedule.
    async fn schedule_runs(&self, tenant: TenantId, source: ExportId, page: Page) -> Result<Option<Vec<RunView>>, StoreError>;

    /// An exporter says hello and begins a session: verdicts over what it holds, in that order. What it holds no more is
    /// given back: as lost when another process of that name held it, as never received otherwise.
    async fn hello(
        &self,
        session: Uuid,
        lease: Lease,
        held: Vec<(RunId, Fence)>,
        max_retries: u32,
        now: Timestamp,
    ) -> Result<Vec<Verdict>, StoreError>;
    /// An exporter is alive: verdicts over what it holds, in that order.
    async fn heartbeat(&self, lease: Lease, held: Vec<(RunId, Fence)>, now: Timestamp) -> Result<Vec<Verdict>, StoreError>;
    /// Gives queued runs to an exporter until it holds `capacity`: within the limits, fairly between tenants, of each those of
    /// its oldest exports. What callers do not see comes first and under no limit.
    async fn claim(&self, lease: Lease, capacity: u32, limits: AtOnce, now: Timestamp) -> Result<Vec<Claimed>, StoreError>;
    /// Runs stopped since then that this exporter was the last to hold, under the fence it knows.
    async fn stopped(&self, exporter: ExporterId, since: Timestamp) -> Result<Vec<(RunId, Fence)>, StoreError>;
    /// A report about a run, heard only under its newest fence.
    async fn report(&self, run: RunId, fence: Fence, event: Event, now: Timestamp) -> Result<Heard, ReportError>;
    /// What an exporter says of a run it works on; dropped when stale.
    async fn progress(&self, run: RunId, fence: Fence, reported: Reported, now: Timestamp) -> Result<Heard, StoreError>;
    /// The complete files of a run, in order.
    async fn files(&self, run: RunId) -> Result<Vec<File>, StoreError>;
    /// What the holder of a lease may see.
    async fn access(&self, run: RunId, fence: Fence, exporter: ExporterId, incarnation: String) -> Result<Option<Access>, StoreError>;
    /// Stops runs and exports that have taken too long; how many runs.
    async fn time_out(&self, limits: TimeLimits, now: Timestamp) -> Result<usize, StoreError>;
    /// Removes the records of exports that ended before `limit`, a bounded number at a time; how many exports.
    async fn remove_ended(&self, limit: Timestamp) -> Result<usize, StoreError>;
    /// Queues every run again whose lease has passed a deadline; how many.
    async fn lapse(&self, max_retries: u32, now: Timestamp) -> Result<usize, StoreError>;

    /// Schedules whose next window ended before `limit`, a bounded number of them.
    async fn due_schedules(&self, limit: Timestamp) -> Result<Vec<ExportId>, StoreError>;
    /// Spawns the exports of a schedule's windows that ended before `limit`, oldest first, a bounded number of them; how
    /// many. None when another control plane is at it.
    async fn spawn(&self, schedule: ExportId, limit: Timestamp, now: Timestamp) -> Result<usize, StoreError>;

    /// The store's time, the only one that leases are judged by.
    ///
    /// Calls take a `now` that was asked for before them. That it is a little old by then is always the safe side: a lease
    /// lapses later, a wait ends later, and a lease is given until what its exporter counts as later still.
    async fn now(&self) -> Result<Timestamp, StoreError>;
    /// News, from now on.
    fn changes(&self) -> broadcast::Receiver<Change>;
}
