//! Stores that do not know everything that we send, and buckets that allow little: found out by the
//! check, or by the first write.

use s3s::S3ErrorCode;
use tracelift_proto::v1::{ExportStatus, StoreFeatures};
use tracelift_test_support::{
    s3::{Faults, Operation},
    world::{SOURCE_BUCKET, World},
};

use crate::{all, ids, offloaded};

const ROWS: u128 = 30;

/// Everything that stores may not know.
fn forget_everything(faults: &Faults) {
    faults.know_no_conditions();
    faults.know_no_checksums();
    faults.know_no_object_size();
}

/// Exports 30 rows to that destination, in parts and in manifests of one write each, and loses no
/// attempt.
async fn exports(world: &World, destination: String) {
    (1..=ROWS).for_each(|n| world.s3.put(SOURCE_BUCKET, &format!("blobs/{n}"), b"{}"));
    world.insert(&offloaded(ROWS)).await;
    world.s3.faults.allow_small_parts();
    let mut settings = world.exporter_settings("exporter-1");
    settings.limits.part_bytes = 1000;
    let _exporter = world.start_exporter(&settings);
    let export = world
        .export_with("2024-01-01", "2024-01-02", |spec| spec.destination_id = destination)
        .await;
    let ended = world.ended(&export).await;
    assert_eq!(ended.status(), ExportStatus::Completed, "{}", ended.error);
    assert_eq!(ids(&world.rows(&export)), all(ROWS));
    let run = &world.runs(&export).await[0];
    assert_eq!((run.retry_number, &run.errors), (0, &Vec::new()));
    assert_eq!(world.s3.open_uploads(), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs chDB: make test"]
async fn what_a_store_does_not_know_is_found_out_by_the_check_and_left_out() {
    let everything = StoreFeatures { checksums: true, conditional_writes: true, object_size: true };
    let world = World::start().await;
    let known = async || world.destination_with("test", |_| {}).await.unwrap().features.unwrap();
    assert_eq!(known().await, everything);
    world.s3.faults.know_no_object_size();
    assert_eq!(known().await, StoreFeatures { object_size: false, ..everything });
    world.s3.faults.know_no_checksums();
    assert_eq!(known().await, StoreFeatures { object_size: false, checksums: false, ..everything });
    world.s3.faults.know_no_conditions();
    let destination = world.destination_with("test", |_| {}).await.unwrap();
    assert_eq!(
        destination.features,
        Some(StoreFeatures { object_size: false, checksums: false, conditional_writes: false })
    );
    assert_eq!(world.s3.open_uploads(), []);
    // Whoever refuses now is asked for something that the destination is known not to have.
    exports(&world, destination.id).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs chDB: make test"]
async fn a_store_that_knows_less_than_when_it_was_checked_is_written_to_all_the_same() {
    let world = World::start().await;
    let destination = world.destination("test").await;
    forget_everything(&world.s3.faults);
    exports(&world, destination).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs chDB: make test"]
async fn the_check_needs_no_right_but_put_object_and_leaves_no_upload() {
    let world = World::start().await;
    for operation in
        [Operation::AbortMultipartUpload, Operation::ListMultipartUploads, Operation::DeleteObject]
    {
        world.s3.faults.refuse(operation, "", S3ErrorCode::AccessDenied, u64::MAX);
    }
    world.destination("test").await;
    assert_eq!(world.s3.open_uploads(), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs chDB: make test"]
async fn a_bucket_in_the_endpoints_path_and_a_prefix_as_long_as_may_be_are_exported_to() {
    let world = World::start().await;
    let prefix =
        [&["p".repeat(200), "q".repeat(200), "r".repeat(200)].join("/"), "/", &"s".repeat(188)]
            .concat();
    assert_eq!(prefix.len(), 791);
    let url = format!("{}/exports", world.s3.url());
    let destination =
        world.destination_with(&prefix, |config| config.endpoint_url = url).await.unwrap();
    assert_eq!(destination.config.unwrap().endpoint_url, world.s3.url());
    exports(&world, destination.id).await;
    let refused = world.destination_with(&format!("{prefix}s"), |_| {}).await.unwrap_err();
    assert!(refused.message().contains("at most 791 bytes"), "{}", refused.message());
}
