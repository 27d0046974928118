//! What becomes of a run that does not get on, of a row that cannot be read, and of rows that come
//! late.

use serde_json::json;
use tokio::net::TcpListener;
use tracelift_proto::v1::{ExportStatus, RunStatus};
use tracelift_test_support::{
    s3::Operation,
    world::{Options, World},
};

use crate::{all, id, ids};

const DAY: (&str, &str) = ("2024-01-01", "2024-01-02");

fn row(n: u128) -> serde_json::Value {
    json!({"id": id(n), "start_time": format!("2024-01-01 12:00:{n:02}")})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs chDB: make test"]
async fn a_run_whose_clickhouse_says_nothing_is_taken_from_its_living_exporter() {
    let world = World::with(Options { progress_seconds: 3, ..Options::default() }).await;
    world.insert(&[row(1), row(2)]).await;
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap(); // connections are taken by the system and never answered
    let mut settings = world.exporter_settings("exporter-1");
    settings.clickhouse.clickhouse_url = format!("http://{}", silent.local_addr().unwrap());
    let stuck = world.start_exporter(&settings);
    let export = world.export(DAY.0, DAY.1).await;
    let run = loop {
        let run = world.runs(&export).await.remove(0);
        if !run.errors.is_empty() {
            break run;
        }
    };
    assert_eq!(
        run.errors,
        [
            "an exporter was lost, nobody needs to act (lease): exporter exporter-1 did not get on for 3 seconds"
        ]
    );
    stuck.stop().await; // its job has ended: there is nothing to wait for
    let _good = world.start_exporter(&world.exporter_settings("exporter-2"));
    assert_eq!(world.ended(&export).await.status(), ExportStatus::Completed);
    assert_eq!(ids(&world.rows(&export)), all(2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs chDB: make test"]
async fn a_row_that_clickhouse_cannot_read_is_asked_for_alone_and_named() {
    let world = World::start().await;
    world.insert(&[row(1), row(2), row(3)]).await;
    let poison = id(1);
    world
        .clickhouse
        .execute(&format!(
            "CREATE TABLE poisoned AS runs;\n
             ALTER TABLE poisoned DROP COLUMN extra;\n
             ALTER TABLE poisoned ADD COLUMN extra String ALIAS toString(throwIf(id = toUUID('{poison}'), 'a stone in the shoe'));\n
             INSERT INTO poisoned SELECT * EXCEPT extra FROM runs;\n"
        ))
        .await;
    let mut settings = world.exporter_settings("exporter-1");
    settings.clickhouse.runs_table = "poisoned".to_owned();
    let _exporter = world.start_exporter(&settings);
    let export = world.export(DAY.0, DAY.1).await;
    let ended = world.ended(&export).await;
    assert_eq!(ended.status(), ExportStatus::Failed);
    let run = world.runs(&export).await.remove(0);
    assert_eq!((run.status(), run.retry_number), (RunStatus::Failed, 5));
    assert!(
        run.errors[..5].iter().all(|error| error.starts_with("the trace store broke off")),
        "{:?}",
        run.errors
    );
    let last = &run.errors[5];
    assert!(
        last.starts_with(
            "the trace store cannot read one row, its operator must mend it (read): the row "
        ),
        "{last}"
    );
    assert!(last.contains(&poison) && last.contains("a stone in the shoe"), "{last}");
    assert!(ended.error.ends_with(last), "{}", ended.error);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs chDB: make test"]
async fn rows_that_arrive_late_are_seen_after_the_export() {
    let world = World::start().await;
    world.insert(&[row(1), row(2), row(3)]).await;
    let gate = world.s3.faults.hold(Operation::PutObject, "/_SUCCESS");
    let exporter = world.exporter();
    let export = world.export(DAY.0, DAY.1).await;
    gate.reached().await;
    world.insert(&[row(4), row(3)]).await; // one is new, one was there before
    gate.open();
    assert_eq!(world.ended(&export).await.status(), ExportStatus::Completed);
    let found = world.reconciled(&export).await;
    assert_eq!((found.rows_exported, found.rows_in_source), (3, 4));
    exporter.stop().await;
}
