//! The limits of a workspace: the operator's settings as shown to callers, and the error when one
//! has been reached.

use tonic::Status;
use tracelift_core::{
    export::Compression,
    limit::{AtOnce, Quota},
};
use tracelift_proto::{status::overloaded, v1};

use crate::store::{Full, TimeLimits, Usage};

/// The operator's terms for exports.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Terms {
    /// Longest window of one export, in UTC days.
    pub(crate) max_days: u64,
    /// How many days in the past a new schedule may start; 0 means no limit.
    pub(crate) max_days_back: u32,
    /// Exports of one schedule in progress at once; 0 means no limit.
    pub(crate) exports_per_schedule: u32,
    /// The codec of exports that name none.
    pub(crate) compression: Compression,
    /// Retries of one run.
    pub(crate) max_retries: u32,
    pub(crate) at_once: AtOnce,
    pub(crate) quota: Quota,
    pub(crate) times: TimeLimits,
}

/// Every limit, with its usage.
pub(crate) fn limits(terms: &Terms, usage: Usage) -> v1::Limits {
    let of = |limit, used| Some(v1::Limit { limit, used });
    v1::Limits {
        running_exports: of(terms.at_once.exports, usage.running_exports),
        runs_per_export: of(terms.at_once.runs_per_export, usage.busiest_export),
        exports_per_hour: of(terms.quota.exports_per_hour, usage.exports_last_hour),
        active_schedules: of(terms.quota.schedules, usage.schedules),
        queued_exports: usage.queued_exports,
        run_timeout_seconds: terms.times.task,
        export_timeout_seconds: terms.times.export,
        retries_per_run: terms.max_retries,
        days_per_export: terms.max_days,
        schedule_days_back: terms.max_days_back,
        exports_per_schedule: terms.exports_per_schedule,
    }
}

/// The error that names the limit and when to try again.
pub(crate) fn refusal(full: Full) -> Status {
    let (text, seconds) = match full {
        Full::ExportsPerHour { limit, seconds } => (
            format!(
                "the workspace may make {limit} exports an hour and has; there is room again in {seconds} s"
            ),
            seconds,
        ),
        Full::Schedules { limit, seconds } => {
            (format!("the workspace may have {limit} schedules and has; cancel one first"), seconds)
        }
    };
    overloaded(text, u64::try_from(seconds).unwrap_or(1))
}
