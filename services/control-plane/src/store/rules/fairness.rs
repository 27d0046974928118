//! Takes slots back from tenants that hold more than their share while another one waits with nothing
//! at work: work can be slow, and a slot that becomes free by itself may come hours later.
//!
//! The exporter is asked with its next heartbeat, finishes its current file and hands the task back,
//! which goes on behind that file. What is not handed back in time is taken.

use std::collections::{BTreeMap, BTreeSet};

use tracelift_core::{
    id::{TaskId, TenantId},
    limit::AtOnce,
    task::Event,
    time::Timestamp,
};

use super::leases::{settle_all, take_back};
use crate::store::{
    StoreError,
    tables::{
        queues,
        tasks::{self, AtWork},
    },
    transaction::Transaction,
};

/// How long a tenant waits with nothing at work before slots are asked back, in seconds. Slots of
/// short tasks become free sooner.
const WAITS_SECONDS: i64 = 5;
/// How long an exporter may take to hand a task back, in seconds.
const PATIENCE_SECONDS: i64 = 30;
/// Most tenants served, and most tasks taken back, at once.
const MOST: usize = 64;

/// Asks for tasks and takes those that were not handed back in time; returns how many of both.
pub(in crate::store) fn rebalance(
    tx: &mut dyn Transaction,
    limits: AtOnce,
    now: Timestamp,
) -> Result<usize, StoreError> {
    let waiting = queues::waiting(tx, limits, MOST, now.plus_seconds(-WAITS_SECONDS))?;
    let starving = waiting.len() - tasks::busy(tx, &waiting)?.len();
    if starving == 0 {
        return Ok(0);
    }
    let at_work = tasks::at_work(tx)?;
    let (asked, late) = (to_ask(&at_work, starving), late(&at_work, now));
    let locked = tasks::lock_all(tx, &asked.union(&late).copied().collect())?;
    let (mut count, mut changed) = (0, BTreeSet::new());
    for (id, task) in locked {
        // It may have moved on since.
        let Some(lease) = task.lease() else { continue };
        count += 1;
        if lease.asked_back.is_some_and(|asked| asked.plus_seconds(PATIENCE_SECONDS) <= now) {
            changed.insert(take_back(tx, task, Event::TakenBack, now)?.export);
        } else if asked.contains(&id)
            && let Ok(task) = task.apply(Event::AskedBack, now)
        {
            tasks::save(tx, &task)?;
        }
    }
    settle_all(tx, changed, now)?;
    Ok(count)
}

/// Which tasks to ask for, so that each of `starving` tenants gets a slot: of the tenants with most at
/// work, as long as they keep more than an even share, those that were claimed last.
fn to_ask(at_work: &BTreeMap<TenantId, Vec<AtWork>>, starving: usize) -> BTreeSet<TaskId> {
    let tenants = at_work.len() + starving;
    let slots: usize = at_work.values().map(Vec::len).sum();
    let share = slots.div_ceil(tenants.max(1)).max(1);
    let is_asked = |task: &&AtWork| task.asked_back.is_some();
    let under_way: usize = at_work.values().flatten().filter(is_asked).count();
    let mut tenants: Vec<_> = at_work.values().collect();
    tenants.sort_by_key(|tasks| std::cmp::Reverse(tasks.len()));
    let spare = tenants.into_iter().flat_map(|tasks| {
        let asked = tasks.iter().filter(is_asked).count();
        let too_many = tasks.len().saturating_sub(share + asked);
        let free = tasks.iter().filter(|task| task.divisible && task.asked_back.is_none());
        free.take(too_many)
    });
    spare.take(starving.saturating_sub(under_way)).map(|task| task.id).collect()
}

/// Tasks that were not handed back in time.
fn late(at_work: &BTreeMap<TenantId, Vec<AtWork>>, now: Timestamp) -> BTreeSet<TaskId> {
    let is_late = |task: &&AtWork| {
        task.asked_back.is_some_and(|asked| asked.plus_seconds(PATIENCE_SECONDS) <= now)
    };
    at_work.values().flatten().filter(is_late).take(MOST).map(|task| task.id).collect()
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn tasks(from: u128, number: u128) -> Vec<AtWork> {
        let task =
            |id| AtWork { id: TaskId(Uuid::from_u128(id)), divisible: true, asked_back: None };
        (from..from + number).map(task).collect()
    }

    fn asked(at_work: &[Vec<AtWork>], starving: usize) -> Vec<u128> {
        let tenants = (1..).map(|tenant| TenantId(Uuid::from_u128(tenant)));
        let at_work = tenants.zip(at_work.iter().cloned()).collect();
        to_ask(&at_work, starving).into_iter().map(|id| id.0.as_u128()).collect()
    }

    #[test]
    fn who_waits_with_nothing_gets_a_slot_of_who_has_most() {
        assert_eq!(asked(&[tasks(1, 8)], 1), [1]);
        assert_eq!(asked(&[tasks(1, 8)], 3), [1, 2, 3]);
        assert_eq!(asked(&[tasks(1, 2), tasks(11, 6)], 1), [11]);
        assert_eq!(asked(&[tasks(1, 8)], 0), [0_u128; 0]);
    }

    #[test]
    fn nobody_falls_below_an_even_share() {
        assert_eq!(asked(&[tasks(1, 1), tasks(11, 1)], 1), [0_u128; 0]);
        assert_eq!(asked(&[tasks(1, 3), tasks(11, 1)], 5), [1, 2]);
    }

    #[test]
    fn what_is_asked_for_already_or_ends_soon_is_not_asked_for() {
        let mut at_work = tasks(1, 4);
        at_work[0].asked_back = Some(Timestamp::EPOCH);
        assert_eq!(asked(&[at_work.clone()], 1), [0_u128; 0]);
        at_work[1].divisible = false;
        assert_eq!(asked(&[at_work], 2), [3]);
    }
}
