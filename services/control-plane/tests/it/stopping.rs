//! A control plane that stops: everyone is told, nobody can hold it up.

use std::time::Duration;

use tonic::Code;
use tracelift_control_plane::store::Change;
use tracelift_core::id::ExportId;
use tracelift_proto::{
    fleet::v1::{
        self, connect_request::Message as ExporterMessage, connect_response::Message as Answer,
    },
    v1 as api,
};

use crate::{
    exporter::{Exporter, held, hello},
    plane::{plane, plane_with, soon},
};

#[tokio::test]
async fn exporters_are_told_to_come_back_and_keep_their_leases() {
    let plane = plane().await;
    let mine = plane.workspace(1).await;
    mine.export(&plane, 1).await;
    let mut exporter = Exporter::connect(&plane, "a", 1).await;
    let task = exporter.assignment().await;
    plane.stop();
    let Answer::Drain(drain) = exporter.hear().await else { panic!("no drain") };
    assert_eq!(drain.reconnect_after.unwrap().seconds, 1);
    exporter.end().await.unwrap();
    let (store, clock) = (plane.store.clone(), plane.clock.clone());
    plane.stopped().await.unwrap();

    let plane = crate::plane::plane_over(store, clock, |_| {}).await.unwrap();
    let again = v1::Hello { held: vec![held(&task)], ..hello("a", 1) };
    let exporter = Exporter::connect_as(&plane, again).await;
    assert_eq!(exporter.welcome.verdicts[0].verdict(), v1::Verdict::Keep);
}

#[tokio::test]
async fn watches_end_with_unavailable_and_when_to_try_again() {
    let plane = plane().await;
    let mine = plane.workspace(1).await;
    let export = mine.export(&plane, 1).await;
    let watch =
        mine.read.exports().watch_export(api::WatchExportRequest { id: export.id }).await.unwrap();
    let mut watch = watch.into_inner();
    soon(watch.message()).await.unwrap().unwrap();
    plane.stop();
    let status = soon(watch.message()).await.unwrap_err();
    assert_eq!(
        (status.code(), status.message()),
        (Code::Unavailable, "the control plane is stopping; watch again")
    );
    plane.stopped().await.unwrap();
}

#[tokio::test]
async fn an_exporter_that_reads_nothing_does_not_hold_it_up() {
    let plane = plane_with(|settings| settings.stop_seconds = 1).await;
    let mine = plane.workspace(1).await;
    let export = mine.export(&plane, 1).await;
    let mut deaf = Exporter::connect(&plane, "deaf", 1).await;
    let task = deaf.assignment().await;
    // It reads no more: answers fill the connection's window, then the session's outbox, until no
    // report gets through.
    for leases in std::iter::once(2000).chain(std::iter::repeat(1)) {
        let held = vec![held(&task); leases];
        let mut notifications = plane.store.changes();
        deaf.say(ExporterMessage::Heartbeat(v1::Heartbeat { held, capacity: None })).await;
        deaf.say(ExporterMessage::Progress(v1::Progress {
            task_id: task.task_id.clone(),
            fence: 1,
            stage: "reading".into(),
            progress: None,
        }))
        .await;
        let heard = async {
            while notifications.recv().await.unwrap()
                != Change::Export(ExportId::parse("id", &export.id).unwrap())
            {}
        };
        if tokio::time::timeout(Duration::from_millis(300), heard).await.is_err() {
            break; // on a slow machine this may be too soon, and the test then shows less
        }
    }
    plane.stop();
    plane.stopped().await.unwrap();
    drop(deaf);
}

#[tokio::test]
async fn a_control_plane_that_nobody_calls_just_stops() {
    let plane = plane().await;
    plane.stop();
    plane.stopped().await.unwrap();
}
