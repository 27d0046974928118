//! What a run has to do.

use crate::{id::TaskId, plan::Partition, time::Window};

/// What a run has to do. Callers see partitions only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TaskKind {
    /// Find the experiments with rows in this window: each of their days becomes a partition.
    FindExperiments(Window),
    /// Export the rows of this partition.
    Partition(Partition),
    /// Write the export's manifest and `_SUCCESS`; exists once every partition is complete.
    Finalize,
    /// End what a partition that was stopped or has failed may have left open in the bucket.
    CleanUp(TaskId),
    /// Count the export's rows in the trace store once more, after it was completed.
    Reconcile,
}

impl TaskKind {
    /// The partition, when it is one.
    pub fn partition(self) -> Option<Partition> {
        if let Self::Partition(partition) = self { Some(partition) } else { None }
    }

    /// Which start times it reads, when it reads rows of its own.
    pub fn window(self) -> Option<Window> {
        match self {
            Self::FindExperiments(window) | Self::Partition(Partition { window, .. }) => {
                Some(window)
            }
            Self::Finalize | Self::CleanUp(_) | Self::Reconcile => None,
        }
    }

    /// Whether every other run of the export waits for it but the finalising one: that comes when
    /// all of these are complete.
    pub fn comes_first(self) -> bool {
        matches!(self, Self::FindExperiments(_) | Self::Partition(_))
    }

    /// Whether an export's status depends on it: what comes after an export has ended does not
    /// change how it ended.
    pub fn counts(self) -> bool {
        matches!(self, Self::FindExperiments(_) | Self::Partition(_) | Self::Finalize)
    }
}
