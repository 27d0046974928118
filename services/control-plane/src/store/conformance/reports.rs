//! What exporters say of their runs, heard under the newest fence only.

use tracelift_core::{
    export::ExportStatus,
    failure::{Failure, FailureClass, Step},
    file::{File, FileIntent, HydrationMiss, LeftOut, Totals},
    id::TaskId,
    task::{Event, Fence, Finished, Identity as RowIdentity, Progress, RunStatus, TaskKind},
};
use uuid::Uuid;

use super::{
    GRACE, RETRIES, UNLIMITED, act, at, claim, claim_one, claim_under, complete, everything,
    export, failed, file, finished, illegal, intent, lease_of, owner, report, run_view, view,
};
use crate::store::{ReportOutcome, Store};

fn every_report() -> [Event; 8] {
    [
        Event::FileIntent(intent(0)),
        Event::FileDone(file(0)),
        finished(0, 0),
        Event::Published,
        failed(FailureClass::SourceTransient),
        failed(FailureClass::Internal),
        Event::HandedBack,
        Event::Declined,
    ]
}

pub(crate) async fn a_stale_report_changes_nothing(store: &Store) {
    let mine = owner(store, 1).await;
    let id = export(store, mine, 1, 1).await;
    let lost = claim_one(store, "a", 1).await;
    assert_eq!(store.lapse(RETRIES, at(40)).await.unwrap(), 1);
    let queued = everything(store, mine, id).await;
    for event in every_report() {
        assert_eq!(
            store.report(None, lost.id, lost.fence, event, GRACE, at(41)).await.unwrap(),
            ReportOutcome::Stale
        );
    }
    assert_eq!(everything(store, mine, id).await, queued);

    let holder = claim_one(store, "b", 42).await;
    let held = everything(store, mine, id).await;
    for fence in [lost.fence, Fence(holder.fence.0 + 1), Fence(0)] {
        for event in every_report() {
            assert_eq!(
                store.report(None, lost.id, fence, event, GRACE, at(43)).await.unwrap(),
                ReportOutcome::Stale
            );
        }
        let said = Progress { stage: "reading".into(), rows: 99, ..Progress::default() };
        assert_eq!(
            store.progress(None, lost.id, fence, said, at(43)).await.unwrap(),
            ReportOutcome::Stale
        );
    }
    assert_eq!(everything(store, mine, id).await, held);
}

pub(crate) async fn a_report_about_no_run_is_stale(store: &Store) {
    let nobody = TaskId(Uuid::from_u128(404));
    assert_eq!(
        store.report(None, nobody, Fence(1), Event::Published, GRACE, at(1)).await.unwrap(),
        ReportOutcome::Stale
    );
    assert_eq!(
        store.progress(None, nobody, Fence(1), Progress::default(), at(1)).await.unwrap(),
        ReportOutcome::Stale
    );
    assert_eq!(store.files(nobody).await.unwrap(), []);
}

pub(crate) async fn a_repeated_report_is_heard_and_changes_nothing(store: &Store) {
    let mine = owner(store, 1).await;
    let id = export(store, mine, 1, 1).await;
    let task = claim_one(store, "a", 1).await;
    let reports = [
        Event::FileIntent(intent(0)),
        Event::FileDone(file(0)),
        Event::FileIntent(intent(1)),
        Event::FileDone(file(1)),
        finished(2, 20),
        Event::Published,
    ];
    for event in reports {
        report(store, &task, event.clone(), 2).await;
        let once = everything(store, mine, id).await;
        report(store, &task, event, 2).await;
        assert_eq!(everything(store, mine, id).await, once);
    }
    let finalizing = claim_one(store, "a", 3).await;
    for _ in 0..2 {
        report(store, &finalizing, Event::Published, 4).await;
        assert_eq!(view(store, mine, id).await.export.status, ExportStatus::Completed);
    }
    assert_eq!(store.files(task.id).await.unwrap().len(), 2);
}

pub(crate) async fn a_file_out_of_order_is_illegal_and_not_stored(store: &Store) {
    let mine = owner(store, 1).await;
    let id = export(store, mine, 1, 1).await;
    let task = claim_one(store, "a", 1).await;
    report(store, &task, Event::FileDone(file(0)), 1).await;
    let before = everything(store, mine, id).await;
    assert_eq!(
        illegal(store, &task, Event::FileDone(file(2))).await,
        "file 2 was reported where file 1 comes next"
    );
    assert_eq!(
        illegal(store, &task, Event::FileIntent(intent(0))).await,
        "file 0 was reported where file 1 comes next"
    );
    assert_eq!(
        illegal(store, &task, Event::Published).await,
        "Published cannot happen to a run that is leased"
    );
    assert_eq!(everything(store, mine, id).await, before);
}

pub(crate) async fn a_file_completed_in_the_moment_of_a_cancel_is_listed(store: &Store) {
    let mine = owner(store, 1).await;
    let id = export(store, mine, 1, 1).await;
    let task = claim_one(store, "a", 1).await;
    report(store, &task, Event::FileDone(file(0)), 2).await;
    report(store, &task, Event::FileIntent(intent(1)), 2).await;
    store.cancel_export(act(), mine.tenant, id, at(3)).await.unwrap();

    let late = report(store, &task, Event::FileDone(file(1)), 4).await;
    assert_eq!(
        (late.status(), late.finished_at(), late.intent),
        (RunStatus::Cancelled, Some(at(3)), None)
    );
    report(store, &task, Event::FileDone(file(1)), 5).await;
    assert_eq!(run_view(store, &task).await.keys, [file(0).key, file(1).key]);
    let shown = view(store, mine, id).await;
    assert_eq!((shown.files, shown.rows, shown.export.status), (2, 20, ExportStatus::Cancelled));
    for event in [Event::FileIntent(intent(2)), finished(2, 20), Event::HandedBack] {
        assert_eq!(
            store.report(None, task.id, task.fence, event, GRACE, at(6)).await.unwrap(),
            ReportOutcome::Stale
        );
    }
}

pub(crate) async fn wrong_totals_do_not_pass_the_commit_point(store: &Store) {
    let mine = owner(store, 1).await;
    let id = export(store, mine, 1, 1).await;
    let task = claim_one(store, "a", 1).await;
    report(store, &task, Event::FileDone(file(0)), 2).await;
    let before = everything(store, mine, id).await;
    let said = illegal(store, &task, finished(1, 9)).await;
    assert_eq!(said, "the exporter counts 1 files with 9 rows, recorded are 1 files with 10 rows");
    illegal(store, &task, finished(2, 10)).await;
    assert_eq!(everything(store, mine, id).await, before);
}

pub(crate) async fn files_are_read_back_as_they_were_reported(store: &Store) {
    let mine = owner(store, 1).await;
    export(store, mine, 1, 2).await;
    let claimed = claim(store, "a", 2, 1).await;
    for number in 0..12 {
        report(store, &claimed[0].task, Event::FileDone(file(number)), 2).await;
    }
    let expected: Vec<_> = (0..12).map(file).collect();
    assert_eq!(store.files(claimed[0].task.id).await.unwrap(), expected);
    assert_eq!(store.files(claimed[1].task.id).await.unwrap(), []);
    let task = run_view(store, &claimed[0].task).await.task;
    assert_eq!((task.totals.hydrated_objects, task.totals.hydration_misses), (36, 12));
    assert_eq!(task.totals, Totals::of(&expected), "the counts of oversized values among them");
}

pub(crate) async fn progress_is_shown_while_its_exporter_works(store: &Store) {
    let mine = owner(store, 1).await;
    export(store, mine, 1, 1).await;
    let task = claim_one(store, "a", 1).await;
    let said = Progress {
        stage: "uploading".into(),
        rows: 7,
        bytes: 70,
        files: 0,
        rows_estimate: Some(100),
        hydrated_objects: 5,
        hydration_misses: 1,
        stage_seconds: [0.5, 1.25, 0.0, 3.0],
    };
    assert!(matches!(
        store.progress(None, task.id, task.fence, said.clone(), at(9)).await.unwrap(),
        ReportOutcome::Applied(_)
    ));
    let seen = run_view(store, &task).await;
    assert_eq!((seen.reported, seen.task.updated_at), (said.clone(), at(9)));

    report(store, &task, Event::HandedBack, 10).await;
    let forgotten =
        Progress { stage: "queued".into(), rows_estimate: Some(100), ..Progress::default() };
    assert_eq!(run_view(store, &task).await.reported, forgotten, "the count of rows is still true");

    let again =
        claim_under(store, lease_of("b", "first", 11), 1, UNLIMITED, 11).await.remove(0).task;
    store
        .progress(
            None,
            again.id,
            again.fence,
            Progress { rows_estimate: None, ..said.clone() },
            at(12),
        )
        .await
        .unwrap();
    assert_eq!(run_view(store, &again).await.reported, said);
}

pub(crate) async fn rows_that_were_left_out_are_kept_with_their_run_and_added_up(store: &Store) {
    let mine = owner(store, 1).await;
    let id = export(store, mine, 1, 1).await;
    let task = claim_one(store, "a", 1).await;
    let named = |n: u128| HydrationMiss {
        row_id: Uuid::from_u128(n),
        column: "extra".into(),
        reason: "it's \"gone\"".into(),
    };
    let left_out = |n: u128| LeftOut { undecided: 1, decided_against: 5, named: vec![named(n)] };
    let whole = File { left_out: left_out(1), etag: String::new(), ..file(0) };
    let sealed = FileIntent { whole: Some(Box::new(whole.clone())), ..intent(0) };
    report(store, &task, Event::FileIntent(sealed.clone()), 2).await;
    assert_eq!(
        run_view(store, &task).await.task.intent,
        Some(sealed),
        "who takes it over knows of them"
    );
    report(store, &task, Event::FileDone(whole), 3).await;
    let rest = Finished { files: 1, rows: 10, rest: left_out(2), identity: RowIdentity::Id };
    report(store, &task, Event::Finished(rest.clone()), 4).await;
    report(store, &task, Event::Finished(rest), 5).await;
    let seen = run_view(store, &task).await.task;
    assert_eq!((seen.totals.undecided, seen.totals.decided_against), (2, 10));
    assert_eq!((seen.undecided, seen.identity), (vec![named(1), named(2)], Some(RowIdentity::Id)));
    let view = view(store, mine, id).await;
    assert_eq!((view.undecided, view.decided_against), (2, 10));
}

pub(crate) async fn an_export_fails_with_its_run_in_words_when_the_others_have_ended(
    store: &Store,
) {
    let mine = owner(store, 1).await;
    let id = export(store, mine, 1, 2).await;
    let claimed = claim(store, "a", 2, 1).await;
    let dead = report(store, &claimed[0].task, failed(FailureClass::CustomerConfig), 2).await;
    assert_eq!((dead.status(), dead.finished_at()), (RunStatus::Failed, Some(at(2))));
    let running = view(store, mine, id).await.export;
    assert_eq!((running.status, running.error), (ExportStatus::Running, None));

    complete(store, &claimed[1].task, 1, 3).await;
    let ended = view(store, mine, id).await.export;
    assert_eq!((ended.status, ended.finished_at), (ExportStatus::Failed, Some(at(3))));
    let error = ended.error.unwrap();
    assert!(
        error.starts_with(&format!("run {} of [2024-01-01T00:00:00.000000+00:00", dead.id)),
        "{error}"
    );
    assert!(
        error.ends_with("the destination must be mended by its owner (upload): the bucket said no"),
        "{error}"
    );
    let after: Vec<_> =
        claim(store, "a", 9, 9).await.iter().map(|claimed| claimed.task.kind).collect();
    assert_eq!(after, [TaskKind::CleanUp(dead.id)], "a failed export is not finalised");
}

/// PostgreSQL's texts hold no NUL; a bucket's words may.
pub(crate) async fn words_that_a_database_cannot_hold_lose_no_report(store: &Store) {
    let mine = owner(store, 1).await;
    let id = export(store, mine, 1, 1).await;
    let task = claim_one(store, "a", 1).await;
    let odd = File {
        etag: "a\0b".into(),
        misses: vec![HydrationMiss { reason: "\0".into(), ..file(0).misses[0].clone() }],
        ..file(0)
    };
    report(store, &task, Event::FileDone(odd.clone()), 2).await;
    assert_eq!(store.files(task.id).await.unwrap()[0].misses, odd.misses);
    let said = Progress { stage: "read\0ing".into(), rows: 17, ..Progress::default() };
    store.progress(None, task.id, task.fence, said.clone(), at(3)).await.unwrap();
    assert_eq!(
        (run_view(store, &task).await.reported, view(store, mine, id).await.rows),
        (said, 17)
    );
    let failure = Failure {
        step: Step::Upload,
        class: FailureClass::CustomerConfig,
        detail: "the bucket said \0".into(),
    };
    report(store, &task, Event::Failed { failure, max_retries: RETRIES }, 4).await;
    assert!(run_view(store, &task).await.task.errors[0].ends_with("the bucket said \0"));
    let error = view(store, mine, id).await.export.error.unwrap();
    assert!(error.contains("the bucket said"), "{error}");
}
