//! An assignment: a task handed to an exporter under a lease, with everything that it needs.

use crate::{
    export::ExportSpec,
    file::{Cursor, File, FileIntent, LeftOut, Totals},
    id::{ExportId, SessionId, TaskId, TenantId},
    plan::Partition,
    task::{Fence, Identity},
    time::{Timestamp, Window},
};

/// A task handed to an exporter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment {
    /// The task.
    pub task: TaskId,
    /// Every report about it must carry this number.
    pub fence: Fence,
    /// The task's export.
    pub export: ExportId,
    /// The export's tenant: no row of another one may be read.
    pub tenant: TenantId,
    /// Which attempt this is, from 0.
    pub attempt: u32,
    /// What to export, and how.
    pub spec: ExportSpec,
    /// What to do.
    pub work: Assigned,
}

/// What to do under a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Assigned {
    /// Export a partition from where earlier attempts ended.
    Partition(Resume),
    /// Write a partition's manifest: its file list is frozen already.
    Publish(Frozen),
    /// Write the export's manifest and `_SUCCESS`.
    Finalize {
        /// Every partition, in order.
        partitions: Vec<PublishedPartition>,
        /// When rows of the export were first read.
        read: ReadTime,
    },
    /// Abort what a stopped or failed partition may have left open.
    CleanUp(Leftover),
    /// Count the export's rows again, project by project.
    Reconcile {
        /// The projects.
        sessions: Vec<SessionId>,
    },
    /// Find the projects with a reference dataset that have rows in the export's window.
    FindExperiments,
}

/// A partition, and how far earlier attempts have come with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resume {
    /// The partition.
    pub partition: Partition,
    /// The last row that is in a complete file; `None` to start at the first row.
    pub cursor: Option<Cursor>,
    /// Complete files and their rows; the other sums are zero.
    pub before: Totals,
    /// An upload that an earlier attempt may have left open.
    pub unresolved: Option<FileIntent>,
    /// How often the trace store recently broke off, at most
    /// [`MAX_BATCH_SHRINK`](crate::task::MAX_BATCH_SHRINK): each step halves the rows that are read
    /// at once.
    pub batch_shrink: u32,
}

impl Resume {
    /// Whether the bucket has taken writes of this task before.
    pub fn has_written(&self) -> bool {
        let opened = |intent: &FileIntent| !intent.upload_id.is_empty();
        self.before.files > 0 || self.unresolved.as_ref().is_some_and(opened)
    }
}

/// What a partition holds once its file list is frozen: the content of its manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frozen {
    /// The partition.
    pub partition: Partition,
    /// Its files, in order.
    pub files: Vec<File>,
    /// Rows that were read and not exported.
    pub left_out: LeftOut,
    /// What counts as one row.
    pub identity: Identity,
    /// When its rows were first read, if that is known.
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
    /// Its task, which is part of its files' keys.
    pub task: TaskId,
    /// The partition.
    pub partition: Partition,
    /// Its files, added up, and the rows that were left out.
    pub totals: Totals,
    /// What counts as one row.
    pub identity: Identity,
    /// When its rows were first read, if that is known.
    pub read_at: Option<Timestamp>,
}

/// When rows were first read, and whether that was before the end of their window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ReadTime {
    /// When, if that is known.
    pub at: Option<Timestamp>,
    /// Whether the window was still open: rows that arrived later may be missing.
    pub window_open: bool,
}

impl ReadTime {
    /// For rows of one window.
    pub fn of(window: Window, at: Option<Timestamp>) -> Self {
        Self { at, window_open: at.is_some_and(|at| at < window.end()) }
    }
}

/// What a stopped or failed partition may have left at the key of its next file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leftover {
    /// The partition's task, which is part of the key.
    pub task: TaskId,
    /// The partition.
    pub partition: Partition,
    /// The first file that is not recorded.
    pub next_file: u32,
    /// The last intent, if it is not resolved.
    pub unresolved: Option<FileIntent>,
}
