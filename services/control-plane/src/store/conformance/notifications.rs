//! What those who wait are told, and that it is true by then.

use tokio::sync::broadcast::Receiver;
use tracelift_core::{
    export::ExportStatus,
    task::{Event, Progress, RunStatus},
};
use uuid::Uuid;

use super::{
    RETRIES, act, at, claim_one, complete, export, exporter, file, finished, lease, owner, planned,
    report, run_view, view,
};
use crate::store::{Change, CreateOutcome, NewExport, Store};

/// Waits for that news. A store may tell more than it must, so what comes between is passed over.
async fn hear(notifications: &mut Receiver<Change>, expected: Change) {
    while notifications.recv().await.unwrap() != expected {}
}

pub(crate) async fn new_work_is_told(store: &Store) {
    let mine = owner(store, 1).await;
    let mut notifications = store.changes();
    export(store, mine, 1, 1).await;
    hear(&mut notifications, Change::TasksQueued).await;
    let task = claim_one(store, "a", 1).await;
    let mut notifications = store.changes();
    report(store, &task, Event::HandedBack, 2).await;
    hear(&mut notifications, Change::TasksQueued).await;
    let task = claim_one(store, "a", 3).await;
    let mut notifications = store.changes();
    store.lapse(RETRIES, at(99)).await.unwrap();
    hear(&mut notifications, Change::TasksQueued).await;
    let again = claim_one(store, "a", 100).await;
    assert!(again.fence > task.fence);
    let mut notifications = store.changes();
    complete(store, &again, 1, 101).await;
    hear(&mut notifications, Change::TasksQueued).await; // the finalising run
}

pub(crate) async fn every_change_of_an_export_is_told(store: &Store) {
    let mine = owner(store, 1).await;
    let id = export(store, mine, 1, 1).await;
    let mut notifications = store.changes();
    let task = claim_one(store, "a", 1).await;
    hear(&mut notifications, Change::Export(id)).await;
    let mut notifications = store.changes();
    store.progress(None, task.id, task.fence, Progress::default(), at(2)).await.unwrap();
    hear(&mut notifications, Change::Export(id)).await;
    for event in [Event::FileDone(file(0)), finished(1, 10), Event::Published] {
        let mut notifications = store.changes();
        report(store, &task, event, 3).await;
        hear(&mut notifications, Change::Export(id)).await;
    }
    let mut notifications = store.changes();
    store.cancel_export(act(), mine.tenant, id, at(4)).await.unwrap();
    hear(&mut notifications, Change::Export(id)).await;
}

pub(crate) async fn a_cancel_tells_the_holder_under_the_fence_it_knows(store: &Store) {
    let mine = owner(store, 1).await;
    let id = export(store, mine, 1, 2).await;
    let task = claim_one(store, "a", 1).await;
    let mut notifications = store.changes();
    store.cancel_export(act(), mine.tenant, id, at(2)).await.unwrap();
    hear(
        &mut notifications,
        Change::Stopped { task: task.id, fence: task.fence, exporter: exporter("a") },
    )
    .await;
}

/// For an exporter that may have missed what it was told.
pub(crate) async fn what_was_stopped_can_be_asked_for(store: &Store) {
    let mine = owner(store, 1).await;
    let first = export(store, mine, 1, 1).await;
    let held = claim_one(store, "a", 1).await;
    let second = export(store, mine, 2, 1).await;
    let other = claim_one(store, "b", 1).await;
    assert_eq!(store.stopped(exporter("a"), at(0)).await.unwrap(), []);
    for id in [first, second] {
        store.cancel_export(act(), mine.tenant, id, at(5)).await.unwrap();
    }
    assert_eq!(store.stopped(exporter("a"), at(5)).await.unwrap(), [(held.id, held.fence)]);
    assert_eq!(store.stopped(exporter("b"), at(0)).await.unwrap(), [(other.id, other.fence)]);
    assert_eq!(store.stopped(exporter("a"), at(6)).await.unwrap(), []);
}

/// Told after the commit: whoever hears of a change sees it.
pub(crate) async fn what_is_told_can_be_read(store: &Store) {
    let mine = owner(store, 1).await;
    let (made, tasks) = planned(mine, 1, 1, 0);
    let id = made.id;
    let mut notifications = store.changes();
    let reader = async {
        hear(&mut notifications, Change::TasksQueued).await;
        claim_one(store, "a", 1).await
    };
    let (task, stored) =
        tokio::join!(reader, store.create_export(act(), NewExport::of(made, tasks)));
    assert!(matches!(stored.unwrap(), CreateOutcome::Now(_)));

    let mut notifications = store.changes();
    let reader = async {
        hear(
            &mut notifications,
            Change::Stopped { task: task.id, fence: task.fence, exporter: exporter("a") },
        )
        .await;
        (run_view(store, &task).await.task.status(), view(store, mine, id).await.export.status)
    };
    let (seen, _) = tokio::join!(reader, store.cancel_export(act(), mine.tenant, id, at(2)));
    assert_eq!(seen, (RunStatus::Cancelled, ExportStatus::Cancelled));
}

pub(crate) async fn an_exporter_that_connects_is_told(store: &Store) {
    let mut notifications = store.changes();
    for n in [1, 2] {
        let session = Uuid::from_u128(n);
        store.hello(session, lease("a", 1), Vec::new(), RETRIES, at(1)).await.unwrap();
        hear(&mut notifications, Change::Connected { exporter: exporter("a"), session }).await;
    }
}
