//! Following an export, with what a broken connection, Ctrl-C and each end make of it.

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tonic::Status;
use tracelift_proto::v1::{
    ExportStatus::{self, Cancelled, Completed, Failed, Running, TimedOut},
    WatchExportResponse,
};

use crate::talk::{ID, change, export, shown, world};

#[tokio::test]
async fn the_exit_code_says_how_it_ended() {
    let world = world().await;
    for (status, code) in [(Completed, 0), (Failed, 1), (TimedOut, 1), (Cancelled, 3)] {
        world.fake.plan_watch(vec![change(Running, 10), change(status, 100)], false);
        let output = world.run(&["export", "watch", ID]).await;
        assert_eq!(output.status.code(), Some(code), "{}", shown(&output));
    }
}

#[tokio::test]
async fn lines_come_when_the_status_changes() {
    let world = world().await;
    let mut failed = export(Failed, 0);
    failed.error = "Access denied".into();
    let failed = Ok(WatchExportResponse { export: Some(failed) });
    world
        .fake
        .plan_watch(vec![change(ExportStatus::Created, 0), change(Running, 0), failed], false);
    let args = [
        "export",
        "create",
        "--destination",
        ID,
        "--project",
        ID,
        "--start",
        "2024-01-01",
        "--end",
        "2024-01-02",
        "--watch",
    ];
    insta::assert_snapshot!(shown(&world.run(&args).await));
}

#[tokio::test]
async fn scripts_get_every_change_on_a_line() {
    let world = world().await;
    world.fake.plan_watch(
        (0..=10)
            .map(|step| change(if step == 10 { Completed } else { Running }, step * 10))
            .collect(),
        false,
    );
    let output = world.run(&["export", "watch", ID, "--json"]).await;
    let lines: Vec<serde_json::Value> = String::from_utf8_lossy(&output.stdout)
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let rows: Vec<_> =
        lines.iter().map(|line| line["progress"]["rows_written"].as_u64().unwrap()).collect();
    assert_eq!(rows, (0..=10).map(|step| step * 10).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_broken_stream_is_opened_again() {
    let world = world().await;
    world.fake.plan_watch(vec![change(Running, 10), Err(Status::unavailable("going away"))], false);
    world.fake.plan_watch(vec![], false);
    world.fake.plan_watch(vec![change(Running, 20), change(Completed, 100)], false);
    let output = world.run(&["export", "watch", ID]).await;
    assert_eq!(output.status.code(), Some(0), "{}", shown(&output));
    assert_eq!(world.fake.asked().len(), 3);
}

#[tokio::test]
async fn an_export_that_is_not_there_is_not_waited_for() {
    let world = world().await;
    world.fake.refuse(Status::not_found("No such export"));
    let output = world.run(&["export", "watch", ID]).await;
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(world.fake.asked().len(), 1);
}

#[tokio::test]
async fn ctrl_c_stops_watching_and_says_that_the_export_goes_on() {
    let world = world().await;
    world.fake.plan_watch(vec![change(Running, 10)], true);
    let mut child = world.command(&["export", "watch", ID]).spawn().unwrap();
    let mut first = String::new();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    out.read_line(&mut first).await.unwrap();
    assert!(first.starts_with("Running"), "{first}");
    let process = child.id().unwrap().to_string();
    assert!(
        tokio::process::Command::new("kill")
            .args(["-INT", &process])
            .status()
            .await
            .unwrap()
            .success()
    );
    let mut told = String::new();
    child.stderr.take().unwrap().read_to_string(&mut told).await.unwrap();
    assert_eq!(child.wait().await.unwrap().code(), Some(130));
    insta::assert_snapshot!(told);
}
