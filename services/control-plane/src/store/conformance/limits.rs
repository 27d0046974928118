//! What a workspace may have at once, and whose turn it is.

use std::collections::BTreeMap;

use futures::future::join_all;
use tracelift_core::{
    export::ExportStatus,
    id::{ExportId, TenantId},
    limit::{AtOnce, Quota},
    schedule::Hours,
    task::{Event, TaskKind},
};

use super::{
    ALL, Owner, act, at, claim, claim_under, complete, export, lease, make, owner, planned, report,
    view,
};
use crate::store::{Claimed, CreateOutcome, Due, ExportFilter, Full, NewExport, Store, Usage};

async fn claim_within(
    store: &Store,
    name: &str,
    capacity: u32,
    limits: AtOnce,
    now: i64,
) -> Vec<Claimed> {
    claim_under(store, lease(name, now), capacity, limits, now).await
}

fn per_tenant(claimed: &[Claimed]) -> BTreeMap<TenantId, usize> {
    claimed.iter().fold(BTreeMap::new(), |mut sums, claimed| {
        *sums.entry(claimed.task.tenant).or_default() += 1;
        sums
    })
}

pub(crate) async fn an_export_has_only_so_many_runs_at_work(store: &Store) {
    let mine = owner(store, 1).await;
    export(store, mine, 1, 9).await;
    let limits = AtOnce { runs_per_export: 3, exports: 0 };
    let mut first = claim_within(store, "a", 9, limits, 1).await;
    assert_eq!(first.len(), 3);
    assert_eq!(claim_within(store, "b", 9, limits, 2).await, []);
    complete(store, &first.remove(0).task, 0, 3).await;
    assert_eq!(claim_within(store, "b", 9, limits, 4).await.len(), 1);
    export(store, mine, 2, 9).await;
    assert_eq!(
        claim_within(store, "c", 9, limits, 5).await.len(),
        3,
        "another export has room of its own"
    );
}

pub(crate) async fn a_workspace_has_only_so_many_exports_at_work_and_the_others_wait_in_order(
    store: &Store,
) {
    let (mine, other) = (owner(store, 1).await, owner(store, 2).await);
    let mut ids = Vec::new();
    for n in 1..=4 {
        let (made, tasks) = planned(mine, n, 1, 10 - n as i64); // the last one is the oldest
        ids.push(made.id);
        make(store, made, tasks).await;
    }
    let limits = AtOnce { runs_per_export: 0, exports: 2 };
    let first = claim_within(store, "a", 9, limits, 20).await;
    assert_eq!(
        first.iter().map(|claimed| claimed.export.id).collect::<Vec<_>>(),
        [ids[3], ids[2]],
        "oldest first"
    );
    assert_eq!(view(store, mine, ids[1]).await.export.status, ExportStatus::Created);
    assert_eq!(claim_within(store, "b", 9, limits, 21).await, []);
    assert_eq!(
        store.usage(mine.tenant, at(22)).await.unwrap(),
        Usage {
            running_exports: 2,
            queued_exports: 2,
            exports_last_hour: 4,
            schedules: 0,
            busiest_export: 1
        }
    );
    export(store, other, 9, 1).await;
    assert_eq!(
        claim_within(store, "b", 9, limits, 23).await.len(),
        1,
        "another workspace has room of its own"
    );

    // The finalising run of an export is no run that could be held back, and until it is done the
    // export is at work.
    complete(store, &first[0].task, 0, 24).await;
    let finalizing = claim_within(store, "c", 9, limits, 25).await;
    assert_eq!(
        finalizing.iter().map(|claimed| claimed.task.kind).collect::<Vec<_>>(),
        [TaskKind::Finalize]
    );
    report(store, &finalizing[0].task, Event::Published, 26).await;
    let next: Vec<_> = claim_within(store, "c", 9, limits, 27)
        .await
        .iter()
        .map(|claimed| (claimed.task.kind, claimed.export.id))
        .collect();
    assert_eq!(next.len(), 2);
    assert_eq!(next[0], (TaskKind::Reconcile, ids[3]));
    assert_eq!(next[1].1, ids[1]);
}

pub(crate) async fn what_callers_do_not_see_is_never_held_back(store: &Store) {
    let mine = owner(store, 1).await;
    let (first, second) = (export(store, mine, 1, 1).await, export(store, mine, 2, 2).await);
    let limits = AtOnce { runs_per_export: 1, exports: 1 };
    let task = claim_within(store, "a", 9, limits, 1).await.remove(0).task;
    store.cancel_export(act(), mine.tenant, first, at(2)).await.unwrap();
    let rest = claim_within(store, "b", 9, limits, 3).await;
    assert_eq!(rest[0].task.kind, TaskKind::CleanUp(task.id));
    assert_eq!((rest.len(), rest[1].export.id), (2, second));
}

pub(crate) async fn a_workspace_with_a_thousand_runs_does_not_starve_one_with_one(store: &Store) {
    let (large, small) = (owner(store, 1).await, owner(store, 2).await);
    for n in 1..=4 {
        export(store, large, n, 250).await;
    }
    assert_eq!(claim(store, "a", 6, 1).await.len(), 6);
    let (made, tasks) = planned(small, 9, 3, 500); // the youngest of all
    make(store, made, tasks).await;
    let next = claim(store, "b", 4, 501).await;
    assert_eq!(per_tenant(&next), BTreeMap::from([(small.tenant, 3), (large.tenant, 1)]));
}

pub(crate) async fn with_one_slot_workspaces_take_turns(store: &Store) {
    let owners = [owner(store, 1).await, owner(store, 2).await, owner(store, 3).await];
    for (owner, n) in owners.iter().zip(1..) {
        export(store, *owner, n, 4).await;
    }
    let mut turns = Vec::new();
    for now in 1..=9 {
        let task = claim(store, "a", 1, now * 10).await.remove(0).task;
        turns.push(task.tenant);
        complete(store, &task, 0, now * 10 + 1).await;
    }
    for three in turns.chunks(3) {
        let mut three = three.to_vec();
        three.sort_unstable();
        assert_eq!(three, owners.map(|owner| owner.tenant), "{turns:?}");
    }
}

pub(crate) async fn limits_hold_however_many_claim_at_once(store: &Store) {
    let owners = [owner(store, 1).await, owner(store, 2).await];
    for (owner, first) in owners.iter().zip([1, 50]) {
        for n in first..first + 6 {
            export(store, *owner, n, 5).await;
        }
    }
    let limits = AtOnce { runs_per_export: 3, exports: 4 };
    let names: Vec<_> = (0..12).map(|n| format!("e{n}")).collect();
    for now in [1, 2] {
        let claims =
            join_all(names.iter().map(|name| claim_within(store, name, 4, limits, now))).await;
        let all: Vec<_> = claims.into_iter().flatten().collect();
        assert!(now == 2 || !all.is_empty());
        for owner in owners {
            let usage = store.usage(owner.tenant, at(3)).await.unwrap();
            assert!(usage.running_exports <= 4 && usage.busiest_export <= 3, "{usage:?}");
        }
    }
    for owner in owners {
        let usage = store.usage(owner.tenant, at(3)).await.unwrap();
        assert_eq!((usage.running_exports, usage.queued_exports, usage.busiest_export), (4, 2, 3));
    }
}

/// Export `n`, made then, under that quota.
async fn asked(
    store: &Store,
    owner: Owner,
    n: u128,
    quota: Quota,
    schedule: bool,
    now: i64,
) -> CreateOutcome {
    let (mut made, tasks) = planned(owner, n, 1, now);
    if schedule {
        (made.spec.every, made.status) =
            (Some(Hours::new("", 24).unwrap()), ExportStatus::IntervalScheduled);
    }
    store
        .create_export(
            act(),
            NewExport { quota, ..NewExport::of(made, if schedule { Vec::new() } else { tasks }) },
        )
        .await
        .unwrap()
}

pub(crate) async fn a_workspace_makes_only_so_many_exports_an_hour(store: &Store) {
    let (mine, other) = (owner(store, 1).await, owner(store, 2).await);
    let quota = Quota { exports_per_hour: 2, schedules: 0 };
    assert!(matches!(asked(store, mine, 1, quota, false, 0).await, CreateOutcome::Now(_)));
    assert!(matches!(asked(store, mine, 2, quota, true, 600).await, CreateOutcome::Now(_)));
    let full = |seconds| CreateOutcome::Full(Full::ExportsPerHour { limit: 2, seconds });
    assert_eq!(
        asked(store, mine, 3, quota, false, 1000).await,
        full(2601),
        "an hour after the first one"
    );
    assert!(matches!(asked(store, other, 4, quota, false, 1000).await, CreateOutcome::Now(_)));
    // What a schedule spawns is not counted.
    let schedule = ExportId(uuid::Uuid::from_u128(0xe0002));
    assert_eq!(
        store.spawn(schedule, Due { before: at(0), under_way: 0 }, at(1200)).await.unwrap(),
        50
    );
    assert_eq!(store.usage(mine.tenant, at(1200)).await.unwrap().exports_last_hour, 2);
    assert!(matches!(asked(store, mine, 5, quota, false, 3600).await, CreateOutcome::Now(_)));
    assert_eq!(asked(store, mine, 6, quota, false, 3601).await, full(600));
}

pub(crate) async fn a_workspace_has_only_so_many_schedules_under_way(store: &Store) {
    let mine = owner(store, 1).await;
    let quota = Quota { exports_per_hour: 0, schedules: 1 };
    assert!(matches!(asked(store, mine, 1, quota, true, 0).await, CreateOutcome::Now(_)));
    assert_eq!(
        asked(store, mine, 2, quota, true, 1).await,
        CreateOutcome::Full(Full::Schedules { limit: 1, seconds: 60 })
    );
    assert!(
        matches!(asked(store, mine, 3, quota, false, 2).await, CreateOutcome::Now(_)),
        "an export is none"
    );
    store
        .cancel_export(act(), mine.tenant, ExportId(uuid::Uuid::from_u128(0xe0001)), at(3))
        .await
        .unwrap();
    assert!(matches!(asked(store, mine, 4, quota, true, 4).await, CreateOutcome::Now(_)));
}

pub(crate) async fn a_quota_holds_however_many_ask_at_once(store: &Store) {
    let mine = owner(store, 1).await;
    let quota = Quota { exports_per_hour: 3, schedules: 0 };
    let made = join_all((1..=9).map(|n| asked(store, mine, n, quota, false, 5))).await;
    assert_eq!(made.iter().filter(|made| matches!(made, CreateOutcome::Now(_))).count(), 3);
    assert_eq!(store.exports(mine.tenant, ExportFilter::default(), ALL).await.unwrap().len(), 3);
    assert_eq!(claim(store, "a", 9, 6).await.len(), 3);
}
