//! What happens as time passes, and what is done after an export has ended: cleaning up, counting,
//! forgetting.

use tracelift_core::{
    assignment::ReadTime,
    export::{ExportStatus, Projects},
    failure::FailureClass,
    file::FileIntent,
    filter::Filter,
    task::{Event, Progress, RunStatus, Task, TaskKind, Verdict},
    time::Window,
};

use super::{
    ALL, GRACE, LEASE, PATIENCE, RETRIES, act, at, claim, claim_one, complete, export, failed,
    file, finished, first_runs, held, intent, lease, make, owner, planned, report, run_view, view,
};
use crate::store::{Change, ReportOutcome, Store, TimeLimits};

/// Nothing times out.
const NEVER: TimeLimits = TimeLimits { task: u32::MAX, export: u32::MAX };

async fn said(store: &Store, task: &Task, rows: u64, now: i64) {
    let said = Progress { stage: "reading".into(), rows, ..Progress::default() };
    assert!(matches!(
        store.progress(None, task.id, task.fence, said, at(now)).await.unwrap(),
        ReportOutcome::Applied(_)
    ));
}

pub(crate) async fn a_run_that_does_not_get_on_is_given_to_another_though_its_exporter_is_heard_of(
    store: &Store,
) {
    let mine = owner(store, 1).await;
    export(store, mine, 1, 1).await;
    let task = claim_one(store, "a", 0).await;
    let patience = i64::from(PATIENCE);
    said(store, &task, 10, 100).await;
    for now in (110..100 + patience).step_by(10) {
        said(store, &task, 10, now).await;
        assert_eq!(
            store.heartbeat(lease("a", now), held(&[&task]), at(now)).await.unwrap(),
            [Verdict::Keep]
        );
        assert_eq!(store.lapse(RETRIES, at(now)).await.unwrap(), 0, "at {now}");
    }
    let late = 100 + patience;
    assert_eq!(store.lapse(RETRIES, at(late)).await.unwrap(), 1);
    let seen = run_view(store, &task).await.task;
    assert!(
        seen.errors[0].ends_with("exporter a did not get on for 600 seconds"),
        "{:?}",
        seen.errors
    );
    assert_eq!(
        store.heartbeat(lease("a", late), held(&[&task]), at(late)).await.unwrap(),
        [Verdict::Revoked]
    );
    assert_eq!(claim_one(store, "b", late).await.id, task.id);
}

pub(crate) async fn whatever_gets_a_run_further_is_progress(store: &Store) {
    let mine = owner(store, 1).await;
    export(store, mine, 1, 1).await;
    let task = claim_one(store, "a", 0).await;
    let mut now = 0;
    for event in [Event::FileIntent(intent(0)), Event::FileDone(file(0)), finished(1, 10)] {
        now += i64::from(PATIENCE) - 1;
        store.heartbeat(lease("a", now), held(&[&task]), at(now)).await.unwrap();
        report(store, &task, event, now).await;
        assert_eq!(store.lapse(RETRIES, at(now + 1)).await.unwrap(), 0);
    }
}

pub(crate) async fn a_run_that_takes_too_long_times_out_and_its_exporter_is_told(store: &Store) {
    let mine = owner(store, 1).await;
    let id = export(store, mine, 1, 2).await;
    let slow = claim_one(store, "a", 10).await;
    let mut notifications = store.changes();
    let limits = TimeLimits { task: 100, ..NEVER };
    assert_eq!(store.time_out(limits, at(109)).await.unwrap(), 0);
    assert_eq!(store.time_out(limits, at(110)).await.unwrap(), 1);
    let stopped = Change::Stopped {
        task: slow.id,
        fence: slow.fence,
        exporter: slow.lease().unwrap().exporter.clone(),
    };
    while notifications.recv().await.unwrap() != stopped {}
    assert_eq!(run_view(store, &slow).await.task.status(), RunStatus::TimedOut);
    assert_eq!(
        store.heartbeat(lease("a", 111), held(&[&slow]), at(111)).await.unwrap(),
        [Verdict::Cancel]
    );
    assert_eq!(
        view(store, mine, id).await.export.status,
        ExportStatus::Running,
        "the other run is still to do"
    );
    let mut rest = claim(store, "b", 9, 112).await;
    let other = rest
        .remove(
            rest.iter()
                .position(|claimed| matches!(claimed.task.kind, TaskKind::Partition(_)))
                .unwrap(),
        )
        .task;
    complete(store, &other, 1, 113).await;
    let ended = view(store, mine, id).await.export;
    assert_eq!(ended.status, ExportStatus::TimedOut);
    assert!(ended.error.unwrap().contains("took longer than the operator allows"));
}

pub(crate) async fn an_export_that_takes_too_long_stops_as_a_whole(store: &Store) {
    let mine = owner(store, 1).await;
    let (waiting, begun) = (export(store, mine, 1, 1).await, export(store, mine, 2, 3).await);
    let first = claim_one(store, "a", 10).await;
    let begun = if first.export == waiting { (begun, waiting) } else { (waiting, begun) };
    let limits = TimeLimits { export: 100, ..NEVER };
    store.heartbeat(lease("a", 100), held(&[&first]), at(100)).await.unwrap();
    store.time_out(limits, at(110)).await.unwrap();
    let ended = view(store, mine, begun.1).await.export;
    assert_eq!((ended.status, ended.finished_at), (ExportStatus::TimedOut, Some(at(110))));
    let waiting = view(store, mine, begun.0).await.export;
    assert_eq!(waiting.status, ExportStatus::Created, "time begins when the first run is taken");
}

/// The cleaning run of `left`, claimed.
async fn cleaning(store: &Store, left: &Task, now: i64) -> (Task, Task) {
    let claimed = claim(store, "cleaner", 9, now).await;
    let found = claimed
        .into_iter()
        .find(|claimed| claimed.task.kind == TaskKind::CleanUp(left.id))
        .unwrap();
    (found.task, found.leftover.unwrap())
}

pub(crate) async fn what_a_stopped_run_left_is_cleaned_up_once(store: &Store) {
    let mine = owner(store, 1).await;
    let id = export(store, mine, 1, 1).await;
    let task = claim_one(store, "a", 1).await;
    report(store, &task, Event::FileDone(file(0)), 2).await;
    report(store, &task, Event::FileIntent(intent(1)), 2).await;
    store.cancel_export(act(), mine.tenant, id, at(3)).await.unwrap();
    let (cleaning, left) = cleaning(store, &task, 4).await;
    assert_eq!((left.intent, left.totals.files), (Some(intent(1)), 1));
    let adopted = Some(Box::new(file(1)));
    for _ in 0..2 {
        report(store, &cleaning, Event::CleanedUp { adopted: adopted.clone() }, 5).await;
    }
    let seen = run_view(store, &task).await;
    assert_eq!((&seen.task.intent, seen.task.status()), (&None, RunStatus::Cancelled));
    assert_eq!(seen.keys, [file(0).key, file(1).key], "a file that was complete is listed");
    assert_eq!(claim(store, "cleaner", 9, 9).await, []);
    assert_eq!(view(store, mine, id).await.export.status, ExportStatus::Cancelled);
    assert_eq!(
        store.tasks(mine.tenant, id, ALL).await.unwrap().unwrap().len(),
        1,
        "callers see partitions only"
    );
}

pub(crate) async fn a_failed_run_is_cleaned_up_and_one_that_nobody_began_is_not(store: &Store) {
    let mine = owner(store, 1).await;
    let id = export(store, mine, 1, 2).await;
    let task = claim_one(store, "a", 1).await;
    let unsealed = FileIntent { whole: None, ..intent(0) };
    report(store, &task, Event::FileIntent(unsealed), 2).await;
    report(store, &task, failed(FailureClass::CustomerConfig), 3).await;
    store.cancel_export(act(), mine.tenant, id, at(4)).await.unwrap();
    let claimed = claim(store, "cleaner", 9, 5).await;
    assert_eq!(
        claimed.iter().map(|claimed| claimed.task.kind).collect::<Vec<_>>(),
        [TaskKind::CleanUp(task.id)]
    );
    // A cleaner that dies is followed by another; cleaning ends, and nothing else changes.
    store.lapse(RETRIES, at(5 + LEASE)).await.unwrap();
    let (again, _) = cleaning(store, &task, 6 + LEASE).await;
    report(store, &again, Event::CleanedUp { adopted: None }, 7 + LEASE).await;
    assert_eq!(view(store, mine, id).await.export.finished_at, Some(at(4)));
}

pub(crate) async fn a_completed_export_is_counted_once_more(store: &Store) {
    let mine = owner(store, 1).await;
    let id = export(store, mine, 1, 1).await;
    complete(store, &claim_one(store, "a", 1).await, 2, 2).await;
    report(store, &claim_one(store, "a", 3).await, Event::Published, 3).await;
    let ended = view(store, mine, id).await;
    assert_eq!((ended.export.status, ended.reconciled), (ExportStatus::Completed, None));
    let counting = claim_one(store, "a", 4).await;
    assert_eq!(counting.kind, TaskKind::Reconcile);
    for _ in 0..2 {
        report(store, &counting, Event::Counted { rows: 23 }, 5).await;
    }
    let counted = view(store, mine, id).await;
    assert_eq!((counted.reconciled, counted.rows, counted.runs_total), (Some((23, at(5))), 20, 1));
    assert_eq!(counted.export.finished_at, ended.export.finished_at);
}

pub(crate) async fn an_export_whose_window_is_open_says_so_and_is_counted_after_its_end_and_the_grace(
    store: &Store,
) {
    let mine = owner(store, 1).await;
    let (mut made, _) = planned(mine, 1, 1, 0);
    let (end, grace) = (10, i64::from(GRACE));
    made.spec.window = Window::new(at(0), at(end)).unwrap();
    let (id, tasks) = (made.id, first_runs(&made));
    make(store, made, tasks).await;
    assert_eq!(
        (view(store, mine, id).await.read_at, view(store, mine, id).await.window_open),
        (None, false)
    );
    let task = claim_one(store, "a", 5).await;
    assert_eq!(
        run_view(store, &task).await.task.read_at,
        Some(at(5)),
        "it is read back as it was saved"
    );
    complete(store, &task, 2, 6).await;
    let [finalizing] = claim(store, "a", 9, 7).await.try_into().unwrap();
    let read = ReadTime { at: Some(at(5)), window_open: true };
    assert_eq!(finalizing.read, read, "the manifest says so too");
    report(store, &finalizing.task, Event::Published, 8).await;
    let ended = view(store, mine, id).await;
    assert_eq!(
        (ended.export.status, ended.read_at, ended.window_open),
        (ExportStatus::Completed, Some(at(5)), true)
    );

    assert!(claim(store, "a", 9, end + grace - 1).await.is_empty(), "rows may come late");
    let counting = claim_one(store, "a", end + grace).await;
    report(store, &counting, Event::Counted { rows: 23 }, end + grace + 1).await;
    assert_eq!(view(store, mine, id).await.reconciled, Some((23, at(end + grace + 1))));
}

pub(crate) async fn a_search_for_experiments_in_an_open_window_is_told_though_it_found_none(
    store: &Store,
) {
    let mine = owner(store, 1).await;
    let (mut made, _) = planned(mine, 1, 1, 0);
    (made.spec.window, made.spec.projects) =
        (Window::new(at(-20), at(10)).unwrap(), Projects::Experiments);
    let (id, tasks) = (made.id, first_runs(&made));
    make(store, made, tasks).await;
    report(store, &claim_one(store, "a", 5).await, Event::ExperimentsFound(Vec::new()), 6).await;
    let seen = view(store, mine, id).await;
    assert_eq!((seen.runs_total, seen.read_at, seen.window_open), (0, Some(at(5)), true));
}

pub(crate) async fn an_export_whose_filter_reads_content_is_counted_too(store: &Store) {
    let mine = owner(store, 1).await;
    let (mut planned, tasks) = planned(mine, 1, 1, 0);
    planned.spec.filter = Some(Filter::read("neq(error, null)").unwrap());
    let id = planned.id;
    make(store, planned, tasks).await;
    complete(store, &claim_one(store, "a", 1).await, 2, 2).await;
    report(store, &claim_one(store, "a", 3).await, Event::Published, 3).await;
    assert_eq!(view(store, mine, id).await.export.status, ExportStatus::Completed);
    assert_eq!(claim_one(store, "a", 4).await.kind, TaskKind::Reconcile);
}

pub(crate) async fn records_of_old_exports_are_removed_and_young_or_busy_ones_stay(store: &Store) {
    let mine = owner(store, 1).await;
    let (old, busy, young) = (
        export(store, mine, 1, 2).await,
        export(store, mine, 2, 1).await,
        export(store, mine, 3, 1).await,
    );
    let begun = claim(store, "a", 9, 1).await;
    for claimed in begun.iter().filter(|claimed| claimed.task.export == old) {
        report(store, &claimed.task, Event::FileDone(file(0)), 2).await;
    }
    for (id, when) in [(old, 10), (busy, 10), (young, 100)] {
        store.cancel_export(act(), mine.tenant, id, at(when)).await.unwrap();
    }
    for claimed in claim(store, "cleaner", 99, 101)
        .await
        .into_iter()
        .filter(|claimed| claimed.task.export != busy)
    {
        report(store, &claimed.task, Event::CleanedUp { adopted: None }, 102).await;
    }
    assert_eq!(store.remove_ended(at(9)).await.unwrap(), 0);
    assert_eq!(store.remove_ended(at(50)).await.unwrap(), 1);
    assert!(store.export(mine.tenant, old).await.unwrap().is_none());
    assert!(store.tasks(mine.tenant, old, ALL).await.unwrap().is_none());
    for stays in [busy, young] {
        assert!(store.export(mine.tenant, stays).await.unwrap().is_some());
    }
}
