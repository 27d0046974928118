//! An export: what to copy, and where to. Its status is a fold over its tasks.

use crate::{
    Invalid,
    column::Columns,
    filter::Filter,
    id::{DestinationId, ExportId, SessionId, TenantId},
    schedule::Hours,
    task::RunStatus,
    time::{Timestamp, Window},
};

/// A stored export.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Export {
    /// Export id.
    pub id: ExportId,
    /// The tenant that owns it.
    pub tenant: TenantId,
    /// What to copy, and where to.
    pub spec: ExportSpec,
    /// Current status.
    pub status: ExportStatus,
    /// The schedule that spawned it; `None` if a caller created it.
    pub source: Option<ExportId>,
    /// Why it failed, for people.
    pub error: Option<String>,
    /// When it was created.
    pub created_at: Timestamp,
    /// When the export or one of its tasks last changed.
    pub updated_at: Timestamp,
    /// When it reached a final status.
    pub finished_at: Option<Timestamp>,
}

impl Export {
    /// The export as it was when created: a repeated create request returns this, whatever has
    /// happened since.
    #[must_use]
    pub fn as_made(self) -> Self {
        Self {
            status: self.spec.first_status(),
            error: None,
            updated_at: self.created_at,
            finished_at: None,
            ..self
        }
    }
}

/// What to copy, and where to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportSpec {
    /// The destination.
    pub destination: DestinationId,
    /// The projects to export.
    pub projects: Projects,
    /// The range of start times; for a schedule, the window of its first export.
    pub window: Window,
    /// For a schedule, the length of each window.
    pub every: Option<Hours>,
    /// Parquet compression of every column.
    pub compression: Compression,
    /// How rows are written.
    pub format: FileFormat,
    /// File layout and column types.
    pub format_version: FormatVersion,
    /// The columns, in order.
    pub columns: Columns,
    /// The rows to export; `None` means all.
    pub filter: Option<Filter>,
}

/// The projects of an export.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Projects {
    /// One project.
    One(SessionId),
    /// Every experiment with rows in the window. They are looked up when the export starts.
    Experiments,
}

/// Error message when neither a project nor all experiments are given.
pub const NO_PROJECT: &str = "is required, unless all_experiments is true";
/// Error message when both are given.
pub const TWO_CHOICES: &str = "must not be given together with all_experiments";

impl Projects {
    /// The project, if there is exactly one.
    pub fn one(self) -> Option<SessionId> {
        if let Self::One(session) = self { Some(session) } else { None }
    }
}

/// Longest window, in UTC days touched, unless the operator configures another limit.
pub const MAX_DAYS: u64 = 366;

/// Validates a window: not empty, and touching at most `max_days` UTC days. Errors are on
/// `end_time`.
pub fn window(start: Timestamp, end: Timestamp, max_days: u64) -> Result<Window, Invalid> {
    let window = Window::new(start, end)
        .ok_or_else(|| Invalid::new("end_time", "must be after start_time"))?;
    if window.days() > max_days {
        let message = format!(
            "the range touches {} days, at most {max_days} are allowed: split it into several exports",
            window.days()
        );
        return Err(Invalid::new("end_time", message));
    }
    Ok(window)
}

string_enum! {
    /// Parquet compression of every column.
    Compression {
        /// Uncompressed.
        None = "none",
        /// Gzip, level 6.
        Gzip = "gzip",
        /// Snappy.
        Snappy = "snappy",
        /// Zstandard, level 1.
        #[default]
        Zstandard = "zstandard",
    }
}

string_enum! {
    /// How rows are written.
    FileFormat {
        /// Apache Parquet.
        #[default]
        Parquet = "Parquet",
    }
}

impl FileFormat {
    /// What the keys of its files end with, after a dot.
    pub fn extension(self) -> &'static str {
        match self {
            Self::Parquet => "parquet",
        }
    }

    /// The media type of its files.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Parquet => "application/vnd.apache.parquet",
        }
    }
}

string_enum! {
    /// File layout and column types.
    FormatVersion {
        /// `…/runs/…`, costs as double.
        #[default]
        V1 = "v1",
        /// `…/resource=runs/…`, costs as decimal(18,12).
        V2Beta = "v2_beta",
    }
}

string_enum! {
    /// The status of an export.
    ExportStatus {
        /// No task has been claimed.
        #[default]
        Created = "Created",
        /// At least one task has been claimed.
        Running = "Running",
        /// Every file and `_SUCCESS` is in the bucket.
        Completed = "Completed",
        /// A task failed with no retries left.
        Failed = "Failed",
        /// A caller cancelled it. Final.
        Cancelled = "Cancelled",
        /// Exceeded the operator's time limit.
        TimedOut = "TimedOut",
        /// A schedule, which spawns exports.
        IntervalScheduled = "IntervalScheduled",
    }
}

impl ExportSpec {
    /// The status of a new export. A schedule has no tasks of its own, so its status stays until it
    /// is cancelled.
    pub fn first_status(&self) -> ExportStatus {
        if self.every.is_some() { ExportStatus::IntervalScheduled } else { ExportStatus::Created }
    }
}

impl ExportStatus {
    /// Whether the status is final.
    pub fn ended(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled | Self::TimedOut)
    }

    /// The status of an export, given the statuses of its find and partition tasks and of its
    /// finalize task, if that exists.
    ///
    /// A failed task fails the export once the others have ended; their files stay usable, and the
    /// failed task can be retried. The export is complete when every task is, including finalize.
    pub fn of_runs(first: &[RunStatus], finalizing: Option<RunStatus>) -> Self {
        let any = |status| first.contains(&status) || finalizing == Some(status);
        if first.iter().all(|status| *status == RunStatus::Created) {
            Self::Created
        } else if any(RunStatus::Created) || any(RunStatus::Running) {
            Self::Running
        } else if any(RunStatus::Failed) {
            Self::Failed
        } else if any(RunStatus::TimedOut) {
            Self::TimedOut
        } else if any(RunStatus::Cancelled) {
            Self::Cancelled
        } else if finalizing == Some(RunStatus::Completed) {
            Self::Completed
        } else {
            Self::Running
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{ExportStatus as E, RunStatus as R, *};

    #[test]
    fn one_failed_run_fails_the_export_when_the_others_have_ended() {
        assert_eq!(E::of_runs(&[R::Completed, R::Failed, R::Running], None), E::Running);
        assert_eq!(E::of_runs(&[R::Completed, R::Failed, R::Completed], None), E::Failed);
        assert_eq!(E::of_runs(&[R::Completed], Some(R::Failed)), E::Failed);
    }

    #[test]
    fn an_export_is_complete_only_when_every_run_and_the_finalising_one_is() {
        assert_eq!(E::of_runs(&[R::Created, R::Created], None), E::Created);
        assert_eq!(
            E::of_runs(&[R::Completed, R::Created], None),
            E::Running,
            "its experiments were just found"
        );
        assert_eq!(E::of_runs(&[R::Completed, R::Completed], None), E::Running);
        assert_eq!(E::of_runs(&[R::Completed, R::Completed], Some(R::Created)), E::Running);
        assert_eq!(E::of_runs(&[R::Completed, R::Completed], Some(R::Completed)), E::Completed);
    }

    #[test]
    fn a_range_over_the_limit_is_refused() {
        let at = |text| Timestamp::parse("t", text).unwrap();
        assert!(window(at("2024-01-01"), at("2025-01-01"), 366).is_ok());
        let fault = window(at("2024-01-01"), at("2025-01-01T00:00:01Z"), 366).unwrap_err();
        assert_eq!(fault.field, "end_time");
        assert_eq!(
            window(at("2024-01-02"), at("2024-01-02"), 366).unwrap_err().message,
            "must be after start_time"
        );
    }
}
