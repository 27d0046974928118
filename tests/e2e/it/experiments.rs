//! Exports of all experiments: every project with a reference dataset, and no other, each below its
//! own `session_id=…`.

use serde_json::{Value, json};
use tracelift_exporter::Settings;
use tracelift_proto::v1::{self, ExportStatus};
use tracelift_test_support::{
    dataset::{PROJECT_ID, TENANT_ID},
    wire::{Fate, Gate, Wire},
    world::{DESTINATION_BUCKET, World},
};

use crate::{id, ids};

/// A project of its own, as far from others' ids as rows are few.
fn project(n: u128) -> String {
    id(0xe000 + n)
}

/// Row n of a project, at noon of a day of January.
fn row(n: u128, project: &str, day: u32) -> Value {
    json!({"id": id(n), "session_id": project, "start_time": format!("2024-01-{day:02} 12:00:00")})
}

fn with(mut row: Value, more: &Value) -> Value {
    for (name, value) in more.as_object().unwrap() {
        row[name] = value.clone();
    }
    row
}

fn in_dataset(row: Value) -> Value {
    with(row, &json!({"reference_dataset_id": id(0xda7a)}))
}

/// Two experiments with rows in January, and everything that is none.
async fn world() -> World {
    let world = World::start().await;
    let [first, second, outside, withdrawn, plain] = [1, 2, 3, 4, 5].map(project);
    let rows = [
        in_dataset(row(1, &first, 1)),
        row(2, &first, 2), /* a row of an experiment is exported, whether or not it is of the
                            * dataset itself */
        row(3, &first, 4),
        in_dataset(row(4, &second, 10)),
        // Its dataset is that of a row of another month.
        in_dataset(with(row(5, &second, 1), &json!({"start_time": "2023-06-01 12:00:00"}))),
        in_dataset(with(row(6, &outside, 1), &json!({"start_time": "2024-02-01 00:00:00"}))),
        row(7, &withdrawn, 1),
        in_dataset(row(8, &withdrawn, 1)),
        row(9, &plain, 1),
        row(10, PROJECT_ID, 1),
        in_dataset(with(row(11, &project(6), 1), &json!({"tenant_id": id(0xbad)}))),
    ];
    world.insert(&rows).await;
    // A newer version of the only row that made an experiment of its project takes it back.
    let later = json!({"modified_at": "2024-03-01 00:00:00", "is_deleted": 1});
    world.insert(&[with(in_dataset(row(8, &withdrawn, 1)), &later)]).await;
    world
}

async fn export(world: &World) -> String {
    let all =
        |spec: &mut v1::ExportSpec| (spec.session_id, spec.all_experiments) = (String::new(), true);
    world.export_with("2024-01-01", "2024-02-01", all).await
}

/// The rows of both experiments are there once, below the path of their project.
async fn both_are_there(world: &World, export: &str) {
    let ended = world.ended(export).await;
    assert_eq!(ended.status(), ExportStatus::Completed, "{}", ended.error);
    assert_eq!(ids(&world.rows(export)), [1, 2, 3, 4].map(id));
    let runs = world.runs(export).await;
    let days: Vec<_> = runs
        .iter()
        .map(|run| (run.session_id.clone(), run.start_time.unwrap().seconds / 86_400 - 19_723))
        .collect();
    let [first, second] = [1, 2].map(project);
    assert_eq!(
        days,
        [
            (first.clone(), 0),
            (first.clone(), 1),
            (first.clone(), 2),
            (first.clone(), 3),
            (second.clone(), 9)
        ]
    );
    let mut listed = Vec::new();
    for run in &runs {
        let result = run.result.clone().unwrap();
        let path = format!(
            "exports/test/export_id={export}/tenant_id={TENANT_ID}/session_id={}/runs",
            run.session_id
        );
        assert!(
            result
                .exported_files
                .iter()
                .all(|file| file.starts_with(&format!("{path}/year=2024/"))),
            "{result:?}"
        );
        assert_eq!(result.export_path, path);
        let manifest = world.manifest(export, Some(&run.id));
        assert_eq!(
            (&manifest["session_id"], &manifest["totals"]["rows"]),
            (&json!(run.session_id), &json!(result.rows_written))
        );
        listed.extend(
            result.exported_files.iter().map(|file| file.trim_start_matches("exports/").to_owned()),
        );
    }
    listed.sort();
    let tree = format!("test/export_id={export}/");
    let there: Vec<_> = world
        .s3
        .keys(DESTINATION_BUCKET)
        .into_iter()
        .filter(|key| key.starts_with(&tree))
        .collect();
    assert_eq!(there, listed);

    let manifest = world.manifest(export, None);
    assert_eq!(
        (&manifest["session_id"], &manifest["all_experiments"]),
        (&Value::Null, &json!(true))
    );
    assert_eq!(
        manifest["export_path"],
        json!(format!("test/export_id={export}/tenant_id={TENANT_ID}"))
    );
    let told: Vec<_> = manifest["runs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|run| (run["run_id"].clone(), run["session_id"].clone()))
        .collect();
    assert_eq!(
        told,
        runs.iter().map(|run| (json!(run.id), json!(run.session_id))).collect::<Vec<_>>()
    );
    assert_eq!(manifest["totals"]["rows"], 4);
    assert!(world.succeeded(export));
    let counted = world.reconciled(export).await;
    assert_eq!((counted.rows_exported, counted.rows_in_source), (4, 4));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs chDB: make test"]
async fn every_project_with_a_dataset_is_exported_and_no_other() {
    let world = world().await;
    let _exporter = world.exporter();
    let export = export(&world).await;
    both_are_there(&world, &export).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs chDB: make test"]
async fn a_tenant_without_experiments_gets_an_export_that_is_complete_and_empty() {
    let world = World::start().await;
    world.insert(&[row(1, PROJECT_ID, 1)]).await;
    let _exporter = world.exporter();
    let export = export(&world).await;
    let ended = world.ended(&export).await;
    assert_eq!(
        (ended.status(), ended.progress.unwrap().runs_total),
        (ExportStatus::Completed, 0),
        "{}",
        ended.error
    );
    assert_eq!(
        (world.manifest(&export, None)["totals"]["rows"].clone(), world.succeeded(&export)),
        (json!(0), true)
    );
    assert_eq!(world.reconciled(&export).await.rows_in_source, 0);
}

/// A ClickHouse that takes connections and never answers.
async fn stuck(world: &World) -> (tokio::net::TcpListener, Settings) {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut settings = world.exporter_settings("exporter-1");
    settings.clickhouse.clickhouse_url = format!("http://{}", silent.local_addr().unwrap());
    (silent, settings)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs chDB: make test"]
async fn an_exporter_that_dies_while_it_finds_them_is_followed_by_another() {
    let world = world().await;
    let (silent, settings) = stuck(&world).await;
    let first = world.start_exporter(&settings);
    let export = export(&world).await;
    let asking = silent.accept().await.unwrap();
    assert_eq!(
        world
            .watched(&export, |export| export.status() == ExportStatus::Running)
            .await
            .progress
            .unwrap()
            .runs_total,
        0
    );
    first.crash().await;
    drop(asking);
    let _second = world.start_exporter(&world.exporter_settings("exporter-2"));
    both_are_there(&world, &export).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs chDB: make test"]
async fn what_was_found_is_lost_or_goes_unanswered_or_comes_twice() {
    let world = world().await;
    for fate in [Fate::Lost, Fate::LastOne, Fate::Repeated] {
        let wire = Wire::to(&world.grpc).await;
        wire.next("experiments_found", fate);
        let export = export(&world).await;
        let settings =
            Settings { control_plane: wire.url.clone(), ..world.exporter_settings("exporter-1") };
        let exporter = world.start_exporter(&settings);
        both_are_there(&world, &export).await;
        assert!(wire.is_quiet(), "it never came");
        exporter.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs chDB: make test"]
async fn an_exporter_that_dies_while_it_says_what_it_found_is_followed_by_another() {
    let world = world().await;
    let (wire, gate) = (Wire::to(&world.grpc).await, Gate::new());
    wire.next("experiments_found", Fate::Held(gate.clone()));
    let first = world.start_exporter(&Settings {
        control_plane: wire.url.clone(),
        ..world.exporter_settings("exporter-1")
    });
    let export = export(&world).await;
    gate.reached().await;
    first.crash().await;
    let _second = world.start_exporter(&world.exporter_settings("exporter-2"));
    both_are_there(&world, &export).await;
    gate.open();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs chDB: make test"]
async fn an_export_is_cancelled_while_they_are_found() {
    let world = world().await;
    let (silent, settings) = stuck(&world).await;
    let exporter = world.start_exporter(&settings);
    let export = export(&world).await;
    let _asking = silent.accept().await.unwrap();
    world.exports().cancel_export(v1::CancelExportRequest { id: export.clone() }).await.unwrap();
    assert_eq!(world.ended(&export).await.status(), ExportStatus::Cancelled);
    exporter.stop().await; // its job was told to stop: there is nothing to wait for
    assert_eq!(world.runs(&export).await.len(), 0);
    assert!(world.rows(&export).is_empty());
}
