//! Limits, an extension to LangSmith's API: null means unlimited.

use serde::Serialize;
use tracelift_proto::v1;
use utoipa::ToSchema;

/// Every limit with what is used of it.
#[derive(Debug, Serialize, ToSchema)]
pub struct Limits {
    running_exports: Limit,
    queued_exports: u32,
    runs_per_export: Limit,
    exports_per_hour: Limit,
    active_schedules: Limit,
    run_timeout_seconds: u32,
    export_timeout_seconds: u32,
    retries_per_run: u32,
    days_per_export: u64,
    schedule_days_back: Option<u32>,
    exports_per_schedule: Option<u32>,
}

#[derive(Debug, Serialize, ToSchema)]
struct Limit {
    limit: Option<u32>,
    used: u32,
}

impl From<Option<v1::Limit>> for Limit {
    fn from(limit: Option<v1::Limit>) -> Self {
        let v1::Limit { limit, used } = limit.unwrap_or_default();
        Self { limit: Some(limit).filter(|limit| *limit > 0), used }
    }
}

impl From<v1::Limits> for Limits {
    fn from(limits: v1::Limits) -> Self {
        Self {
            running_exports: limits.running_exports.into(),
            queued_exports: limits.queued_exports,
            runs_per_export: limits.runs_per_export.into(),
            exports_per_hour: limits.exports_per_hour.into(),
            active_schedules: limits.active_schedules.into(),
            run_timeout_seconds: limits.run_timeout_seconds,
            export_timeout_seconds: limits.export_timeout_seconds,
            retries_per_run: limits.retries_per_run,
            days_per_export: limits.days_per_export,
            schedule_days_back: Some(limits.schedule_days_back).filter(|days| *days > 0),
            exports_per_schedule: Some(limits.exports_per_schedule).filter(|exports| *exports > 0),
        }
    }
}
