//! The kinds of tasks.

use crate::{id::TaskId, plan::Partition, time::Window};

/// What a task does. The public API shows only partitions, as runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TaskKind {
    /// Find the experiments with rows in this window. Each of their days becomes a partition.
    FindExperiments(Window),
    /// Export the rows of this partition.
    Partition(Partition),
    /// Write the export's manifest and `_SUCCESS`. Created once every partition is complete.
    Finalize,
    /// Abort the multipart upload that this stopped or failed partition may have left open.
    CleanUp(TaskId),
    /// Count the export's rows in the trace store again after the export has completed.
    Reconcile,
}

impl TaskKind {
    /// The partition, if the task exports one.
    pub fn partition(self) -> Option<Partition> {
        if let Self::Partition(partition) = self { Some(partition) } else { None }
    }

    /// The range of start times that the task reads, if it reads rows.
    pub fn window(self) -> Option<Window> {
        match self {
            Self::FindExperiments(window) | Self::Partition(Partition { window, .. }) => {
                Some(window)
            }
            Self::Finalize | Self::CleanUp(_) | Self::Reconcile => None,
        }
    }

    /// Whether the finalize task waits for this task.
    pub fn comes_first(self) -> bool {
        matches!(self, Self::FindExperiments(_) | Self::Partition(_))
    }

    /// Whether the task affects its export's status. Tasks created after an export has ended do
    /// not.
    pub fn counts(self) -> bool {
        matches!(self, Self::FindExperiments(_) | Self::Partition(_) | Self::Finalize)
    }
}
