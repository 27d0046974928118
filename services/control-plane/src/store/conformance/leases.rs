//! Leases: renewed, lost, taken back.

use tracelift_core::{
    destination::Identity,
    export::ExportStatus,
    task::{Event, Fence, Lease, RunStatus, State, TaskKind, Verdict},
};
use uuid::Uuid;

use super::{
    LEASE, RETRIES, UNLIMITED, act, at, bucket, claim, claim_one, claim_under, complete, export,
    exporter, held, lease, lease_of, owner, report, run_view, sealed, view,
};
use crate::store::{Access, Store};

pub(crate) async fn a_heartbeat_renews(store: &Store) {
    let mine = owner(store, 1).await;
    export(store, mine, 1, 1).await;
    let task = claim_one(store, "a", 0).await;
    for now in [10, 25, 50] {
        assert_eq!(
            store.heartbeat(lease("a", now), held(&[&task]), at(now)).await.unwrap(),
            [Verdict::Keep]
        );
        assert_eq!(store.lapse(RETRIES, at(now + LEASE - 1)).await.unwrap(), 0);
    }
    assert_eq!(store.lapse(RETRIES, at(50 + LEASE)).await.unwrap(), 1);
}

pub(crate) async fn a_heartbeat_tells_of_a_cancel(store: &Store) {
    let mine = owner(store, 1).await;
    let stopped = export(store, mine, 1, 1).await;
    let first = claim_one(store, "a", 1).await;
    export(store, mine, 2, 1).await;
    let second = claim(store, "a", 2, 1).await.remove(0).task;
    store.cancel_export(act(), mine.tenant, stopped, at(2)).await.unwrap();
    let verdicts = store.heartbeat(lease("a", 3), held(&[&second, &first]), at(3)).await.unwrap();
    assert_eq!(verdicts, [Verdict::Keep, Verdict::Cancel], "in the order of what is held");
    assert_eq!(
        store
            .hello(Uuid::from_u128(1), lease("a", 4), held(&[&first]), RETRIES, at(4))
            .await
            .unwrap(),
        [Verdict::Cancel]
    );
}

pub(crate) async fn a_heartbeat_tells_of_a_lost_lease(store: &Store) {
    let mine = owner(store, 1).await;
    let id = export(store, mine, 1, 1).await;
    let lost = claim_one(store, "a", 0).await;
    store.lapse(RETRIES, at(40)).await.unwrap();
    assert_eq!(
        store.heartbeat(lease("a", 41), held(&[&lost]), at(41)).await.unwrap(),
        [Verdict::Revoked]
    );
    let taken = claim_one(store, "b", 42).await;
    assert_eq!(
        store.heartbeat(lease("a", 43), held(&[&lost]), at(43)).await.unwrap(),
        [Verdict::Revoked]
    );
    // Not even under the right fence: it is another's, or another process's.
    for wrong in [lease("a", 43), lease_of("b", "second", 43)] {
        assert_eq!(
            store.heartbeat(wrong, held(&[&taken]), at(43)).await.unwrap(),
            [Verdict::Revoked]
        );
    }
    assert_eq!(run_view(store, &taken).await.task.lease(), Some(&lease("b", 42)));
    store.cancel_export(act(), mine.tenant, id, at(44)).await.unwrap();
    assert_eq!(
        store.heartbeat(lease("a", 45), held(&[&lost]), at(45)).await.unwrap(),
        [Verdict::Revoked]
    );
    assert_eq!(
        store.heartbeat(lease("b", 45), held(&[&taken]), at(45)).await.unwrap(),
        [Verdict::Cancel]
    );
}

pub(crate) async fn a_new_process_of_an_exporter_loses_the_leases_of_the_old_one(store: &Store) {
    let mine = owner(store, 1).await;
    export(store, mine, 1, 2).await;
    let lost = claim_one(store, "a", 0).await;
    let other = claim_one(store, "b", 0).await;
    assert_eq!(
        store
            .hello(Uuid::from_u128(1), lease_of("a", "second", 1), Vec::new(), RETRIES, at(1))
            .await
            .unwrap(),
        []
    );
    let task = run_view(store, &lost).await.task;
    assert_eq!(
        (task.state, task.attempt, task.errors.len()),
        (State::Queued { not_before: at(1) }, 1, 1)
    );
    assert_eq!(run_view(store, &other).await.task, other, "another exporter's lease is left alone");
    let again =
        claim_under(store, lease_of("a", "second", 1), 1, UNLIMITED, 1).await.remove(0).task;
    assert_eq!((again.id, again.fence), (lost.id, Fence(2)));
}

pub(crate) async fn a_run_that_never_reached_its_exporter_costs_no_attempt(store: &Store) {
    let mine = owner(store, 1).await;
    export(store, mine, 1, 2).await;
    let claimed = claim(store, "a", 2, 0).await;
    let (known, unknown) = (&claimed[0].task, &claimed[1].task);
    assert_eq!(
        store
            .hello(Uuid::from_u128(1), lease("a", 5), held(&[known]), RETRIES, at(5))
            .await
            .unwrap(),
        [Verdict::Keep]
    );
    assert_eq!(
        run_view(store, known).await.task.lease(),
        Some(&Lease { progressed_at: at(0), ..lease("a", 5) })
    );
    let back = run_view(store, unknown).await.task;
    assert_eq!(
        (back.state, back.attempt, back.errors.len()),
        (State::Queued { not_before: at(5) }, 0, 0)
    );
}

pub(crate) async fn a_lapsed_run_is_queued_again_and_says_who_was_lost(store: &Store) {
    let mine = owner(store, 1).await;
    let id = export(store, mine, 1, 2).await;
    let lost = claim_one(store, "exporter-17", 0).await;
    let kept = claim_one(store, "b", 20).await;
    assert_eq!(store.lapse(RETRIES, at(LEASE - 1)).await.unwrap(), 0);
    assert_eq!(store.lapse(RETRIES, at(LEASE)).await.unwrap(), 1);
    let task = run_view(store, &lost).await.task;
    assert_eq!(
        (task.state, task.attempt, task.fence),
        (State::Queued { not_before: at(LEASE) }, 1, Fence(1))
    );
    assert_eq!(
        task.errors,
        [
            "an exporter was lost, nobody needs to act (lease): exporter exporter-17 was not heard of before its lease lapsed"
        ]
    );
    assert_eq!(run_view(store, &kept).await.task, kept);
    assert_eq!(view(store, mine, id).await.export.status, ExportStatus::Running);
    assert_eq!(store.lapse(RETRIES, at(LEASE)).await.unwrap(), 0);
}

pub(crate) async fn a_run_that_lapses_too_often_fails(store: &Store) {
    let mine = owner(store, 1).await;
    let id = export(store, mine, 1, 2).await;
    let other = claim_one(store, "b", 0).await;
    store.heartbeat(lease("b", 9999), held(&[&other]), at(1)).await.unwrap();
    let mut task = claim_one(store, "a", 0).await;
    for n in 1..=i64::from(RETRIES) {
        assert_eq!(store.lapse(RETRIES, at(n * 100)).await.unwrap(), 1);
        task = claim_one(store, "a", n * 100).await;
        assert_eq!(i64::from(task.attempt), n);
    }
    assert_eq!(store.lapse(RETRIES, at(500)).await.unwrap(), 1);
    let dead = run_view(store, &task).await.task;
    assert_eq!(
        (dead.status(), dead.finished_at(), dead.errors.len()),
        (RunStatus::Failed, Some(at(500)), 3)
    );
    let after: Vec<_> =
        claim(store, "a", 1, 9999).await.iter().map(|claimed| claimed.task.kind).collect();
    assert_eq!(after, [TaskKind::CleanUp(task.id)]);
    assert_eq!(view(store, mine, id).await.export.status, ExportStatus::Running);

    complete(store, &other, 1, 600).await;
    let ended = view(store, mine, id).await.export;
    assert_eq!(ended.status, ExportStatus::Failed);
    let error = ended.error.unwrap();
    assert!(error.ends_with("exporter a was not heard of before its lease lapsed"), "{error}");
}

pub(crate) async fn only_the_holder_has_access(store: &Store) {
    let mine = owner(store, 1).await;
    owner(store, 2).await;
    let id = export(store, mine, 1, 1).await;
    let task = claim_one(store, "a", 0).await;
    let ask = async |fence: Fence, name: &str, incarnation: &str| {
        store
            .access(act(), (task.id, fence), exporter(name), incarnation.to_owned(), at(4))
            .await
            .unwrap()
    };
    let Access { tenant, destination, bucket: found, identity, sealed: secret } =
        ask(task.fence, "a", "first").await.unwrap();
    assert_eq!((tenant, destination, found), (mine.tenant, mine.destination, bucket()));
    assert_eq!((identity, secret), (Identity::Keys, Some(sealed(1))));

    assert!(ask(Fence(task.fence.0 + 1), "a", "first").await.is_none());
    assert!(ask(Fence(0), "a", "first").await.is_none());
    assert!(ask(task.fence, "b", "first").await.is_none());
    assert!(ask(task.fence, "a", "second").await.is_none());
    report(store, &task, Event::HandedBack, 1).await;
    assert!(ask(task.fence, "a", "first").await.is_none(), "it has handed the run back");
    let again = claim_one(store, "a", 2).await;
    assert!(ask(task.fence, "a", "first").await.is_none(), "under the old fence");
    assert!(ask(again.fence, "a", "first").await.is_some());
    store.cancel_export(act(), mine.tenant, id, at(3)).await.unwrap();
    assert!(ask(again.fence, "a", "first").await.is_none(), "the export was cancelled");
}

pub(crate) async fn time_goes_on(store: &Store) {
    let before = store.now().await.unwrap();
    while store.now().await.unwrap() <= before {}
}
