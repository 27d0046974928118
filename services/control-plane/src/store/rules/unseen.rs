//! Which tasks without a window come next: callers do not see them and no limit of a workspace applies,
//! so a tenant has few of them at work at once. Otherwise one whose bucket does not answer could make
//! clean-ups that hold the whole fleet.

use std::collections::{BTreeMap, BTreeSet};

use tracelift_core::{
    id::{TaskId, TenantId},
    task::{Task, TaskKind},
    time::Timestamp,
};

use crate::store::{
    StoreError,
    tables::{
        queues::{self, Unseen},
        tasks,
    },
    transaction::Transaction,
};

/// Most finalize tasks of a tenant at work at once: a finished export waits for each.
const FINALIZING: usize = 4;
/// Most clean-ups and reconciliations of a tenant at work at once. Control planes that claim at the
/// same time may exceed both by as many each.
const CLEANING: usize = 2;
/// How many more tasks are looked at than there are slots, before looking tenant by tenant.
const CLOSER: usize = 64;

/// Up to `slots` tasks, locked: in turns between tenants, finalize tasks first within each.
pub(super) fn next(
    tx: &mut dyn Transaction,
    slots: usize,
    now: Timestamp,
) -> Result<Vec<Task>, StoreError> {
    let oldest = queues::unseen(tx, slots + CLOSER, now)?;
    let is_all = oldest.len() < slots + CLOSER;
    let found = if is_all {
        oldest
    } else {
        // The oldest may all belong to one tenant: others are behind them.
        let mut found = Vec::new();
        for tenant in queues::tenants_of_unseen(tx)? {
            found.extend(queues::unseen_of(tx, tenant, FINALIZING + CLEANING, now)?);
        }
        found
    };
    let mut chosen = chosen(tx, found)?;
    chosen.truncate(slots);
    let mut free = tasks::lock_free(tx, &chosen)?;
    Ok(chosen.into_iter().filter_map(|id| free.remove(&id)).collect())
}

/// Those that may be claimed, in order.
fn chosen(tx: &mut dyn Transaction, found: Vec<Unseen>) -> Result<Vec<TaskId>, StoreError> {
    let tenants: BTreeSet<_> = found.iter().map(|unseen| unseen.tenant).collect();
    let at_work = queues::unseen_at_work(tx, &tenants)?;
    Ok(in_turns(found, at_work))
}

/// How many finalize tasks, and how many others, a tenant has at work.
pub(in crate::store) type AtWork = BTreeMap<TenantId, [usize; 2]>;

fn in_turns(mut found: Vec<Unseen>, mut at_work: AtWork) -> Vec<TaskId> {
    found.sort_by_key(|unseen| (unseen.kind != TaskKind::Finalize, unseen.since, unseen.id));
    let mut turns = Vec::new();
    for Unseen { id, tenant, kind, since } in found {
        let at_work = at_work.entry(tenant).or_default();
        let (index, most) =
            if kind == TaskKind::Finalize { (0, FINALIZING) } else { (1, CLEANING) };
        if at_work[index] < most {
            at_work[index] += 1;
            turns.push((at_work[0] + at_work[1], since, id));
        }
    }
    turns.sort_unstable();
    turns.into_iter().map(|(_, _, id)| id).collect()
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn unseen(id: u128, tenant: u128, kind: TaskKind) -> Unseen {
        let since = Timestamp::EPOCH.plus_seconds(i64::try_from(id).unwrap());
        Unseen {
            id: TaskId(Uuid::from_u128(id)),
            tenant: TenantId(Uuid::from_u128(tenant)),
            kind,
            since,
        }
    }

    #[test]
    fn tenants_take_turns_and_none_has_more_than_its_share() {
        let clean_up = TaskKind::CleanUp(TaskId(Uuid::nil()));
        let found = (1..100)
            .map(|id| unseen(id, 1, clean_up))
            .chain([unseen(100, 2, TaskKind::Finalize), unseen(101, 2, TaskKind::Reconcile)]);
        let ids = |at_work| {
            let turns = in_turns(found.clone().collect(), at_work);
            turns.into_iter().map(|id| id.0.as_u128()).collect::<Vec<_>>()
        };
        assert_eq!(ids(AtWork::new()), [1, 100, 2, 101]);
        let busy = TenantId(Uuid::from_u128(1));
        assert_eq!(ids(AtWork::from([(busy, [0, CLEANING])])), [100, 101]);
    }
}
