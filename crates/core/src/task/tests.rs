//! The state machine, state by event, and the properties that hold whatever happens.

use std::fmt::Write as _;

use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::{
    id::{ExporterId, SessionId},
    plan::{Experiment, MAX_PARTITIONS, Partition},
    time::Window,
};

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_micros(1_700_000_000_000_000).unwrap().plus_seconds(seconds)
}

fn lease(name: &str) -> Lease {
    Lease {
        exporter: ExporterId::parse("e", name).unwrap(),
        incarnation: "i".into(),
        until: at(30),
        progressed_at: at(0),
        patience: 600,
        asked_back: None,
    }
}

fn queued() -> Task {
    let id = Uuid::from_u128;
    let window = Window::new(at(0), at(10)).unwrap();
    let kind = TaskKind::Partition(Partition { session: SessionId(id(4)), window });
    Task::new(TaskId(id(1)), ExportId(id(2)), TenantId(id(3)), kind, at(0))
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
        oversized: crate::oversized::Oversized::default(),
        left_out: LeftOut {
            undecided: 1,
            decided_against: 2,
            named: vec![undecided(number.into())],
        },
    }
}

fn undecided(row: u128) -> HydrationMiss {
    HydrationMiss { row_id: Uuid::from_u128(row), column: "extra".into(), reason: "gone".into() }
}

fn finished(files: u32, rows: u64) -> Event {
    let rest = LeftOut { undecided: 3, decided_against: 4, named: vec![undecided(99)] };
    Event::Finished(Finished { files, rows, rest, identity: Identity::Id })
}

fn failure(class: FailureClass) -> Failure {
    Failure { step: Step::Read, class, detail: "d".into() }
}

fn events() -> Vec<Event> {
    vec![
        Event::Claimed(lease("x")),
        Event::Renewed { until: at(99) },
        Event::Progressed,
        Event::FileIntent(FileIntent {
            number: 0,
            key: "k".into(),
            upload_id: "u".into(),
            token: "t".into(),
            whole: None,
        }),
        Event::FileDone(file(0)),
        finished(0, 0),
        Event::Published,
        Event::Failed { failure: failure(FailureClass::SourceTransient), max_retries: 20 },
        Event::Failed { failure: failure(FailureClass::Throttled), max_retries: 20 },
        Event::Failed { failure: failure(FailureClass::CustomerConfig), max_retries: 20 },
        Event::Lapsed { max_retries: 20 },
        Event::Stalled { max_retries: 20 },
        Event::CleanedUp { adopted: Some(Box::new(file(0))) },
        Event::ExperimentsFound(Vec::new()),
        Event::Counted { rows: 7 },
        Event::HandedBack,
        Event::Declined,
        Event::Cancelled,
        Event::TimedOut,
        Event::Retried,
    ]
}

#[test]
fn the_matrix_of_states_and_events() {
    let leased = queued().apply(Event::Claimed(lease("x")), at(1)).unwrap();
    let frozen = leased.clone().apply(finished(0, 0), at(2)).unwrap();
    let ended = |state| Task { state, ..leased.clone() };
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
    for task in states {
        let _ = writeln!(matrix, "{}", task.state_name());
        for event in events() {
            let name = match &event {
                Event::Failed { failure, .. } => format!("Failed({:?})", failure.class),
                other => other.name().to_owned(),
            };
            let after = task.clone().apply(event, at(5));
            let outcome = after.map_or_else(
                |_| "-".to_owned(),
                |after| {
                    format!(
                        "{} fence {} attempt {} files {}",
                        after.state_name(),
                        after.fence.0,
                        after.attempt,
                        after.totals.files
                    )
                },
            );
            let _ = writeln!(matrix, "  {name:26} {outcome}");
        }
    }
    insta::assert_snapshot!(matrix);
}

#[test]
fn what_was_read_before_the_end_of_its_window_says_so_until_it_is_read_anew() {
    let claimed = |task: Task, now| task.apply(Event::Claimed(lease("x")), at(now)).unwrap();
    assert_eq!((queued().read_at, queued().window_open()), (None, false), "nobody has read it");
    let early = claimed(queued(), 9);
    assert_eq!((early.read_at, early.window_open()), (Some(at(9)), true));
    let late = claimed(early.clone().apply(Event::HandedBack, at(9)).unwrap(), 10);
    assert_eq!(
        (late.read_at, late.window_open()),
        (Some(at(10)), false),
        "nothing of the first attempt is left"
    );

    let began =
        |event| early.clone().apply(event, at(9)).unwrap().apply(Event::HandedBack, at(9)).unwrap();
    let intent = FileIntent {
        number: 0,
        key: "k".into(),
        upload_id: "u".into(),
        token: "t".into(),
        whole: None,
    };
    for kept in
        [began(Event::FileDone(file(0))), began(Event::FileIntent(intent)), began(finished(0, 0))]
    {
        let further = claimed(kept, 20);
        assert_eq!(
            (further.read_at, further.window_open()),
            (Some(at(9)), true),
            "it goes on behind what was read early"
        );
    }
    let finder =
        Task { kind: TaskKind::FindExperiments(Window::new(at(0), at(10)).unwrap()), ..queued() };
    assert!(claimed(finder, 9).window_open());
    assert_eq!(claimed(Task { kind: TaskKind::Finalize, ..queued() }, 9).read_at, None);
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
    assert_eq!(
        twice.apply(Event::FileDone(file(2)), at(4)),
        Err(IllegalEvent::FileOrder { expected: 1, found: 2 })
    );
}

#[test]
fn a_run_whose_rows_do_not_add_up_does_not_pass_the_commit_point() {
    let leased = queued().apply(Event::Claimed(lease("x")), at(1)).unwrap();
    let one = leased.apply(Event::FileDone(file(0)), at(2)).unwrap();
    assert!(matches!(one.apply(finished(1, 9), at(3)), Err(IllegalEvent::Totals { .. })));
}

#[test]
fn rows_that_were_left_out_are_counted_once_whatever_is_said_again() {
    let leased = queued().apply(Event::Claimed(lease("x")), at(1)).unwrap();
    let one = leased
        .apply(Event::FileDone(file(0)), at(2))
        .unwrap()
        .apply(Event::FileDone(file(0)), at(3))
        .unwrap();
    assert_eq!((one.totals.undecided, one.totals.decided_against), (1, 2));
    let done = one.apply(finished(1, 10), at(4)).unwrap().apply(finished(1, 10), at(5)).unwrap();
    assert_eq!(
        (done.totals.undecided, done.totals.decided_against, done.totals.candidates()),
        (4, 6, 20)
    );
    assert_eq!(done.undecided, [undecided(0), undecided(99)]);
    assert_eq!(done.identity, Some(Identity::Id));
}

#[test]
fn attempts_count_from_the_last_finished_file_on() {
    let cut = || Event::Failed { failure: failure(FailureClass::SourceBroke), max_retries: 2 };
    let (mut task, mut now) = (queued(), 0);
    for number in 0..30 {
        now += 1000;
        task = task.apply(Event::Claimed(lease("x")), at(now)).unwrap();
        task = task
            .apply(Event::FileDone(file(number)), at(now))
            .unwrap()
            .apply(cut(), at(now))
            .unwrap();
        assert_eq!(
            task.state,
            State::Queued { not_before: at(now + 1) },
            "each got on, so each is like the first"
        );
    }
    for attempt in 1..=2 {
        now += 1000;
        task =
            task.apply(Event::Claimed(lease("x")), at(now)).unwrap().apply(cut(), at(now)).unwrap();
        assert_eq!(
            matches!(task.state, State::Failed(_)),
            attempt == 2,
            "without a file there are so many"
        );
    }
}

#[test]
fn of_many_attempts_the_newest_errors_are_remembered() {
    let mut task = queued();
    for n in 0..50 {
        task.remember(format!("error {n}"));
    }
    assert_eq!(task.errors.len(), 50);
    assert_eq!(task.errors.iter().filter(|error| !error.is_empty()).count(), MAX_ERRORS);
    assert_eq!((task.errors[29].as_str(), task.errors[30].as_str()), ("", "error 30"));
}

#[test]
fn a_trace_store_that_breaks_off_is_asked_for_less_each_time_until_it_gets_on() {
    let broke = || Event::Failed { failure: failure(FailureClass::SourceBroke), max_retries: 20 };
    let (mut task, mut now) = (queued(), 0);
    let mut again = |task: Task, event| {
        now += 1000;
        task.apply(Event::Claimed(lease("x")), at(now)).unwrap().apply(event, at(now)).unwrap()
    };
    for batch_shrink in [1, 2, 3, 4, 5, 5] {
        task = again(task, broke());
        assert_eq!(task.batch_shrink, batch_shrink);
    }
    task = again(task, Event::FileDone(file(0)));
    assert_eq!(task.batch_shrink, 4);
}

#[test]
fn a_lease_has_two_deadlines() {
    let mut task = queued().apply(Event::Claimed(lease("x")), at(1)).unwrap();
    for second in (30..900).step_by(30) {
        task = task.apply(Event::Renewed { until: at(second + 30) }, at(second)).unwrap();
    }
    assert!(!task.lease().unwrap().stalled(at(599)));
    assert!(task.lease().unwrap().stalled(at(600)), "being heard of is not getting on");
    let on = task.clone().apply(Event::Progressed, at(590)).unwrap();
    assert!(!on.lease().unwrap().stalled(at(1189)));
    let stalled = task.apply(Event::Stalled { max_retries: 20 }, at(600)).unwrap();
    assert_eq!((stalled.lease(), stalled.attempt), (None, 1));
    assert_eq!(
        stalled.errors,
        [
            "an exporter was lost, nobody needs to act (lease): exporter x did not get on for 600 seconds"
        ]
    );
}

#[test]
fn to_be_asked_to_slow_down_costs_no_attempt() {
    let mut task = queued();
    for n in 0..30 {
        task = task.apply(Event::Claimed(lease("x")), at(n * 100)).unwrap();
        task = task
            .apply(
                Event::Failed { failure: failure(FailureClass::Throttled), max_retries: 3 },
                at(n * 100),
            )
            .unwrap();
    }
    assert_eq!((task.status(), task.attempt, task.errors.len()), (RunStatus::Running, 0, 0));
}

#[test]
fn what_a_stopped_run_left_is_cleaned_up_and_its_finished_file_is_kept() {
    let leased = queued().apply(Event::Claimed(lease("x")), at(1)).unwrap();
    assert!(!queued().apply(Event::Cancelled, at(1)).unwrap().leaves_something());
    let cancelled = leased.apply(Event::Cancelled, at(2)).unwrap();
    assert!(cancelled.leaves_something());
    let adopted = Some(Box::new(file(0)));
    let clean = cancelled.apply(Event::CleanedUp { adopted: adopted.clone() }, at(3)).unwrap();
    assert_eq!((clean.totals.files, clean.intent.clone()), (1, None));
    assert_eq!(
        clean.clone().apply(Event::CleanedUp { adopted }, at(4)).unwrap().totals,
        clean.totals
    );
}

#[test]
fn a_run_that_is_asked_for_anew_goes_on_with_all_its_attempts_and_all_its_time() {
    let lapsed = Event::Lapsed { max_retries: 1 };
    let leased = queued().apply(Event::Claimed(lease("x")), at(1)).unwrap();
    let one = leased
        .apply(Event::FileDone(file(0)), at(2))
        .unwrap()
        .apply(lapsed.clone(), at(3))
        .unwrap();
    let failed = one
        .apply(Event::Claimed(lease("x")), at(1000))
        .unwrap()
        .apply(lapsed.clone(), at(1001))
        .unwrap();
    assert_eq!((failed.status(), failed.attempt, failed.errors.len()), (RunStatus::Failed, 1, 2));

    let again = failed.clone().apply(Event::Retried, at(2000)).unwrap();
    assert_eq!(
        (again.status(), again.attempt, again.errors.len()),
        (RunStatus::Running, 2, 2),
        "history stays"
    );
    assert_eq!(
        (again.totals, again.cursor, again.fence),
        (failed.totals, failed.cursor, failed.fence)
    );
    assert_eq!(again.started_at, None);
    let second = again
        .apply(Event::Claimed(lease("y")), at(2000))
        .unwrap()
        .apply(lapsed.clone(), at(2001))
        .unwrap();
    assert_eq!(
        (second.status(), second.attempt),
        (RunStatus::Running, 3),
        "it has another attempt"
    );
    let slow = second
        .apply(Event::Claimed(lease("y")), at(9000))
        .unwrap()
        .apply(Event::TimedOut, at(9001))
        .unwrap();
    let third = slow.apply(Event::Retried, at(9002)).unwrap();
    assert_eq!((third.attempt, third.errors.len()), (4, 4), "each attempt that ended says why");
    assert_eq!(third.errors.last().unwrap(), "it took longer than the operator allows");
    for state in [State::Completed(at(1)), State::Cancelled(at(1))] {
        assert!(Task { state, ..third.clone() }.apply(Event::Retried, at(9003)).is_err());
    }
}

#[test]
fn what_is_taken_back_is_nobodys_until_its_lease_has_lapsed() {
    let leased = queued().apply(Event::Claimed(lease("a")), at(0)).unwrap();
    let asked = leased.apply(Event::AskedBack, at(1)).unwrap();
    let taken = asked.clone().apply(Event::TakenBack, at(2)).unwrap();
    assert_eq!((taken.state.clone(), taken.attempt), (State::Queued { not_before: at(30) }, 0));
    assert!(taken.apply(Event::Claimed(lease("b")), at(29)).is_err(), "its holder may still write");
    let handed = asked.apply(Event::HandedBack, at(2)).unwrap();
    assert_eq!(handed.state, State::Queued { not_before: at(2) });
}

#[test]
fn a_run_is_not_retried_for_ever() {
    let failed = Task { state: State::Failed(at(1)), attempt: MAX_ATTEMPTS - 1, ..queued() };
    let again = failed.apply(Event::Retried, at(2)).unwrap();
    let spent = Task { state: State::Failed(at(3)), ..again };
    assert_eq!(spent.attempt, MAX_ATTEMPTS);
    assert!(spent.apply(Event::Retried, at(4)).is_err());
}

#[test]
fn a_run_that_is_asked_for_anew_keeps_what_its_cleaning_found() {
    let leased = queued().apply(Event::Claimed(lease("x")), at(1)).unwrap();
    let again = leased.apply(Event::TimedOut, at(2)).unwrap().apply(Event::Retried, at(3)).unwrap();
    let clean = again.apply(Event::CleanedUp { adopted: Some(Box::new(file(0))) }, at(4)).unwrap();
    assert_eq!(
        (clean.status(), clean.totals.files, clean.cursor),
        (RunStatus::Running, 1, Some(file(0).cursor))
    );
}

#[test]
fn finding_experiments_ends_with_what_was_found_or_fails_when_that_is_too_much() {
    let kind = TaskKind::FindExperiments(Window::new(at(0), at(10)).unwrap());
    let leased = Task { kind, ..queued() }.apply(Event::Claimed(lease("x")), at(1)).unwrap();
    let found = |n: usize| {
        let session = |n: usize| SessionId(Uuid::from_u128(n as u128));
        Event::ExperimentsFound(
            (0..n).map(|n| Experiment { session: session(n), first: at(0), last: at(9) }).collect(),
        )
    };
    let done = leased.clone().apply(found(MAX_PARTITIONS), at(2)).unwrap();
    assert_eq!(
        (done.status(), done.finished_at(), done.leaves_something()),
        (RunStatus::Completed, Some(at(2)), false)
    );
    assert!(done.apply(found(1), at(3)).is_err());

    let too_many = leased.apply(found(MAX_PARTITIONS + 1), at(2)).unwrap();
    assert_eq!(
        (too_many.status(), too_many.attempt),
        (RunStatus::Failed, 0),
        "it would be too much the next time too"
    );
    let [error] = &too_many.errors[..] else { panic!("{:?}", too_many.errors) };
    assert_eq!(
        error,
        "the export is too large, its caller must ask for less (read): the experiments of this range have rows on more than \
         4000 days in all: split the range into several exports"
    );
    assert!(too_many.apply(Event::Retried, at(3)).is_err());
}

fn any_event() -> impl Strategy<Value = Event> {
    (0u32..4, 0usize..events().len()).prop_map(|(number, index)| {
        match events().swap_remove(index) {
            Event::FileDone(_) => Event::FileDone(file(number)),
            Event::Finished(_) => finished(number, u64::from(number) * 10),
            event => event,
        }
    })
}

proptest! {
    #[test]
    fn whatever_happens_the_fence_never_falls_and_files_stay_dense(events in prop::collection::vec(any_event(), 0..60)) {
        let mut task = queued();
        for (now, event) in (0i64..).map(|n| at(n * 400)).zip(events) {
            let before = task.clone();
            let Ok(after) = task.clone().apply(event, now) else { continue };
            prop_assert!(after.fence >= before.fence);
            prop_assert!(after.totals.files <= before.totals.files + 1);
            prop_assert_eq!(after.totals.rows, u64::from(after.totals.files) * 10);
            prop_assert!(!before.frozen || after.totals == before.totals);
            prop_assert!(after.cursor >= before.cursor);
            prop_assert!(before.finished_at().is_none() || after.finished_at() == before.finished_at() || after.spent == before.attempt + 1);
            task = after;
        }
    }
}
