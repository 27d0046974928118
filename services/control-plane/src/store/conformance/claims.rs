//! Giving runs to exporters.

use std::collections::BTreeSet;

use futures::future::join_all;
use tracelift_core::{
    export::ExportStatus,
    failure::FailureClass,
    id::RunId,
    run::{Event, Fence, State, Work},
};

use super::{
    ALL, UNLIMITED, at, claim, claim_one, complete, export, failed, file, finished, intent, lease,
    lease_of, owner, report, run_view, view,
};
use crate::store::{Ask, Store};

pub(crate) async fn capacity_counts_what_is_held(store: &dyn Store) {
    let mine = owner(store, 1).await;
    export(store, mine, 1, 6).await;
    assert_eq!(claim(store, "a", 0, 1).await, []);
    let first = claim(store, "a", 2, 1).await;
    assert_eq!(first.len(), 2);
    assert_eq!(claim(store, "a", 2, 2).await, [], "both are still held");
    assert_eq!(claim(store, "a", 3, 2).await.len(), 1);
    assert_eq!(claim(store, "b", 2, 2).await.len(), 2, "another exporter's leases are not counted");
    complete(store, &first[0].run, 1, 3).await;
    assert_eq!(claim(store, "a", 3, 4).await.len(), 1, "a slot has become free");
    assert_eq!(claim(store, "c", 9, 4).await, [], "nothing is left");
}

pub(crate) async fn no_run_is_claimed_twice_however_many_ask_at_once(store: &dyn Store) {
    let mine = owner(store, 1).await;
    let id = export(store, mine, 1, 40).await;
    let names: Vec<_> = (0..24).map(|n| format!("e{}", n % 12)).collect(); // each exporter asks twice at once
    let claims = join_all(names.iter().map(|name| claim(store, name, 3, 1))).await;

    let all: Vec<RunId> = claims.iter().flatten().map(|claimed| claimed.run.id).collect();
    let distinct: BTreeSet<_> = all.iter().copied().collect();
    assert_eq!((all.len(), distinct.len()), (36, 36), "twelve exporters with three slots each");
    for (name, claimed) in names.iter().zip(&claims) {
        for claimed in claimed {
            assert_eq!(claimed.run.lease(), Some(&lease(name, 1)));
            assert_eq!(run_view(store, &claimed.run).await.run, claimed.run);
        }
    }
    let free = store.runs(mine.tenant, id, ALL).await.unwrap().unwrap();
    assert_eq!(free.iter().filter(|view| view.run.lease().is_none()).count(), 4);
}

pub(crate) async fn exporters_that_ask_together_are_served_in_turns(store: &dyn Store) {
    let mine = owner(store, 1).await;
    export(store, mine, 1, 5).await;
    let together = async |asks: &[(&str, &str, u32)]| {
        let asks = asks.iter().map(|(name, incarnation, capacity)| Ask {
            lease: lease_of(name, incarnation, 1),
            capacity: *capacity,
        });
        store.claim(asks.collect(), UNLIMITED, at(1)).await.unwrap()
    };
    let given =
        together(&[("a", "old", 3), ("b", "first", 1), ("a", "new", 3), ("c", "first", 0)]).await;
    let counts: Vec<_> = given.iter().map(|given| (given.runs.len(), given.room)).collect();
    assert_eq!(
        counts,
        [(0, false), (1, false), (3, false), (0, false)],
        "of one name the later one counts"
    );
    let days = |nth: usize| {
        given[nth]
            .runs
            .iter()
            .map(|claimed| claimed.run.work.partition().unwrap().window.start())
            .collect::<Vec<_>>()
    };
    assert!(days(1)[0] < days(2)[0], "one after the other, oldest first");
    assert!(given[2].runs.iter().all(|claimed| claimed.run.lease().unwrap().incarnation == "new"));
    let given = together(&[("d", "first", 2), ("e", "first", 2)]).await;
    assert_eq!(
        given.iter().map(|given| (given.runs.len(), given.room)).collect::<Vec<_>>(),
        [(1, true), (0, true)]
    );
}

pub(crate) async fn a_run_is_not_claimed_before_its_time(store: &dyn Store) {
    let mine = owner(store, 1).await;
    export(store, mine, 1, 1).await;
    let run = claim_one(store, "a", 1).await;
    let run = report(store, &run, failed(FailureClass::SourceMemory), 10).await; // waits five seconds
    assert_eq!(run.state, State::Queued { not_before: at(15) });
    assert_eq!(claim(store, "a", 1, 14).await, []);
    let run = claim_one(store, "a", 15).await;
    report(store, &run, Event::Declined, 20).await; // waits two
    assert_eq!(claim(store, "a", 1, 21).await, []);
    let run = claim_one(store, "a", 22).await;
    assert_eq!((run.fence, run.attempt), (Fence(3), 1), "no room is no attempt");
}

pub(crate) async fn a_claim_moves_the_fence_and_the_export_runs(store: &dyn Store) {
    let mine = owner(store, 1).await;
    let id = export(store, mine, 1, 2).await;
    let claimed = claim(store, "a", 1, 7).await.remove(0);
    assert_eq!(
        (claimed.run.fence, claimed.run.attempt, claimed.run.lease()),
        (Fence(1), 0, Some(&lease("a", 7)))
    );
    assert_eq!(claimed.export, view(store, mine, id).await.export);
    assert_eq!((claimed.export.status, claimed.export.id), (ExportStatus::Running, id));
    assert_eq!((claimed.files, claimed.published), (Vec::new(), Vec::new()));
    let seen = run_view(store, &claimed.run).await;
    assert_eq!((seen.reported.stage.as_str(), seen.exporter.as_deref()), ("assigned", Some("a")));
    assert_eq!(view(store, mine, id).await.started_at, Some(at(7)));
}

pub(crate) async fn a_run_goes_on_where_its_last_file_ended(store: &dyn Store) {
    let mine = owner(store, 1).await;
    export(store, mine, 1, 1).await;
    let run = claim_one(store, "a", 1).await;
    report(store, &run, Event::FileDone(file(0)), 2).await;
    report(store, &run, Event::FileIntent(intent(1)), 3).await;
    report(store, &run, Event::HandedBack, 4).await;
    assert_eq!(run_view(store, &run).await.exporter.as_deref(), Some("a"), "people ask who did it");
    let run = claim_one(store, "b", 4).await;
    assert_eq!((run.fence, run.attempt, run.totals.files, run.totals.rows), (Fence(2), 0, 1, 10));
    assert_eq!((run.cursor, run.intent.as_ref()), (Some(file(0).cursor), Some(&intent(1))));
    assert_eq!(run_view(store, &run).await.exporter.as_deref(), Some("b"));
}

pub(crate) async fn a_run_past_its_commit_point_comes_with_its_files(store: &dyn Store) {
    let mine = owner(store, 1).await;
    export(store, mine, 1, 1).await;
    let run = claim_one(store, "a", 1).await;
    for number in 0..2 {
        report(store, &run, Event::FileDone(file(number)), 2).await;
    }
    report(store, &run, finished(2, 20), 3).await;
    report(store, &run, Event::HandedBack, 4).await;
    let claimed = claim(store, "b", 1, 5).await.remove(0);
    assert!(claimed.run.frozen);
    assert_eq!(claimed.files, [file(0), file(1)]);
    report(store, &claimed.run, Event::Published, 6).await;
}

pub(crate) async fn the_finalising_run_waits_for_every_partition_and_is_never_listed(
    store: &dyn Store,
) {
    let mine = owner(store, 1).await;
    let id = export(store, mine, 1, 2).await;
    let claimed = claim(store, "a", 2, 1).await;
    complete(store, &claimed[0].run, 1, 2).await;
    assert_eq!(claim(store, "a", 9, 3).await, [], "a partition is still worked on");
    complete(store, &claimed[1].run, 0, 3).await;

    let finalising = claim(store, "a", 9, 4).await.remove(0);
    assert_eq!(
        (finalising.run.work, finalising.export.id, finalising.run.tenant),
        (Work::Finalise, id, mine.tenant)
    );
    let published: Vec<_> = finalising
        .published
        .iter()
        .map(|part| (part.run.id, Work::Partition(part.partition)))
        .collect();
    let expected: Vec<_> =
        claimed.iter().map(|claimed| (claimed.run.id, claimed.run.work)).collect();
    assert_eq!(published, expected, "oldest first");
    assert_eq!(finalising.published[0].run.totals.rows, 10);

    let listed = store.runs(mine.tenant, id, ALL).await.unwrap().unwrap();
    assert_eq!(listed.len(), 2);
    assert!(store.run(mine.tenant, id, finalising.run.id).await.unwrap().is_none());
    let shown = view(store, mine, id).await;
    assert_eq!(
        (shown.runs_total, shown.runs_completed, shown.export.status),
        (2, 2, ExportStatus::Running)
    );

    report(store, &finalising.run, Event::Published, 5).await;
    let ended = view(store, mine, id).await.export;
    assert_eq!(
        (ended.status, ended.finished_at, ended.error),
        (ExportStatus::Completed, Some(at(5)), None)
    );
    let after: Vec<_> =
        claim(store, "a", 9, 6).await.iter().map(|claimed| claimed.run.work).collect();
    assert_eq!(after, [Work::Reconcile], "there is one finalising run");
}

pub(crate) async fn the_finalising_run_is_claimed_first(store: &dyn Store) {
    let mine = owner(store, 1).await;
    let first = export(store, mine, 1, 1).await;
    let run = claim_one(store, "a", 1).await;
    export(store, mine, 2, 3).await;
    complete(store, &run, 1, 90).await;
    let next = claim_one(store, "a", 91).await;
    assert_eq!(
        (next.work, next.export),
        (Work::Finalise, first),
        "though the others have waited longer"
    );
}

pub(crate) async fn runs_that_end_at_once_begin_one_finalising_run(store: &dyn Store) {
    let mine = owner(store, 1).await;
    let id = export(store, mine, 1, 12).await;
    let claimed = claim(store, "a", 12, 1).await;
    join_all(claimed.iter().map(|claimed| complete(store, &claimed.run, 0, 2))).await;
    let finalising = claim(store, "a", 99, 3).await;
    assert_eq!(finalising.len(), 1);
    assert_eq!((finalising[0].run.work, finalising[0].published.len()), (Work::Finalise, 12));
    report(store, &finalising[0].run, Event::Published, 4).await;
    assert_eq!(view(store, mine, id).await.export.status, ExportStatus::Completed);
}
