//! What an exporter tells the control plane about a task.

use super::{Event, Fence, Finished};
use crate::{
    failure::Failure,
    file::{File, FileIntent},
    id::TaskId,
    plan::Experiment,
};

/// A report that must not be lost: it is repeated until the control plane has stored it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskReport {
    /// The task.
    pub task: TaskId,
    /// The reporter's lease.
    pub fence: Fence,
    /// Ascends by one with each report of an exporter process, from 1.
    pub seq: u64,
    /// What happened.
    pub report: Report,
}

/// What happened to a task in its exporter's hands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report {
    /// A write is about to begin; no byte of it was sent yet.
    FileIntent(FileIntent),
    /// A file is complete in the bucket.
    FileDone(File),
    /// All files are: the commit point.
    Finished(Finished),
    /// The manifest is in the bucket.
    Published,
    /// The attempt failed.
    Failed(Failure),
    /// The exporter is stopping as planned.
    HandedBack,
    /// What a stopped partition had left open is gone.
    CleanedUp {
        /// A file that was complete and never reported.
        adopted: Option<Box<File>>,
    },
    /// The export's rows were counted in the trace store.
    Counted {
        /// How many there are.
        rows: u64,
    },
    /// The projects with a reference dataset were found.
    ExperimentsFound(Vec<Experiment>),
}

impl Report {
    /// As an event of the task's state machine; `max_retries` is the operator's setting.
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

/// How far a task has come, as its exporter last said. Conflated: only the newest one counts.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Progress {
    /// What it is doing, in a few words for people.
    pub stage: String,
    /// Rows, including those in the unfinished file.
    pub rows: u64,
    /// Bytes, including those of the unfinished file.
    pub bytes: u64,
    /// Complete files.
    pub files: u32,
    /// Rows that the whole task should have, if that is known.
    pub rows_estimate: Option<u64>,
    /// Fields filled in from objects.
    pub hydrated_objects: u64,
    /// Fields that could not be filled in.
    pub hydration_misses: u64,
    /// Seconds spent in read, hydrate, encode, upload.
    pub stage_seconds: [f64; 4],
}

/// What an exporter should do with a lease that it believes to hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Continue; the lease is renewed.
    Keep,
    /// The export was cancelled: clean up.
    Cancel,
    /// Another exporter holds it now: touch nothing.
    Revoked,
}
