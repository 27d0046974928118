//! Every step of the data path and every message of the protocol fails, is done without an answer,
//! is repeated, meets the death of its exporter or a cancel: once each. Each row is in the bucket
//! once, and nothing is left behind.

use std::collections::BTreeSet;

use s3s::S3ErrorCode;
use tracelift_exporter::Settings;
use tracelift_proto::v1::{CancelExportRequest, ExportStatus};
use tracelift_test_support::{
    s3::Operation,
    wire::{Fate, Gate, Wire},
    world::{DESTINATION_BUCKET, SOURCE_BUCKET, World},
};

use crate::{all, ids, offloaded};

const ROWS: u128 = 60;

/// More often than a call is tried within one attempt of a run.
const OFTEN: u64 = 6;

async fn world() -> World {
    let world = World::start().await;
    (1..=ROWS).for_each(|n| {
        world.s3.put(
            SOURCE_BUCKET,
            &format!("blobs/{n}"),
            format!("\"{}\"", "x".repeat(200)).as_bytes(),
        )
    });
    world.insert(&offloaded(ROWS)).await;
    world.s3.faults.allow_small_parts();
    world
}

/// Two or three files, in several parts or in one request each.
fn settings(world: &World, name: &str, in_parts: bool) -> Settings {
    let mut settings = world.exporter_settings(name);
    settings.limits.batch_bytes = 8000;
    settings.limits.row_group_bytes = 1;
    settings.limits.file_bytes = 1;
    if in_parts {
        settings.limits.part_bytes = 2000;
    }
    settings
}

/// Ended as wanted, each row once, and what callers are told is what stands in the bucket.
async fn is_whole(world: &World, export: &str, status: ExportStatus, case: &str) {
    let ended = world.ended(export).await;
    assert_eq!(ended.status(), status, "{case}: {}", ended.error);
    let run = world.cleaned_up(export).await.remove(0);
    let listed: BTreeSet<_> =
        run.result.iter().flat_map(|result| &result.exported_files).cloned().collect();
    let data = world
        .s3
        .keys(DESTINATION_BUCKET)
        .into_iter()
        .filter(|key| key.contains(export) && key.ends_with(".parquet"));
    let there: BTreeSet<_> = data.map(|key| format!("{DESTINATION_BUCKET}/{key}")).collect();
    assert_eq!(there, listed, "{case}");
    let mine: Vec<_> =
        world.s3.open_uploads().into_iter().filter(|(key, _)| key.contains(export)).collect();
    assert_eq!(mine, [], "{case}");
    assert_eq!(world.succeeded(export), status == ExportStatus::Completed, "{case}");
    let rows = ids(&world.rows(export));
    if status == ExportStatus::Completed {
        assert_eq!(rows, all(ROWS), "{case}");
        assert_eq!(
            world.manifest(export, Some(&run.id))["totals"]["rows"],
            u64::try_from(ROWS).unwrap(),
            "{case}"
        );
        assert_eq!(world.manifest(export, None)["totals"]["files"], listed.len(), "{case}");
    } else {
        assert_eq!(rows.iter().collect::<BTreeSet<_>>().len(), rows.len(), "{case}: a row twice");
    }
}

async fn cancel(world: &World, export: &str) {
    world.exports().cancel_export(CancelExportRequest { id: export.to_owned() }).await.unwrap();
}

/// Each step of writing, with its key and whether files are written in parts.
const STEPS: [(Operation, &str, bool); 7] = [
    (Operation::CreateMultipartUpload, "-00001.parquet", true),
    (Operation::UploadPart, "-00001.parquet", true),
    (Operation::CompleteMultipartUpload, "-00001.parquet", true),
    (Operation::PutObject, "-00001.parquet", false),
    (Operation::PutObject, "/run_id=", false),
    (Operation::PutObject, "/manifest.json", false),
    (Operation::PutObject, "/_SUCCESS", false),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs chDB: make test"]
async fn every_request_to_the_bucket_fails_or_is_done_without_an_answer() {
    let world = world().await;
    for (operation, key, in_parts) in STEPS {
        for times in [1, OFTEN] {
            for unanswered in [false, true] {
                let case = format!("{operation:?} {key} {times} times, unanswered {unanswered}");
                let export = world.export("2024-01-01", "2024-01-02").await;
                match unanswered {
                    false => {
                        world.s3.faults.refuse(operation, key, S3ErrorCode::InternalError, times)
                    }
                    true => world.s3.faults.lose_answer(operation, key, times),
                }
                let exporter = world.start_exporter(&settings(&world, "exporter-1", in_parts));
                is_whole(&world, &export, ExportStatus::Completed, &case).await;
                exporter.stop().await;
                world.s3.faults.clear();
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs chDB: make test"]
async fn an_exporter_dies_at_every_request_to_the_bucket() {
    let world = world().await;
    for (operation, key, in_parts) in STEPS {
        for done in [false, true] {
            let case = format!("dies at {operation:?} {key}, done {done}");
            let export = world.export("2024-01-01", "2024-01-02").await;
            let faults = &world.s3.faults;
            let gate =
                if done { faults.hold_answer(operation, key) } else { faults.hold(operation, key) };
            let first = world.start_exporter(&settings(&world, "exporter-1", in_parts));
            gate.reached().await;
            first.crash().await;
            world.s3.faults.clear();
            gate.open();
            let second = world.start_exporter(&settings(&world, "exporter-2", in_parts));
            is_whole(&world, &export, ExportStatus::Completed, &case).await;
            second.stop().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs chDB: make test"]
async fn an_export_is_cancelled_at_every_request_to_the_bucket() {
    let world = world().await;
    for (operation, key, in_parts) in STEPS {
        for (done, dies) in [(false, false), (true, false), (true, true)] {
            let case = format!("cancelled at {operation:?} {key}, done {done}, dies {dies}");
            let export = world.export("2024-01-01", "2024-01-02").await;
            let faults = &world.s3.faults;
            let gate =
                if done { faults.hold_answer(operation, key) } else { faults.hold(operation, key) };
            let first = world.start_exporter(&settings(&world, "exporter-1", in_parts));
            gate.reached().await;
            cancel(&world, &export).await;
            let first = if dies {
                first.crash().await;
                None
            } else {
                Some(first)
            };
            world.s3.faults.clear();
            gate.open();
            let second = world.start_exporter(&settings(&world, "exporter-2", in_parts));
            let success = world.ended(&export).await.status();
            assert_eq!(success, ExportStatus::Cancelled, "{case}");
            if let Some(first) = first {
                first.stop().await; // what was on its way has landed, and is told
            }
            if key.ends_with(".parquet") {
                is_whole(&world, &export, ExportStatus::Cancelled, &case).await;
            }
            second.stop().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs chDB: make test"]
async fn a_file_that_lands_after_its_cancelled_run_was_cleaned_up_is_listed() {
    let world = world().await;
    let export = world.export("2024-01-01", "2024-01-02").await;
    let gate = world.s3.faults.hold(Operation::PutObject, "-00001.parquet");
    let first = world.start_exporter(&settings(&world, "exporter-1", false));
    gate.reached().await;
    cancel(&world, &export).await;
    let second = world.start_exporter(&settings(&world, "exporter-2", false));
    assert_eq!(
        world.cleaned_up(&export).await[0]
            .result
            .as_ref()
            .map(|result| result.exported_files.len()),
        Some(1)
    );
    world.s3.faults.clear();
    gate.open();
    first.stop().await;
    is_whole(&world, &export, ExportStatus::Cancelled, "it landed late").await;
    assert_eq!(
        world
            .s3
            .keys(DESTINATION_BUCKET)
            .iter()
            .filter(|key| key.ends_with("-00001.parquet"))
            .count(),
        1
    );
    second.stop().await;
}

/// What an exporter says, and what it is told, in the course of an export.
const SAID: [&str; 7] =
    ["hello", "accepted", "file_intent", "file_done", "finished", "published", "counted"];
const TOLD: [&str; 4] = ["welcome", "assignment", "ack", "publish"];
/// What comes by the clock: a short export could be over before it.
const TIMED: [&str; 3] = ["heartbeat", "heartbeat_reply", "progress"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs chDB: make test"]
async fn every_message_is_lost_or_goes_unanswered_or_comes_twice() {
    let world = world().await;
    for kind in SAID.into_iter().chain(TOLD).chain(TIMED) {
        for fate in [Fate::Lost, Fate::LastOne, Fate::Repeated] {
            let case = format!("{kind} {fate:?}");
            let wire = Wire::to(&world.grpc).await;
            wire.next(kind, fate);
            let export = world.export("2024-01-01", "2024-01-02").await;
            let held = TIMED
                .contains(&kind)
                .then(|| world.s3.faults.hold(Operation::UploadPart, "-00001.parquet"));
            let exporter = world.start_exporter(&Settings {
                control_plane: wire.url.clone(),
                ..settings(&world, "exporter-1", true)
            });
            if let Some(gate) = held {
                gate.reached().await;
                wire.quiet().await;
                world.s3.faults.clear();
                gate.open();
            }
            is_whole(&world, &export, ExportStatus::Completed, &case).await;
            world.reconciled(&export).await;
            assert!(wire.is_quiet(), "{case}: it never came");
            exporter.stop().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs chDB: make test"]
async fn an_exporter_dies_or_an_export_is_cancelled_at_every_message() {
    let world = world().await;
    for kind in [
        "accepted",
        "file_intent",
        "file_done",
        "finished",
        "published",
        "assignment",
        "ack",
        "publish",
    ] {
        for cancelled in [false, true] {
            let case = format!("{kind}, cancelled {cancelled}");
            let (wire, gate) = (Wire::to(&world.grpc).await, Gate::new());
            wire.next(kind, Fate::Held(gate.clone()));
            let export = world.export("2024-01-01", "2024-01-02").await;
            let first = world.start_exporter(&Settings {
                control_plane: wire.url.clone(),
                ..settings(&world, "exporter-1", true)
            });
            gate.reached().await;
            let status = if cancelled {
                cancel(&world, &export).await;
                gate.open();
                ExportStatus::Cancelled
            } else {
                first.crash().await;
                ExportStatus::Completed
            };
            let second = world.start_exporter(&settings(&world, "exporter-2", true));
            is_whole(&world, &export, status, &case).await;
            second.stop().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs chDB: make test"]
async fn the_control_plane_is_restarted_at_every_message() {
    let mut world = world().await;
    for kind in [
        "accepted",
        "file_intent",
        "file_done",
        "finished",
        "published",
        "assignment",
        "ack",
        "publish",
    ] {
        let (wire, gate) = (Wire::to(&world.grpc).await, Gate::new());
        wire.next(kind, Fate::Held(gate.clone()));
        let export = world.export("2024-01-01", "2024-01-02").await;
        let exporter = world.start_exporter(&Settings {
            control_plane: wire.url.clone(),
            ..settings(&world, "exporter-1", true)
        });
        gate.reached().await;
        world.stop_control_plane().await;
        gate.open();
        world.restart_control_plane().await;
        is_whole(&world, &export, ExportStatus::Completed, kind).await;
        assert_eq!(world.runs(&export).await[0].retry_number, 0, "{kind}");
        exporter.stop().await;
    }
}
