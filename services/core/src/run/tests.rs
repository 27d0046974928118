//! The machine, state by event, and what must hold whatever happens.

use std::fmt::Write as _;

use proptest::prelude::*;
use uuid::Uuid;

use super::*;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_micros(1_700_000_000_000_000).unwrap().plus_seconds(seconds)
}

fn lease(name: &str) -> Lease {
    Lease { exporter: ExporterId::parse("e", name).unwrap(), incarnation: "i".into(), until: at(30) }
}

fn queued() -> Run {
    let id = Uuid::from_u128;
    let work = Work::Partition(Window::new(at(0), at(10)).unwrap());
    Run::new(RunId(id(1)), ExportId(id(2)), TenantId(id(3)), SessionId(id(4)), work, at(0))
}

fn file(number: u32) -> File {
    File {
        number,
        key: format!("k{number}"),
        rows: 10,
        bytes: 100,
        etag: "e".into(),
        sha256: "0".repeat(64),
        min_start_time: at(0),
        max_start_time: at(1),
        cursor: Cursor { start_time: at(i64::from(number)), id: Uuid::from_u128(9) },
        hydrated_objects: 1,
        hydration_misses: 0,
        misses: Vec::new(),
    }
}

fn failure(class: FailureClass) -> Failure {
    Failure { step: Step::Read, class, detail: "d".into() }
}

fn events() -> Vec<Event> {
    vec![
        Event::Claimed(lease("x")),
        Event::Renewed { until: at(99) },
        Event::FileIntent(FileIntent { number: 0, key: "k".into(), upload_id: "u".into(), token: "t".into(), whole: None }),
        Event::FileDone(file(0)),
        Event::Finished { files: 0, rows: 0 },
        Event::Published,
        Event::Failed { failure: failure(FailureClass::SourceTransient), max_retries: 20 },
        Event::Failed { failure: failure(FailureClass::CustomerConfig), max_retries: 20 },
        Event::Lapsed { max_retries: 20 },
        Event::HandedBack,
        Event::Declined,
        Event::Cancelled,
        Event::TimedOut,
    ]
}

#[test]
fn the_matrix_of_states_and_events() {
    let leased = queued().apply(Event::Claimed(lease("x")), at(1)).unwrap();
    let frozen = leased.clone().apply(Event::Finished { files: 0, rows: 0 }, at(2)).unwrap();
    let ended = |state| Run { state, ..leased.clone() };
    let states = [
        queued(),
        leased.clone(),
        frozen,
        ended(State::Completed(at(3))),
        ended(State::Failed(at(3))),
        ended(State::Cancelled(at(3))),
        ended(State::TimedOut(at(3))),
    ];
    let mut matrix = String::new();
    for run in states {
        let _ = writeln!(matrix, "{}", run.state_name());
        for event in events() {
            let name = match &event {
                Event::Failed { failure, .. } => format!("Failed({:?})", failure.class),
                other => other.name().to_owned(),
            };
            let after = run.clone().apply(event, at(5));
            let outcome = after.map_or_else(
                |_| "-".to_owned(),
                |after| format!("{} fence {} attempt {} files {}", after.state_name(), after.fence.0, after.attempt, after.totals.files),
            );
            let _ = writeln!(matrix, "  {name:26} {outcome}");
        }
    }
    insta::assert_snapshot!(matrix);
}

#[test]
fn a_report_of_an_earlier_holder_is_not_heard() {
    let first = queued().apply(Event::Claimed(lease("x")), at(1)).unwrap();
    let lost = first.clone().apply(Event::Lapsed { max_retries: 20 }, at(40)).unwrap();
    let second = lost.clone().apply(Event::Claimed(lease("y")), at(41)).unwrap();
    let report = Event::FileDone(file(0));
    assert!(first.hears(first.fence, &report));
    assert!(!lost.hears(first.fence, &report));
    assert!(!second.hears(first.fence, &report));
}

#[test]
fn a_file_completed_in_the_moment_of_a_cancel_is_listed() {
    let leased = queued().apply(Event::Claimed(lease("x")), at(1)).unwrap();
    let cancelled = leased.clone().apply(Event::Cancelled, at(2)).unwrap();
    let report = Event::FileDone(file(0));
    assert!(cancelled.hears(leased.fence, &report));
    assert_eq!(cancelled.apply(report, at(3)).unwrap().totals.files, 1);
}

#[test]
fn a_repeated_file_is_counted_once_and_a_skipped_one_is_refused() {
    let leased = queued().apply(Event::Claimed(lease("x")), at(1)).unwrap();
    let once = leased.apply(Event::FileDone(file(0)), at(2)).unwrap();
    let twice = once.clone().apply(Event::FileDone(file(0)), at(3)).unwrap();
    assert_eq!(twice.totals, once.totals);
    assert_eq!(twice.apply(Event::FileDone(file(2)), at(4)), Err(IllegalEvent::FileOrder { expected: 1, found: 2 }));
}

#[test]
fn a_run_whose_rows_do_not_add_up_does_not_pass_the_commit_point() {
    let leased = queued().apply(Event::Claimed(lease("x")), at(1)).unwrap();
    let one = leased.apply(Event::FileDone(file(0)), at(2)).unwrap();
    assert!(matches!(one.apply(Event::Finished { files: 1, rows: 9 }, at(3)), Err(IllegalEvent::Totals { .. })));
}

fn any_event() -> impl Strategy<Value = Event> {
    (0u32..4, 0usize..events().len()).prop_map(|(number, index)| match events().swap_remove(index) {
        Event::FileDone(_) => Event::FileDone(file(number)),
        Event::Finished { .. } => Event::Finished { files: number, rows: u64::from(number) * 10 },
        event => event,
    })
}

proptest! {
    #[test]
    fn whatever_happens_the_fence_never_falls_and_files_stay_dense(events in prop::collection::vec(any_event(), 0..60)) {
        let mut run = queued();
        for (now, event) in (0i64..).map(|n| at(n * 400)).zip(events) {
            let before = run.clone();
            let Ok(after) = run.clone().apply(event, now) else { continue };
            prop_assert!(after.fence >= before.fence);
            prop_assert!(after.totals.files <= before.totals.files + 1);
            prop_assert_eq!(after.totals.rows, u64::from(after.totals.files) * 10);
            prop_assert!(!before.frozen || after.totals == before.totals);
            prop_assert!(before.finished_at().is_none() || after.finished_at() == before.finished_at());
            run = after;
        }
    }
}
