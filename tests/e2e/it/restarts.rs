//! Any process may stop or die: each row is in the bucket once.

use tracelift_proto::v1::ExportStatus;
use tracelift_test_support::{
    s3::Operation,
    wire::{Fate, Gate, Wire},
    world::{SOURCE_BUCKET, World},
};

use crate::{all, ids, offloaded};

const ROWS: u128 = 600;

/// A world whose export makes many files.
async fn world() -> (World, tracelift_exporter::Settings) {
    let world = World::start().await;
    for n in 1..=ROWS {
        world.s3.put(
            SOURCE_BUCKET,
            &format!("blobs/{n}"),
            format!("\"{}\"", "x".repeat(100)).as_bytes(),
        );
    }
    world.insert(&offloaded(ROWS)).await;
    let mut settings = world.exporter_settings("exporter-1");
    settings.limits.batch_bytes = 10_000;
    settings.limits.row_group_bytes = 1;
    settings.limits.file_bytes = 1;
    settings.limits.part_bytes = 2000;
    world.s3.faults.allow_small_parts();
    settings.blobs.blob_concurrency = 4;
    (world, settings)
}

async fn each_row_is_there_once(world: &World, export: &str) {
    let ended = world.ended(export).await;
    assert_eq!(ended.status(), ExportStatus::Completed, "{}", ended.error);
    assert_eq!(ids(&world.rows(export)), all(ROWS));
    let run = &world.runs(export).await[0];
    assert_eq!(
        world.manifest(export, Some(&run.id))["totals"]["rows"],
        u64::try_from(ROWS).unwrap()
    );
    assert_eq!(world.s3.open_uploads(), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs chDB: make test"]
async fn an_exporter_that_dies_in_the_middle_is_continued_at_its_cursor() {
    let (world, settings) = world().await;
    let gate = world.s3.faults.hold(Operation::UploadPart, "-00002.parquet");
    let first = world.start_exporter(&settings);
    let export = world.export("2024-01-01", "2024-01-02").await;
    gate.reached().await;
    first.crash().await;
    assert_eq!(world.s3.open_uploads().len(), 1);
    world.s3.faults.clear();
    gate.open();
    let _second = world.start_exporter(&settings);
    each_row_is_there_once(&world, &export).await;
    let run = &world.runs(&export).await[0];
    assert_eq!(run.retry_number, 1);
    assert!(run.errors[0].contains("exporter-1 was not heard of"), "{:?}", run.errors);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs chDB: make test"]
async fn a_lapsed_lease_gives_the_run_to_another_exporter() {
    let (world, settings) = world().await;
    let gate = world.s3.faults.hold(Operation::UploadPart, "-00001.parquet");
    let first = world.start_exporter(&settings);
    let export = world.export("2024-01-01", "2024-01-02").await;
    gate.reached().await;
    first.crash().await;
    world.s3.faults.clear();
    gate.open();
    let _other = world.start_exporter(&tracelift_exporter::Settings {
        exporter_id: Some("exporter-2".into()),
        ..settings
    });
    each_row_is_there_once(&world, &export).await;
    assert_eq!(world.runs(&export).await[0].exporter_id, "exporter-2");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs chDB: make test"]
async fn an_exporter_that_stops_finishes_its_file_and_gives_the_run_back_without_an_attempt() {
    let (world, settings) = world().await;
    let gate = world.s3.faults.hold(Operation::UploadPart, "-00002.parquet");
    let first = world.start_exporter(&settings);
    let export = world.export("2024-01-01", "2024-01-02").await;
    gate.reached().await;
    first.stopping.cancel();
    gate.open();
    first.stop().await;
    let run = &world.runs(&export).await[0];
    assert!(run.result.as_ref().unwrap().exported_files.len() >= 3);
    assert_eq!((run.retry_number, run.errors.len()), (0, 0));
    let _second = world.start_exporter(&settings);
    each_row_is_there_once(&world, &export).await;
    assert_eq!(world.runs(&export).await[0].retry_number, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs chDB: make test"]
async fn a_run_that_is_given_to_an_exporter_while_it_stops_is_handed_back_without_an_attempt() {
    let (world, mut settings) = world().await;
    let (wire, gate) = (Wire::to(&world.grpc).await, Gate::new());
    settings.control_plane = wire.url.clone();
    wire.next("assignment", Fate::Held(gate.clone()));
    let first = world.start_exporter(&settings);
    let export = world.export("2024-01-01", "2024-01-02").await;
    gate.reached().await;
    first.stopping.cancel(); // it holds nothing that it knows of
    gate.open();
    first.stop().await;
    let _second = world.start_exporter(&settings);
    each_row_is_there_once(&world, &export).await;
    let run = &world.runs(&export).await[0];
    assert_eq!((run.retry_number, run.errors.len()), (0, 0), "{:?}", run.errors);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs chDB: make test"]
async fn a_restart_of_the_control_plane_is_only_a_longer_disconnect() {
    let (mut world, settings) = world().await;
    let gate = world.s3.faults.hold(Operation::UploadPart, "-00002.parquet");
    let _exporter = world.start_exporter(&settings);
    let export = world.export("2024-01-01", "2024-01-02").await;
    gate.reached().await;
    world.stop_control_plane().await;
    gate.open();
    world.restart_control_plane().await;
    each_row_is_there_once(&world, &export).await;
    assert_eq!(world.runs(&export).await[0].retry_number, 0);
}
