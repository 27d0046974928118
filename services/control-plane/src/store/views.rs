//! What the store returns, and which part of a list to return.

use tracelift_core::{
    assignment::ReadTime,
    destination::Bucket,
    export::{Export, ExportStatus},
    file::File,
    id::{DestinationId, KeyId, SessionId, TenantId},
    plan::Partition,
    task::{Progress, Task},
    time::Timestamp,
};
use uuid::Uuid;

/// A workspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tenant {
    /// Its id.
    pub id: TenantId,
    /// Its display name.
    pub display_name: String,
    /// When it was created.
    pub created_at: Timestamp,
    /// Since when it is suspended.
    pub suspended_at: Option<Timestamp>,
    /// When it was deleted.
    pub deleted_at: Option<Timestamp>,
}

impl Tenant {
    /// A new one.
    #[must_use]
    pub fn new(id: TenantId, display_name: String, created_at: Timestamp) -> Self {
        Self { id, display_name, created_at, suspended_at: None, deleted_at: None }
    }
}

/// Who acts for a tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Actor {
    /// The tenant.
    pub tenant: TenantId,
    /// The API key that the call was made with.
    pub key: KeyId,
}

/// What a key may be used for; each permission includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Permission {
    /// List and get.
    Read,
    /// Also create, change and cancel.
    Manage,
    /// Also administer the tenant: its keys and its audit log.
    Admin,
}

/// An API key, without its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKey {
    /// Its id.
    pub id: KeyId,
    /// The one tenant it belongs to.
    pub tenant: TenantId,
    /// Its display name.
    pub display_name: String,
    /// What it may be used for.
    pub permission: Permission,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
    /// From when on it is not valid any more.
    pub expires_at: Option<Timestamp>,
    /// When it was last used, to about a minute.
    pub last_used_at: Option<Timestamp>,
}

/// A key that was not revoked, with what matters of its tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownKey {
    /// The key; it may have expired.
    pub key: ApiKey,
    /// Whether its tenant is suspended.
    pub suspended: bool,
}

/// A control plane that runs, as others see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replica {
    /// Chosen at random when it started.
    pub id: Uuid,
    /// For people.
    pub name: String,
    /// Ids of its master keys, in the operator's order.
    pub keys: Vec<String>,
    /// When it was last heard of.
    pub seen_at: Timestamp,
}

/// Which part of a list to return.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page {
    /// At most this many; `None` for all.
    pub limit: Option<u32>,
    /// Skip this many.
    pub offset: u32,
    /// Start after this place.
    pub after: Option<Place>,
}

impl Page {
    /// Everything.
    pub const ALL: Self = Self { limit: None, offset: 0, after: None };

    /// Up to `most` after this place; the offset applies only if there is none.
    #[must_use]
    pub fn from(self, after: Option<Place>, most: u32) -> Self {
        Self { limit: Some(most), offset: if after.is_some() { 0 } else { self.offset }, after }
    }
}

/// The position of an item in a list: for exports the creation time, for runs the start of the
/// partition; then the id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place(pub Timestamp, pub Uuid);

/// Which exports to list; empty fields match all.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ExportFilter {
    /// Those with one of these statuses.
    pub statuses: Vec<ExportStatus>,
    /// Those to this destination.
    pub destination: Option<DestinationId>,
    /// Those of this project; never exports of all experiments.
    pub session: Option<SessionId>,
}

/// An export with the totals of its runs.
#[derive(Debug, Clone, PartialEq)]
pub struct ExportView {
    /// The export.
    pub export: Export,
    /// Its partitions.
    pub runs_total: u32,
    /// Those that are complete.
    pub runs_completed: u32,
    /// Rows, including those in unfinished files.
    pub rows: u64,
    /// Bytes, including those of unfinished files.
    pub bytes: u64,
    /// Complete files.
    pub files: u32,
    /// Undecided rows: a filter cannot judge them.
    pub undecided: u64,
    /// Rows that were read and did not match.
    pub decided_against: u64,
    /// Runs whose rows were counted.
    pub runs_counted: u32,
    /// The rows counted in those runs.
    pub rows_counted: u64,
    /// When the first task was claimed, since the export was last restarted.
    pub started_at: Option<Timestamp>,
    /// Rows that already existed when it was last restarted.
    pub rows_before: u64,
    /// When the first of its rows was read.
    pub read_at: Option<Timestamp>,
    /// Whether that, or the reading of any of its runs, happened before the end of the window being
    /// read.
    pub window_open: bool,
    /// After completion: how many rows the trace store held, and when.
    pub reconciled: Option<(u64, Timestamp)>,
}

impl ExportView {
    /// An export that nobody has worked on yet, with its initial tasks.
    #[must_use]
    pub fn planned(export: Export, tasks: &[Task]) -> Self {
        let partitions = tasks.iter().filter(|task| task.kind.partition().is_some()).count();
        Self {
            export,
            runs_total: u32::try_from(partitions).unwrap_or(u32::MAX),
            runs_completed: 0,
            rows: 0,
            bytes: 0,
            files: 0,
            undecided: 0,
            decided_against: 0,
            runs_counted: 0,
            rows_counted: 0,
            started_at: None,
            rows_before: 0,
            read_at: None,
            window_open: false,
            reconciled: None,
        }
    }
}

/// A tenant's usage of its limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Exports in progress.
    pub running_exports: u32,
    /// Exports that wait to start.
    pub queued_exports: u32,
    /// Exports and schedules created by callers within the last hour.
    pub exports_last_hour: u32,
    /// Active schedules.
    pub schedules: u32,
    /// Runs in progress of the export that has most of them.
    pub busiest_export: u32,
}

/// A run with everything that a caller may see of it.
#[derive(Debug, Clone, PartialEq)]
pub struct RunView {
    /// The run.
    pub task: Task,
    /// Its export.
    pub export: Export,
    /// The destination's bucket.
    pub bucket: Bucket,
    /// Keys of its complete files, in order; only the first ones if there are very many.
    pub keys: Vec<String>,
    /// The progress that its exporter last reported.
    pub reported: Progress,
    /// The exporter that holds it, or held it last.
    pub exporter: Option<String>,
}

/// A page of a run's complete files.
#[derive(Debug, Clone, PartialEq)]
pub struct RunFiles {
    /// The destination's bucket.
    pub bucket: Bucket,
    /// Their numbers and keys, in order.
    pub keys: Vec<(u32, String)>,
}

/// What an exporter was granted.
#[derive(Debug, Clone, PartialEq)]
pub struct ClaimGrant {
    /// Tasks, each under a lease.
    pub tasks: Vec<Claimed>,
    /// Whether the exporter has room for more.
    pub room: bool,
}

/// A claimed task, with everything that its exporter needs.
#[derive(Debug, Clone, PartialEq)]
pub struct Claimed {
    /// The task, under its new fence.
    pub task: Task,
    /// Its export.
    pub export: Export,
    /// Its complete files, if it is past its commit point.
    pub files: Vec<File>,
    /// The export's partitions with their tasks, if the task finalizes or reconciles it.
    pub published: Vec<(Partition, Task)>,
    /// When the export was first read, if the task finalizes it.
    pub read: ReadTime,
    /// The task to clean up after, if this is a clean-up.
    pub leftover: Option<Task>,
}
