//! Runs that a caller asks for anew.

use tracelift_core::{
    export::ExportStatus,
    failure::FailureClass,
    id::ExportId,
    limit::AtOnce,
    task::{Event, RunStatus, Task, TaskKind},
};

use super::{
    GRACE, RETRIES, act, at, claim, claim_one, claim_under, complete, export, failed, file,
    finished, intent, lease, owner, report, run_view, view,
};
use crate::store::{Change, Deletion, ReportOutcome, Retry, Store, TimeLimits};

async fn retry(store: &Store, task: &Task, now: i64) -> Retry {
    store.retry_run(act(), task.tenant, task.export, task.id, at(now)).await.unwrap().unwrap()
}

async fn retried(store: &Store, task: &Task, now: i64) -> Task {
    match retry(store, task, now).await {
        Retry::Queued(view) => view.task,
        other => panic!("{other:?}"),
    }
}

/// What there is to do after the end of a run that was worked on.
async fn clean(store: &Store, task: &Task, now: i64) {
    let cleaning = claim_one(store, "cleaner", now).await;
    assert_eq!(cleaning.kind, TaskKind::CleanUp(task.id));
    report(store, &cleaning, Event::CleanedUp { adopted: None }, now).await;
}

pub(crate) async fn a_failed_run_goes_on_behind_its_files_and_its_export_ends_anew(store: &Store) {
    let mine = owner(store, 1).await;
    let id = export(store, mine, 1, 2).await;
    let (task, other) = (claim_one(store, "a", 1).await, claim_one(store, "b", 1).await);
    complete(store, &other, 1, 2).await;
    report(store, &task, Event::FileDone(file(0)), 2).await;
    report(store, &task, failed(FailureClass::CustomerConfig), 3).await;
    clean(store, &task, 4).await;
    let ended = view(store, mine, id).await;
    assert_eq!((ended.export.status, ended.started_at), (ExportStatus::Failed, Some(at(1))));

    let mut notifications = store.changes();
    let again = retried(store, &task, 100).await;
    while notifications.recv().await.unwrap() != Change::TasksQueued {}
    assert_eq!((again.status(), again.attempt, again.totals.files), (RunStatus::Running, 1, 1));
    let open = view(store, mine, id).await;
    assert_eq!(
        (open.export.status, &open.export.error, open.export.finished_at),
        (ExportStatus::Running, &None, None)
    );
    assert_eq!(
        (open.started_at, open.rows_before),
        (None, 20),
        "its time begins when somebody works on it"
    );
    assert_eq!(store.time_out(TimeLimits { task: 50, export: 50 }, at(120)).await.unwrap(), 0);

    let second = claim_one(store, "c", 120).await;
    assert_eq!((second.id, second.cursor, second.fence.0), (task.id, Some(file(0).cursor), 2));
    assert_eq!(view(store, mine, id).await.started_at, Some(at(120)));
    report(store, &second, Event::FileDone(file(1)), 121).await;
    report(store, &second, finished(2, 20), 122).await;
    report(store, &second, Event::Published, 122).await;
    report(store, &claim_one(store, "c", 123).await, Event::Published, 124).await;
    let done = view(store, mine, id).await;
    assert_eq!(
        (done.export.status, done.export.finished_at, done.rows),
        (ExportStatus::Completed, Some(at(124)), 30)
    );
}

pub(crate) async fn it_has_as_many_attempts_as_a_new_one(store: &Store) {
    let mine = owner(store, 1).await;
    let id = export(store, mine, 1, 1).await;
    let mut now = 0;
    for round in 1..=2 {
        for attempt in 0..=RETRIES {
            now += 1000;
            let task = claim_one(store, "a", now).await;
            report(store, &task, failed(FailureClass::SourceTransient), now).await;
            let status =
                if attempt < RETRIES { ExportStatus::Running } else { ExportStatus::Failed };
            assert_eq!(
                view(store, mine, id).await.export.status,
                status,
                "round {round}, attempt {attempt}"
            );
        }
        let task = store.tasks(mine.tenant, id, super::ALL).await.unwrap().unwrap().remove(0).task;
        assert_eq!(task.errors.len() as u32, round * (RETRIES + 1));
        clean(store, &task, now + 1).await;
        retried(store, &task, now + 2).await;
    }
}

pub(crate) async fn it_waits_until_what_it_had_left_is_cleaned_up(store: &Store) {
    let mine = owner(store, 1).await;
    export(store, mine, 1, 1).await;
    let task = claim_one(store, "a", 1).await;
    report(store, &task, Event::FileIntent(intent(0)), 2).await;
    assert_eq!(store.time_out(TimeLimits { task: 5, export: 999 }, at(10)).await.unwrap(), 1);
    retried(store, &task, 11).await;
    let late = store
        .report(None, task.id, task.fence, Event::FileDone(file(0)), GRACE, at(11))
        .await
        .unwrap();
    assert_eq!(late, ReportOutcome::Stale, "whoever worked on it is not heard any more");

    let cleaning = claim_one(store, "cleaner", 12).await;
    assert_eq!(cleaning.kind, TaskKind::CleanUp(task.id));
    assert_eq!(claim(store, "b", 9, 13).await, [], "somebody is at it");
    report(store, &cleaning, Event::CleanedUp { adopted: Some(Box::new(file(0))) }, 14).await;
    let again = claim_one(store, "b", 15).await;
    assert_eq!(
        (again.id, again.totals.files, again.intent),
        (task.id, 1, None),
        "what was found there is kept"
    );
}

pub(crate) async fn a_run_that_waits_for_its_cleaning_keeps_no_other_waiting(store: &Store) {
    let (mine, other) = (owner(store, 1).await, owner(store, 2).await);
    export(store, mine, 1, 1).await;
    let task = claim_one(store, "a", 1).await;
    report(store, &task, failed(FailureClass::CustomerConfig), 2).await;
    retried(store, &task, 3).await;
    assert_eq!(claim_one(store, "cleaner", 4).await.kind, TaskKind::CleanUp(task.id));
    let theirs = export(store, other, 2, 1).await;
    assert_eq!(claim_one(store, "b", 5).await.export, theirs);
}

pub(crate) async fn cancelled_while_it_waits_it_is_cleaned_up_after_once(store: &Store) {
    let mine = owner(store, 1).await;
    let id = export(store, mine, 1, 1).await;
    let task = claim_one(store, "a", 1).await;
    report(store, &task, Event::FileIntent(intent(0)), 2).await;
    report(store, &task, failed(FailureClass::CustomerConfig), 3).await;
    retried(store, &task, 4).await;
    store.cancel_export(act(), mine.tenant, id, at(5)).await.unwrap();
    clean(store, &task, 6).await;
    assert_eq!(run_view(store, &task).await.task.intent, None);
    assert_eq!(claim(store, "cleaner", 9, 7).await, []);
    assert_eq!(retry(store, &task, 8).await, Retry::Cancelled);
}

pub(crate) async fn without_its_destination_a_run_is_not_retried(store: &Store) {
    let mine = owner(store, 1).await;
    export(store, mine, 1, 1).await;
    let task = claim_one(store, "a", 1).await;
    report(store, &task, failed(FailureClass::CustomerConfig), 2).await;
    clean(store, &task, 3).await;
    assert_eq!(
        store.delete_destination(act(), mine.tenant, mine.destination, at(4)).await.unwrap(),
        Deletion::Done
    );
    assert_eq!(retry(store, &task, 5).await, Retry::NoDestination);
    assert_eq!(run_view(store, &task).await.task.status(), RunStatus::Failed);
}

pub(crate) async fn it_is_cleaned_up_after_again_when_it_fails_again(store: &Store) {
    let mine = owner(store, 1).await;
    export(store, mine, 1, 1).await;
    let mut task = claim_one(store, "a", 1).await;
    for now in [10, 20] {
        report(store, &task, failed(FailureClass::CustomerConfig), now).await;
        clean(store, &task, now + 1).await;
        retried(store, &task, now + 2).await;
        task = claim_one(store, "a", now + 3).await;
    }
}

pub(crate) async fn only_what_failed_or_timed_out_is_asked_for_anew(store: &Store) {
    let (mine, other) = (owner(store, 1).await, owner(store, 2).await);
    let id = export(store, mine, 1, 2).await;
    let task = claim_one(store, "a", 1).await;
    let waiting = store.tasks(mine.tenant, id, super::ALL).await.unwrap().unwrap().remove(1).task;
    assert_eq!(retry(store, &task, 2).await, Retry::Not(RunStatus::Running));
    assert_eq!(retry(store, &waiting, 2).await, Retry::Not(RunStatus::Created));
    complete(store, &task, 0, 3).await;
    assert_eq!(retry(store, &task, 4).await, Retry::Not(RunStatus::Completed));
    assert_eq!(store.retry_run(act(), other.tenant, id, task.id, at(4)).await.unwrap(), None);
    assert_eq!(
        store
            .retry_run(act(), mine.tenant, ExportId(uuid::Uuid::from_u128(1)), task.id, at(4))
            .await
            .unwrap(),
        None
    );
    store.cancel_export(act(), mine.tenant, id, at(5)).await.unwrap();
    assert_eq!(retry(store, &waiting, 6).await, Retry::Cancelled);
}

pub(crate) async fn an_export_that_is_begun_anew_waits_its_turn(store: &Store) {
    let mine = owner(store, 1).await;
    let limits = AtOnce { runs_per_export: 0, exports: 1 };
    export(store, mine, 1, 1).await;
    let task = claim_one(store, "a", 1).await;
    report(store, &task, failed(FailureClass::CustomerConfig), 2).await;
    clean(store, &task, 3).await;
    let second = export(store, mine, 2, 2).await;
    let next = claim_under(store, lease("a", 4), 1, limits, 4).await;
    assert_eq!(next[0].export.id, second);
    retried(store, &task, 5).await;
    let more = claim_under(store, lease("b", 6), 9, limits, 6).await;
    assert_eq!(
        more.iter().map(|claimed| claimed.export.id).collect::<Vec<_>>(),
        [second],
        "another one is at work"
    );
}
