//! An assignment: a task handed to an exporter under a lease, with everything it needs.

use crate::{
    export::ExportSpec,
    file::{Cursor, File, FileIntent, LeftOut, Totals},
    id::{ExportId, SessionId, TaskId, TenantId},
    plan::Partition,
    task::{Fence, Identity},
    time::{Timestamp, Window},
};

/// A task handed to an exporter under a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment {
    /// Task id.
    pub task: TaskId,
    /// The fence that every report about the task must carry.
    pub fence: Fence,
    /// The task's export.
    pub export: ExportId,
    /// The export's tenant. No rows of other tenants may be read.
    pub tenant: TenantId,
    /// Number of this attempt, from 0.
    pub attempt: u32,
    /// What to export, and how.
    pub spec: ExportSpec,
    /// What to do.
    pub work: Assigned,
}

/// The work of an assignment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Assigned {
    /// Export a partition, resuming after earlier attempts.
    Partition(Resume),
    /// Write the manifest of a partition whose file list is already frozen.
    Publish(Frozen),
    /// Write the export's manifest and `_SUCCESS`.
    Finalize {
        /// All partitions, in order.
        partitions: Vec<PublishedPartition>,
        /// When rows of the export were first read.
        read: ReadTime,
    },
    /// Abort the upload that a stopped or failed partition may have left open.
    CleanUp(Leftover),
    /// Count the export's rows in the trace store again.
    Reconcile {
        /// The projects to count.
        sessions: Vec<SessionId>,
    },
    /// Find the experiments with rows in the export's window.
    FindExperiments,
}

/// A partition, and how far earlier attempts got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resume {
    /// The partition to export.
    pub partition: Partition,
    /// Last row in a complete file; `None` starts at the first row.
    pub cursor: Option<Cursor>,
    /// Complete files and their rows; all other totals are zero.
    pub before: Totals,
    /// An upload that an earlier attempt may have left open.
    pub unresolved: Option<FileIntent>,
    /// How often the trace store recently aborted a response, at most
    /// [`MAX_BATCH_SHRINK`](crate::task::MAX_BATCH_SHRINK). Each step quarters the rows read at
    /// once; at the maximum, rows are read one at a time.
    pub batch_shrink: u32,
}

impl Resume {
    /// Whether the bucket has already accepted a write for this task.
    pub fn has_written(&self) -> bool {
        let opened = |intent: &FileIntent| !intent.upload_id.is_empty();
        self.before.files > 0 || self.unresolved.as_ref().is_some_and(opened)
    }
}

/// A partition whose file list is frozen: the content of its manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frozen {
    /// The partition.
    pub partition: Partition,
    /// Its files, in order.
    pub files: Vec<File>,
    /// Rows that were read but not exported.
    pub left_out: LeftOut,
    /// What identified a row.
    pub identity: Identity,
    /// When its rows were first read, if known.
    pub read_at: Option<Timestamp>,
}

impl Frozen {
    /// When its rows were first read.
    pub fn read(&self) -> ReadTime {
        ReadTime::of(self.partition.window, self.read_at)
    }
}

/// A complete partition, as the export's manifest lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishedPartition {
    /// Its task id, which is part of its files' keys.
    pub task: TaskId,
    /// The partition.
    pub partition: Partition,
    /// Totals of its files, plus rows that were left out.
    pub totals: Totals,
    /// What identified a row.
    pub identity: Identity,
    /// When its rows were first read, if known.
    pub read_at: Option<Timestamp>,
}

/// When rows were first read, and whether their window had ended by then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ReadTime {
    /// Time of the first read, if known.
    pub at: Option<Timestamp>,
    /// Whether the window was still open; if so, rows that arrived later may be missing.
    pub window_open: bool,
}

impl ReadTime {
    /// The read time of one window.
    pub fn of(window: Window, at: Option<Timestamp>) -> Self {
        Self { at, window_open: at.is_some_and(|at| at < window.end()) }
    }
}

/// What a stopped or failed partition may have left at the key of its next file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leftover {
    /// The partition's task id, which is part of the key.
    pub task: TaskId,
    /// The partition.
    pub partition: Partition,
    /// Number of the first unrecorded file.
    pub next_file: u32,
    /// The last intent, if it was never resolved.
    pub unresolved: Option<FileIntent>,
}
