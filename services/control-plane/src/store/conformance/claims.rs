//! Giving runs to exporters.

use std::collections::BTreeSet;

use futures::future::join_all;
use tracelift_core::{
    export::ExportStatus,
    failure::FailureClass,
    id::TaskId,
    task::{Event, Fence, State, TaskKind},
};

use super::{
    ALL, UNLIMITED, at, claim, claim_one, complete, export, failed, file, finished, intent, lease,
    lease_of, owner, report, run_view, view,
};
use crate::store::{ClaimRequest, Store};

pub(crate) async fn capacity_counts_what_is_held(store: &Store) {
    let mine = owner(store, 1).await;
    export(store, mine, 1, 6).await;
    assert_eq!(claim(store, "a", 0, 1).await, []);
    let first = claim(store, "a", 2, 1).await;
    assert_eq!(first.len(), 2);
    assert_eq!(claim(store, "a", 2, 2).await, [], "both are still held");
    assert_eq!(claim(store, "a", 3, 2).await.len(), 1);
    assert_eq!(claim(store, "b", 2, 2).await.len(), 2, "another exporter's leases are not counted");
    complete(store, &first[0].task, 1, 3).await;
    assert_eq!(claim(store, "a", 3, 4).await.len(), 1, "a slot has become free");
    assert_eq!(claim(store, "c", 9, 4).await, [], "nothing is left");
}

pub(crate) async fn no_run_is_claimed_twice_however_many_ask_at_once(store: &Store) {
    let mine = owner(store, 1).await;
    let id = export(store, mine, 1, 40).await;
    let names: Vec<_> = (0..24).map(|n| format!("e{}", n % 12)).collect(); // each exporter asks twice at once
    let claims = join_all(names.iter().map(|name| claim(store, name, 3, 1))).await;

    let all: Vec<TaskId> = claims.iter().flatten().map(|claimed| claimed.task.id).collect();
    let distinct: BTreeSet<_> = all.iter().copied().collect();
    assert_eq!((all.len(), distinct.len()), (36, 36), "twelve exporters with three slots each");
    for (name, claimed) in names.iter().zip(&claims) {
        for claimed in claimed {
            assert_eq!(claimed.task.lease(), Some(&lease(name, 1)));
            assert_eq!(run_view(store, &claimed.task).await.task, claimed.task);
        }
    }
    let free = store.tasks(mine.tenant, id, ALL).await.unwrap().unwrap();
    assert_eq!(free.iter().filter(|view| view.task.lease().is_none()).count(), 4);
}

pub(crate) async fn exporters_that_ask_together_are_served_in_turns(store: &Store) {
    let mine = owner(store, 1).await;
    export(store, mine, 1, 5).await;
    let together = async |asks: &[(&str, &str, u32)]| {
        let asks = asks.iter().map(|(name, incarnation, capacity)| ClaimRequest {
            lease: lease_of(name, incarnation, 1),
            capacity: *capacity,
        });
        store.claim(asks.collect(), UNLIMITED, at(1)).await.unwrap()
    };
    let given =
        together(&[("a", "old", 3), ("b", "first", 1), ("a", "new", 3), ("c", "first", 0)]).await;
    let counts: Vec<_> = given.iter().map(|given| (given.tasks.len(), given.room)).collect();
    assert_eq!(
        counts,
        [(0, false), (1, false), (3, false), (0, false)],
        "of one name the later one counts"
    );
    let days = |nth: usize| {
        given[nth]
            .tasks
            .iter()
            .map(|claimed| claimed.task.kind.partition().unwrap().window.start())
            .collect::<Vec<_>>()
    };
    assert!(days(1)[0] < days(2)[0], "one after the other, oldest first");
    assert!(
        given[2].tasks.iter().all(|claimed| claimed.task.lease().unwrap().incarnation == "new")
    );
    let given = together(&[("d", "first", 2), ("e", "first", 2)]).await;
    assert_eq!(
        given.iter().map(|given| (given.tasks.len(), given.room)).collect::<Vec<_>>(),
        [(1, true), (0, true)]
    );
}

pub(crate) async fn a_run_is_not_claimed_before_its_time(store: &Store) {
    let mine = owner(store, 1).await;
    export(store, mine, 1, 1).await;
    let task = claim_one(store, "a", 1).await;
    let task = report(store, &task, failed(FailureClass::SourceMemory), 10).await; // waits five seconds
    assert_eq!(task.state, State::Queued { not_before: at(15) });
    assert_eq!(claim(store, "a", 1, 14).await, []);
    let task = claim_one(store, "a", 15).await;
    report(store, &task, Event::Declined, 20).await; // waits two
    assert_eq!(claim(store, "a", 1, 21).await, []);
    let task = claim_one(store, "a", 22).await;
    assert_eq!((task.fence, task.attempt), (Fence(3), 1), "no room is no attempt");
}

pub(crate) async fn a_claim_moves_the_fence_and_the_export_runs(store: &Store) {
    let mine = owner(store, 1).await;
    let id = export(store, mine, 1, 2).await;
    let claimed = claim(store, "a", 1, 7).await.remove(0);
    assert_eq!(
        (claimed.task.fence, claimed.task.attempt, claimed.task.lease()),
        (Fence(1), 0, Some(&lease("a", 7)))
    );
    assert_eq!(claimed.export, view(store, mine, id).await.export);
    assert_eq!((claimed.export.status, claimed.export.id), (ExportStatus::Running, id));
    assert_eq!((claimed.files, claimed.published), (Vec::new(), Vec::new()));
    let seen = run_view(store, &claimed.task).await;
    assert_eq!((seen.reported.stage.as_str(), seen.exporter.as_deref()), ("assigned", Some("a")));
    assert_eq!(view(store, mine, id).await.started_at, Some(at(7)));
}

pub(crate) async fn a_run_goes_on_where_its_last_file_ended(store: &Store) {
    let mine = owner(store, 1).await;
    export(store, mine, 1, 1).await;
    let task = claim_one(store, "a", 1).await;
    report(store, &task, Event::FileDone(file(0)), 2).await;
    report(store, &task, Event::FileIntent(intent(1)), 3).await;
    report(store, &task, Event::HandedBack, 4).await;
    assert_eq!(
        run_view(store, &task).await.exporter.as_deref(),
        Some("a"),
        "people ask who did it"
    );
    let task = claim_one(store, "b", 4).await;
    assert_eq!(
        (task.fence, task.attempt, task.totals.files, task.totals.rows),
        (Fence(2), 0, 1, 10)
    );
    assert_eq!((task.cursor, task.intent.as_ref()), (Some(file(0).cursor), Some(&intent(1))));
    assert_eq!(run_view(store, &task).await.exporter.as_deref(), Some("b"));
}

pub(crate) async fn a_run_past_its_commit_point_comes_with_its_files(store: &Store) {
    let mine = owner(store, 1).await;
    export(store, mine, 1, 1).await;
    let task = claim_one(store, "a", 1).await;
    for number in 0..2 {
        report(store, &task, Event::FileDone(file(number)), 2).await;
    }
    report(store, &task, finished(2, 20), 3).await;
    report(store, &task, Event::HandedBack, 4).await;
    let claimed = claim(store, "b", 1, 5).await.remove(0);
    assert!(claimed.task.frozen);
    assert_eq!(claimed.files, [file(0), file(1)]);
    report(store, &claimed.task, Event::Published, 6).await;
}

pub(crate) async fn the_finalising_run_waits_for_every_partition_and_is_never_listed(
    store: &Store,
) {
    let mine = owner(store, 1).await;
    let id = export(store, mine, 1, 2).await;
    let claimed = claim(store, "a", 2, 1).await;
    complete(store, &claimed[0].task, 1, 2).await;
    assert_eq!(claim(store, "a", 9, 3).await, [], "a partition is still worked on");
    complete(store, &claimed[1].task, 0, 3).await;

    let finalizing = claim(store, "a", 9, 4).await.remove(0);
    assert_eq!(
        (finalizing.task.kind, finalizing.export.id, finalizing.task.tenant),
        (TaskKind::Finalize, id, mine.tenant)
    );
    let published: Vec<_> = finalizing
        .published
        .iter()
        .map(|(partition, task)| (task.id, TaskKind::Partition(*partition)))
        .collect();
    let expected: Vec<_> =
        claimed.iter().map(|claimed| (claimed.task.id, claimed.task.kind)).collect();
    assert_eq!(published, expected, "oldest first");
    assert_eq!(finalizing.published[0].1.totals.rows, 10);

    let listed = store.tasks(mine.tenant, id, ALL).await.unwrap().unwrap();
    assert_eq!(listed.len(), 2);
    assert!(store.run(mine.tenant, id, finalizing.task.id).await.unwrap().is_none());
    let shown = view(store, mine, id).await;
    assert_eq!(
        (shown.runs_total, shown.runs_completed, shown.export.status),
        (2, 2, ExportStatus::Running)
    );

    report(store, &finalizing.task, Event::Published, 5).await;
    let ended = view(store, mine, id).await.export;
    assert_eq!(
        (ended.status, ended.finished_at, ended.error),
        (ExportStatus::Completed, Some(at(5)), None)
    );
    let after: Vec<_> =
        claim(store, "a", 9, 6).await.iter().map(|claimed| claimed.task.kind).collect();
    assert_eq!(after, [TaskKind::Reconcile], "there is one finalising run");
}

pub(crate) async fn the_finalising_run_is_claimed_first(store: &Store) {
    let mine = owner(store, 1).await;
    let first = export(store, mine, 1, 1).await;
    let task = claim_one(store, "a", 1).await;
    export(store, mine, 2, 3).await;
    complete(store, &task, 1, 90).await;
    let next = claim_one(store, "a", 91).await;
    assert_eq!(
        (next.kind, next.export),
        (TaskKind::Finalize, first),
        "though the others have waited longer"
    );
}

pub(crate) async fn runs_that_end_at_once_begin_one_finalising_run(store: &Store) {
    let mine = owner(store, 1).await;
    let id = export(store, mine, 1, 12).await;
    let claimed = claim(store, "a", 12, 1).await;
    join_all(claimed.iter().map(|claimed| complete(store, &claimed.task, 0, 2))).await;
    let finalizing = claim(store, "a", 99, 3).await;
    assert_eq!(finalizing.len(), 1);
    assert_eq!((finalizing[0].task.kind, finalizing[0].published.len()), (TaskKind::Finalize, 12));
    report(store, &finalizing[0].task, Event::Published, 4).await;
    assert_eq!(view(store, mine, id).await.export.status, ExportStatus::Completed);
}
