//! The rules of schedules: each window is exported once, whatever restarts and however many control
//! planes look.
//!
//! The next window's number stands on the schedule's row, which is locked and moved on in the
//! transaction that stores what was spawned; an index refuses a second export of the same window
//! besides.

use tracelift_core::{id::ExportId, time::Timestamp};

use crate::planning::planned;
use crate::store::{
    Change, Due, StoreError,
    tables::{
        exports,
        schedules::{self, Schedule},
        tasks,
    },
    transaction::Transaction,
};

/// Exports spawned in one transaction: a schedule that starts years ago catches up step by step.
const BATCH: usize = 50;

/// Spawns the exports of windows that are due, oldest first, a bounded number of them; how many.
pub(in crate::store) fn spawn(
    tx: &mut dyn Transaction,
    id: ExportId,
    which: Due,
    now: Timestamp,
) -> Result<usize, StoreError> {
    let Some(Schedule { export: schedule, next }) = schedules::lock_due(tx, id, which.before)?
    else {
        return Ok(0);
    };
    // Whoever else would spawn waits for the lock, so that the limit holds. A failed export that is
    // retried meanwhile may exceed it.
    let room = match which.under_way {
        0 => BATCH,
        most => BATCH.min(most.saturating_sub(schedules::under_way(tx, id)?) as usize),
    };
    if room == 0 {
        return Ok(0);
    }
    let due = (next..).map_while(|number| {
        schedule.spec.spawned(number).filter(|spec| spec.window.end() <= which.before)
    });
    let due: Vec<_> = due.take(room).collect();
    for spec in &due {
        let (export, planned) = planned(schedule.tenant, spec.clone(), Some(id), now);
        exports::create(tx, &export)?;
        planned.iter().try_for_each(|task| tasks::create(tx, task))?;
    }
    let next = next + due.len() as u64;
    schedules::go_on(tx, id, next, schedule.spec.spawned(next).map(|spec| spec.window.end()), now)?;
    tx.tell(Change::TasksQueued);
    tx.tell(Change::Export(id));
    Ok(due.len())
}
