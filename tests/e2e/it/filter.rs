//! Filters: what ClickHouse finds is what the rules say, and what is exported is what was asked
//! for.

mod random;

use serde_json::{Value, json};
use tracelift_core::filter::{Filter, Open};
use tracelift_exporter::{Pushdown, SourceSchema};
use tracelift_proto::v1::ExportStatus;
use tracelift_test_support::{
    clickhouse::ClickHouse,
    dataset::{PROJECT_ID, TENANT_ID},
    world::{SOURCE_BUCKET, World},
};

use crate::{id, ids};
use random::{Chance, filter, row};

/// Of each row, whether the query finds it, whether it is undecided, and what else was asked.
async fn ask(clickhouse: &ClickHouse, pushed: &Pushdown) -> Vec<(String, bool, bool, Vec<bool>)> {
    let asked = [pushed.condition.as_str(), pushed.undecided.as_deref().unwrap_or("0")].into_iter();
    let asked: Vec<_> = asked
        .chain(pushed.questions.iter().map(String::as_str))
        .map(|asked| format!("toString(toUInt8({asked}))"))
        .collect();
    let sql = format!("SELECT toString(r.id), concat({}) FROM runs AS r FINAL", asked.join(", "));
    let query =
        clickhouse.client().query_raw(&sql).param("tenant", TENANT_ID).param("session", PROJECT_ID);
    let query = pushed
        .parameters
        .iter()
        .fold(query, |query, (name, value)| query.with_setting(format!("param_{name}"), value));
    let answers: Vec<(String, String)> = query
        .fetch_all()
        .await
        .unwrap_or_else(|error| panic!("{error}\n{sql}\n{:?}", pushed.parameters));
    let read = |(id, flags): (String, String)| {
        let flags: Vec<_> = flags.chars().map(|flag| flag == '1').collect();
        (id, flags[0], flags[1], flags[2..].to_vec())
    };
    answers.into_iter().map(read).collect()
}

fn feedback(number: usize, run: &str, key: &str, score: Option<f64>, value: &str) -> Value {
    json!({
        "id": id(1000 + number as u128), "run_id": run, "session_id": PROJECT_ID, "tenant_id": TENANT_ID, "trace_id": run, "is_root": true,
        "start_time": "2024-01-01 12:00:00.000000", "created_at": "2024-01-01 12:00:00.000000", "modified_at": "2024-01-01 12:00:01.000000",
        "key": key, "score": score, "value": value, "comment": "", "correction": "", "feedback_source": "{}", "is_deleted": 0,
    })
}

/// The same with one field changed.
fn but(mut line: Value, field: &str, value: impl Into<Value>) -> Value {
    line[field] = value.into();
    line
}

/// Each as it is said, beside older versions, deleted ones and another tenant's, which must not
/// count.
async fn insert_feedback(world: &World, said: impl IntoIterator<Item = Value>) {
    let mut lines = Vec::new();
    for line in said {
        let older = but(but(line.clone(), "modified_at", "2024-01-01 12:00:00.000000"), "key", "a");
        let deleted = but(
            but(but(line.clone(), "id", id(100_000 + lines.len() as u128)), "key", "b"),
            "is_deleted",
            1,
        );
        let theirs = but(but(line.clone(), "tenant_id", id(99)), "key", "a.b");
        lines.extend([older, deleted, theirs, line].map(|line| line.to_string()));
    }
    let sql = format!("INSERT INTO feedbacks FORMAT JSONEachRow\n{}", lines.join("\n"));
    world.clickhouse.client().query_raw(&sql).execute().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs chDB: make test"]
async fn clickhouse_finds_the_rows_that_the_rules_say_match() {
    const FILTERS: usize = 400;
    let world = World::start().await;
    let mut chance = Chance(15);
    let (rows, stored): (Vec<_>, Vec<_>) = (1..=150).map(|number| row(&mut chance, number)).unzip();
    world.insert(&stored).await;
    let said = rows
        .iter()
        .flat_map(|row| row.feedbacks.iter().map(|said| (row.id.to_string(), said)))
        .enumerate();
    insert_feedback(
        &world,
        said.map(|(number, (run, said))| {
            feedback(number, &run, &said.key, said.score, &said.value)
        }),
    )
    .await;
    let (mut matching, mut undecided_rows, mut wrong) = (0, 0, Vec::new());
    let schema = SourceSchema::reference("runs", "feedbacks");
    for _ in 0..FILTERS {
        let text = filter(&mut chance, 3);
        let filter = Filter::read(&text).unwrap_or_else(|errors| panic!("{text}: {errors:?}"));
        let pushed = Pushdown::of(&filter, &schema, "feedbacks AS f FINAL");
        let answers = ask(&world.clickhouse, &pushed).await;
        assert_eq!(answers.len(), rows.len());
        for (id, found, undecided, answers) in answers {
            let row = rows.iter().find(|row| row.id.to_string() == id).unwrap();
            let matches = filter.matches(row).unwrap();
            matching += usize::from(matches);
            let decided = pushed.open.decide(&|open| match open {
                Open::Answered(index) => Some(answers[*index]),
                Open::Content(leaf) => leaf.of_content(&row.content),
            });
            undecided_rows += usize::from(undecided);
            // A row that is not undecided is exactly found; of the others none that matches is
            // missed, and what is left decides.
            let right = if undecided {
                (found || !matches) && decided == Some(matches)
            } else {
                found == matches
            };
            if !right {
                let said = format!(
                    "matches {matches} found {found} undecided {undecided} decided {decided:?}"
                );
                wrong.push(format!("{text}\n{said}\n{}\n{row:?}", pushed.condition));
            }
        }
    }
    let some: Vec<_> = wrong.iter().step_by(wrong.len() / 10 + 1).map(String::as_str).collect();
    assert!(some.is_empty(), "{} are wrong, such as\n{}", wrong.len(), some.join("\n\n"));
    let all = FILTERS * rows.len();
    assert!(
        matching > all / 10 && matching < all * 9 / 10 && undecided_rows > all / 10,
        "{matching} and {undecided_rows} of {all}"
    );
}

/// An exporter's run over rows whose metadata and errors lie in objects, some of which are gone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs chDB: make test"]
async fn an_export_holds_the_rows_that_match_whether_or_not_their_content_is_in_the_table() {
    let world = World::start().await;
    world.s3.put(SOURCE_BUCKET, "prod", br#"{"metadata":{"env":"prod","n":2}}"#);
    world.s3.put(SOURCE_BUCKET, "test", br#"{"metadata":{"env":"test"}}"#);
    world.s3.put(SOURCE_BUCKET, "error", b"\"ValueError: prod\"");
    world.s3.put(SOURCE_BUCKET, "inputs", b"{}");
    let extra = |key: &str| json!({ "extra": key }).to_string();
    let inputs = json!({"ROOT": "inputs"}).to_string();
    world
        .insert(&[
            json!({"id": id(1), "extra": r#"{"metadata": {"env": "prod"}}"#}),
            json!({"id": id(2), "extra": r#"{"metadata": {"env": "test"}}"#}),
            json!({"id": id(3), "s3_urls": extra("prod"), "inputs_s3_urls": inputs}),
            json!({"id": id(4), "s3_urls": extra("test"), "inputs_s3_urls": inputs}),
            json!({"id": id(5), "s3_urls": extra("gone")}),
            json!({"id": id(6), "s3_urls": extra("prod"), "is_root": false}),
            json!({"id": id(7), "s3_urls": json!({"error": "error"}).to_string()}),
            json!({"id": id(8), "s3_urls": extra("test"), "inputs_s3_urls": inputs}),
            json!({"id": id(9), "s3_urls": extra("test"), "start_time": "2024-01-02 12:00:00"}),
        ])
        .await;
    insert_feedback(
        &world,
        [
            feedback(1, &id(8), "user_score", Some(1.0), ""),
            feedback(2, &id(2), "user_score", Some(0.5), ""),
        ],
    )
    .await;
    let _exporter = world.exporter();
    let before = world.s3.faults.calls();
    let filter = r#"and(eq(is_root, true), or(
        and(eq(metadata_key, "env"), eq(metadata_value, "prod")), like(error, "%prod"), and(eq(feedback_key, "user_score"), gt(feedback_score, 0.5))))"#;
    let export = world
        .export_with("2024-01-01", "2024-01-03", |spec| {
            spec.filter = filter.into();
            spec.export_fields = vec!["id".into(), "inputs".into()];
        })
        .await;
    let ended = world.ended(&export).await;
    assert_eq!(ended.status(), ExportStatus::Completed, "{}", ended.error);
    assert_eq!(ended.spec.unwrap().filter, filter);
    assert_eq!(ids(&world.rows(&export)), [1, 3, 7, 8].map(id));
    assert!(
        world.rows(&export).iter().all(|row| row.as_object().unwrap().len() == 2),
        "what decides is not exported"
    );
    let runs = world.runs(&export).await;
    let results: Vec<_> = runs.iter().map(|run| run.result.clone().unwrap()).collect();
    assert_eq!((results[0].rows_written, results[1].rows_written), (4, 0));
    assert!(results[1].exported_files.is_empty(), "a run of which no row matches has no file");
    assert_eq!(world.manifest(&export, None)["filter"], filter);
    let totals = world.manifest(&export, Some(&runs[0].id))["totals"].clone();
    assert_eq!(
        (&totals["hydration_misses"], &totals["undecided"]),
        (&json!(0), &json!(1)),
        "row 5 may match, and is not there"
    );
    // Row 3: extra, inputs. 4: extra, and the inputs of row 3. 5: extra, looked for once (its
    // pointer has not moved). 7: error. 8: the inputs of row 3 only, its feedback says enough.
    // 9: extra, in another run. Row 6 is none that could match. The destination's check takes
    // six calls, the file one, two runs' manifests and the export's two four.
    assert_eq!(world.s3.faults.calls() - before, (2 + 1 + 1 + 1 + 1) + 6 + 1 + 4);
    let found = world.reconciled(&export).await;
    // Rows 4 and 9 were decided against by their content.
    assert_eq!(
        (
            found.rows_exported,
            found.rows_undecided,
            found.rows_decided_against,
            found.rows_in_source
        ),
        (4, 1, 2, 7)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs chDB: make test"]
async fn an_export_with_a_filter_of_the_table_is_counted_by_it() {
    let world = World::start().await;
    let named = |n: u128, name: &str| json!({"id": id(n), "name": name, "start_time": format!("2024-01-01 12:00:{n:02}")});
    world.insert(&[named(1, "a'b"), named(2, "a"), named(3, "a'b"), named(4, "b")]).await;
    let _exporter = world.exporter();
    let export = world
        .export_with("2024-01-01", "2024-01-02", |spec| spec.filter = "eq(name, \"a'b\")".into())
        .await;
    assert_eq!(world.ended(&export).await.status(), ExportStatus::Completed);
    assert_eq!(ids(&world.rows(&export)), [1, 3].map(id));
    assert_eq!(world.reconciled(&export).await.rows_in_source, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs chDB: make test"]
async fn a_batch_that_is_full_within_a_row_keeps_the_fields_of_that_row() {
    let world = World::start().await;
    let row = |n: u128| {
        let (inputs, outputs) = (format!("blobs/{n}-in"), format!("blobs/{n}-out"));
        let text = |name: &str| json!({name: "x".repeat(40 * n as usize)}).to_string();
        world.s3.put(SOURCE_BUCKET, &inputs, text("in").as_bytes());
        world.s3.put(SOURCE_BUCKET, &outputs, text("out").as_bytes());
        json!({"id": id(n), "inputs_s3_urls": json!({"ROOT": inputs}).to_string(), "outputs_s3_urls": json!({"ROOT": outputs}).to_string()})
    };
    world.insert(&(1..=20).map(row).collect::<Vec<_>>()).await;
    let mut settings = world.exporter_settings("exporter-1");
    settings.limits.batch_bytes = 1000;
    let _exporter = world.start_exporter(&settings);
    let export = world.export("2024-01-01", "2024-01-02").await;
    assert_eq!(world.ended(&export).await.status(), ExportStatus::Completed);
    let rows = world.rows(&export);
    assert_eq!(rows.len(), 20);
    for row in rows {
        assert!(row["inputs"].is_string() && row["outputs"].is_string(), "{row}");
    }
}
