//! An export: what to copy where. Its status is a fold over its runs.

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
    /// Its id.
    pub id: ExportId,
    /// Whose it is.
    pub tenant: TenantId,
    /// What to copy where.
    pub spec: ExportSpec,
    /// Where it stands.
    pub status: ExportStatus,
    /// The schedule that spawned it.
    pub source: Option<ExportId>,
    /// Why it failed, in words.
    pub error: Option<String>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it or one of its runs last changed.
    pub updated_at: Timestamp,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
}

impl Export {
    /// As it was when it was made, whatever has become of it.
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

/// What to copy where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportSpec {
    /// The bucket.
    pub destination: DestinationId,
    /// Whose rows.
    pub projects: Projects,
    /// Which start times; of a schedule, those of its first export.
    pub window: Window,
    /// Of a schedule: how long each of its exports' windows is.
    pub every: Option<Hours>,
    /// The codec of every column.
    pub compression: Compression,
    /// How rows are written.
    pub format: FileFormat,
    /// Layout and types.
    pub format_version: FormatVersion,
    /// Which columns, in order.
    pub columns: Columns,
    /// Which rows; all of them without one.
    pub filter: Option<Filter>,
}

/// Which projects an export is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Projects {
    /// This one.
    One(SessionId),
    /// Every one with a reference dataset that has rows in the window. Which these are is found
    /// when the export starts.
    Experiments,
}

/// What is told of an export that names neither a project nor all experiments.
pub const NO_PROJECT: &str = "is required, unless all_experiments is true";
/// What is told of one that names both.
pub const TWO_CHOICES: &str = "must not be given together with all_experiments";

impl Projects {
    /// The project, when it is one.
    pub fn one(self) -> Option<SessionId> {
        if let Self::One(session) = self { Some(session) } else { None }
    }
}

/// The longest window, in UTC days, unless the operator sets another.
pub const MAX_DAYS: u64 = 366;

/// A window that may be exported: not empty and of at most `max_days` UTC days.
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
    /// The codec of every column.
    Compression {
        /// Stored as it is.
        None = "none",
        /// Level 6.
        Gzip = "gzip",
        /// Snappy.
        Snappy = "snappy",
        /// Level 1.
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
    /// Layout and types of the files.
    FormatVersion {
        /// `…/runs/…`, costs as double.
        #[default]
        V1 = "v1",
        /// `…/resource=runs/…`, costs as decimal(18,12).
        V2Beta = "v2_beta",
    }
}

string_enum! {
    /// Where an export stands.
    ExportStatus {
        /// No run has started.
        #[default]
        Created = "Created",
        /// At least one run has started.
        Running = "Running",
        /// Every file and `_SUCCESS` is in the bucket.
        Completed = "Completed",
        /// A run failed for good.
        Failed = "Failed",
        /// A caller stopped it. Final.
        Cancelled = "Cancelled",
        /// It took too long.
        TimedOut = "TimedOut",
        /// A schedule, which spawns exports.
        IntervalScheduled = "IntervalScheduled",
    }
}

impl ExportSpec {
    /// Where an export of this begins: a schedule has no runs of its own and stays as it is until
    /// it is cancelled.
    pub fn first_status(&self) -> ExportStatus {
        if self.every.is_some() { ExportStatus::IntervalScheduled } else { ExportStatus::Created }
    }
}

impl ExportStatus {
    /// Whether nothing will change any more.
    pub fn ended(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled | Self::TimedOut)
    }

    /// What an export's status is, given those of the runs that come first and of its finalising
    /// run, once there is one.
    ///
    /// One run that fails for good fails the export, once the others have ended (what they wrote
    /// stays usable, and the failed one can be retried). It is complete when every run is, the
    /// finalising one included.
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
