//! Exports of all experiments: a run finds them, and each of their days becomes a partition, once.

use futures::future::join_all;
use tracelift_core::{
    export::{ExportStatus, Projects},
    failure::FailureClass,
    id::{ExportId, SessionId},
    limit::AtOnce,
    plan::{Experiment, MAX_PARTITIONS, Partition},
    schedule::Hours,
    task::{Event, RunStatus, Task, TaskKind},
    time::{Timestamp, Window},
};
use uuid::Uuid;

use super::{
    ALL, GRACE, Owner, RETRIES, act, at, claim, claim_one, claim_under, complete, everything,
    failed, first_runs, lease, make, owner, planned, report, view,
};
use crate::store::{
    CreateOutcome, Due, ExportFilter, NewExport, ReportOutcome, RequestKey, Store, TimeLimits,
};

/// Stores export `n` of all experiments of `days` days, made at second 0.
pub(crate) async fn experiments(store: &Store, owner: Owner, n: u128, days: i64) -> ExportId {
    let (mut made, _) = planned(owner, n, days, 0);
    made.spec.projects = Projects::Experiments;
    let (id, tasks) = (made.id, first_runs(&made));
    make(store, made, tasks).await;
    id
}

/// Noon of a day of January.
fn noon(day: u32) -> Timestamp {
    Timestamp::parse("t", &format!("2024-01-{day:02}T12:00:00Z")).unwrap()
}

fn experiment(n: u128, first: u32, last: u32) -> Experiment {
    Experiment { session: SessionId(Uuid::from_u128(n)), first: noon(first), last: noon(last) }
}

/// One has rows on two days, another one on one of them.
pub(crate) fn two_of_three_days() -> Vec<Experiment> {
    vec![experiment(7, 1, 2), experiment(8, 2, 2)]
}

fn found() -> Event {
    Event::ExperimentsFound(two_of_three_days())
}

/// What the partitions of an export are, by project and day of January.
async fn partitions(store: &Store, owner: Owner, id: ExportId) -> Vec<(u128, u32)> {
    let tasks = store.tasks(owner.tenant, id, ALL).await.unwrap().unwrap();
    tasks.iter().map(|view| day_of(&view.task)).collect()
}

fn day_of(task: &Task) -> (u128, u32) {
    let Partition { session, window } = task.kind.partition().unwrap();
    (session.0.as_u128(), window.start().day().civil().2)
}

pub(crate) async fn which_they_are_is_found_first_and_nobody_sees_the_run_that_does(store: &Store) {
    let mine = owner(store, 1).await;
    let id = experiments(store, mine, 1, 3).await;
    let seen = view(store, mine, id).await;
    assert_eq!(
        (seen.export.spec.projects, seen.export.status, seen.runs_total),
        (Projects::Experiments, ExportStatus::Created, 0)
    );
    let of_project =
        ExportFilter { session: Some(SessionId(Uuid::from_u128(0x5e))), ..ExportFilter::default() };
    assert!(
        store.exports(mine.tenant, of_project, ALL).await.unwrap().is_empty(),
        "it is of no project"
    );

    let finder = claim_one(store, "a", 1).await;
    assert_eq!(finder.kind, TaskKind::FindExperiments(seen.export.spec.window));
    assert_eq!(partitions(store, mine, id).await, []);
    assert!(store.run(mine.tenant, id, finder.id).await.unwrap().is_none());
    assert!(store.retry_run(act(), mine.tenant, id, finder.id, at(2)).await.unwrap().is_none());
    let seen = view(store, mine, id).await;
    assert_eq!(
        (seen.export.status, seen.runs_total, seen.started_at),
        (ExportStatus::Running, 0, Some(at(1)))
    );
    assert_eq!(claim(store, "b", 9, 2).await, []);
}

pub(crate) async fn what_is_found_is_exported_once_and_counted_together(store: &Store) {
    let mine = owner(store, 1).await;
    let id = experiments(store, mine, 1, 3).await;
    let finder = claim_one(store, "a", 1).await;
    assert_eq!(report(store, &finder, found(), 2).await.status(), RunStatus::Completed);
    let once = everything(store, mine, id).await;
    assert_eq!(partitions(store, mine, id).await, [(7, 1), (7, 2), (8, 2)]);
    report(store, &finder, found(), 3).await;
    report(store, &finder, Event::ExperimentsFound(vec![experiment(9, 3, 3)]), 3).await;
    assert_eq!(
        everything(store, mine, id).await,
        once,
        "said again, it changes nothing, whatever it says"
    );

    let claimed = claim(store, "a", 9, 4).await;
    assert_eq!(
        claimed.iter().map(|claimed| day_of(&claimed.task)).collect::<Vec<_>>(),
        [(7, 1), (7, 2), (8, 2)]
    );
    for (part, files) in claimed.iter().zip([2, 0, 1]) {
        assert_eq!(part.task.tenant, mine.tenant);
        complete(store, &part.task, files, 5).await;
    }
    let finalizing = claim(store, "a", 9, 6).await.remove(0);
    assert_eq!(finalizing.task.kind, TaskKind::Finalize);
    let published: Vec<_> =
        finalizing.published.iter().map(|(_, task)| (day_of(task), task.totals.files)).collect();
    assert_eq!(published, [((7, 1), 2), ((7, 2), 0), ((8, 2), 1)]);
    report(store, &finalizing.task, Event::Published, 7).await;
    let ended = view(store, mine, id).await;
    assert_eq!(
        (ended.export.status, ended.runs_total, ended.runs_completed, ended.rows),
        (ExportStatus::Completed, 3, 3, 30)
    );
    let counting = claim(store, "a", 9, 8).await.remove(0);
    assert_eq!((counting.task.kind, counting.published.len()), (TaskKind::Reconcile, 3));
}

pub(crate) async fn of_reports_that_come_at_once_one_makes_partitions(store: &Store) {
    let mine = owner(store, 1).await;
    let id = experiments(store, mine, 1, 3).await;
    let finder = claim_one(store, "a", 1).await;
    let heard = join_all(
        (0..4).map(|_| store.report(None, finder.id, finder.fence, found(), GRACE, at(2))),
    )
    .await;
    assert!(heard.iter().all(|heard| matches!(heard, Ok(ReportOutcome::Applied(_)))), "{heard:?}");
    assert_eq!(partitions(store, mine, id).await, [(7, 1), (7, 2), (8, 2)]);
}

pub(crate) async fn who_was_lost_while_finding_makes_no_partitions(store: &Store) {
    let mine = owner(store, 1).await;
    let id = experiments(store, mine, 1, 3).await;
    let lost = claim_one(store, "a", 1).await;
    assert_eq!(store.lapse(RETRIES, at(40)).await.unwrap(), 1);
    assert_eq!(
        store.report(None, lost.id, lost.fence, found(), GRACE, at(41)).await.unwrap(),
        ReportOutcome::Stale
    );
    let finder = claim_one(store, "b", 42).await;
    assert_eq!((finder.id, finder.fence.0), (lost.id, 2));
    assert_eq!(
        store.report(None, lost.id, lost.fence, found(), GRACE, at(43)).await.unwrap(),
        ReportOutcome::Stale
    );
    assert_eq!(partitions(store, mine, id).await, []);
    report(store, &finder, Event::ExperimentsFound(vec![experiment(9, 3, 3)]), 44).await;
    assert_eq!(
        store.report(None, lost.id, lost.fence, found(), GRACE, at(45)).await.unwrap(),
        ReportOutcome::Stale
    );
    assert_eq!(partitions(store, mine, id).await, [(9, 3)]);
}

pub(crate) async fn without_experiments_an_export_is_complete_and_empty(store: &Store) {
    let mine = owner(store, 1).await;
    let id = experiments(store, mine, 1, 3).await;
    let finder = claim_one(store, "a", 1).await;
    report(store, &finder, Event::ExperimentsFound(Vec::new()), 2).await;
    assert_eq!(view(store, mine, id).await.export.status, ExportStatus::Running);
    let finalizing = claim(store, "a", 9, 3).await.remove(0);
    assert_eq!((finalizing.task.kind, finalizing.published.len()), (TaskKind::Finalize, 0));
    report(store, &finalizing.task, Event::Published, 4).await;
    let ended = view(store, mine, id).await;
    assert_eq!(
        (ended.export.status, ended.runs_total, ended.rows),
        (ExportStatus::Completed, 0, 0)
    );
    let counting = claim_one(store, "a", 5).await;
    report(store, &counting, Event::Counted { rows: 0 }, 6).await;
    assert_eq!(view(store, mine, id).await.reconciled, Some((0, at(6))));
    assert_eq!(store.remove_ended(at(10)).await.unwrap(), 1);
}

pub(crate) async fn too_many_days_of_experiments_fail_the_export_in_words(store: &Store) {
    let mine = owner(store, 1).await;
    let id = experiments(store, mine, 1, 3).await;
    let finder = claim_one(store, "a", 1).await;
    let many = (0..=MAX_PARTITIONS as u128 / 2).map(|n| experiment(n, 1, 2)).collect();
    assert_eq!(
        report(store, &finder, Event::ExperimentsFound(many), 2).await.status(),
        RunStatus::Failed
    );
    let ended = view(store, mine, id).await;
    assert_eq!(
        (ended.export.status, ended.export.finished_at, ended.runs_total),
        (ExportStatus::Failed, Some(at(2)), 0)
    );
    assert_eq!(
        ended.export.error.unwrap(),
        "finding the experiments of [2024-01-01T00:00:00.000000+00:00, 2024-01-04T00:00:00.000000+00:00) failed: the export is too \
         large, its caller must ask for less (read): the experiments of this range have rows on more than 4000 days in all: \
         split the range into several exports"
    );
    assert_eq!(claim(store, "a", 9, 3).await, [], "nothing was left in the bucket");
}

pub(crate) async fn finding_is_tried_again_and_fails_the_export_in_the_end(store: &Store) {
    let mine = owner(store, 1).await;
    let id = experiments(store, mine, 1, 3).await;
    for attempt in 0..=i64::from(RETRIES) {
        assert_eq!(view(store, mine, id).await.export.finished_at, None);
        let finder = claim_one(store, "a", 1000 * attempt + 1).await;
        report(store, &finder, failed(FailureClass::SourceTransient), 1000 * attempt + 2).await;
    }
    let ended = view(store, mine, id).await.export;
    assert_eq!(ended.status, ExportStatus::Failed);
    assert!(ended.error.unwrap().contains("failed: the trace store did not answer"));
    assert_eq!(claim(store, "a", 9, 9000).await, []);
}

pub(crate) async fn an_export_is_cancelled_while_its_experiments_are_found(store: &Store) {
    let mine = owner(store, 1).await;
    let (id, waiting) =
        (experiments(store, mine, 1, 3).await, experiments(store, mine, 2, 3).await);
    let finder = claim_one(store, "a", 1).await;
    for export in [id, waiting] {
        let cancelled =
            store.cancel_export(act(), mine.tenant, export, at(2)).await.unwrap().unwrap();
        assert_eq!((cancelled.export.status, cancelled.runs_total), (ExportStatus::Cancelled, 0));
    }
    assert_eq!(
        store.stopped(super::exporter("a"), at(0)).await.unwrap(),
        [(finder.id, finder.fence)],
        "its exporter is told"
    );
    assert_eq!(
        store.report(None, finder.id, finder.fence, found(), GRACE, at(3)).await.unwrap(),
        ReportOutcome::Stale
    );
    assert_eq!(partitions(store, mine, id).await, []);
    assert_eq!(claim(store, "a", 9, 4).await, [], "there is nothing to clean up after");
}

pub(crate) async fn finding_that_takes_too_long_times_out(store: &Store) {
    let mine = owner(store, 1).await;
    let id = experiments(store, mine, 1, 3).await;
    let finder = claim_one(store, "a", 1).await;
    assert_eq!(store.time_out(TimeLimits { task: 60, export: 3600 }, at(62)).await.unwrap(), 1);
    let ended = view(store, mine, id).await.export;
    assert_eq!(ended.status, ExportStatus::TimedOut);
    assert!(ended.error.unwrap().starts_with("finding the experiments of [2024-01-01"));
    assert_eq!(
        store.report(None, finder.id, finder.fence, found(), GRACE, at(63)).await.unwrap(),
        ReportOutcome::Stale
    );
}

pub(crate) async fn finding_them_is_the_beginning_of_an_export_under_its_limits(store: &Store) {
    let mine = owner(store, 1).await;
    let ids = [experiments(store, mine, 1, 3).await, experiments(store, mine, 2, 3).await];
    let limits = AtOnce { runs_per_export: 2, exports: 1 };
    let within = async |now| claim_under(store, lease("a", now), 9, limits, now).await;
    let first = within(1).await;
    assert_eq!(
        first.iter().map(|claimed| claimed.export.id).collect::<Vec<_>>(),
        [ids[0]],
        "the other one waits"
    );
    assert_eq!(store.usage(mine.tenant, at(2)).await.unwrap().queued_exports, 1);
    report(store, &first[0].task, found(), 2).await;
    let second = within(3).await;
    assert_eq!(
        second.iter().map(|claimed| day_of(&claimed.task)).collect::<Vec<_>>(),
        [(7, 1), (7, 2)]
    );
}

pub(crate) async fn each_export_of_a_schedule_finds_them_for_itself(store: &Store) {
    let mine = owner(store, 1).await;
    let (mut made, _) = planned(mine, 1, 1, 0);
    made.spec.projects = Projects::Experiments;
    made.spec.every = Some(Hours::new("interval_hours", 24).unwrap());
    made.status = ExportStatus::IntervalScheduled;
    let day = |day: u32| noon(day).day().start();
    assert_eq!(first_runs(&made), [], "a schedule has no tasks of its own");
    make(store, made.clone(), Vec::new()).await;
    assert_eq!(store.spawn(made.id, Due { before: day(3), under_way: 0 }, at(1)).await.unwrap(), 2);
    let claimed = claim(store, "a", 9, 2).await;
    let windows: Vec<_> = claimed.iter().map(|claimed| claimed.task.kind).collect();
    assert_eq!(
        windows,
        [1, 2].map(|n| TaskKind::FindExperiments(Window::new(day(n), day(n + 1)).unwrap()))
    );
    report(store, &claimed[1].task, Event::ExperimentsFound(vec![experiment(8, 2, 2)]), 3).await;
    assert_eq!(partitions(store, mine, claimed[0].export.id).await, []);
    assert_eq!(partitions(store, mine, claimed[1].export.id).await, [(8, 2)]);
    assert_eq!(
        store.schedule_runs(mine.tenant, made.id, ALL).await.unwrap().unwrap().len(),
        1,
        "those that find are not listed"
    );
}

pub(crate) async fn a_repeated_request_is_answered_as_before_they_were_found(store: &Store) {
    let mine = owner(store, 1).await;
    let ask = async |n| {
        let (mut made, _) = planned(mine, n, 3, 0);
        made.spec.projects = Projects::Experiments;
        let tasks = first_runs(&made);
        let request = Some(RequestKey { key: "once".to_owned(), digests: vec![[7; 32]] });
        store
            .create_export(act(), NewExport { request, ..NewExport::of(made, tasks) })
            .await
            .unwrap()
    };
    let CreateOutcome::Now(first) = ask(1).await else { panic!("it was asked for before") };
    let finder = claim_one(store, "a", 1).await;
    report(store, &finder, found(), 2).await;
    assert_eq!(ask(2).await, CreateOutcome::Before(first));
}
