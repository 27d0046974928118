//! What a tenant may hold while others wait.

use tracelift_core::{
    failure::FailureClass,
    limit::AtOnce,
    task::{Event, Task, TaskKind, Verdict},
};
use uuid::Uuid;

use super::{
    GRACE, UNLIMITED, act, at, claim, export, exporter, failed, file, held, lease, lease_of, owner,
    report, run_view,
};
use crate::store::{Holder, Replica, ReportOutcome, Store};

/// Begins so many runs of a tenant and cancels them: each leaves something to clean up.
async fn leave_clean_ups(store: &Store, tenant: u128, number: u32) {
    let mine = owner(store, tenant).await;
    let id = export(store, mine, tenant, i64::from(number)).await;
    assert_eq!(claim(store, "left", number, 1).await.len(), number as usize);
    store.cancel_export(act(), mine.tenant, id, at(2)).await.unwrap().unwrap();
}

fn kinds(claimed: &[crate::store::Claimed]) -> (usize, usize) {
    let is_clean_up = |kind: TaskKind| matches!(kind, TaskKind::CleanUp(_));
    let clean_ups = claimed.iter().filter(|claimed| is_clean_up(claimed.task.kind)).count();
    (clean_ups, claimed.len() - clean_ups)
}

pub(crate) async fn clean_ups_of_one_tenant_leave_slots_to_others(store: &Store) {
    leave_clean_ups(store, 1, 90).await;
    let other = owner(store, 2).await;
    export(store, other, 2, 1).await;
    let claimed = claim(store, "x", 4, 3).await;
    assert_eq!(kinds(&claimed), (2, 1));
    for claimed in claimed.iter().filter(|claimed| claimed.task.tenant != other.tenant) {
        report(store, &claimed.task, failed(FailureClass::DestinationTransient), 4).await;
    }
    export(store, other, 3, 2).await;
    assert_eq!(kinds(&claim(store, "x", 4, 5).await), (2, 1), "the same again");
}

pub(crate) async fn clean_ups_of_several_tenants_take_turns(store: &Store) {
    leave_clean_ups(store, 1, 90).await;
    leave_clean_ups(store, 2, 1).await;
    let claimed = claim(store, "x", 2, 3).await;
    let tenants: Vec<_> = claimed.iter().map(|claimed| claimed.task.tenant.0.as_u128()).collect();
    assert_eq!(tenants.len(), 2);
    assert_ne!(tenants[0], tenants[1]);
}

pub(crate) async fn a_clean_up_has_a_minute_and_few_attempts(store: &Store) {
    leave_clean_ups(store, 1, 1).await;
    let mut attempts = 0;
    let mut now = 10;
    while let Some(claimed) = claim(store, "x", 1, now).await.pop() {
        assert_eq!(claimed.task.lease().unwrap().patience, 60);
        // A bucket that is always busy does not make it wait for ever.
        let Event::Failed { failure, .. } = failed(FailureClass::Throttled) else { unreachable!() };
        report(store, &claimed.task, Event::Failed { failure, max_retries: 20 }, now + 1).await;
        (attempts, now) = (attempts + 1, now + 1000);
    }
    assert_eq!(attempts, 4);
}

/// The verdicts of a heartbeat that holds these tasks.
async fn verdicts(store: &Store, name: &str, tasks: &[&Task], now: i64) -> Vec<Verdict> {
    store.heartbeat(lease(name, now), held(tasks), at(now)).await.unwrap()
}

pub(crate) async fn who_waits_with_nothing_at_work_is_handed_a_slot_of_who_has_most(store: &Store) {
    let (greedy, other) = (owner(store, 1).await, owner(store, 2).await);
    export(store, greedy, 1, 20).await;
    let claimed = claim(store, "a", 4, 1).await;
    let tasks: Vec<_> = claimed.iter().map(|claimed| &claimed.task).collect();
    assert_eq!(store.rebalance(UNLIMITED, at(2)).await.unwrap(), 0, "nobody waits");

    export(store, other, 2, 1).await;
    assert_eq!(store.rebalance(UNLIMITED, at(3)).await.unwrap(), 0, "not for long");
    assert_eq!(store.rebalance(UNLIMITED, at(8)).await.unwrap(), 1);
    assert_eq!(store.rebalance(UNLIMITED, at(9)).await.unwrap(), 0, "it was asked for already");
    let told = verdicts(store, "a", &tasks, 10).await;
    let asked: Vec<_> = tasks
        .iter()
        .zip(told)
        .filter_map(|(task, verdict)| (verdict == Verdict::HandBack).then_some(*task))
        .collect();
    assert_eq!(asked.len(), 1);

    report(store, asked[0], Event::FileDone(file(0)), 11).await;
    report(store, asked[0], Event::HandedBack, 12).await;
    let next = claim(store, "a", 4, 13).await;
    assert_eq!(next[0].task.tenant, other.tenant);
    let queued = run_view(store, asked[0]).await.task;
    assert_eq!((queued.attempt, queued.totals.files), (0, 1), "it goes on behind its file");
}

pub(crate) async fn what_is_not_handed_back_in_time_is_taken(store: &Store) {
    let (greedy, other) = (owner(store, 1).await, owner(store, 2).await);
    export(store, greedy, 1, 2).await;
    let claimed = claim(store, "a", 2, 1).await;
    export(store, other, 2, 1).await;
    assert_eq!(store.rebalance(AtOnce::default(), at(10)).await.unwrap(), 1);
    assert_eq!(store.rebalance(AtOnce::default(), at(39)).await.unwrap(), 0);
    assert_eq!(store.rebalance(AtOnce::default(), at(40)).await.unwrap(), 1);
    let tasks: Vec<_> = claimed.iter().map(|claimed| &claimed.task).collect();
    let told = verdicts(store, "a", &tasks, 25).await;
    assert_eq!(told.iter().filter(|verdict| **verdict == Verdict::Revoked).count(), 1);
    assert_eq!(claim(store, "a", 2, 41).await[0].task.tenant, other.tenant);
}

pub(crate) async fn nothing_is_taken_from_who_has_an_even_share(store: &Store) {
    for tenant in 1..=3 {
        let mine = owner(store, tenant).await;
        export(store, mine, tenant, 5).await;
    }
    assert_eq!(claim(store, "a", 2, 1).await.len(), 2, "one of each of two");
    assert_eq!(store.rebalance(UNLIMITED, at(60)).await.unwrap(), 0);
}

pub(crate) async fn a_report_is_heard_from_the_holder_only(store: &Store) {
    let mine = owner(store, 1).await;
    export(store, mine, 1, 1).await;
    let lease = lease_of("a", "first", 1);
    let task = claim(store, "a", 1, 1).await.remove(0).task;
    let by = |name: &str, incarnation: &str| {
        Some(Holder { exporter: exporter(name), incarnation: incarnation.to_owned() })
    };
    for stranger in [by("b", "first"), by("a", "second")] {
        let event = failed(FailureClass::CustomerConfig);
        let heard = store.report(stranger.clone(), task.id, task.fence, event, GRACE, at(2)).await;
        assert_eq!(heard.unwrap(), ReportOutcome::Stale);
        let progress = tracelift_core::task::Progress::default();
        let heard = store.progress(stranger, task.id, task.fence, progress, at(2)).await;
        assert_eq!(heard.unwrap(), ReportOutcome::Stale);
    }
    assert_eq!(run_view(store, &task).await.task.lease().unwrap().until, lease.until);
    let event = Event::FileDone(file(0));
    let heard = store.report(by("a", "first"), task.id, task.fence, event, GRACE, at(3)).await;
    assert!(matches!(heard.unwrap(), ReportOutcome::Applied(_)));
}

pub(crate) async fn control_planes_know_of_each_other_while_they_run(store: &Store) {
    let replica = |n: u128, keys: &[&str], now: i64| Replica {
        id: Uuid::from_u128(n),
        name: format!("host-{n}"),
        keys: keys.iter().map(|key| (*key).to_owned()).collect(),
        seen_at: at(now),
    };
    let (first, second) = (replica(1, &["k1"], 1), replica(2, &["k2", "k1"], 2));
    let announce = async |replica: &Replica, gone| {
        store.announce_replica(replica.clone(), at(gone)).await.unwrap()
    };
    assert_eq!(announce(&first, -29).await, std::slice::from_ref(&first));
    assert_eq!(announce(&second, -28).await, [first.clone(), second.clone()]);
    let later = Replica { seen_at: at(40), ..second.clone() };
    let alone = announce(&later, 10).await;
    assert_eq!(alone, std::slice::from_ref(&later), "the first is not heard of");
    store.replica_gone(later.id).await.unwrap();
    assert_eq!(announce(&first, -29).await, [first]);
}
