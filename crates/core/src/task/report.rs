//! What an exporter reports about a task.

use super::{Event, Fence, Finished};
use crate::{
    failure::Failure,
    file::{File, FileIntent},
    id::TaskId,
    plan::Experiment,
};

/// A report that must not be lost: the exporter resends it until the control plane has stored it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskReport {
    /// The task it concerns.
    pub task: TaskId,
    /// The fence of the sender's lease.
    pub fence: Fence,
    /// Sequence number within an exporter process; starts at 1 and increases by one per report.
    pub seq: u64,
    /// What happened.
    pub report: Report,
}

/// What happened to a leased task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report {
    /// A file's intent, reported before its first byte is sent and again before its object can
    /// exist.
    FileIntent(FileIntent),
    /// A file is complete in the bucket.
    FileDone(File),
    /// All files are complete: the commit point.
    Finished(Finished),
    /// The manifest is in the bucket.
    Published,
    /// The attempt failed.
    Failed(Failure),
    /// The exporter is shutting down and returns the task.
    HandedBack,
    /// Nothing is left open in the bucket by a stopped or failed partition.
    CleanedUp {
        /// A complete file that was never reported.
        adopted: Option<Box<File>>,
    },
    /// The export's rows were counted in the trace store.
    Counted {
        /// Rows now in the trace store.
        rows: u64,
    },
    /// The projects with a reference dataset were found.
    ExperimentsFound(Vec<Experiment>),
}

impl Report {
    /// The report as an event of the state machine. `max_retries` is the operator's retry limit.
    pub fn event(self, max_retries: u32) -> Event {
        match self {
            Self::FileIntent(intent) => Event::FileIntent(intent),
            Self::FileDone(file) => Event::FileDone(file),
            Self::Finished(finished) => Event::Finished(finished),
            Self::Published => Event::Published,
            Self::Failed(failure) => Event::Failed { failure, max_retries },
            Self::HandedBack => Event::HandedBack,
            Self::CleanedUp { adopted } => Event::CleanedUp { adopted },
            Self::Counted { rows } => Event::Counted { rows },
            Self::ExperimentsFound(found) => Event::ExperimentsFound(found),
        }
    }
}

/// Progress of a task, as its exporter last reported it. Conflated: only the latest value counts.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Progress {
    /// Current activity, in a few words for people.
    pub stage: String,
    /// Rows, including those in the unfinished file.
    pub rows: u64,
    /// Bytes, including those of the unfinished file.
    pub bytes: u64,
    /// Complete files.
    pub files: u32,
    /// Estimated rows of the whole task, if known.
    pub rows_estimate: Option<u64>,
    /// Fields filled in from objects.
    pub hydrated_objects: u64,
    /// Fields that could not be filled in.
    pub hydration_misses: u64,
    /// Seconds spent in read, hydrate, encode and upload, in this order.
    pub stage_seconds: [f64; 4],
}

/// What an exporter should do with a lease that it believes it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Continue; the lease was renewed.
    Keep,
    /// The lease was renewed, but another tenant waits with nothing at work: finish the current file
    /// and hand the task back.
    HandBack,
    /// The export was cancelled: stop and clean up.
    Cancel,
    /// Another exporter holds the lease: stop and touch nothing.
    Revoked,
}
