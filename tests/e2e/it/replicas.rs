//! Several control planes over one PostgreSQL: it is one product, whichever of them is asked.

use tracelift_proto::v1::{CancelExportRequest, ExportStatus, GetExportRequest};
use tracelift_test_support::{
    s3::Operation,
    world::{Options, SOURCE_BUCKET, World},
};

use crate::{all, ids, offloaded};

const ROWS: u128 = 300;

/// Two control planes, and an exporter of many files that is connected to the second one.
async fn world() -> (World, tracelift_exporter::Settings) {
    let world = World::with(Options { postgres: true, replicas: 2, ..Options::default() }).await;
    (1..=ROWS).for_each(|n| {
        world.s3.put(
            SOURCE_BUCKET,
            &format!("blobs/{n}"),
            format!("\"{}\"", "x".repeat(100)).as_bytes(),
        )
    });
    world.insert(&offloaded(ROWS)).await;
    let mut settings = world.exporter_settings("exporter-1");
    settings.control_plane = world.grpc_of(1);
    settings.limits.batch_bytes = 10_000;
    settings.limits.row_group_bytes = 1;
    settings.limits.file_bytes = 1;
    settings.limits.part_bytes = 2000;
    settings.blobs.blob_concurrency = 4;
    world.s3.faults.allow_small_parts();
    (world, settings)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs chDB and PostgreSQL: make test"]
async fn an_export_given_to_one_replica_is_done_through_the_other_though_the_database_goes_away() {
    let (world, settings) = world().await;
    let gate = world.s3.faults.hold(Operation::UploadPart, "-00002.parquet");
    let _exporter = world.start_exporter(&settings);
    let export = world.export("2024-01-01", "2024-01-02").await;
    gate.reached().await;

    let postgres = world.postgres.clone().unwrap();
    tokio::task::spawn_blocking(move || {
        postgres.kill();
        postgres.start();
    })
    .await
    .unwrap();
    gate.open();

    let ended = world.ended(&export).await;
    assert_eq!(ended.status(), ExportStatus::Completed, "{}", ended.error);
    assert_eq!(ids(&world.rows(&export)), all(ROWS));
    assert_eq!(world.s3.open_uploads(), []);
    let seen = world
        .exports_at(1)
        .get_export(GetExportRequest { id: export })
        .await
        .unwrap()
        .into_inner()
        .export
        .unwrap();
    assert_eq!(
        (seen.status(), seen.progress.unwrap().rows_written),
        (ExportStatus::Completed, u64::try_from(ROWS).unwrap())
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs chDB and PostgreSQL: make test"]
async fn a_cancel_given_to_one_replica_stops_the_exporter_at_the_other() {
    let (world, settings) = world().await;
    let gate = world.s3.faults.hold(Operation::UploadPart, "-00001.parquet");
    let exporter = world.start_exporter(&settings);
    let export = world.export("2024-01-01", "2024-01-02").await;
    gate.reached().await;
    let request = CancelExportRequest { id: export.clone() };
    let cancelled =
        world.exports_at(0).cancel_export(request).await.unwrap().into_inner().export.unwrap();
    assert_eq!(cancelled.status(), ExportStatus::Cancelled);
    exporter.stop().await;
    assert_eq!(world.s3.open_uploads(), []);
    world.clickhouse.ended("tracelift-").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs chDB and PostgreSQL: make test"]
async fn a_rolling_restart_of_everything_costs_no_attempt() {
    let (mut world, first) = world().await;
    let second = tracelift_exporter::Settings {
        exporter_id: Some("exporter-2".into()),
        control_plane: world.grpc_of(0),
        ..first.clone()
    };
    let mut exporters = Vec::new();
    for settings in [&first, &second] {
        exporters.push((world.start_exporter(settings), settings.clone()));
    }
    let mut exports = Vec::new();
    for _ in 0..4 {
        exports.push(world.export("2024-01-01", "2024-01-02").await);
    }
    for turn in 0..2 {
        let (running, settings) = exporters.remove(0);
        running.stop().await;
        exporters.push((world.start_exporter(&settings), settings));
        world.stop_replica(turn).await;
        world.restart_replica(turn).await;
    }
    for export in exports {
        let ended = world.ended(&export).await;
        assert_eq!(ended.status(), ExportStatus::Completed, "{}", ended.error);
        assert_eq!(ids(&world.rows(&export)), all(ROWS));
        let run = world.runs(&export).await.remove(0);
        assert_eq!((run.retry_number, run.errors.len()), (0, 0), "{run:?}");
    }
    assert_eq!(world.s3.open_uploads(), []);
}
