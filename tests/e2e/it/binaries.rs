//! The real exporter as a process, killed.

use std::{
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use tracelift_proto::v1::ExportStatus;
use tracelift_test_support::{
    s3::{ACCESS_KEY_ID, Operation, SECRET_ACCESS_KEY},
    world::{FLEET_TOKEN, SOURCE_BUCKET, World},
};

use crate::{all, ids, offloaded};

/// A program of the workspace, as `make build` has built it.
fn program(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let found = test.parent().and_then(|deps| deps.parent()).unwrap().join(name);
    assert!(found.exists(), "{} is missing: run `make build` first", found.display());
    found
}

pub(crate) fn exporter(world: &World) -> Child {
    let mut command = Command::new(program("tracelift-exporter"));
    command
        .env("TRACELIFT_CONTROL_PLANE", &world.grpc)
        .env("TRACELIFT_EXPORTER_ID", "exporter-1")
        .env("TRACELIFT_FLEET_TOKEN", FLEET_TOKEN)
        .env("TRACELIFT_ENDPOINTS_ALLOW", "127.0.0.1")
        .env("TRACELIFT_FILE_BYTES", "1")
        .env("TRACELIFT_ROW_GROUP_BYTES", "1")
        .env("TRACELIFT_BATCH_BYTES", "10000")
        .env("CLICKHOUSE_URL", &world.clickhouse.url)
        .env("BLOB_ENDPOINT", world.s3.url())
        .env("BLOB_BUCKET", SOURCE_BUCKET)
        .env("BLOB_ACCESS_KEY_ID", ACCESS_KEY_ID)
        .env("BLOB_SECRET_ACCESS_KEY", SECRET_ACCESS_KEY)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command.spawn().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs chDB: make test"]
async fn an_export_completes_with_each_row_once_after_its_exporter_was_killed() {
    let world = World::start().await;
    for n in 1..=600 {
        world.s3.put(
            SOURCE_BUCKET,
            &format!("blobs/{n}"),
            format!("\"{}\"", "x".repeat(100)).as_bytes(),
        );
    }
    world.insert(&offloaded(600)).await;
    let gate = world.s3.faults.hold(Operation::PutObject, "-00002.parquet");
    let mut first = exporter(&world);
    let export = world.export("2024-01-01", "2024-01-02").await;
    gate.reached().await;
    first.kill().unwrap();
    first.wait().unwrap();
    world.s3.faults.clear();
    gate.open();
    let mut second = exporter(&world);
    let ended = world.ended(&export).await;
    assert_eq!(ended.status(), ExportStatus::Completed, "{}", ended.error);
    assert_eq!(ids(&world.rows(&export)), all(600));
    assert_eq!(world.s3.open_uploads(), []);
    second.kill().unwrap();
    second.wait().unwrap();
}
