//! Schedules: exports with an interval, and the number of their next window.

use tracelift_core::{export::Export, id::ExportId, time::Timestamp};

use super::exports;
use crate::store::{
    Due, StoreError, sql,
    transaction::{Transaction, for_update_of_free},
};

/// An active schedule.
pub(crate) struct Schedule {
    /// As its owner created it.
    pub(crate) export: Export,
    /// The number of the next window.
    pub(crate) next: u64,
}

/// Schedules with a window that is due, up to a bound. Those that have gone longest without
/// spawning come first, so that one with much to catch up on does not delay the others. A schedule
/// that has reached its limit of exports in progress is left out, so it does not delay them either.
pub(crate) fn due(tx: &mut dyn Transaction, due: Due) -> Result<Vec<ExportId>, StoreError> {
    let rows = tx.query(
        &format!(
            "SELECT s.id FROM exports s
             WHERE s.status = 'IntervalScheduled' AND s.next_end <= $1 AND (CAST($2 AS bigint) = 0 OR ({UNDER_WAY} AND e.source_id = s.id) < $2)
               AND (SELECT t.suspended_at FROM tenants t WHERE t.id = s.tenant_id) IS NULL
             ORDER BY s.updated_at, s.id LIMIT 100"
        ),
        &[due.before.into(), due.under_way.into()],
    )?;
    rows.iter().map(|row| row.get("id")).collect()
}

/// Spawned exports that have not ended.
const UNDER_WAY: &str =
    "SELECT count(*) AS n FROM exports e WHERE e.status IN ('Created', 'Running')";

/// How many exports of a schedule have not ended.
pub(crate) fn under_way(tx: &mut dyn Transaction, id: ExportId) -> Result<u32, StoreError> {
    let found = sql::one(tx, &format!("{UNDER_WAY} AND e.source_id = $1"), &[id.into()])?;
    found.map_or(Ok(0), |row| row.get("n"))
}

/// A due schedule, locked; `None` if another transaction holds it or has already handled it.
pub(crate) fn lock_due(
    tx: &mut dyn Transaction,
    id: ExportId,
    limit: Timestamp,
) -> Result<Option<Schedule>, StoreError> {
    let sql = format!(
        "SELECT * FROM exports WHERE id = $1 AND status = 'IntervalScheduled' AND next_end <= $2
           AND (SELECT t.suspended_at FROM tenants t WHERE t.id = exports.tenant_id) IS NULL{}",
        for_update_of_free(tx)
    );
    let found = sql::one(tx, &sql, &[id.into(), limit.into()])?;
    found
        .map(|row| Ok(Schedule { export: exports::export(&row)?, next: row.get("next_window")? }))
        .transpose()
}

/// Sets the number of the next window and when it ends; `None` after the last one.
pub(crate) fn go_on(
    tx: &mut dyn Transaction,
    id: ExportId,
    next: u64,
    end: Option<Timestamp>,
    now: Timestamp,
) -> Result<(), StoreError> {
    sql::update(
        tx,
        "exports",
        id,
        vec![("next_window", next.into()), ("next_end", end.into()), ("updated_at", now.into())],
    )
}
