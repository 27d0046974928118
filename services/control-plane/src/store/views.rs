//! What is read from the store, and which part of it.

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
    /// Behind this one.
    pub after: Option<Place>,
}

impl Page {
    /// Everything.
    pub const ALL: Self = Self { limit: None, offset: 0, after: None };

    /// Up to `most` behind that one; with the offset as long as there is none.
    #[must_use]
    pub fn from(self, after: Option<Place>, most: u32) -> Self {
        Self { limit: Some(most), offset: if after.is_some() { 0 } else { self.offset }, after }
    }
}

/// Where something stands in a list: of exports when it was made, of runs where its partition
/// begins; then its id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place(pub Timestamp, pub Uuid);

/// Which exports of a list; nothing means all.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ExportFilter {
    /// Those with one of these.
    pub statuses: Vec<ExportStatus>,
    /// Those to this one.
    pub destination: Option<DestinationId>,
    /// Those of this project, which those of all experiments are not.
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
    /// Rows that nobody can decide.
    pub undecided: u64,
    /// Rows that were read and do not match.
    pub decided_against: u64,
    /// Runs whose rows were counted.
    pub runs_counted: u32,
    /// Their rows.
    pub rows_counted: u64,
    /// When the first run was taken, since it was last begun anew.
    pub started_at: Option<Timestamp>,
    /// Rows that were there when it was last begun anew.
    pub rows_before: u64,
    /// When somebody first began to read rows of it.
    pub read_at: Option<Timestamp>,
    /// Whether that, or the reading of any of its runs, was before the end of the window that was
    /// read.
    pub window_open: bool,
    /// After it was completed: how many rows the trace store had, and when.
    pub reconciled: Option<(u64, Timestamp)>,
}

impl ExportView {
    /// An export that nobody has worked on, and the runs that it begins with.
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

/// A run with everything a caller may see of it.
#[derive(Debug, Clone, PartialEq)]
pub struct RunView {
    /// The run.
    pub task: Task,
    /// Its export.
    pub export: Export,
    /// The destination's bucket.
    pub bucket: Bucket,
    /// Keys of its complete files, in order; of very many the first ones.
    pub keys: Vec<String>,
    /// What its exporter said last.
    pub reported: Progress,
    /// Who holds it, or held it last.
    pub exporter: Option<String>,
}

/// Complete files of a run, a page of them.
#[derive(Debug, Clone, PartialEq)]
pub struct RunFiles {
    /// The destination's bucket.
    pub bucket: Bucket,
    /// Their numbers and keys, in order.
    pub keys: Vec<(u32, String)>,
}

/// What an exporter was given.
#[derive(Debug, Clone, PartialEq)]
pub struct ClaimGrant {
    /// Tasks, under a lease each.
    pub tasks: Vec<Claimed>,
    /// Whether it could hold another one.
    pub room: bool,
}

/// A task that was claimed, with everything that its exporter needs.
#[derive(Debug, Clone, PartialEq)]
pub struct Claimed {
    /// The task, under its new fence.
    pub task: Task,
    /// Its export.
    pub export: Export,
    /// Its complete files, when it is past its commit point.
    pub files: Vec<File>,
    /// The export's partitions with their tasks, when the task finalizes or counts them.
    pub published: Vec<(Partition, Task)>,
    /// When the export was first read, when the task finalizes it.
    pub read: ReadTime,
    /// The task to clean up after, when that is what there is to do.
    pub leftover: Option<Task>,
}
