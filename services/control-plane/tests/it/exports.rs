//! Exports: planned, listed, watched, cancelled.

use tonic::Code;
use tracelift_control_plane::store::ClaimRequest;
use tracelift_core::{
    file::LeftOut,
    id::ExporterId,
    limit::AtOnce,
    task::{Event, Finished, Identity, Lease, Progress},
};
use tracelift_proto::{time_from, v1};
use tracelift_runtime::clock::Clock as _;

use crate::plane::{Plane, plane, shown, soon, spec};

/// A run, claimed straight from the store.
async fn claim(plane: &Plane) -> tracelift_core::task::Task {
    let now = plane.clock.now();
    let lease = Lease {
        exporter: ExporterId::parse("e", "a").unwrap(),
        incarnation: "first".into(),
        until: now.plus_seconds(30),
        progressed_at: now,
        patience: 600,
        asked_back: None,
    };
    plane
        .store
        .claim(vec![ClaimRequest { lease, capacity: 1 }], AtOnce::default(), now)
        .await
        .unwrap()
        .remove(0)
        .tasks
        .remove(0)
        .task
}

#[tokio::test]
async fn an_export_has_one_run_per_utc_day() {
    let plane = plane().await;
    let mine = plane.workspace(1).await;
    let destination = plane.destination(&mine).await.to_string();
    let export = mine
        .create(spec(&destination, "2024-02-28T13:30:00.000001Z", "2024-03-02T00:30:00+01:00"))
        .await
        .unwrap();
    assert_eq!(export.progress.as_ref().unwrap().runs_total, 3);
    assert_eq!(export.status(), v1::ExportStatus::Created);
    let day = |task: &v1::ExportRun| {
        let time = |time: &Option<_>| time_from("t", time.as_ref()).unwrap().to_string();
        format!("{} {} {}", time(&task.start_time), time(&task.end_time), task.stage)
    };
    let days: Vec<_> = mine.tasks(&export.id).await.iter().map(day).collect();
    insta::assert_snapshot!(days.join("\n"));
}

#[tokio::test]
async fn a_list_is_newest_first_and_has_a_hundred_exports_unless_asked() {
    let plane = plane().await;
    let mine = plane.workspace(1).await;
    let spec = spec(&plane.destination(&mine).await.to_string(), "2024-01-01", "2024-01-02");
    let mut made = Vec::new();
    for _ in 0..101 {
        plane.clock.advance(1);
        made.insert(0, mine.create(spec.clone()).await.unwrap().id);
    }
    let list = async |limit, offset| {
        let listed = mine
            .read
            .exports()
            .list_exports(v1::ListExportsRequest { limit, offset, ..Default::default() })
            .await
            .unwrap()
            .into_inner()
            .exports;
        listed.into_iter().map(|export| export.id).collect::<Vec<_>>()
    };
    assert_eq!(list(0, 0).await, made[..100]);
    assert_eq!(list(1000, 99).await, made[99..]);
    assert_eq!(list(2, 1).await, made[1..3]);
}

#[tokio::test]
async fn a_watch_tells_what_is_now_then_each_change_and_ends_with_the_export() {
    let plane = plane().await;
    let mine = plane.workspace(1).await;
    let export = mine.export(&plane, 2).await;
    let watch = mine
        .read
        .exports()
        .watch_export(v1::WatchExportRequest { id: export.id.clone() })
        .await
        .unwrap();
    let mut watch = watch.into_inner();
    let mut next =
        async || soon(watch.message()).await.unwrap().map(|answer| answer.export.unwrap());
    assert_eq!(next().await, Some(export.clone()));

    let task = claim(&plane).await;
    let running = next().await.unwrap();
    assert_eq!(
        (running.status(), running.progress.unwrap().rows_written),
        (v1::ExportStatus::Running, 0)
    );

    plane.clock.advance(10);
    let said = Progress { rows: 50, bytes: 500, rows_estimate: Some(100), ..Progress::default() };
    plane.store.progress(None, task.id, task.fence, said, plane.clock.now()).await.unwrap();
    let progress = next().await.unwrap().progress.unwrap();
    assert_eq!(
        (progress.rows_written, progress.rows_total_estimate, progress.eta_seconds),
        (50, Some(200), Some(30))
    );

    mine.cancel(&export.id).await.unwrap();
    let last = next().await.unwrap();
    assert_eq!((last.status(), last.finished_at.is_some()), (v1::ExportStatus::Cancelled, true));
    assert_eq!(next().await, None);
}

#[tokio::test]
async fn a_watch_of_an_export_that_has_ended_says_so_and_ends() {
    let plane = plane().await;
    let mine = plane.workspace(1).await;
    let export = mine.export(&plane, 1).await;
    mine.cancel(&export.id).await.unwrap();
    let watch = mine
        .read
        .exports()
        .watch_export(v1::WatchExportRequest { id: export.id.clone() })
        .await
        .unwrap();
    let mut watch = watch.into_inner();
    let first = soon(watch.message()).await.unwrap().unwrap();
    assert_eq!(first.export.unwrap().status(), v1::ExportStatus::Cancelled);
    assert!(soon(watch.message()).await.unwrap().is_none());
}

#[tokio::test]
async fn a_cancel_is_repeatable_but_cannot_undo_an_end() {
    let plane = plane().await;
    let mine = plane.workspace(1).await;
    let export = mine.export(&plane, 1).await;
    let first = mine.cancel(&export.id).await.unwrap();
    plane.clock.advance(60);
    assert_eq!(mine.cancel(&export.id).await.unwrap(), first);

    let done = mine.export(&plane, 1).await;
    for events in [vec![Event::Finished(nothing()), Event::Published], vec![Event::Published]] {
        let task = claim(&plane).await;
        for event in events {
            plane
                .store
                .report(None, task.id, task.fence, event, 0, plane.clock.now())
                .await
                .unwrap();
        }
    }
    let refused = mine.cancel(&done.id).await;
    assert_eq!(refused.as_ref().unwrap_err().code(), Code::FailedPrecondition);
    insta::assert_snapshot!(shown(refused).replace(&done.id, "[export]"));
    let empty = mine.tasks(&done.id).await.remove(0);
    assert_eq!(
        (empty.status(), empty.result.unwrap().exported_files),
        (v1::RunStatus::Completed, vec![])
    );
}

/// What is said of a run without rows at its commit point.
fn nothing() -> Finished {
    Finished { files: 0, rows: 0, rest: LeftOut::default(), identity: Identity::Id }
}
