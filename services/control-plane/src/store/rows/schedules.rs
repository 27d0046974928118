//! Schedules: exports that have an interval, and which window is next.

use tracelift_core::{export::Export, id::ExportId, time::Timestamp};

use super::exports;
use crate::store::{
    StoreError, sql,
    transaction::{Transaction, for_update_of_free},
};

/// A schedule under way.
pub(crate) struct Schedule {
    /// As its owner made it.
    pub(crate) export: Export,
    /// The number of the window that comes next.
    pub(crate) next: u64,
}

/// Schedules whose next window ended before `limit`, a bounded number of them: those that waited longest since they last
/// spawned, so that one with much to catch up on keeps none of the others waiting.
pub(crate) fn due(tx: &mut dyn Transaction, limit: Timestamp) -> Result<Vec<ExportId>, StoreError> {
    let rows = tx.query(
        "SELECT id FROM exports WHERE status = 'IntervalScheduled' AND next_end <= $1 ORDER BY updated_at, id LIMIT 100",
        &[limit.into()],
    )?;
    rows.iter().map(|row| row.get("id")).collect()
}

/// One of these, locked; `None` when another transaction has it, or has dealt with it.
pub(crate) fn lock_due(tx: &mut dyn Transaction, id: ExportId, limit: Timestamp) -> Result<Option<Schedule>, StoreError> {
    let sql = format!("SELECT * FROM exports WHERE id = $1 AND status = 'IntervalScheduled' AND next_end <= $2{}", for_update_of_free(tx));
    let found = sql::one(tx, &sql, &[id.into(), limit.into()])?;
    found.map(|row| Ok(Schedule { export: exports::export(&row)?, next: row.get("next_window")? })).transpose()
}

/// Its next window is `next`, which ends then; `None` after the last one.
pub(crate) fn go_on(tx: &mut dyn Transaction, id: ExportId, next: u64, end: Option<Timestamp>, now: Timestamp) -> Result<(), StoreError> {
    sql::update(tx, "exports", id, vec![("next_window", next.into()), ("next_end", end.into()), ("updated_at", now.into())])
}
