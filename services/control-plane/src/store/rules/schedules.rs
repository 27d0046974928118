//! The rules of schedules: each window is exported once, regardless of restarts and of how many
//! control planes are running.
//!
//! The next window's number is kept in the schedule's row, which is locked and advanced in the
//! transaction that stores the spawned exports. In addition, an index rejects a second export of
//! the same window.

use tracelift_core::{id::ExportId, time::Timestamp};

use super::audit::{about, record_all};
use crate::planning::planned;
use crate::store::{
    Act, Action, Change, Due, StoreError, Who,
    tables::{
        exports,
        schedules::{self, Schedule},
        tasks,
    },
    transaction::Transaction,
};

/// Exports spawned per transaction: a schedule that starts years ago catches up step by step.
const BATCH: usize = 50;

/// Spawns the exports of due windows, oldest first, up to a bound; returns how many.
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
    // Other spawners wait for the lock, so the limit holds. A failed export that is retried in the
    // meantime may exceed it.
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
    let mut records = Vec::with_capacity(due.len());
    for spec in &due {
        let (export, planned) = planned(schedule.tenant, spec.clone(), Some(id), now);
        exports::create(tx, &export)?;
        planned.iter().try_for_each(|task| tasks::create(tx, task))?;
        records.push(about(schedule.tenant, Action::SpawnExport, export.id, None));
    }
    let next = next + due.len() as u64;
    schedules::go_on(tx, id, next, schedule.spec.spawned(next).map(|spec| spec.window.end()), now)?;
    tx.tell(Change::TasksQueued);
    tx.tell(Change::Export(id));
    record_all(tx, &Act::by(Who::Schedule(id)), now, Some(schedule.tenant), records)?;
    Ok(due.len())
}
