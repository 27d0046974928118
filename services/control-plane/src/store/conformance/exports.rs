//! Exports and runs as their owner sees them.

use tracelift_core::{
    export::{ExportStatus, Projects},
    id::{DestinationId, ExportId, SessionId},
    task::{Event, Progress, RunStatus, TaskKind},
};
use uuid::Uuid;

use super::{
    ALL, Owner, act, at, bucket, claim, claim_one, complete, destination, everything, export, file,
    make, owner, planned, report, run_view, sealed, view,
};
use crate::store::{
    CreateOutcome, ExportFilter, ExportView, NewDestination, NewExport, Page, Place, RunView, Store,
};

pub(crate) async fn an_export_is_read_back_as_it_was_made(store: &Store) {
    let mine = owner(store, 1).await;
    let (made, tasks) = planned(mine, 1, 3, 4);
    make(store, made.clone(), tasks.clone()).await;
    let expected = ExportView {
        export: made.clone(),
        runs_total: 3,
        runs_completed: 0,
        rows: 0,
        bytes: 0,
        files: 0,
        undecided: 0,
        decided_against: 0,
        runs_counted: 0,
        rows_counted: 0,
        started_at: None,
        rows_before: 0,
        read_at: None,
        window_open: false,
        reconciled: None,
    };
    assert_eq!(view(store, mine, made.id).await, expected);
    let read = store.tasks(mine.tenant, made.id, ALL).await.unwrap().unwrap();
    assert_eq!(read.iter().map(|view| view.task.clone()).collect::<Vec<_>>(), tasks);
    assert!(
        read.iter()
            .all(|view| view.export == made && view.bucket == bucket() && view.exporter.is_none())
    );
}

pub(crate) async fn an_export_to_another_tenants_destination_is_not_stored(store: &Store) {
    let (mine, other) = (owner(store, 1).await, owner(store, 2).await);
    let (made, tasks) = planned(Owner { destination: other.destination, ..mine }, 1, 2, 0);
    let id = made.id;
    assert_eq!(
        store.create_export(act(), NewExport::of(made, tasks)).await.unwrap(),
        CreateOutcome::NoDestination
    );
    for tenant in [mine.tenant, other.tenant] {
        assert_eq!(store.exports(tenant, ExportFilter::default(), ALL).await.unwrap(), []);
        assert_eq!(store.tasks(tenant, id, ALL).await.unwrap(), None);
    }
    assert_eq!(claim(store, "a", 9, 1).await, []);
}

pub(crate) async fn exports_come_newest_first_in_pages(store: &Store) {
    let (mine, other) = (owner(store, 1).await, owner(store, 2).await);
    for (n, created) in [(1, 30), (2, 10), (3, 20), (4, 20)] {
        let (made, tasks) = planned(mine, n, 2, created);
        make(store, made, tasks).await;
    }
    export(store, other, 5, 1).await;
    let page = async |limit, offset| {
        let found = store
            .exports(mine.tenant, ExportFilter::default(), Page { limit, offset, after: None })
            .await
            .unwrap();
        found.into_iter().map(|view| view.export.id.0.as_u128() - 0xe0000).collect::<Vec<_>>()
    };
    assert_eq!(page(None, 0).await, [1, 4, 3, 2]);
    assert_eq!(page(Some(2), 0).await, [1, 4]);
    assert_eq!(page(Some(2), 2).await, [3, 2]);
    assert_eq!(page(Some(2), 3).await, [2]);
    assert!(page(Some(2), 9).await.is_empty());
}

pub(crate) async fn what_is_made_between_two_pages_shifts_none_of_them(store: &Store) {
    let mine = owner(store, 1).await;
    for (n, created) in [(1, 10), (2, 20), (3, 20), (4, 30), (5, 30)] {
        let (made, tasks) = planned(mine, n, 3, created);
        make(store, made, tasks).await;
    }
    let (mut seen, mut after) = (Vec::new(), None);
    for n in 6u8.. {
        let page = Page { limit: Some(2), offset: 0, after };
        let found = store.exports(mine.tenant, ExportFilter::default(), page).await.unwrap();
        let Some(last) = found.last().map(|view| view.export.clone()) else { break };
        seen.extend(found.into_iter().map(|view| view.export.id.0.as_u128() - 0xe0000));
        after = Some(Place(last.created_at, last.id.0));
        let (made, tasks) = planned(mine, n.into(), 1, 40); // newer than all that was there
        make(store, made, tasks).await;
    }
    assert_eq!(seen, [5, 4, 3, 2, 1]);

    let id = ExportId(Uuid::from_u128(0xe0001));
    let all = store.tasks(mine.tenant, id, ALL).await.unwrap().unwrap();
    let place = |view: &RunView| Place(view.task.kind.window().unwrap().start(), view.task.id.0);
    for (n, view) in all.iter().enumerate() {
        let page = Page { after: Some(place(view)), ..ALL };
        assert_eq!(store.tasks(mine.tenant, id, page).await.unwrap().unwrap(), all[n + 1..]);
    }
}

pub(crate) async fn files_of_a_run_come_in_order_in_pages_to_their_owner_only(store: &Store) {
    let (mine, other) = (owner(store, 1).await, owner(store, 2).await);
    let id = export(store, mine, 1, 1).await;
    let task = claim_one(store, "a", 1).await;
    for number in 0..12 {
        report(store, &task, Event::FileDone(file(number)), 2).await;
    }
    let files = async |after, most| {
        store.run_files(mine.tenant, id, task.id, after, most).await.unwrap().unwrap().keys
    };
    let expected = |numbers: std::ops::Range<u32>| {
        numbers.map(|number| (number, file(number).key)).collect::<Vec<_>>()
    };
    assert_eq!(files(None, 100).await, expected(0..12));
    assert_eq!(files(None, 5).await, expected(0..5));
    assert_eq!(files(Some(4), 5).await, expected(5..10));
    assert_eq!(files(Some(11), 5).await, []);
    for (tenant, export) in [(other.tenant, id), (mine.tenant, ExportId(Uuid::from_u128(1)))] {
        assert_eq!(store.run_files(tenant, export, task.id, None, 5).await.unwrap(), None);
    }
}

pub(crate) async fn a_list_may_be_of_some_statuses_destinations_or_projects_only(store: &Store) {
    let mine = owner(store, 1).await;
    let second = Owner { destination: DestinationId(Uuid::from_u128(0xd0d0)), ..mine };
    store
        .create_destination(act(), NewDestination::of(destination(second, 1), Some(sealed(9))))
        .await
        .unwrap();
    let other_project = SessionId(Uuid::from_u128(0x5e5e));
    for (n, owner) in [(1, mine), (2, second), (3, mine), (4, second)] {
        let (mut made, tasks) = planned(owner, n, 1, n as i64);
        made.spec.projects = if n > 2 { Projects::One(other_project) } else { made.spec.projects };
        make(store, made, tasks).await;
    }
    store
        .cancel_export(act(), mine.tenant, ExportId(Uuid::from_u128(0xe0001)), at(9))
        .await
        .unwrap();
    claim(store, "a", 1, 10).await;
    let list = async |wanted: ExportFilter, page| {
        let found = store.exports(mine.tenant, wanted, page).await.unwrap();
        found.into_iter().map(|view| view.export.id.0.as_u128() - 0xe0000).collect::<Vec<_>>()
    };
    let of = |statuses: &[ExportStatus]| ExportFilter {
        statuses: statuses.to_vec(),
        ..ExportFilter::default()
    };
    assert_eq!(list(of(&[]), ALL).await, [4, 3, 2, 1]);
    assert_eq!(list(of(&[ExportStatus::Running]), ALL).await, [2]);
    assert_eq!(list(of(&[ExportStatus::Created, ExportStatus::Cancelled]), ALL).await, [4, 3, 1]);
    assert_eq!(
        list(
            of(&[ExportStatus::Created, ExportStatus::Cancelled]),
            Page { limit: Some(1), offset: 1, after: None }
        )
        .await,
        [3]
    );
    assert_eq!(
        list(
            ExportFilter { destination: Some(second.destination), ..ExportFilter::default() },
            ALL
        )
        .await,
        [4, 2]
    );
    let both = ExportFilter {
        destination: Some(mine.destination),
        session: Some(other_project),
        ..of(&[ExportStatus::Created])
    };
    assert_eq!(list(both, ALL).await, [3]);
    assert!(list(of(&[ExportStatus::Failed]), ALL).await.is_empty());
}

pub(crate) async fn runs_come_oldest_first_in_pages(store: &Store) {
    let mine = owner(store, 1).await;
    let (made, mut tasks) = planned(mine, 1, 4, 0);
    let days: Vec<_> = tasks.iter().map(|task| task.id).collect();
    tasks.reverse();
    make(store, made.clone(), tasks).await;
    let page = async |limit, offset| {
        let found = store
            .tasks(mine.tenant, made.id, Page { limit, offset, after: None })
            .await
            .unwrap()
            .unwrap();
        found.into_iter().map(|view| view.task.id).collect::<Vec<_>>()
    };
    assert_eq!(page(None, 0).await, days);
    assert_eq!(page(Some(2), 1).await, days[1..3]);
    assert!(page(None, 4).await.is_empty());
}

pub(crate) async fn another_tenants_export_is_invisible(store: &Store) {
    let (mine, other) = (owner(store, 1).await, owner(store, 2).await);
    let id = export(store, mine, 1, 1).await;
    let task = claim_one(store, "a", 1).await;
    let before = everything(store, mine, id).await;
    assert_eq!(store.export(other.tenant, id).await.unwrap(), None);
    assert_eq!(store.exports(other.tenant, ExportFilter::default(), ALL).await.unwrap(), []);
    assert_eq!(store.tasks(other.tenant, id, ALL).await.unwrap(), None);
    assert_eq!(store.run(other.tenant, id, task.id).await.unwrap(), None);
    assert_eq!(store.schedule_runs(other.tenant, id, ALL).await.unwrap(), None);
    assert_eq!(store.cancel_export(act(), other.tenant, id, at(2)).await.unwrap(), None);
    assert_eq!(everything(store, mine, id).await, before);
}

pub(crate) async fn a_view_adds_up_its_runs(store: &Store) {
    let mine = owner(store, 1).await;
    let id = export(store, mine, 1, 4).await;
    let claimed = claim(store, "a", 3, 5).await;
    complete(store, &claimed[0].task, 2, 6).await;
    // One complete file, and 7 rows of the next.
    report(store, &claimed[1].task, Event::FileDone(file(0)), 6).await;
    let said =
        Progress { rows: 17, bytes: 170, files: 1, rows_estimate: Some(40), ..Progress::default() };
    store.progress(None, claimed[1].task.id, claimed[1].task.fence, said, at(7)).await.unwrap();
    // An exporter that says less than is recorded.
    report(store, &claimed[2].task, Event::FileDone(file(0)), 6).await;
    let said = Progress { rows: 4, bytes: 40, rows_estimate: Some(20), ..Progress::default() };
    store.progress(None, claimed[2].task.id, claimed[2].task.fence, said, at(7)).await.unwrap();

    let view = view(store, mine, id).await;
    let sums = (
        view.runs_total,
        view.runs_completed,
        view.rows,
        view.bytes,
        view.files,
        view.runs_counted,
        view.rows_counted,
    );
    assert_eq!(sums, (4, 1, 20 + 17 + 10, 200 + 170 + 100, 4, 2, 60));
    assert_eq!((view.export.status, view.started_at), (ExportStatus::Running, Some(at(5))));
}

pub(crate) async fn cancelling_twice_changes_nothing_more(store: &Store) {
    let mine = owner(store, 1).await;
    let id = export(store, mine, 1, 3).await;
    let mut claimed = claim(store, "a", 2, 1).await;
    let (done, working) = (claimed.remove(0).task, claimed.remove(0).task);
    complete(store, &done, 1, 2).await;
    let cancelled = store.cancel_export(act(), mine.tenant, id, at(3)).await.unwrap().unwrap();
    assert_eq!(
        (cancelled.export.status, cancelled.export.finished_at),
        (ExportStatus::Cancelled, Some(at(3)))
    );

    let tasks = store.tasks(mine.tenant, id, ALL).await.unwrap().unwrap();
    let shown: Vec<_> = tasks
        .iter()
        .map(|view| (view.task.status(), view.task.fence.0, view.task.finished_at()))
        .collect();
    assert_eq!(
        shown,
        [
            (RunStatus::Completed, 1, Some(at(2))),
            (RunStatus::Cancelled, 2, Some(at(3))),
            (RunStatus::Cancelled, 1, Some(at(3)))
        ]
    );
    assert_eq!(working.fence.0, 1);
    let before = everything(store, mine, id).await;
    assert_eq!(store.cancel_export(act(), mine.tenant, id, at(9)).await.unwrap(), Some(cancelled));
    assert_eq!(everything(store, mine, id).await, before);
    let after: Vec<_> =
        claim(store, "b", 9, 10).await.iter().map(|claimed| claimed.task.kind).collect();
    assert_eq!(after, [TaskKind::CleanUp(working.id)], "nothing of it is worked on any more");
}

pub(crate) async fn an_export_that_has_ended_is_not_cancelled(store: &Store) {
    let mine = owner(store, 1).await;
    let id = export(store, mine, 1, 1).await;
    complete(store, &claim_one(store, "a", 1).await, 0, 2).await;
    let finalizing = claim_one(store, "a", 3).await;
    report(store, &finalizing, Event::Published, 4).await;
    let ended = view(store, mine, id).await;
    assert_eq!(ended.export.status, ExportStatus::Completed);
    assert_eq!(store.cancel_export(act(), mine.tenant, id, at(9)).await.unwrap(), Some(ended));
    let unknown = ExportId(Uuid::from_u128(9));
    assert_eq!(store.cancel_export(act(), mine.tenant, unknown, at(9)).await.unwrap(), None);
}

pub(crate) async fn a_cancelled_export_does_not_count_files_in_the_making(store: &Store) {
    let mine = owner(store, 1).await;
    let id = export(store, mine, 1, 1).await;
    let task = claim_one(store, "a", 1).await;
    report(store, &task, Event::FileDone(file(0)), 2).await;
    let said = Progress { rows: 5000, bytes: 50_000, files: 1, ..Progress::default() };
    store.progress(None, task.id, task.fence, said, at(3)).await.unwrap();
    let cancelled = store.cancel_export(act(), mine.tenant, id, at(4)).await.unwrap().unwrap();
    assert_eq!((cancelled.rows, cancelled.bytes, cancelled.files), (10, 100, 1));
    assert_eq!(run_view(store, &task).await.reported.rows, 0);
}
