//! The states of a task, and the lease on it.

use crate::{id::ExporterId, time::Timestamp};

/// The state of a task. The timestamp of a final state is when the task entered it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// Waiting for an exporter.
    Queued {
        /// Earliest time of the next claim.
        not_before: Timestamp,
    },
    /// An exporter is working on it.
    Leased(Lease),
    /// Done. For a partition: all files and its manifest are in the bucket.
    Completed(Timestamp),
    /// Failed without retries left.
    Failed(Timestamp),
    /// A caller cancelled the export.
    Cancelled(Timestamp),
    /// Exceeded the operator's time limit.
    TimedOut(Timestamp),
}

/// The right to work on a task until a deadline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// The holder's name.
    pub exporter: ExporterId,
    /// Identifies the holder's process; a restart changes it.
    pub incarnation: String,
    /// When the lease lapses unless renewed.
    pub until: Timestamp,
    /// When the task last made progress in rows, bytes, objects or steps.
    pub progressed_at: Timestamp,
    /// Longest time without progress, in seconds.
    pub patience: u32,
    /// When the holder was asked to hand the task back, because another tenant had nothing at work.
    pub asked_back: Option<Timestamp>,
}

impl Lease {
    /// Whether the task has gone without progress for too long, even if its exporter is alive.
    pub fn stalled(&self, now: Timestamp) -> bool {
        self.progressed_at.plus_seconds(i64::from(self.patience)) <= now
    }
}

/// The status of a task, as the API shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RunStatus {
    /// Never claimed.
    Created,
    /// Being worked on, or waiting for another attempt.
    Running,
    /// Done.
    Completed,
    /// Failed without retries left.
    Failed,
    /// Cancelled by a caller.
    Cancelled,
    /// Exceeded the operator's time limit.
    TimedOut,
}

impl RunStatus {
    /// All statuses.
    pub const ALL: [Self; 6] = [
        Self::Created,
        Self::Running,
        Self::Completed,
        Self::Failed,
        Self::Cancelled,
        Self::TimedOut,
    ];

    /// The string used by the API.
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
