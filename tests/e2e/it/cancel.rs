//! Cancel reaches a working exporter: its query ends, its uploads are aborted, completed files stay
//! and stay listed.

use tracelift_proto::v1::{CancelExportRequest, ExportStatus, RunStatus};
use tracelift_test_support::{
    s3::Operation,
    world::{DESTINATION_BUCKET, SOURCE_BUCKET, World},
};

use crate::offloaded;

async fn cancel(world: &World, export: &str) -> ExportStatus {
    let answer = world
        .exports()
        .cancel_export(CancelExportRequest { id: export.to_owned() })
        .await
        .unwrap()
        .into_inner();
    answer.export.unwrap().status()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs chDB: make test"]
async fn an_export_that_nobody_works_on_is_cancelled_at_once() {
    let world = World::start().await;
    let export = world.export("2024-01-01", "2024-01-03").await;
    assert_eq!(cancel(&world, &export).await, ExportStatus::Cancelled);
    assert_eq!(cancel(&world, &export).await, ExportStatus::Cancelled);
    assert!(world.runs(&export).await.iter().all(|run| run.status() == RunStatus::Cancelled));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs chDB: make test"]
async fn a_working_exporter_ends_its_query_and_its_uploads_and_keeps_completed_files() {
    let world = World::start().await;
    (1..=600).for_each(|n| {
        world.s3.put(
            SOURCE_BUCKET,
            &format!("blobs/{n}"),
            format!("\"{}\"", "x".repeat(n)).as_bytes(),
        )
    });
    world.insert(&offloaded(600)).await;
    let mut settings = world.exporter_settings("exporter-1");
    settings.limits.batch_bytes = 20_000;
    settings.limits.row_group_bytes = 1;
    settings.limits.file_bytes = 1;
    settings.limits.part_bytes = 2000;
    world.s3.faults.allow_small_parts();
    settings.blobs.blob_concurrency = 4;
    let gate = world.s3.faults.hold(Operation::UploadPart, "-00001.parquet");
    let exporter = world.start_exporter(&settings);
    let export = world.export("2024-01-01", "2024-01-02").await;
    gate.reached().await;

    assert_eq!(cancel(&world, &export).await, ExportStatus::Cancelled);
    exporter.stop().await;

    let run = &world.runs(&export).await[0];
    let files = &run.result.as_ref().unwrap().exported_files;
    assert_eq!((run.status(), files.len()), (RunStatus::Cancelled, 1));
    let data: Vec<_> = world
        .s3
        .keys(DESTINATION_BUCKET)
        .into_iter()
        .filter(|key| key.ends_with(".parquet"))
        .collect();
    assert_eq!(data, [files[0].strip_prefix("exports/").unwrap()]);
    assert_eq!(world.s3.open_uploads(), []);
    world.clickhouse.ended("tracelift-").await;
    assert!(!world.succeeded(&export));
}
