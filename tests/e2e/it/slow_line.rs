//! What becomes of an export when the line to its bucket is slow.

use std::time::Duration;

use serde_json::json;
use tracelift_exporter::{Limits, Patience};
use tracelift_proto::v1::{Compression, ExportStatus};
use tracelift_test_support::{slow_line::SlowLine, world::World};

use crate::{all, id, ids};

/// Exports rows of 100 kB each over a line of that many bytes a second and connection: they all
/// arrive, and no attempt is lost.
async fn passes(rows: u128, bytes_a_second: u32, change: impl FnOnce(&mut Limits)) {
    let world = World::start().await;
    let text = "x".repeat(100_000);
    let row = |n: u128| json!({"id": id(n), "start_time": "2024-01-01 12:00:00", "inputs": format!("{{\"n\":\"{n}{text}\"}}")});
    world.insert(&(1..=rows).map(row).collect::<Vec<_>>()).await;
    world.s3.faults.allow_small_parts();
    let line = SlowLine::to(world.s3.address, bytes_a_second).await;
    let destination = world
        .destination_with("test", |config| config.endpoint_url.clone_from(&line.url))
        .await
        .unwrap();
    let mut settings = world.exporter_settings("exporter-1");
    change(&mut settings.limits);
    let _exporter = world.start_exporter(&settings);
    let export = world
        .export_with("2024-01-01", "2024-01-02", |spec| {
            spec.destination_id = destination.id;
            spec.compression = Compression::None.into();
        })
        .await;
    let ended = world.ended(&export).await;
    assert_eq!(ended.status(), ExportStatus::Completed, "{}", ended.error);
    assert_eq!(ids(&world.rows(&export)), all(rows));
    let run = &world.runs(&export).await[0];
    assert_eq!((run.retry_number, &run.errors), (0, &Vec::new()));
    let bytes = run.result.as_ref().unwrap().bytes_written;
    assert!(u128::from(bytes) > rows * 100_000, "{bytes} bytes: nothing was packed");
    assert_eq!(world.s3.open_uploads(), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs chDB: make test"]
async fn a_slow_line_takes_its_time_and_costs_no_attempt() {
    passes(12, 200_000, |limits| {
        limits.part_bytes = 300_000;
        // Each part takes longer than the silence that is waited for, and the file many times as
        // long.
        let second = Duration::from_secs(1);
        limits.patience = Patience { silence: second, slowest: 100_000, slow_part: second };
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes six minutes, as it should"]
async fn twenty_megabytes_pass_at_sixty_kilobytes_a_second() {
    passes(200, 60_000, |_| {}).await;
}
