//! A tenant's usage and recent requests, against its limits.

use tracelift_core::{id::TenantId, limit::Quota, time::Timestamp};

use crate::store::{
    StoreError, Usage,
    sql::{self, Value},
    transaction::Transaction,
};

/// An hour.
const WINDOW_SECONDS: i64 = 3600;
/// A wait to suggest: nobody knows when a schedule will be cancelled.
const SCHEDULE_SECONDS: i64 = 60;

/// A limit that has been reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// Exports created within an hour.
    ExportsPerHour {
        /// The limit.
        limit: u32,
        /// Seconds after which there is room again.
        seconds: i64,
    },
    /// Active schedules.
    Schedules {
        /// The limit.
        limit: u32,
        /// Seconds after which to try again.
        seconds: i64,
    },
}

/// The limit that another export, or schedule, would exceed. The tenant is locked.
pub(crate) fn full(
    tx: &mut dyn Transaction,
    tenant: TenantId,
    quota: Quota,
    schedule: bool,
    now: Timestamp,
) -> Result<Option<Full>, StoreError> {
    if quota.exports_per_hour > 0
        && let Some(oldest) = nth_newest(tx, tenant, quota.exports_per_hour, now)?
    {
        let seconds = oldest.plus_seconds(WINDOW_SECONDS).seconds_since(now) + 1; // round up
        return Ok(Some(Full::ExportsPerHour { limit: quota.exports_per_hour, seconds }));
    }
    if schedule && quota.schedules > 0 && usage(tx, tenant, now)?.schedules >= quota.schedules {
        return Ok(Some(Full::Schedules { limit: quota.schedules, seconds: SCHEDULE_SECONDS }));
    }
    Ok(None)
}

/// When the `number`-th newest export of the last hour was created; `None` if there were fewer.
fn nth_newest(
    tx: &mut dyn Transaction,
    tenant: TenantId,
    number: u32,
    now: Timestamp,
) -> Result<Option<Timestamp>, StoreError> {
    let sql = "SELECT created_at FROM exports WHERE tenant_id = $1 AND created_at > $2 AND source_id IS NULL
               ORDER BY created_at DESC LIMIT 1 OFFSET $3";
    let values = [
        tenant.into(),
        now.plus_seconds(-WINDOW_SECONDS).into(),
        Value::Number(i64::from(number) - 1),
    ];
    sql::one(tx, sql, &values)?.map(|row| row.get("created_at")).transpose()
}

/// A tenant's usage of its limits.
pub(crate) fn usage(
    tx: &mut dyn Transaction,
    tenant: TenantId,
    now: Timestamp,
) -> Result<Usage, StoreError> {
    let sql = "SELECT
        (SELECT count(*) FROM exports e
         WHERE e.status IN ('Created', 'Running') AND e.started_at IS NOT NULL AND e.tenant_id = $1) AS begun,
        (SELECT count(*) FROM exports e
         WHERE e.status IN ('Created', 'Running') AND e.started_at IS NULL AND e.tenant_id = $1) AS waiting,
        (SELECT count(*) FROM exports e WHERE e.tenant_id = $1 AND e.created_at > $2 AND e.source_id IS NULL) AS made,
        (SELECT count(*) FROM exports e WHERE e.tenant_id = $1 AND e.status = 'IntervalScheduled') AS schedules,
        (SELECT coalesce(max(n), 0) FROM (
            SELECT count(*) AS n FROM runs r
            WHERE r.tenant_id = $1 AND r.state = 'leased' AND r.window_start IS NOT NULL GROUP BY r.export_id) AS at_work) AS most";
    let row = sql::one(tx, sql, &[tenant.into(), now.plus_seconds(-WINDOW_SECONDS).into()])?;
    let row = row.ok_or_else(|| StoreError::Corrupt("a sum has no row".to_owned()))?;
    Ok(Usage {
        running_exports: row.get("begun")?,
        queued_exports: row.get("waiting")?,
        exports_last_hour: row.get("made")?,
        schedules: row.get("schedules")?,
        busiest_export: row.get("most")?,
    })
}
