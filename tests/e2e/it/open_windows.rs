//! Exports of a window that has not ended: at once, and they say so; what comes later is counted
//! after its end.

use serde_json::json;
use tracelift_core::time::Timestamp;
use tracelift_proto::{time_from, v1::ExportStatus};
use tracelift_runtime::clock::{Clock as _, SystemClock};
use tracelift_test_support::world::{Options, World};

use crate::id;

/// Seconds between an export's creation and the end of its window: more than it takes to be
/// claimed.
const AHEAD: i64 = 15;

/// A row that starts then.
fn row(n: u128, at: Timestamp) -> serde_json::Value {
    json!({"id": id(n), "start_time": at.to_string().replace('T', " ").replace("+00:00", "")})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs chDB: make test"]
async fn a_window_that_is_still_open_is_exported_and_says_so() {
    let world = World::with(Options { grace_seconds: 0, ..Options::default() }).await;
    let _exporter = world.exporter();
    let now = SystemClock.now();
    let (yesterday, end) = (now.plus_seconds(-86_400), now.plus_seconds(AHEAD));
    world.insert(&[row(1, yesterday), row(2, now)]).await;
    let export = world.export(&yesterday.to_string(), &end.to_string()).await;
    let ended = world.ended(&export).await;
    assert_eq!((ended.status(), ended.window_open), (ExportStatus::Completed, true));
    let read_at = time_from("read_at", ended.read_at.as_ref()).unwrap();
    assert!(now <= read_at && read_at < end, "{now} {read_at} {end}");
    assert!(ended.reconciliation.is_none(), "it waits for the end of the window");
    world.insert(&[row(3, end.plus_seconds(-1))]).await;

    let runs = world.runs(&export).await;
    let manifests: Vec<_> = runs.iter().map(|run| world.manifest(&export, Some(&run.id))).collect();
    let open = |manifest: &serde_json::Value| manifest["window_open"].as_bool();
    assert_eq!(
        (manifests.first().and_then(open), manifests.last().and_then(open)),
        (Some(false), Some(true))
    );
    assert!(manifests.iter().all(|manifest| manifest["read_at"].is_string()));
    let manifest = world.manifest(&export, None);
    assert_eq!(
        (&manifest["window_open"], &manifest["read_at"]),
        (&json!(true), &json!(read_at.to_string()))
    );
    assert_eq!(manifest["runs"].as_array().unwrap().last().unwrap()["window_open"], json!(true));

    let counted = world.reconciled(&export).await;
    assert_eq!(
        (counted.rows_exported, counted.rows_in_source),
        (2, 3),
        "what came later is counted"
    );
    assert!(time_from("reconciled_at", counted.reconciled_at.as_ref()).unwrap() >= end);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs chDB: make test"]
async fn a_window_that_has_ended_is_exported_as_closed_and_counted_at_once() {
    let world = World::start().await;
    let _exporter = world.exporter();
    let export = world.export("2024-01-01", "2024-01-02").await;
    let ended = world.ended(&export).await;
    assert_eq!(
        (ended.status(), ended.window_open, ended.read_at.is_some()),
        (ExportStatus::Completed, false, true)
    );
    assert_eq!(world.reconciled(&export).await.rows_in_source, 0);
}
