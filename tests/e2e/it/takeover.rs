//! What an exporter does with what a lost one left behind, whatever the bucket lets it do and see.

use s3s::S3ErrorCode;
use tracelift_proto::v1::{ExportStatus, RunStatus};
use tracelift_test_support::{
    s3::Operation,
    world::{DESTINATION_BUCKET, Running, SOURCE_BUCKET, World},
};

use crate::{all, ids, offloaded};

const ROWS: u128 = 200;

/// A world whose export makes several files, in several parts or in one request each.
async fn world(parts: bool) -> (World, tracelift_exporter::Settings) {
    let world = World::start().await;
    (1..=ROWS).for_each(|n| {
        world.s3.put(
            SOURCE_BUCKET,
            &format!("blobs/{n}"),
            format!("\"{}\"", "x".repeat(100)).as_bytes(),
        )
    });
    world.insert(&offloaded(ROWS)).await;
    let mut settings = world.exporter_settings("exporter-1");
    settings.limits.batch_bytes = 10_000;
    settings.limits.row_group_bytes = 1;
    settings.limits.file_bytes = 1;
    if parts {
        settings.limits.part_bytes = 2000;
        world.s3.faults.allow_small_parts();
    }
    (world, settings)
}

fn successor(world: &World, settings: &tracelift_exporter::Settings) -> Running {
    world.start_exporter(&tracelift_exporter::Settings {
        exporter_id: Some("exporter-2".into()),
        ..settings.clone()
    })
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
    assert!(run.exporter_id == "exporter-2" && run.retry_number == 1, "{run:?}");
}

/// The first exporter dies when its second file's last request has been done, and nobody knows.
async fn dies_before_the_answer(parts: bool) -> (World, tracelift_exporter::Settings, String) {
    let (world, settings) = world(parts).await;
    let making = if parts { Operation::CompleteMultipartUpload } else { Operation::PutObject };
    let gate = world.s3.faults.hold_answer(making, "-00001.parquet");
    let first = world.start_exporter(&settings);
    let export = world.export("2024-01-01", "2024-01-02").await;
    gate.reached().await;
    first.crash().await;
    gate.open();
    (world, settings, export)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs chDB: make test"]
async fn a_file_that_was_completed_and_never_reported_is_taken_over_and_not_written_again() {
    for parts in [true, false] {
        let (world, settings, export) = dies_before_the_answer(parts).await;
        let key = world
            .s3
            .keys(DESTINATION_BUCKET)
            .into_iter()
            .find(|key| key.ends_with("-00001.parquet"))
            .unwrap();
        let made = world.s3.get(DESTINATION_BUCKET, &key).unwrap();
        let making = if parts { Operation::CompleteMultipartUpload } else { Operation::PutObject };
        world.s3.faults.refuse(making, "-00001.parquet", S3ErrorCode::MethodNotAllowed, u64::MAX);
        let _second = successor(&world, &settings);
        each_row_is_there_once(&world, &export).await;
        assert_eq!(world.s3.get(DESTINATION_BUCKET, &key).unwrap(), made);
        assert_eq!(world.s3.open_uploads(), []);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs chDB: make test"]
async fn where_the_bucket_does_not_let_us_look_the_file_is_written_again_to_the_same_key() {
    for parts in [true, false] {
        let (world, settings, export) = dies_before_the_answer(parts).await;
        world.s3.faults.refuse(
            Operation::HeadObject,
            ".parquet",
            S3ErrorCode::AccessDenied,
            u64::MAX,
        );
        let _second = successor(&world, &settings);
        each_row_is_there_once(&world, &export).await;
        assert_eq!(world.s3.open_uploads(), []);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs chDB: make test"]
async fn a_bucket_that_grants_put_object_only_is_enough() {
    let (world, settings) = world(true).await;
    for refused in [
        Operation::HeadObject,
        Operation::AbortMultipartUpload,
        Operation::ListMultipartUploads,
        Operation::GetObject,
    ] {
        world.s3.faults.refuse(refused, "export_id=", S3ErrorCode::AccessDenied, u64::MAX);
    }
    let gate = world.s3.faults.hold(Operation::CompleteMultipartUpload, "-00001.parquet");
    let first = world.start_exporter(&settings);
    let export = world.export("2024-01-01", "2024-01-02").await;
    gate.reached().await;
    let left = world.s3.open_uploads();
    first.crash().await;
    // The successor's own uploads are not held.
    world.s3.faults.release(Operation::CompleteMultipartUpload);
    let _second = successor(&world, &settings);
    each_row_is_there_once(&world, &export).await;
    gate.open(); // what the lost exporter had asked for is done now, if at all: an object stands where it would make one
    each_row_is_there_once(&world, &export).await;
    assert_eq!(world.s3.open_uploads(), left, "nobody may abort it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs chDB: make test"]
async fn a_store_that_knows_no_conditions_is_written_to_without_them() {
    for parts in [true, false] {
        let (world, settings) = world(parts).await;
        world.s3.faults.know_no_conditions();
        let gate = world.s3.faults.hold_answer(
            if parts { Operation::UploadPart } else { Operation::PutObject },
            "-00001.parquet",
        );
        let first = world.start_exporter(&settings);
        let export = world.export("2024-01-01", "2024-01-02").await;
        gate.reached().await;
        first.crash().await;
        gate.open();
        let _second = successor(&world, &settings);
        each_row_is_there_once(&world, &export).await;
        assert_eq!(world.s3.open_uploads(), []);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs chDB: make test"]
async fn somebody_elses_object_is_never_replaced() {
    for parts in [true, false] {
        let (world, settings) = world(parts).await;
        let opening = if parts { Operation::CreateMultipartUpload } else { Operation::PutObject };
        let gate = world.s3.faults.hold(opening, "-00001.parquet");
        let export = world.export("2024-01-01", "2024-01-02").await;
        let _exporter = world.start_exporter(&settings);
        gate.reached().await;
        let first = world
            .s3
            .keys(DESTINATION_BUCKET)
            .into_iter()
            .find(|key| key.ends_with("-00000.parquet"))
            .unwrap();
        let second = first.replace("-00000.parquet", "-00001.parquet");
        world.s3.put(DESTINATION_BUCKET, &second, b"theirs");
        gate.open();
        let ended = world.ended(&export).await;
        assert_eq!(ended.status(), ExportStatus::Failed);
        let run = &world.runs(&export).await[0];
        assert_eq!((run.status(), run.retry_number), (RunStatus::Failed, 0));
        assert!(
            run.errors[0].contains(&format!(
                "an object that is not of this export stands at {second}; remove it"
            )),
            "{:?}",
            run.errors
        );
        assert_eq!(world.s3.get(DESTINATION_BUCKET, &second).unwrap(), b"theirs");
        assert_eq!(world.s3.open_uploads(), []);
    }
}
