//! The events of a task's state machine.

use super::{Identity, Lease};
use crate::{
    failure::Failure,
    file::{File, FileIntent, LeftOut, Totals},
    plan::Experiment,
    time::Timestamp,
};

/// An event of the state machine in [`Task::apply`](super::Task::apply).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// An exporter claimed the task.
    Claimed(Lease),
    /// A heartbeat arrived from the exporter.
    Renewed {
        /// The lease's new deadline.
        until: Timestamp,
    },
    /// The exporter has read rows, fetched objects or sent bytes since the last heartbeat.
    Progressed,
    /// A file's intent, recorded before its first byte is sent and again before its object can
    /// exist.
    FileIntent(FileIntent),
    /// A file is complete in the bucket.
    FileDone(File),
    /// All files are complete: the commit point.
    Finished(Finished),
    /// The manifest is in the bucket.
    Published,
    /// The attempt failed.
    Failed {
        /// Why it failed.
        failure: Failure,
        /// The operator's retry limit.
        max_retries: u32,
    },
    /// The lease lapsed without a heartbeat.
    Lapsed {
        /// The operator's retry limit.
        max_retries: u32,
    },
    /// The exporter still sends heartbeats, but the task makes no progress.
    Stalled {
        /// The operator's retry limit.
        max_retries: u32,
    },
    /// For a `CleanUp` task: it is done. For the partition it cleaned up after: nothing is left
    /// open in the bucket.
    CleanedUp {
        /// A complete file that was never reported.
        adopted: Option<Box<File>>,
    },
    /// The experiments with rows in the export's window were found.
    ExperimentsFound(Vec<Experiment>),
    /// The export's rows were counted in the trace store.
    Counted {
        /// Rows now in the trace store.
        rows: u64,
    },
    /// Another tenant waits with nothing at work: the exporter is asked to hand the task back.
    AskedBack,
    /// The exporter was asked and did not hand the task back in time.
    TakenBack,
    /// The exporter is shutting down, or was asked, and returns the task.
    HandedBack,
    /// The exporter has no free slot.
    Declined,
    /// A caller cancelled the export.
    Cancelled,
    /// The operator's time limit has passed.
    TimedOut,
    /// A caller requested a retry.
    Retried,
}

/// What an exporter reports at the commit point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finished {
    /// Files of the whole partition, as the exporter counted them.
    pub files: u32,
    /// Rows in these files.
    pub rows: u64,
    /// Rows after the last file that were read but not exported.
    pub rest: LeftOut,
    /// What identified a row.
    pub identity: Identity,
}

impl Event {
    /// Name of the variant.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Claimed(_) => "Claimed",
            Self::Renewed { .. } => "Renewed",
            Self::Progressed => "Progressed",
            Self::FileIntent(_) => "FileIntent",
            Self::FileDone(_) => "FileDone",
            Self::Finished(_) => "Finished",
            Self::Published => "Published",
            Self::Failed { .. } => "Failed",
            Self::Lapsed { .. } => "Lapsed",
            Self::Stalled { .. } => "Stalled",
            Self::CleanedUp { .. } => "CleanedUp",
            Self::ExperimentsFound(_) => "ExperimentsFound",
            Self::Counted { .. } => "Counted",
            Self::AskedBack => "asked back",
            Self::TakenBack => "taken back",
            Self::HandedBack => "HandedBack",
            Self::Declined => "Declined",
            Self::Cancelled => "Cancelled",
            Self::TimedOut => "TimedOut",
            Self::Retried => "Retried",
        }
    }
}

/// An event that is not allowed in the task's state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IllegalEvent {
    /// No transition for this event in this state.
    #[error("{event} cannot happen to a run that is {state}")]
    State {
        /// Name of the event.
        event: &'static str,
        /// Name of the state.
        state: &'static str,
    },
    /// The file is not the next one in sequence.
    #[error("file {found} was reported where file {expected} comes next")]
    FileOrder {
        /// Number of the next file.
        expected: u32,
        /// The reported number.
        found: u32,
    },
    /// The exporter's totals differ from the recorded ones.
    #[error("the exporter counts {files} files with {rows} rows, recorded are {} files with {} rows", recorded.files, recorded.rows)]
    Totals {
        /// Files counted by the exporter.
        files: u32,
        /// Rows counted by the exporter.
        rows: u64,
        /// Totals recorded by the control plane.
        recorded: Totals,
    },
}
