//! Runs that a caller asks for anew.

use tracelift_core::{
    export::ExportStatus,
    failure::FailureClass,
    id::ExportId,
    limit::AtOnce,
    run::{Event, Run, RunStatus, Work},
};

use super::{
    GRACE, RETRIES, at, claim, claim_one, claim_under, complete, export, failed, file, finished,
    intent, lease, owner, report, run_view, view,
};
use crate::store::{Change, Deletion, Heard, Retry, Store, TimeLimits};

async fn retry(store: &dyn Store, run: &Run, now: i64) -> Retry {
    store.retry_run(run.tenant, run.export, run.id, at(now)).await.unwrap().unwrap()
}

async fn retried(store: &dyn Store, run: &Run, now: i64) -> Run {
    match retry(store, run, now).await {
        Retry::Queued(view) => view.run,
        other => panic!("{other:?}"),
    }
}

/// What there is to do after the end of a run that was worked on.
async fn clean(store: &dyn Store, run: &Run, now: i64) {
    let cleaning = claim_one(store, "cleaner", now).await;
    assert_eq!(cleaning.work, Work::CleanUp(run.id));
    report(store, &cleaning, Event::CleanedUp { adopted: None }, now).await;
}

pub(crate) async fn a_failed_run_goes_on_behind_its_files_and_its_export_ends_anew(
    store: &dyn Store,
) {
    let mine = owner(store, 1).await;
    let id = export(store, mine, 1, 2).await;
    let (run, other) = (claim_one(store, "a", 1).await, claim_one(store, "b", 1).await);
    complete(store, &other, 1, 2).await;
    report(store, &run, Event::FileDone(file(0)), 2).await;
    report(store, &run, failed(FailureClass::CustomerConfig), 3).await;
    clean(store, &run, 4).await;
    let ended = view(store, mine, id).await;
    assert_eq!((ended.export.status, ended.started_at), (ExportStatus::Failed, Some(at(1))));

    let mut news = store.changes();
    let again = retried(store, &run, 100).await;
    while news.recv().await.unwrap() != Change::Work {}
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
    assert_eq!(store.time_out(TimeLimits { run: 50, export: 50 }, at(120)).await.unwrap(), 0);

    let second = claim_one(store, "c", 120).await;
    assert_eq!((second.id, second.cursor, second.fence.0), (run.id, Some(file(0).cursor), 2));
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

pub(crate) async fn it_has_as_many_attempts_as_a_new_one(store: &dyn Store) {
    let mine = owner(store, 1).await;
    let id = export(store, mine, 1, 1).await;
    let mut now = 0;
    for round in 1..=2 {
        for attempt in 0..=RETRIES {
            now += 1000;
            let run = claim_one(store, "a", now).await;
            report(store, &run, failed(FailureClass::SourceTransient), now).await;
            let status =
                if attempt < RETRIES { ExportStatus::Running } else { ExportStatus::Failed };
            assert_eq!(
                view(store, mine, id).await.export.status,
                status,
                "round {round}, attempt {attempt}"
            );
        }
        let run = store.runs(mine.tenant, id, super::ALL).await.unwrap().unwrap().remove(0).run;
        assert_eq!(run.errors.len() as u32, round * (RETRIES + 1));
        clean(store, &run, now + 1).await;
        retried(store, &run, now + 2).await;
    }
}

pub(crate) async fn it_waits_until_what_it_had_left_is_cleaned_up(store: &dyn Store) {
    let mine = owner(store, 1).await;
    export(store, mine, 1, 1).await;
    let run = claim_one(store, "a", 1).await;
    report(store, &run, Event::FileIntent(intent(0)), 2).await;
    assert_eq!(store.time_out(TimeLimits { run: 5, export: 999 }, at(10)).await.unwrap(), 1);
    retried(store, &run, 11).await;
    let late =
        store.report(run.id, run.fence, Event::FileDone(file(0)), GRACE, at(11)).await.unwrap();
    assert_eq!(late, Heard::Stale, "whoever worked on it is not heard any more");

    let cleaning = claim_one(store, "cleaner", 12).await;
    assert_eq!(cleaning.work, Work::CleanUp(run.id));
    assert_eq!(claim(store, "b", 9, 13).await, [], "somebody is at it");
    report(store, &cleaning, Event::CleanedUp { adopted: Some(Box::new(file(0))) }, 14).await;
    let again = claim_one(store, "b", 15).await;
    assert_eq!(
        (again.id, again.totals.files, again.intent),
        (run.id, 1, None),
        "what was found there is kept"
    );
}

pub(crate) async fn a_run_that_waits_for_its_cleaning_keeps_no_other_waiting(store: &dyn Store) {
    let (mine, other) = (owner(store, 1).await, owner(store, 2).await);
    export(store, mine, 1, 1).await;
    let run = claim_one(store, "a", 1).await;
    report(store, &run, failed(FailureClass::CustomerConfig), 2).await;
    retried(store, &run, 3).await;
    assert_eq!(claim_one(store, "cleaner", 4).await.work, Work::CleanUp(run.id));
    let theirs = export(store, other, 2, 1).await;
    assert_eq!(claim_one(store, "b", 5).await.export, theirs);
}

pub(crate) async fn cancelled_while_it_waits_it_is_cleaned_up_after_once(store: &dyn Store) {
    let mine = owner(store, 1).await;
    let id = export(store, mine, 1, 1).await;
    let run = claim_one(store, "a", 1).await;
    report(store, &run, Event::FileIntent(intent(0)), 2).await;
    report(store, &run, failed(FailureClass::CustomerConfig), 3).await;
    retried(store, &run, 4).await;
    store.cancel_export(mine.tenant, id, at(5)).await.unwrap();
    clean(store, &run, 6).await;
    assert_eq!(run_view(store, &run).await.run.intent, None);
    assert_eq!(claim(store, "cleaner", 9, 7).await, []);
    assert_eq!(retry(store, &run, 8).await, Retry::Cancelled);
}

pub(crate) async fn without_its_destination_a_run_is_not_retried(store: &dyn Store) {
    let mine = owner(store, 1).await;
    export(store, mine, 1, 1).await;
    let run = claim_one(store, "a", 1).await;
    report(store, &run, failed(FailureClass::CustomerConfig), 2).await;
    clean(store, &run, 3).await;
    assert_eq!(
        store.delete_destination(mine.tenant, mine.destination, at(4)).await.unwrap(),
        Deletion::Done
    );
    assert_eq!(retry(store, &run, 5).await, Retry::NoDestination);
    assert_eq!(run_view(store, &run).await.run.status(), RunStatus::Failed);
}

pub(crate) async fn it_is_cleaned_up_after_again_when_it_fails_again(store: &dyn Store) {
    let mine = owner(store, 1).await;
    export(store, mine, 1, 1).await;
    let mut run = claim_one(store, "a", 1).await;
    for now in [10, 20] {
        report(store, &run, failed(FailureClass::CustomerConfig), now).await;
        clean(store, &run, now + 1).await;
        retried(store, &run, now + 2).await;
        run = claim_one(store, "a", now + 3).await;
    }
}

pub(crate) async fn only_what_failed_or_timed_out_is_asked_for_anew(store: &dyn Store) {
    let (mine, other) = (owner(store, 1).await, owner(store, 2).await);
    let id = export(store, mine, 1, 2).await;
    let run = claim_one(store, "a", 1).await;
    let waiting = store.runs(mine.tenant, id, super::ALL).await.unwrap().unwrap().remove(1).run;
    assert_eq!(retry(store, &run, 2).await, Retry::Not(RunStatus::Running));
    assert_eq!(retry(store, &waiting, 2).await, Retry::Not(RunStatus::Created));
    complete(store, &run, 0, 3).await;
    assert_eq!(retry(store, &run, 4).await, Retry::Not(RunStatus::Completed));
    assert_eq!(store.retry_run(other.tenant, id, run.id, at(4)).await.unwrap(), None);
    assert_eq!(
        store
            .retry_run(mine.tenant, ExportId(uuid::Uuid::from_u128(1)), run.id, at(4))
            .await
            .unwrap(),
        None
    );
    store.cancel_export(mine.tenant, id, at(5)).await.unwrap();
    assert_eq!(retry(store, &waiting, 6).await, Retry::Cancelled);
}

pub(crate) async fn an_export_that_is_begun_anew_waits_its_turn(store: &dyn Store) {
    let mine = owner(store, 1).await;
    let limits = AtOnce { runs_per_export: 0, exports: 1 };
    export(store, mine, 1, 1).await;
    let run = claim_one(store, "a", 1).await;
    report(store, &run, failed(FailureClass::CustomerConfig), 2).await;
    clean(store, &run, 3).await;
    let second = export(store, mine, 2, 2).await;
    let next = claim_under(store, lease("a", 4), 1, limits, 4).await;
    assert_eq!(next[0].export.id, second);
    retried(store, &run, 5).await;
    let more = claim_under(store, lease("b", 6), 9, limits, 6).await;
    assert_eq!(
        more.iter().map(|claimed| claimed.export.id).collect::<Vec<_>>(),
        [second],
        "another one is at work"
    );
}
