//! The column `feedbacks`: what was said of each row, of nobody else's rows, and only where it is
//! asked for.

use bytes::Bytes;
use parquet::{
    file::reader::{FileReader as _, SerializedFileReader},
    schema::types::ColumnPath,
};
use serde_json::{Value, json};
use tracelift_exporter::UniqueBy;
use tracelift_proto::v1::{CancelExportRequest, ExportStatus, RunStatus};
use tracelift_test_support::{
    dataset::{PROJECT_ID, TENANT_ID},
    s3::Operation,
    world::{DESTINATION_BUCKET, SOURCE_BUCKET, World},
};

use crate::{all, id, ids, offloaded};

/// Feedback number `number` on row `run`, of second `number`.
fn said(number: u128, run: u128, given: &Value) -> Value {
    let mut feedback = json!({
        "id": id(1000 + number), "run_id": id(run), "session_id": PROJECT_ID, "tenant_id": TENANT_ID, "trace_id": id(run), "is_root": true,
        "start_time": "2024-01-01 12:00:00.000000", "created_at": format!("2024-01-01 12:00:{:02}.000001", number % 60),
        "modified_at": "2024-01-01 13:00:00.000000", "key": format!("key-{number}"), "score": null, "value": "", "comment": "",
        "correction": "", "feedback_source": r#"{"type":"api"}"#, "is_deleted": 0,
    });
    for (name, value) in given.as_object().unwrap() {
        feedback[name] = value.clone();
    }
    feedback
}

async fn insert(world: &World, feedback: &[Value]) {
    let lines: Vec<_> = feedback.iter().map(Value::to_string).collect();
    let sql = format!("INSERT INTO feedbacks FORMAT JSONEachRow\n{}", lines.join("\n"));
    world.clickhouse.client().query_raw(&sql).execute().await.unwrap();
}

async fn begin(world: &World, columns: &[&str]) -> String {
    let fields = columns.iter().map(|name| (*name).to_owned()).collect();
    world.export_with("2024-01-01", "2024-01-02", |spec| spec.export_fields = fields).await
}

async fn export(world: &World, columns: &[&str]) -> (String, Vec<Value>) {
    let export = begin(world, columns).await;
    let ended = world.ended(&export).await;
    assert_eq!(ended.status(), ExportStatus::Completed, "{}", ended.error);
    let rows = world.rows(&export);
    (export, rows)
}

/// What was said of row number n, as JSON.
fn of(rows: &[Value], n: u128) -> Value {
    let row = rows.iter().find(|row| row["id"] == id(n)).unwrap();
    serde_json::from_str(row["feedbacks"].as_str().unwrap()).unwrap()
}

/// A field of each feedback on row number n.
fn each(rows: &[Value], n: u128, field: &str) -> Vec<Value> {
    of(rows, n).as_array().unwrap().iter().map(|feedback| feedback[field].clone()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs chDB: make test"]
async fn each_row_has_the_newest_version_of_its_own_feedback_in_order() {
    let world = World::start().await;
    world.insert(&(1..=4).map(|n| json!({"id": id(n)})).collect::<Vec<_>>()).await;
    let none = json!({});
    insert(
        &world,
        &[
            said(2, 1, &none),
            said(1, 1, &json!({"score": 0.5, "value": "good", "correction": r#"{"a": [1.50]}"#})),
            said(3, 2, &json!({"key": "old"})),
            said(4, 2, &none),
            said(5, 1, &json!({"tenant_id": id(99)})),
            said(6, 1, &json!({"session_id": id(99)})),
            said(7, 9, &none),
            // Two of the same time are in the order of their ids; when the trace began is copied
            // by whoever says something.
            said(69, 4, &json!({"start_time": "1999-12-31 00:00:00.000000"})),
            said(9, 4, &json!({"start_time": "2025-05-01 00:00:00.000000"})),
            said(10, 3, &none),
        ],
    )
    .await;
    let newer = json!({"key": "new", "modified_at": "2024-01-01 14:00:00.000000"});
    let withdrawn = json!({"is_deleted": 1, "modified_at": "2024-01-01 14:00:00.000000"});
    let stale = json!({"key": "stale", "modified_at": "2024-01-01 12:00:00.000000"});
    // Feedback 10 was moved to another row.
    insert(&world, &[said(3, 2, &newer), said(4, 2, &withdrawn), said(10, 4, &newer)]).await;
    insert(&world, &[said(3, 2, &stale)]).await;
    let _exporter = world.exporter();
    let (first, rows) = export(&world, &["name", "feedbacks", "id"]).await;
    assert_eq!(ids(&rows), all(4));
    assert_eq!(each(&rows, 1, "key"), ["key-1", "key-2"]);
    assert_eq!(each(&rows, 2, "key"), ["new"]);
    assert_eq!(rows.iter().find(|row| row["id"] == id(3)).unwrap()["feedbacks"], "[]");
    assert_eq!(each(&rows, 4, "key"), ["key-9", "key-69", "new"]);
    assert_eq!(
        of(&rows, 1)[0],
        json!({
            "id": id(1001), "run_id": id(1), "session_id": PROJECT_ID, "trace_id": id(1), "is_root": true,
            "start_time": "2024-01-01T12:00:00.000000+00:00", "created_at": "2024-01-01T12:00:01.000001+00:00",
            "modified_at": "2024-01-01T13:00:00.000000+00:00", "key": "key-1", "score": 0.5, "value": "good", "comment": null,
            "correction": {"a": [1.5]}, "feedback_source": {"type": "api"},
        })
    );
    columns_are_as_listed(&world, &first);
    let (_, again) = export(&world, &["feedbacks", "id"]).await;
    for row in &rows {
        assert!(again.iter().any(|other| (&other["id"], &other["feedbacks"]) == (&row["id"], &row["feedbacks"])), "{row}");
    }
}

/// name, feedbacks, id: in that order, and the wide one without dictionary and statistics.
fn columns_are_as_listed(world: &World, export: &str) {
    let key = world
        .s3
        .keys(DESTINATION_BUCKET)
        .into_iter()
        .find(|key| key.contains(export) && key.ends_with(".parquet"))
        .unwrap();
    let file =
        SerializedFileReader::new(Bytes::from(world.s3.get(DESTINATION_BUCKET, &key).unwrap()))
            .unwrap();
    let columns = file.metadata().row_group(0).columns();
    let paths: Vec<_> = columns.iter().map(|column| column.column_path().clone()).collect();
    assert_eq!(paths, ["name", "feedbacks", "id"].map(ColumnPath::from));
    assert!(columns[1].dictionary_page_offset().is_none() && columns[1].statistics().is_none());
    assert!(columns[1].column_descr().self_type().is_optional());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs chDB: make test"]
async fn whatever_was_said_is_json_and_text_that_is_no_utf_8_is_mended() {
    let world = World::start().await;
    world.insert(&[json!({"id": id(1)}), json!({"id": id(2)})]).await;
    let odd = "\"quoted\" \\ \n\u{1}\u{2028} é 🦀 ] } ',";
    insert(&world, &[said(1, 1, &json!({"key": odd, "comment": odd, "value": odd, "correction": "{", "feedback_source": ""}))]).await;
    insert(&world, &[said(2, 2, &json!({}))]).await;
    let broken = "unhex('7BFF7D')";
    let texts = ["key", "value", "comment", "correction", "feedback_source"]
        .map(|name| format!("{broken} AS {name}"))
        .join(", ");
    for (number, score) in ["nan", "inf", "-1e300"].iter().enumerate() {
        let other = id(2000 + number as u128);
        let sql = format!(
            "INSERT INTO feedbacks SELECT f.* REPLACE ({texts}, {score} AS score, toUUID('{other}') AS id) FROM feedbacks AS f WHERE f.id = toUUID('{}')",
            id(1002)
        );
        world.clickhouse.execute(&sql).await;
    }
    let _exporter = world.exporter();
    let (_, rows) = export(&world, &["id", "feedbacks"]).await;
    let first = &of(&rows, 1)[0];
    assert_eq!(
        (&first["key"], &first["comment"], &first["value"]),
        (&json!(odd), &json!(odd), &json!(odd))
    );
    assert_eq!((&first["correction"], &first["feedback_source"]), (&json!("{"), &Value::Null));
    assert_eq!(each(&rows, 2, "score"), [Value::Null, Value::Null, Value::Null, json!(-1e300)]);
    for field in ["key", "value", "comment", "correction", "feedback_source"] {
        assert_eq!(each(&rows, 2, field)[1..], ["{\u{fffd}}"; 3], "{field}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs chDB: make test"]
async fn all_feedback_of_a_row_that_matches_is_exported_whatever_the_filter_asks_of_it() {
    let world = World::start().await;
    world.s3.put(SOURCE_BUCKET, "blobs/1", br#"{"a":1}"#);
    world.insert(&offloaded(3)).await;
    insert(
        &world,
        &[
            said(1, 1, &json!({"score": 1.0})),
            said(2, 1, &json!({"score": 0.0})),
            said(3, 2, &json!({"score": 0.0})),
        ],
    )
    .await;
    let _exporter = world.exporter();
    let begun = world
        .export_with("2024-01-01", "2024-01-02", |spec| {
            spec.filter =
                r#"and(eq(feedback_key, "key-1"), eq(feedback_score, 1), like(inputs, "%a%"))"#
                    .to_owned();
            spec.export_fields = vec!["id".to_owned(), "feedbacks".to_owned()];
        })
        .await;
    assert_eq!(world.ended(&begun).await.status(), ExportStatus::Completed);
    let rows = world.rows(&begun);
    assert_eq!(ids(&rows), all(1));
    assert_eq!(each(&rows, 1, "key"), ["key-1", "key-2"]);
}

/// The table's key has the start time in it, so an id whose start time was changed is there twice,
/// and is exported twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs chDB: make test"]
async fn rows_of_one_id_have_the_same_feedback() {
    let world = World::start().await;
    let at = |n: u128, second: u32| json!({"id": id(n), "start_time": format!("2024-01-01 12:00:{second:02}")});
    world.insert(&[at(1, 1), at(2, 2), at(1, 3), at(3, 4), at(1, 5)]).await;
    insert(&world, &[said(1, 1, &json!({})), said(2, 2, &json!({})), said(3, 3, &json!({}))]).await;
    let mut settings = world.exporter_settings("exporter-1");
    settings.clickhouse.unique_by = UniqueBy::IdAndStartTime;
    let _exporter = world.start_exporter(&settings);
    let (_, rows) = export(&world, &["id", "feedbacks"]).await;
    let on: Vec<_> = rows
        .iter()
        .map(|row| {
            (
                row["id"].clone(),
                serde_json::from_str::<Value>(row["feedbacks"].as_str().unwrap()).unwrap(),
            )
        })
        .collect();
    assert_eq!(on.len(), 5);
    assert!(
        on.iter().all(|(id, told)| told.as_array().unwrap().len() == 1 && told[0]["run_id"] == *id),
        "{on:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs chDB: make test"]
async fn the_table_of_feedback_is_left_alone_where_the_column_is_not_listed() {
    let world = World::start().await;
    world.insert(&[json!({"id": id(1)})]).await;
    world.clickhouse.execute("DROP TABLE feedbacks").await;
    let _exporter = world.exporter();
    let (_, rows) = export(&world, &[]).await;
    assert_eq!(ids(&rows), all(1));
    assert!(rows[0].get("feedbacks").is_none());
}

const ROWS: u128 = 500;

/// Feedback on some of [`ROWS`] rows: none on many, much on few, and on one of them more than a
/// batch holds.
fn plenty() -> Vec<Value> {
    let on = |run: u128| if run == 77 { 60 } else { [0, 1, 0, 5, 2][(run % 5) as usize] };
    let given = |n: u128| json!({"comment": "x".repeat((n * 37 % 900) as usize)});
    let numbered = (1..=ROWS).flat_map(|run| (0..on(run)).map(move |n| (run * 100 + n, run)));
    numbered.map(|(number, run)| said(number, run, &given(number))).collect()
}

/// A world whose batches are divided again and again.
async fn divided() -> (World, tracelift_exporter::Settings) {
    let world = World::start().await;
    (1..=ROWS).for_each(|n| {
        world.s3.put(
            SOURCE_BUCKET,
            &format!("blobs/{n}"),
            format!("\"{}\"", "y".repeat(100)).as_bytes(),
        )
    });
    world.insert(&offloaded(ROWS)).await;
    insert(&world, &plenty()).await;
    let mut settings = world.exporter_settings("exporter-1");
    settings.limits.batch_bytes = 30_000;
    settings.limits.row_group_bytes = 1;
    settings.limits.file_bytes = 1;
    (world, settings)
}

fn every_row_has_its_own(rows: &[Value]) {
    assert_eq!(ids(rows), all(ROWS));
    assert!(rows.iter().all(|row| row["inputs"].is_string()));
    let plenty = plenty();
    for run in 1..=ROWS {
        let mut wanted: Vec<_> =
            plenty.iter().filter(|feedback| feedback["run_id"] == id(run)).collect();
        wanted.sort_by_key(|feedback| {
            (feedback["created_at"].to_string(), feedback["id"].to_string())
        });
        let wanted: Vec<_> = wanted.iter().map(|feedback| feedback["id"].clone()).collect();
        assert_eq!(each(rows, run, "id"), wanted, "row {run}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs chDB: make test"]
async fn feedback_of_many_batches_lands_on_its_rows() {
    let (world, settings) = divided().await;
    let _exporter = world.start_exporter(&settings);
    let (export, rows) = export(&world, &["id", "inputs", "feedbacks"]).await;
    every_row_has_its_own(&rows);
    // Each batch is a file here. One of rows alone has 16, so there are more because their feedback
    // divides them.
    let files = world.runs(&export).await[0].result.as_ref().unwrap().exported_files.len();
    assert!(files as u128 > ROWS.div_ceil(16), "{files}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs chDB: make test"]
async fn a_clickhouse_that_cannot_answer_about_feedback_is_asked_again_and_nothing_is_lost() {
    let (world, mut settings) = divided().await;
    let stone = id(400);
    world
        .clickhouse
        .execute(&format!(
            "CREATE TABLE poisoned AS feedbacks;\n
             ALTER TABLE poisoned DROP COLUMN comment;\n
             ALTER TABLE poisoned ADD COLUMN comment String ALIAS toString(throwIf(run_id = toUUID('{stone}'), 'a stone in the shoe'));\n
             INSERT INTO poisoned SELECT * EXCEPT comment FROM feedbacks;\n
             INSERT INTO poisoned SELECT * EXCEPT comment REPLACE (toUUID('{stone}') AS run_id, generateUUIDv4() AS id) FROM feedbacks LIMIT 1;\n"
        ))
        .await;
    settings.clickhouse.feedbacks_table = "poisoned".to_owned();
    let _exporter = world.start_exporter(&settings);
    let export = begin(&world, &["id", "inputs", "feedbacks"]).await;
    let run = loop {
        let run = world.runs(&export).await.remove(0);
        if !run.errors.is_empty() {
            break run;
        }
    };
    assert!(run.errors[0].starts_with("the trace store broke off"), "{:?}", run.errors);
    assert!(
        run.errors[0].contains("a stone in the shoe")
            && run.errors[0].contains("asked for the feedback on the rows from"),
        "{run:?}"
    );
    world.clickhouse.execute("DROP TABLE poisoned;\nRENAME TABLE feedbacks TO poisoned;\n").await;
    let ended = world.ended(&export).await;
    assert_eq!(ended.status(), ExportStatus::Completed, "{}", ended.error);
    every_row_has_its_own(&world.rows(&export));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs chDB: make test"]
async fn a_cancelled_export_leaves_no_question_about_feedback_behind() {
    let world = World::start().await;
    (1..=240).for_each(|n| world.s3.put(SOURCE_BUCKET, &format!("blobs/{n}"), b"{}"));
    world.insert(&offloaded(240)).await;
    insert(&world, &[said(1, 1, &json!({}))]).await;
    // One question of 48 MB. While the first part of the file is held, half of it at most is taken
    // or on its way.
    let wide = "randomPrintableASCII(200000) AS comment, r.id AS run_id, generateUUIDv4() AS id";
    world
        .clickhouse
        .execute(&format!(
            "INSERT INTO feedbacks SELECT f.* REPLACE ({wide}) FROM feedbacks AS f, runs AS r"
        ))
        .await;
    let mut settings = world.exporter_settings("exporter-1");
    settings.limits.batch_bytes = 1 << 20;
    settings.limits.row_group_bytes = 1;
    settings.limits.part_bytes = 5 << 20;
    settings.limits.parts_in_flight = 1;
    let gate = world.s3.faults.hold(Operation::UploadPart, "-00000.parquet");
    let exporter = world.start_exporter(&settings);
    let export = begin(&world, &["id", "feedbacks"]).await;
    gate.reached().await;
    let question = format!("tracelift-{}-1-", world.runs(&export).await[0].id);
    assert_eq!(
        world.clickhouse.running(&question).await,
        1,
        "one question at a time, and none that was answered is left"
    );
    world.exports().cancel_export(CancelExportRequest { id: export.clone() }).await.unwrap();
    exporter.stop().await;
    assert_eq!(world.runs(&export).await[0].status(), RunStatus::Cancelled);
    world.clickhouse.ended("tracelift-").await;
    gate.open();
}
