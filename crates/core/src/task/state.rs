//! Where a run stands, and who holds it.

use crate::{id::ExporterId, time::Timestamp};

/// Where a run stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// Waits for an exporter, no sooner than `not_before`.
    Queued {
        /// End of a retry's wait.
        not_before: Timestamp,
    },
    /// An exporter works on it.
    Leased(Lease),
    /// All files and the manifest are in the bucket.
    Completed(Timestamp),
    /// It will not be tried again.
    Failed(Timestamp),
    /// A caller stopped it.
    Cancelled(Timestamp),
    /// It took too long.
    TimedOut(Timestamp),
}

/// The right to work on a run until a deadline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// Who holds it.
    pub exporter: ExporterId,
    /// Which process of that name.
    pub incarnation: String,
    /// When it lapses unless renewed.
    pub until: Timestamp,
    /// When the run last got on: rows, bytes or a step further.
    pub progressed_at: Timestamp,
    /// Seconds that it may take to get on again.
    pub patience: u32,
}

impl Lease {
    /// Whether the run has not got on for too long, though its exporter may well be alive.
    pub fn stalled(&self, now: Timestamp) -> bool {
        self.progressed_at.plus_seconds(i64::from(self.patience)) <= now
    }
}

/// Where a run stands, in the API's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RunStatus {
    /// Nobody has worked on it.
    Created,
    /// Somebody works on it, or did and will again.
    Running,
    /// Done.
    Completed,
    /// Given up.
    Failed,
    /// Stopped by a caller.
    Cancelled,
    /// Took too long.
    TimedOut,
}

impl RunStatus {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Created,
        Self::Running,
        Self::Completed,
        Self::Failed,
        Self::Cancelled,
        Self::TimedOut,
    ];

    /// The word of the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "Created",
            Self::Running => "Running",
            Self::Completed => "Completed",
            Self::Failed => "Failed",
            Self::Cancelled => "Cancelled",
            Self::TimedOut => "TimedOut",
        }
    }
}
