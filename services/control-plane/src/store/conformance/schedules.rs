//! Schedules: each window is exported once, in order, and until somebody cancels.

use futures::future::join_all;
use tracelift_core::{
    export::{Export, ExportStatus},
    id::ExportId,
    schedule::Hours,
    time::{Timestamp, Window},
};

use super::{ALL, Owner, act, at, claim, export, make, owner, planned, view};
use crate::store::{Change, Due, ExportFilter, ExportView, Page, Store, TimeLimits};

/// The first window's beginning, and days after it.
fn day(days: i64) -> Timestamp {
    Timestamp::parse("t", "2024-01-01T00:00:00Z").unwrap().plus_seconds(days * 86_400)
}

/// Schedule `n`, of windows that long.
async fn schedule(store: &Store, owner: Owner, n: u128, hours: u32) -> ExportId {
    let (mut made, _) = planned(owner, n, 1, 0);
    let every = Hours::new("interval_hours", hours).unwrap();
    (made.spec.every, made.spec.window) = (Some(every), every.window(day(0), 0).unwrap());
    made.status = ExportStatus::IntervalScheduled;
    make(store, made.clone(), Vec::new()).await;
    assert_eq!(
        view(store, owner, made.id).await,
        ExportView::planned(made.clone(), &[]),
        "it is read back as it was made"
    );
    made.id
}

/// Windows that ended by then, under no limit.
fn due(before: Timestamp) -> Due {
    Due { before, under_way: 0 }
}

/// What a schedule has spawned, oldest first.
async fn spawned(store: &Store, owner: Owner, schedule: ExportId) -> Vec<Export> {
    let all = store.exports(owner.tenant, ExportFilter::default(), ALL).await.unwrap();
    all.into_iter()
        .rev()
        .map(|view| view.export)
        .filter(|export| export.source == Some(schedule))
        .collect()
}

/// Looks as the sweep does, until nothing is due.
async fn catch_up(store: &Store, before: Timestamp, now: i64) -> usize {
    catch_up_within(store, due(before), now).await
}

async fn catch_up_within(store: &Store, due: Due, now: i64) -> usize {
    let mut sum = 0;
    loop {
        let schedules = store.due_schedules(due).await.unwrap();
        if schedules.is_empty() {
            return sum;
        }
        for schedule in schedules {
            sum += store.spawn(schedule, due, at(now)).await.unwrap();
        }
    }
}

pub(crate) async fn a_window_is_exported_once_it_is_over(store: &Store) {
    let mine = owner(store, 1).await;
    let id = schedule(store, mine, 1, 24).await;
    assert_eq!(catch_up(store, day(1).plus_seconds(-1), 1).await, 0);
    let mut notifications = store.changes();
    assert_eq!(catch_up(store, day(1), 2).await, 1);
    while notifications.recv().await.unwrap() != Change::TasksQueued {}
    assert_eq!(catch_up(store, day(2).plus_seconds(-1), 3).await, 0);

    let made = view(store, mine, id).await.export;
    let first = spawned(store, mine, id).await.remove(0);
    assert_eq!(
        (first.status, first.created_at, first.finished_at),
        (ExportStatus::Created, at(2), None)
    );
    assert_eq!(Some(&first.spec), made.spec.spawned(0).as_ref(), "the settings are the schedule's");
    let tasks = store.tasks(mine.tenant, first.id, ALL).await.unwrap().unwrap();
    assert_eq!(tasks.len(), 1);
    assert_eq!(claim(store, "a", 9, 4).await.len(), 1);
}

pub(crate) async fn a_year_of_missed_windows_is_exported_step_by_step_oldest_first(store: &Store) {
    let mine = owner(store, 1).await;
    let id = schedule(store, mine, 1, 24).await;
    let first = store.spawn(id, due(day(366)), at(1)).await.unwrap();
    assert!((1..=100).contains(&first), "{first} in one transaction");
    assert_eq!(first + catch_up(store, day(366), 2).await, 366);
    assert_eq!(catch_up(store, day(366), 3).await, 0);
    let windows: Vec<_> =
        spawned(store, mine, id).await.into_iter().map(|export| export.spec.window).collect();
    let expected: Vec<_> = (0..366).map(|n| Window::new(day(n), day(n + 1)).unwrap()).collect();
    assert_eq!(windows, expected);
    let claimed = claim(store, "a", 2, 4).await;
    assert_eq!(
        claimed.iter().map(|claimed| claimed.export.spec.window).collect::<Vec<_>>(),
        expected[..2]
    );
}

pub(crate) async fn however_many_look_at_once_a_window_is_exported_once(store: &Store) {
    let mine = owner(store, 1).await;
    let ids = [schedule(store, mine, 1, 24).await, schedule(store, mine, 2, 36).await];
    for days in 1..=6 {
        let all = ids.iter().cycle().take(8).map(|id| store.spawn(*id, due(day(days)), at(days)));
        let sum: usize = join_all(all).await.into_iter().map(Result::unwrap).sum();
        assert_eq!(sum, if days % 3 == 1 { 1 } else { 2 }, "day {days}");
    }
    assert_eq!(
        (spawned(store, mine, ids[0]).await.len(), spawned(store, mine, ids[1]).await.len()),
        (6, 4)
    );
}

pub(crate) async fn a_schedule_with_much_to_catch_up_on_keeps_no_other_waiting(store: &Store) {
    let mine = owner(store, 1).await;
    let (long, short) = (schedule(store, mine, 1, 1).await, schedule(store, mine, 2, 24).await);
    store.spawn(long, due(day(1)), at(5)).await.unwrap();
    assert_eq!(
        store.due_schedules(due(day(1))).await.unwrap(),
        [short],
        "one that has spawned all is not due"
    );
    store.spawn(long, due(day(30)), at(6)).await.unwrap();
    assert_eq!(store.due_schedules(due(day(30))).await.unwrap(), [short, long]);
}

pub(crate) async fn a_schedule_has_only_so_many_exports_under_way_and_the_next_windows_wait_in_order(
    store: &Store,
) {
    let mine = owner(store, 1).await;
    let (id, other) = (schedule(store, mine, 1, 24).await, schedule(store, mine, 2, 24 * 7).await);
    let within = Due { before: day(10), under_way: 3 };
    assert_eq!(catch_up_within(store, within, 1).await, 3 + 1, "the other one has a single window");
    assert_eq!(
        store.due_schedules(within).await.unwrap(),
        [],
        "one that may have no more is not looked at"
    );
    assert_eq!(store.spawn(id, within, at(2)).await.unwrap(), 0);

    for n in 0..7 {
        let oldest = spawned(store, mine, id)
            .await
            .into_iter()
            .find(|export| !export.status.ended())
            .unwrap();
        assert_eq!(oldest.spec.window.start(), day(n));
        store.cancel_export(act(), mine.tenant, oldest.id, at(3 + n)).await.unwrap();
        assert_eq!(store.due_schedules(within).await.unwrap(), [id], "there is room again");
        let all = (0..4).map(|_| store.spawn(id, within, at(3 + n)));
        assert_eq!(
            join_all(all).await.into_iter().map(Result::unwrap).sum::<usize>(),
            1,
            "however many look"
        );
    }
    assert_eq!(catch_up_within(store, within, 20).await, 0);
    let windows: Vec<_> =
        spawned(store, mine, id).await.into_iter().map(|export| export.spec.window).collect();
    assert_eq!(
        windows,
        (0..10).map(|n| Window::new(day(n), day(n + 1)).unwrap()).collect::<Vec<_>>(),
        "each once, in order"
    );
    assert_eq!(spawned(store, mine, other).await.len(), 1);
}

pub(crate) async fn a_schedule_from_before_there_was_a_limit_goes_on_when_enough_have_ended(
    store: &Store,
) {
    let mine = owner(store, 1).await;
    let id = schedule(store, mine, 1, 24).await;
    assert_eq!(catch_up(store, day(5), 1).await, 5);
    let within = Due { before: day(6), under_way: 3 };
    for export in spawned(store, mine, id).await.into_iter().take(3) {
        assert_eq!(catch_up_within(store, within, 2).await, 0);
        store.cancel_export(act(), mine.tenant, export.id, at(2)).await.unwrap();
    }
    assert_eq!(catch_up_within(store, within, 3).await, 1);
}

pub(crate) async fn a_cancelled_schedule_spawns_nothing_more_and_leaves_what_it_spawned(
    store: &Store,
) {
    let mine = owner(store, 1).await;
    let id = schedule(store, mine, 1, 24).await;
    assert_eq!(catch_up(store, day(2), 1).await, 2);
    let [first, second] = spawned(store, mine, id).await.try_into().unwrap();
    store.cancel_export(act(), mine.tenant, first.id, at(2)).await.unwrap();
    assert_eq!(
        view(store, mine, id).await.export.status,
        ExportStatus::IntervalScheduled,
        "the schedule goes on"
    );
    assert_eq!(catch_up(store, day(3), 3).await, 1);

    let cancelled = store.cancel_export(act(), mine.tenant, id, at(4)).await.unwrap().unwrap();
    assert_eq!(
        (cancelled.export.status, cancelled.export.finished_at),
        (ExportStatus::Cancelled, Some(at(4)))
    );
    assert_eq!(store.spawn(id, due(day(9)), at(5)).await.unwrap(), 0);
    assert_eq!(catch_up(store, day(9), 5).await, 0);
    assert_eq!(view(store, mine, second.id).await.export.status, ExportStatus::Created);
    assert_eq!(claim(store, "a", 9, 6).await.len(), 2);
}

pub(crate) async fn a_schedule_never_times_out(store: &Store) {
    let mine = owner(store, 1).await;
    let id = schedule(store, mine, 1, 24).await;
    assert_eq!(store.time_out(TimeLimits { task: 1, export: 1 }, at(1_000_000)).await.unwrap(), 0);
    let seen = view(store, mine, id).await;
    assert_eq!(
        (seen.export.status, seen.runs_total, seen.started_at),
        (ExportStatus::IntervalScheduled, 0, None)
    );
}

pub(crate) async fn runs_of_a_schedule_are_those_of_the_exports_it_spawned(store: &Store) {
    let (mine, other) = (owner(store, 1).await, owner(store, 2).await);
    let id = schedule(store, mine, 1, 48).await;
    catch_up(store, day(4), 1).await;
    export(store, other, 4, 1).await;
    export(store, mine, 5, 1).await;
    let found = store.schedule_runs(mine.tenant, id, ALL).await.unwrap().unwrap();
    assert_eq!(found.len(), 4, "two exports of two days");
    assert!(found.iter().all(|view| view.export.source == Some(id)));
    let page = store
        .schedule_runs(mine.tenant, id, Page { limit: Some(3), offset: 2, after: None })
        .await
        .unwrap()
        .unwrap();
    assert_eq!(page, found[2..]);
    assert_eq!(store.schedule_runs(other.tenant, id, ALL).await.unwrap(), None);
}
