//! Failures as values. The control plane decides on a failure's class, never on its text.

use std::fmt;

/// Why an attempt ended before its task was finished.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Where on the data path it failed.
    pub step: Step,
    /// Who has to act.
    pub class: FailureClass,
    /// What happened and what to do, for people; contains no secret and no row content.
    pub detail: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}): {}", self.class.blame(), self.step.as_str(), self.detail)
    }
}

/// A step of the data path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Step {
    /// Obtaining the destination's credentials.
    Access,
    /// Reading rows from ClickHouse.
    Read,
    /// Filling in offloaded fields.
    Hydrate,
    /// Writing Parquet.
    Encode,
    /// Writing data files.
    Upload,
    /// Writing manifests.
    Publish,
    /// Keeping the lease.
    Lease,
}

impl Step {
    /// Lower-case name, as shown in error messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Access => "access",
            Self::Read => "read",
            Self::Hydrate => "hydrate",
            Self::Encode => "encode",
            Self::Upload => "upload",
            Self::Publish => "publish",
            Self::Lease => "lease",
        }
    }
}

/// Who has to act on a failure, and therefore whether the task is retried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FailureClass {
    /// The destination refuses requests until its owner changes something.
    CustomerConfig,
    /// The destination's credentials have expired.
    CustomerTransient,
    /// A store asked for a lower request rate.
    Throttled,
    /// The destination did not respond.
    DestinationTransient,
    /// ClickHouse or the blob store is unavailable, or truncated a response.
    SourceTransient,
    /// A batch exceeded somebody's memory limit.
    SourceMemory,
    /// The trace store aborted a response. The row being read may be the cause.
    SourceBroke,
    /// The trace store cannot read one row, which the failure names.
    SourceRow,
    /// The trace store refuses requests until its operator changes a setting, a grant or a name.
    SourceConfig,
    /// The trace store returned fewer rows than it counted.
    SourceShort,
    /// The export exceeds the size limit of one export.
    TooLarge,
    /// The exporter disappeared.
    Lost,
    /// A violated assumption: a bug.
    Internal,
}

/// What the control plane does about a failed attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remedy {
    /// Count the attempt and queue the task again.
    RetryAfter {
        /// Minimum wait, in seconds.
        seconds: u32,
    },
    /// Queue the task again without counting an attempt, because nothing has failed.
    WaitFor {
        /// Minimum wait, in seconds.
        seconds: u32,
    },
    /// Mark the task failed.
    GiveUp,
}

/// Retries per task unless the operator configures another number.
pub const MAX_RETRIES: u32 = 20;

/// Longest wait before a retry, in seconds.
const LONGEST_WAIT: u32 = 300;
/// Retries of a task for which the trace store returned too few rows.
const SHORT_RETRIES: u32 = 2;
/// Wait of a throttled task, in seconds; its exporter has already backed off.
const THROTTLED_WAIT: u32 = 30;

impl FailureClass {
    /// All classes.
    pub const ALL: [Self; 13] = [
        Self::CustomerConfig,
        Self::CustomerTransient,
        Self::Throttled,
        Self::DestinationTransient,
        Self::SourceTransient,
        Self::SourceMemory,
        Self::SourceBroke,
        Self::SourceRow,
        Self::SourceConfig,
        Self::SourceShort,
        Self::TooLarge,
        Self::Lost,
        Self::Internal,
    ];

    /// Who has to act, as the beginning of an error message.
    pub fn blame(self) -> &'static str {
        match self {
            Self::CustomerConfig => "the destination must be mended by its owner",
            Self::CustomerTransient => "the destination's credentials must be renewed by its owner",
            Self::Throttled => "the store asked to slow down, nobody needs to act",
            Self::DestinationTransient => {
                "the destination did not answer, its owner may need to look"
            }
            Self::SourceTransient => {
                "the trace store did not answer, its operator may need to look"
            }
            Self::SourceMemory => {
                "the trace store ran out of memory, its operator may need to look"
            }
            Self::SourceBroke => "the trace store broke off, its operator may need to look",
            Self::SourceRow => "the trace store cannot read one row, its operator must mend it",
            Self::SourceConfig => "the trace store refuses, its operator must change its setup",
            Self::SourceShort => {
                "the trace store answered fewer rows than it counts, its operator must look"
            }
            Self::TooLarge => "the export is too large, its caller must ask for less",
            Self::Lost => "an exporter was lost, nobody needs to act",
            Self::Internal => "a fault of this service, report it",
        }
    }

    /// The remedy after attempt `attempt` (from 0) failed, with at most `max_retries` retries.
    ///
    /// The wait doubles from the class's first wait up to five minutes. The caller adds jitter.
    pub fn remedy(self, attempt: u32, max_retries: u32) -> Remedy {
        let first = match self {
            Self::CustomerConfig
            | Self::CustomerTransient
            | Self::SourceRow
            | Self::SourceConfig
            | Self::TooLarge
            | Self::Internal => {
                return Remedy::GiveUp;
            }
            // A lagging replica catches up; a setting that truncates results does not.
            Self::SourceShort if attempt >= SHORT_RETRIES => return Remedy::GiveUp,
            Self::Lost => 0,
            Self::SourceTransient | Self::SourceBroke | Self::DestinationTransient => 1,
            Self::SourceMemory | Self::SourceShort => 5,
            Self::Throttled => return Remedy::WaitFor { seconds: THROTTLED_WAIT },
        };
        if attempt >= max_retries {
            return Remedy::GiveUp;
        }
        let seconds = u32::saturating_mul(first, 1 << attempt.min(16)).min(LONGEST_WAIT);
        Remedy::RetryAfter { seconds }
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;

    #[test]
    fn the_retry_table() {
        let mut table = String::new();
        for class in FailureClass::ALL {
            let waits: Vec<_> =
                [0, 1, 2, 5, 19, 20].map(|attempt| class.remedy(attempt, MAX_RETRIES)).to_vec();
            let _ = writeln!(table, "{class:?}: {}", class.blame());
            for (attempt, remedy) in [0, 1, 2, 5, 19, 20].iter().zip(waits) {
                let _ = writeln!(table, "  after attempt {attempt}: {remedy:?}");
            }
        }
        insta::assert_snapshot!(table);
    }
}
