//! What a run has to do.

use crate::{id::RunId, time::Window};

/// What a run has to do. Callers see partitions only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Work {
    /// Export the rows of this partition.
    Partition(Window),
    /// Write the export's manifest and `_SUCCESS`; exists once every partition is complete.
    Finalise,
    /// End what a partition that was stopped or has failed may have left open in the bucket.
    CleanUp(RunId),
    /// Count the export's rows in the trace store once more, after it was completed.
    Reconcile,
}

impl Work {
    /// Whether an export's status depends on it: what comes after an export has ended does not change how it ended.
    pub fn counts(self) -> bool {
        matches!(self, Self::Partition(_) | Self::Finalise)
    }
}
