//! What a failure is outside the exporter: a value. The control plane decides on it, never on text.

use std::fmt;

/// Why an attempt ended without finishing its run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Where on the data path.
    pub step: Step,
    /// Who can mend it.
    pub class: FailureClass,
    /// In words that say what to do; holds no secret and no row content.
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
    /// Getting the destination's credentials.
    Access,
    /// Reading rows from ClickHouse.
    Read,
    /// Filling offloaded fields back in.
    Hydrate,
    /// Writing Parquet.
    Encode,
    /// Writing objects.
    Upload,
    /// Writing manifests.
    Publish,
    /// Holding on to the run.
    Lease,
}

impl Step {
    /// Its word.
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

/// Who can mend a failure, and so what happens next: the rows of design.md §9.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FailureClass {
    /// The destination refuses and will go on refusing until its owner changes something.
    CustomerConfig,
    /// The destination's credentials have run out.
    CustomerTransient,
    /// Somebody asked us to slow down.
    Throttled,
    /// The destination did not answer.
    DestinationTransient,
    /// ClickHouse or the blob store is away, or cut an answer short.
    SourceTransient,
    /// A batch was too big for somebody's memory.
    SourceMemory,
    /// The trace store broke off while it was answering: it may be this row that it cannot read.
    SourceBroke,
    /// The trace store cannot read one row, and that row is named.
    SourceRow,
    /// The trace store refuses, and will until its operator changes something: a setting, a right,
    /// a name.
    SourceConfig,
    /// The trace store answered fewer rows than it counts.
    SourceShort,
    /// There is more to export than one export may hold.
    TooLarge,
    /// The exporter was lost.
    Lost,
    /// Something that cannot be, was.
    Internal,
}

/// What the control plane does about a failed attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remedy {
    /// Queue the run again, no sooner than in that many seconds.
    RetryAfter {
        /// Seconds.
        seconds: u32,
    },
    /// The same, and no attempt is counted: nothing has failed.
    WaitFor {
        /// Seconds.
        seconds: u32,
    },
    /// The run has failed.
    GiveUp,
}

/// How many retries a run has unless the operator sets another number.
pub const MAX_RETRIES: u32 = 20;

/// Longest wait in seconds before a retry.
const LONGEST_WAIT: u32 = 300;
/// How often a run is tried again whose rows the trace store did not answer completely.
const SHORT_RETRIES: u32 = 2;
/// How long a run waits whose store asked to slow down, in seconds; its exporter has waited before.
const THROTTLED_WAIT: u32 = 30;

impl FailureClass {
    /// All of them.
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

    /// Who must act, for people.
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

    /// What to do after attempt number `attempt` (from 0) failed, with `max_retries` retries
    /// allowed.
    ///
    /// The wait doubles from the class's first wait up to five minutes; jitter is the caller's.
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
            // A replica that lags catches up; a setting that cuts answers does not.
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
