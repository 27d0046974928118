//! What becomes of an export when the line to its bucket is slow.

use std::time::Duration;

use serde_json::json;
use tracelift_exporter::Patience;
use tracelift_proto::v1::{Compression, ExportStatus};
use tracelift_tests::{slow_line::SlowLine, world::World};

use crate::{all, id, ids};

/// A line on which each part takes longer than the silence that is waited for, and the file many times as long.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_line_takes_its_time_and_costs_no_attempt() {
    const ROWS: u128 = 12;
    let world = World::start().await;
    let text = "x".repeat(100_000);
    let row = |n: u128| json!({"id": id(n), "start_time": "2024-01-01 12:00:00", "inputs": format!("{{\"n\":\"{n}{text}\"}}")});
    world.insert(&(1..=ROWS).map(row).collect::<Vec<_>>()).await;
    world.s3.faults.allow_small_parts();
    let line = SlowLine::to(world.s3.address, 200_000).await;
    let destination = world.destination_with("test", |config| config.endpoint_url.clone_from(&line.url)).await.unwrap();
    let mut settings = world.exporter_settings("exporter-1");
    settings.limits.part_bytes = 300_000;
    settings.limits.patience = Patience { silence: Duration::from_secs(1), slowest: 100_000, slow_part: Duration::from_secs(1) };
    let _exporter = world.start_exporter(&settings);
    let export = world
        .export_with("2024-01-01", "2024-01-02", |spec| {
            spec.destination_id = destination.id;
            spec.compression = Compression::None.into();
        })
        .await;
    let ended = world.ended(&export).await;
    assert_eq!(ended.status(), ExportStatus::Completed, "{}", ended.error);
    assert_eq!(ids(&world.rows(&export)), all(ROWS));
    let run = &world.runs(&export).await[0];
    assert_eq!((run.retry_number, &run.errors), (0, &Vec::new()));
    let bytes = run.result.as_ref().unwrap().bytes_written;
    assert!(bytes > 1_200_000, "{bytes} bytes are several parts");
    assert_eq!(world.s3.open_uploads(), []);
}
