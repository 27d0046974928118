//! What becomes of an export when ClickHouse, the blob store or the bucket fail.

use s3s::S3ErrorCode;
use tracelift_proto::v1::{
    Credentials, ExportStatus, GetExportRequest, RunStatus, UpdateDestinationCredentialsRequest,
};
use tracelift_test_support::{
    s3::{ACCESS_KEY_ID, Operation, SECRET_ACCESS_KEY},
    world::{Running, SOURCE_BUCKET, World},
};

use crate::{all, ids, offloaded};

const DAY: (&str, &str) = ("2024-01-01", "2024-01-02");

/// A world with rows 1 to n and their objects.
async fn world_with(n: u128) -> World {
    let world = World::start().await;
    (1..=n).for_each(|n| world.s3.put(SOURCE_BUCKET, &format!("blobs/{n}"), b"{}"));
    world.insert(&offloaded(n)).await;
    world
}

async fn completes_with_each_row_once(world: &World, export: &str, n: u128) {
    let ended = world.ended(export).await;
    assert_eq!(ended.status(), ExportStatus::Completed, "{}", ended.error);
    let rows = world.rows(export);
    assert_eq!(ids(&rows), all(n));
    assert!(rows.iter().all(|row| row["inputs"] == "{}"));
    assert_eq!(world.s3.open_uploads(), []);
    assert!(world.succeeded(export));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs chDB: make test"]
async fn a_blob_store_that_asks_to_slow_down_is_asked_again() {
    let world = world_with(30).await;
    world.s3.faults.refuse(Operation::GetObject, "blobs/1", S3ErrorCode::SlowDown, 4);
    world.s3.faults.cut("blobs/20", 1);
    let _exporter = world.exporter();
    let export = world.export(DAY.0, DAY.1).await;
    completes_with_each_row_once(&world, &export, 30).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs chDB: make test"]
async fn a_run_whose_object_fails_for_long_is_tried_again_from_its_cursor() {
    let world = world_with(30).await;
    world.s3.faults.refuse(Operation::GetObject, "blobs/30", S3ErrorCode::InternalError, 5);
    let _exporter = world.exporter();
    let export = world.export(DAY.0, DAY.1).await;
    completes_with_each_row_once(&world, &export, 30).await;
    let run = &world.runs(&export).await[0];
    assert_eq!(run.retry_number, 1);
    assert!(run.errors[0].starts_with("the trace store did not answer"), "{:?}", run.errors);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs chDB: make test"]
async fn clickhouse_away_at_the_start_delays_and_loses_nothing() {
    let mut world = world_with(30).await;
    world.clickhouse.kill();
    let _exporter = world.exporter();
    let export = world.export(DAY.0, DAY.1).await;
    world.watched(&export, |export| export.status() == ExportStatus::Running).await;
    world.restart_clickhouse().await;
    completes_with_each_row_once(&world, &export, 30).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs chDB: make test"]
async fn clickhouse_gone_in_the_middle_is_never_taken_for_the_end() {
    let mut world = world_with(3000).await;
    let gate = world.s3.faults.hold(Operation::GetObject, "blobs/7");
    let _exporter = world.exporter();
    let export = world.export(DAY.0, DAY.1).await;
    gate.reached().await;
    world.clickhouse.kill();
    gate.open();
    world.restart_clickhouse().await;
    completes_with_each_row_once(&world, &export, 3000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs chDB: make test"]
async fn a_bucket_that_refuses_fails_the_run_at_once_with_the_fix_named() {
    let world = world_with(3).await;
    let export = world.export(DAY.0, DAY.1).await;
    world.s3.faults.refuse(Operation::PutObject, "", S3ErrorCode::AccessDenied, u64::MAX);
    let _exporter = world.exporter();
    let ended = world.ended(&export).await;
    assert_eq!(ended.status(), ExportStatus::Failed);
    let run = &world.runs(&export).await[0];
    assert_eq!((run.status(), run.retry_number), (RunStatus::Failed, 0));
    insta::assert_snapshot!(run.errors[0]);
    assert!(ended.error.ends_with(&run.errors[0]), "{}", ended.error);
    assert_eq!(world.s3.open_uploads(), []);
}

/// An exporter whose files have several parts.
fn in_parts(world: &World) -> Running {
    let mut settings = world.exporter_settings("exporter-1");
    settings.limits.part_bytes = 1000;
    world.s3.faults.allow_small_parts();
    world.start_exporter(&settings)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs chDB: make test"]
async fn a_store_that_gives_uploads_no_usable_id_fails_the_run_at_once_with_the_fix_named() {
    let world = world_with(30).await;
    let export = world.export(DAY.0, DAY.1).await;
    world.s3.faults.misname_uploads("x".repeat(1 << 20));
    let _exporter = in_parts(&world);
    assert_eq!(world.ended(&export).await.status(), ExportStatus::Failed);
    let run = &world.runs(&export).await[0];
    assert_eq!((run.status(), run.retry_number), (RunStatus::Failed, 0));
    let advice = "give the address of an S3-compatible store, or omit endpoint_url for AWS";
    let answered = "CreateMultipartUpload answered without an upload id of at most 4096 bytes";
    assert_eq!(
        run.errors,
        [format!("the destination must be mended by its owner (upload): {answered}; {advice}")]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs chDB: make test"]
async fn a_bucket_that_answers_503_is_tried_again_and_no_attempt_is_counted() {
    let world = world_with(30).await;
    let export = world.export(DAY.0, DAY.1).await;
    for operation in [
        Operation::CreateMultipartUpload,
        Operation::UploadPart,
        Operation::CompleteMultipartUpload,
        Operation::PutObject,
    ] {
        world.s3.faults.refuse(operation, "", S3ErrorCode::SlowDown, 5);
    }
    let _exporter = in_parts(&world);
    completes_with_each_row_once(&world, &export, 30).await;
    assert_eq!(world.runs(&export).await[0].retry_number, 0);
}

/// Exports 30 rows in parts of one file, while the bucket refuses some writes; how many attempts
/// were lost.
async fn retries_in_parts(faults: &[(Operation, S3ErrorCode, u64)]) -> u32 {
    let world = world_with(30).await;
    let export = world.export(DAY.0, DAY.1).await;
    for (operation, code, times) in faults {
        world.s3.faults.refuse(*operation, ".parquet", code.clone(), *times);
    }
    let _exporter = in_parts(&world);
    completes_with_each_row_once(&world, &export, 30).await;
    world.runs(&export).await[0].retry_number
}

/// The same with a file that is small enough for one write.
async fn retries_in_one_write(code: S3ErrorCode) -> u32 {
    let world = world_with(3).await;
    let export = world.export(DAY.0, DAY.1).await;
    world.s3.faults.refuse(Operation::PutObject, ".parquet", code.clone(), 1);
    world.s3.faults.refuse(Operation::PutObject, "_manifests", code, 2);
    let _exporter = world.exporter();
    completes_with_each_row_once(&world, &export, 3).await;
    world.runs(&export).await[0].retry_number
}

fn code(name: &'static str) -> S3ErrorCode {
    S3ErrorCode::from_bytes(name.as_bytes()).expect("a name")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs chDB: make test"]
async fn what_arrived_damaged_is_sent_again_within_the_attempt() {
    let every = [
        (Operation::UploadPart, code("BadDigest"), 2),
        (Operation::UploadPart, code("XAmzContentSHA256Mismatch"), 1),
        (Operation::CreateMultipartUpload, code("IncompleteBody"), 1),
        (Operation::CompleteMultipartUpload, code("InvalidPart"), 1),
    ];
    assert_eq!(retries_in_parts(&every).await, 0);
    assert_eq!(retries_in_one_write(code("IncompleteBody")).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs chDB: make test"]
async fn a_file_of_which_the_store_has_lost_a_part_is_written_anew() {
    assert_eq!(
        retries_in_parts(&[(Operation::CompleteMultipartUpload, code("InvalidPart"), 4)]).await,
        1
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs chDB: make test"]
async fn a_bucket_that_denies_what_it_took_before_is_asked_again() {
    let every = [
        (Operation::UploadPart, code("AccessDenied"), 1),
        (Operation::UploadPart, code("InvalidAccessKeyId"), 1),
        (Operation::CompleteMultipartUpload, code("SignatureDoesNotMatch"), 1),
    ];
    assert_eq!(retries_in_parts(&every).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs chDB: make test"]
async fn manifests_are_asked_for_again_that_a_bucket_denies_after_it_took_the_files() {
    let world = world_with(3).await;
    let export = world.export(DAY.0, DAY.1).await;
    for name in ["/run_id=", "/manifest.json", "/_SUCCESS"] {
        world.s3.faults.refuse(Operation::PutObject, name, S3ErrorCode::AccessDenied, 1);
    }
    let _exporter = world.exporter();
    completes_with_each_row_once(&world, &export, 3).await;
    assert_eq!(world.runs(&export).await[0].retry_number, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs chDB: make test"]
async fn a_lost_answer_to_complete_is_resolved_by_looking() {
    let world = world_with(30).await;
    let export = world.export(DAY.0, DAY.1).await;
    world.s3.faults.lose_answer(Operation::CompleteMultipartUpload, "", 1);
    let _exporter = in_parts(&world);
    completes_with_each_row_once(&world, &export, 30).await;
    assert_eq!(world.runs(&export).await[0].retry_number, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs chDB: make test"]
async fn a_lost_answer_to_a_single_put_is_resolved_by_looking() {
    let world = world_with(3).await;
    let export = world.export(DAY.0, DAY.1).await;
    world.s3.faults.lose_answer(Operation::PutObject, ".parquet", 1);
    let _exporter = world.exporter();
    completes_with_each_row_once(&world, &export, 3).await;
    assert_eq!(world.runs(&export).await[0].retry_number, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs chDB: make test"]
async fn an_upload_that_was_opened_although_nobody_said_so_is_found_and_aborted() {
    let world = world_with(30).await;
    let export = world.export(DAY.0, DAY.1).await;
    world.s3.faults.lose_answer(Operation::CreateMultipartUpload, ".parquet", 2);
    let _exporter = in_parts(&world);
    completes_with_each_row_once(&world, &export, 30).await;
    assert_eq!(world.runs(&export).await[0].retry_number, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs chDB: make test"]
async fn a_check_whose_answers_are_lost_leaves_no_upload() {
    let world = World::start().await;
    world.s3.faults.lose_answer(Operation::CreateMultipartUpload, "/tmp/", 1);
    world.destination("one").await;
    world.s3.faults.refuse(
        Operation::AbortMultipartUpload,
        "/tmp/",
        S3ErrorCode::MethodNotAllowed,
        1,
    );
    world.destination("two").await;
    assert_eq!(world.s3.open_uploads(), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs chDB: make test"]
async fn keys_that_expire_are_asked_for_anew_within_the_run() {
    let world = world_with(30).await;
    let export = world.export(DAY.0, DAY.1).await;
    let destination = world
        .exports()
        .get_export(GetExportRequest { id: export.clone() })
        .await
        .unwrap()
        .into_inner();
    let destination = destination.export.unwrap().spec.unwrap().destination_id;
    let gate = world.s3.faults.hold(Operation::UploadPart, ".parquet");
    let _exporter = in_parts(&world);
    gate.reached().await;
    world.s3.add_key("tracelift-dev-other-key");
    let credentials = Credentials {
        access_key_id: "tracelift-dev-other-key".to_owned(),
        secret_access_key: SECRET_ACCESS_KEY.to_owned(),
        session_token: String::new(),
    };
    let rotated = UpdateDestinationCredentialsRequest {
        id: destination,
        credentials: Some(credentials),
        ..Default::default()
    };
    world.destinations().update_destination_credentials(rotated).await.unwrap();
    world.s3.faults.expire(ACCESS_KEY_ID, ".parquet");
    gate.open();
    completes_with_each_row_once(&world, &export, 30).await;
    assert_eq!(world.runs(&export).await[0].retry_number, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs chDB: make test"]
async fn keys_that_expire_and_are_not_renewed_fail_the_run_with_the_fix_named() {
    let world = world_with(3).await;
    let export = world.export(DAY.0, DAY.1).await;
    world.s3.faults.expire(ACCESS_KEY_ID, ".parquet");
    let _exporter = world.exporter();
    let ended = world.ended(&export).await;
    assert_eq!(ended.status(), ExportStatus::Failed);
    insta::assert_snapshot!(world.runs(&export).await[0].errors[0]);
}
