//! What can happen to a run.

use super::{Identity, Lease};
use crate::{
    failure::Failure,
    file::{File, FileIntent, LeftOut, Totals},
    plan::Experiment,
    time::Timestamp,
};

/// What can happen to a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// An exporter gets it.
    Claimed(Lease),
    /// Its exporter is alive.
    Renewed {
        /// The lease's new end.
        until: Timestamp,
    },
    /// Its exporter has read, filled in or sent something since.
    Progressed,
    /// An upload was opened and carries nothing yet.
    FileIntent(FileIntent),
    /// A file is complete in the bucket.
    FileDone(File),
    /// All files are.
    Finished(Finished),
    /// The manifest is in the bucket.
    Published,
    /// The attempt failed.
    Failed {
        /// Why.
        failure: Failure,
        /// The operator's setting.
        max_retries: u32,
    },
    /// Its exporter was not heard of in time.
    Lapsed {
        /// The operator's setting.
        max_retries: u32,
    },
    /// Its exporter is heard of, but the run does not get on.
    Stalled {
        /// The operator's setting.
        max_retries: u32,
    },
    /// Of a cleaning run: it is done. Of the run that was stopped: what it had left open in the
    /// bucket is gone.
    CleanedUp {
        /// A file that was complete and never reported.
        adopted: Option<Box<File>>,
    },
    /// The experiments of the export's tenant were found.
    ExperimentsFound(Vec<Experiment>),
    /// The export's rows were counted in the trace store.
    Counted {
        /// How many there are now.
        rows: u64,
    },
    /// Its exporter stops as planned.
    HandedBack,
    /// Its exporter has no room.
    Declined,
    /// A caller stops the export.
    Cancelled,
    /// It took too long.
    TimedOut,
    /// A caller asks for it anew.
    Retried,
}

/// What an exporter says at the commit point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finished {
    /// Files of the whole run, as it counted them.
    pub files: u32,
    /// Their rows.
    pub rows: u64,
    /// Rows behind the last file that were read and not exported.
    pub rest: LeftOut,
    /// What was read as one row.
    pub identity: Identity,
}

impl Event {
    /// Its name.
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
            Self::HandedBack => "HandedBack",
            Self::Declined => "Declined",
            Self::Cancelled => "Cancelled",
            Self::TimedOut => "TimedOut",
            Self::Retried => "Retried",
        }
    }
}

/// An event that cannot happen to a run in its state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IllegalEvent {
    /// The state does not know it.
    #[error("{event} cannot happen to a run that is {state}")]
    State {
        /// Name of the event.
        event: &'static str,
        /// Name of the state.
        state: &'static str,
    },
    /// The file is not the next one.
    #[error("file {found} was reported where file {expected} comes next")]
    FileOrder {
        /// Number of the next file.
        expected: u32,
        /// Number that was reported.
        found: u32,
    },
    /// What the exporter counted is not what was recorded.
    #[error("the exporter counts {files} files with {rows} rows, recorded are {} files with {} rows", recorded.files, recorded.rows)]
    Totals {
        /// The exporter's.
        files: u32,
        /// The exporter's.
        rows: u64,
        /// The control plane's.
        recorded: Totals,
    },
}
