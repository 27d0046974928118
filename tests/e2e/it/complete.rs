//! An export is complete, whatever the table is, whatever its rows do and whatever ClickHouse's
//! profile says.

use serde_json::{Value, json};
use tracelift_exporter::UniqueBy;
use tracelift_proto::v1::{Export, ExportStatus};
use tracelift_test_support::{
    dataset::{PROJECT_ID, TENANT_ID},
    line::{Habit, Line},
    world::World,
};

use crate::{all, id, ids, offloaded};

const DAY: (&str, &str) = ("2024-01-01", "2024-01-02");

async fn ended(world: &World, export: &str) -> Export {
    let ended = world.ended(export).await;
    assert_eq!(ended.status(), ExportStatus::Completed, "{}", ended.error);
    ended
}

/// Id and name of each row, sorted.
fn named(rows: &[Value]) -> Vec<(String, String)> {
    let text = |row: &Value, field: &str| row[field].as_str().unwrap().to_owned();
    let mut named: Vec<_> = rows.iter().map(|row| (text(row, "id"), text(row, "name"))).collect();
    named.sort();
    named
}

fn version(n: u128, start_time: &str, name: &str, modified: u32) -> Value {
    json!({"id": id(n), "start_time": start_time, "name": name, "modified_at": format!("2024-01-03 00:00:{modified:02}")})
}

fn with(mut row: Value, field: &str, value: impl Into<Value>) -> Value {
    row[field] = value.into();
    row
}

/// Ids that were ingested again with another start time.
async fn world_of_moved_ids() -> World {
    let world = World::start().await;
    world.clickhouse.execute("SYSTEM STOP MERGES runs").await;
    let versions = [
        version(1, "2024-01-01 10:00:00.000000", "old", 1),
        version(1, "2024-01-01 10:00:00.000001", "new", 2),
        version(2, "2024-01-01 11:00:00", "old", 1),
        version(2, "2024-01-02 11:00:00", "new", 2),
        version(3, "2024-01-02 12:00:00", "newer", 4),
        version(3, "2024-01-01 12:00:00", "old", 1),
        version(4, "2024-01-01 13:00:00", "in the window", 1),
        version(4, "2024-02-05 13:00:00", "moved out", 2),
        version(5, "2023-12-05 13:00:00", "before", 1),
        version(5, "2024-01-01 14:00:00", "moved in", 2),
        version(6, "2024-01-01 15:00:00", "live", 1),
        with(version(6, "2024-01-02 15:00:00", "withdrawn", 2), "is_deleted", 1),
        version(7, "2024-01-01 16:00:00", "only", 1),
        version(8, "2024-01-01 17:00:00", "twice", 1),
        version(8, "2024-01-01 17:00:00", "twice, newest", 2),
        // Another tenant's and another project's rows with the same id have nothing to do with it.
        with(version(7, "2024-01-01 18:00:00", "theirs", 9), "tenant_id", id(99)),
        with(version(7, "2024-01-01 18:00:00", "elsewhere", 9), "session_id", id(98)),
    ];
    for row in versions {
        world.insert(&[row]).await; // a part of its own, so that nothing is merged on the way
    }
    world
}

fn expected(rows: &[(u128, &str)]) -> Vec<(String, String)> {
    rows.iter().map(|(n, name)| (id(*n), (*name).to_owned())).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs chDB: make test"]
async fn an_id_counts_once_where_its_newest_version_is() {
    let world = world_of_moved_ids().await;
    let _exporter = world.exporter();
    let both = world.export("2024-01-01", "2024-01-03").await;
    ended(&world, &both).await;
    let rows =
        [(1, "new"), (2, "new"), (3, "newer"), (5, "moved in"), (7, "only"), (8, "twice, newest")];
    assert_eq!(named(&world.rows(&both)), expected(&rows));
    let found = world.reconciled(&both).await;
    assert_eq!((found.rows_exported, found.rows_in_source), (6, 6));
    assert_eq!(world.manifest(&both, None)["unique_by"], json!(["id"]));
    let first = world.export("2024-01-01", "2024-01-02").await;
    ended(&world, &first).await;
    assert_eq!(
        named(&world.rows(&first)),
        expected(&[(1, "new"), (5, "moved in"), (7, "only"), (8, "twice, newest")])
    );
    let filtered = world
        .export_with("2024-01-01", "2024-01-03", |spec| {
            spec.filter = r#"like(name, "%e%")"#.to_owned()
        })
        .await;
    ended(&world, &filtered).await;
    assert_eq!(
        named(&world.rows(&filtered)),
        expected(&[(1, "new"), (2, "new"), (3, "newer"), (5, "moved in"), (8, "twice, newest")])
            .into_iter()
            .filter(|(_, name)| name.contains('e'))
            .collect::<Vec<_>>()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs chDB: make test"]
async fn an_operator_may_rule_out_the_look_for_moved_ids_and_the_manifest_says_so() {
    let world = world_of_moved_ids().await;
    let mut settings = world.exporter_settings("exporter-1");
    settings.clickhouse.unique_by = UniqueBy::IdAndStartTime;
    let _exporter = world.start_exporter(&settings);
    let export = world.export("2024-01-01", "2024-01-02").await;
    ended(&world, &export).await;
    assert_eq!(ids(&world.rows(&export)), [1, 1, 2, 3, 4, 5, 6, 7, 8].map(id));
    let run = world.runs(&export).await[0].id.clone();
    for manifest in [world.manifest(&export, None), world.manifest(&export, Some(&run))] {
        assert_eq!(manifest["unique_by"], json!(["id", "start_time"]));
    }
}

/// What a profile can hold that shortens answers or changes them.
const CUTTING: [&[(&str, &str)]; 14] = [
    &[("max_result_rows", "100"), ("result_overflow_mode", "break"), ("max_block_size", "50")],
    &[("limit", "100")],
    &[("limit", "1"), ("offset", "1")],
    &[("offset", "7")],
    &[("additional_table_filters", "{'runs': 'prompt_tokens != 1'}")],
    &[("additional_result_filter", "1 = 0")],
    &[("max_rows_in_set", "1"), ("set_overflow_mode", "break")],
    &[("group_by_overflow_mode", "any"), ("max_rows_to_group_by", "1")],
    &[
        ("do_not_merge_across_partitions_select_final", "1"),
        ("optimize_move_to_prewhere_if_final", "1"),
    ],
    &[
        ("empty_result_for_aggregation_by_empty_set", "1"),
        ("aggregate_functions_null_for_empty", "1"),
    ],
    &[
        ("output_format_json_escape_forward_slashes", "1"),
        ("output_format_arrow_string_as_string", "1"),
    ],
    &[("transform_null_in", "1"), ("join_use_nulls", "1"), ("final", "1")],
    &[("max_result_bytes", "10"), ("result_overflow_mode", "break")],
    &[("use_query_cache", "1"), ("extremes", "1")],
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs chDB: make test"]
async fn settings_that_cut_answers_do_not_shorten_an_export() {
    let world = World::start().await;
    (1..=600).for_each(|n| {
        world.s3.put(tracelift_test_support::world::SOURCE_BUCKET, &format!("blobs/{n}"), b"{}")
    });
    world.insert(&offloaded(600)).await;
    let _exporter = world.exporter();
    for settings in CUTTING {
        world.clickhouse.set_profile(settings);
        for filter in ["", r#"eq(run_type, "llm")"#] {
            let export =
                world.export_with(DAY.0, DAY.1, |spec| spec.filter = filter.to_owned()).await;
            let end = world.ended(&export).await;
            if end.status() == ExportStatus::Completed {
                assert_eq!(ids(&world.rows(&export)), all(600), "{settings:?} {filter}");
            } else {
                assert!(
                    settings.iter().any(|(name, _)| end.error.contains(name)),
                    "{settings:?}: {}",
                    end.error
                );
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs chDB: make test"]
async fn limits_of_the_operator_are_named_at_once_whatever_their_overflow_mode() {
    let world = World::start().await;
    world.insert(&offloaded(600)).await;
    let _exporter = world.exporter();
    for settings in [
        [("max_rows_to_read", "100"), ("read_overflow_mode", "break")],
        [("max_bytes_to_read", "100"), ("read_overflow_mode", "throw")],
    ] {
        world.clickhouse.set_profile(&settings);
        let export = world.export(DAY.0, DAY.1).await;
        let end = world.ended(&export).await;
        assert_eq!(end.status(), ExportStatus::Failed);
        assert!(
            end.error.contains(settings[0].0) && end.error.contains("ask for less"),
            "{}",
            end.error
        );
        assert_eq!(world.runs(&export).await[0].retry_number, 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs chDB: make test"]
async fn an_answer_that_something_unknown_cuts_is_never_complete() {
    let world = World::start().await;
    (1..=300).for_each(|n| {
        world.s3.put(tracelift_test_support::world::SOURCE_BUCKET, &format!("blobs/{n}"), b"{}")
    });
    world.insert(&offloaded(300)).await;
    // A proxy that leaves rows out of the middle of every answer with rows, and of no count.
    let replace = Some((
        " AS x_start_time",
        "WHERE r.tenant_id = {tenant:UUID} AND",
        "WHERE toSecond(r.start_time)!=7 AND ",
    ));
    let line = Line::to(&world.clickhouse.url, Habit { replace, ..Habit::default() }).await;
    let mut settings = world.exporter_settings("exporter-1");
    settings.clickhouse.clickhouse_url = line.url();
    let _exporter = world.start_exporter(&settings);
    let export = world.export(DAY.0, DAY.1).await;
    let end = world.ended(&export).await;
    assert_eq!(end.status(), ExportStatus::Failed);
    assert!(end.error.contains("lacks") && end.error.contains("that it counts"), "{}", end.error);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs chDB: make test"]
async fn a_source_that_is_cut_every_time_but_lets_each_attempt_finish_a_file_completes() {
    let world = World::start().await;
    let row = |n: u128| json!({"id": id(n), "start_time": format!("2024-01-01 12:{:02}:{:02}", n / 60, n % 60), "inputs": "x".repeat(4000)});
    world.insert(&(1..=1500).map(row).collect::<Vec<_>>()).await;
    let line =
        Line::to(&world.clickhouse.url, Habit { cut_after: Some(300_000), ..Habit::default() })
            .await;
    let mut settings = world.exporter_settings("exporter-1");
    settings.clickhouse.clickhouse_url = line.url();
    settings.limits.batch_bytes = 100_000;
    let _exporter = world.start_exporter(&settings);
    let export = world.export(DAY.0, DAY.1).await;
    ended(&world, &export).await;
    assert_eq!(ids(&world.rows(&export)), all(1500));
    assert!(line.cuts() > 20, "{} cuts", line.cuts());
    assert!(world.runs(&export).await[0].retry_number > 20, "more attempts than a run has retries");
}

/// What a table of trace rows may be, as SQL that makes `other` of the schema of `runs`.
fn tables() -> Vec<(&'static str, &'static str)> {
    vec![
        ("a view", "CREATE VIEW other AS SELECT * FROM runs"),
        // As a Distributed table over shards that hold versions of the same rows.
        (
            "two shards",
            "CREATE TABLE other AS remote('127.0.0.1,127.0.0.1', currentDatabase(), 'runs')",
        ),
        (
            "a table over tables",
            "CREATE TABLE other AS runs ENGINE = Merge(currentDatabase(), '^runs$')",
        ),
        (
            "a table without versions",
            "CREATE TABLE other AS runs ENGINE = MergeTree ORDER BY (tenant_id, session_id, start_time, id)",
        ),
        (
            "another version column",
            "CREATE TABLE other AS runs ENGINE = ReplacingMergeTree(inserted_at, is_deleted) ORDER BY (tenant_id, session_id, start_time, id)",
        ),
        (
            "no column that withdraws",
            "CREATE TABLE other AS runs ENGINE = ReplacingMergeTree(modified_at) ORDER BY (tenant_id, session_id, start_time, id)",
        ),
        (
            "a longer key",
            "CREATE TABLE other AS runs ENGINE = ReplacingMergeTree(modified_at, is_deleted) ORDER BY (tenant_id, session_id, start_time, id, name)",
        ),
        ("a key without order", "CREATE TABLE other AS runs ENGINE = MergeTree ORDER BY id"),
        ("no key", "CREATE TABLE other AS runs ENGINE = Memory"),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs chDB: make test"]
async fn old_and_withdrawn_versions_are_never_exported_whatever_the_table_is() {
    let world = World::start().await;
    world.clickhouse.execute("SYSTEM STOP MERGES runs").await;
    let at = |n: u128| format!("2024-01-01 12:00:{n:02}");
    let versions = [
        with(version(1, &at(1), "new", 2), "inserted_at", "2024-01-01 00:00:00"),
        with(version(1, &at(1), "old", 1), "inserted_at", "2024-01-09 00:00:00"),
        version(2, &at(2), "there", 1),
        with(version(2, &at(2), "there", 2), "is_deleted", 1),
        version(3, &at(3), "withdrawn and back", 1),
        with(version(3, &at(3), "withdrawn and back", 2), "is_deleted", 1),
        version(3, &at(3), "back", 3),
        version(4, &at(4), "matches no more: new", 1),
        version(4, &at(4), "other", 2),
        version(5, &at(5), "only new", 1),
    ];
    let said = |on: u128, key: &str, modified: u32, deleted: u8| {
        json!({"id": id(100 + on), "run_id": id(on), "session_id": PROJECT_ID, "tenant_id": TENANT_ID, "trace_id": id(on), "is_root": true,
               "start_time": at(on), "created_at": at(on), "modified_at": format!("2024-01-03 00:00:{modified:02}"), "key": key, "score": 1.0,
               "value": "", "comment": "", "correction": "", "feedback_source": "{}", "is_deleted": deleted})
    };
    let feedback = [
        said(1, "good", 1, 0),
        said(1, "bad", 2, 0),
        said(3, "good", 1, 0),
        said(3, "good", 2, 1),
        said(5, "good", 1, 0),
    ];
    for (what, create) in tables() {
        world.clickhouse.execute("TRUNCATE TABLE runs;\nDROP TABLE IF EXISTS other;\nDROP TABLE IF EXISTS other_feedback").await;
        world.clickhouse.execute(create).await;
        world
            .clickhouse
            .execute("CREATE TABLE other_feedback AS feedbacks ENGINE = MergeTree ORDER BY id")
            .await;
        let into = if create.contains("MergeTree") || create.contains("Memory") {
            "other"
        } else {
            "runs"
        };
        for row in &versions {
            world.insert_into(into, std::slice::from_ref(row)).await;
        }
        let lines: Vec<_> = feedback.iter().map(Value::to_string).collect();
        world
            .clickhouse
            .execute(&format!(
                "INSERT INTO other_feedback FORMAT JSONEachRow\n{}",
                lines.join("\n")
            ))
            .await;
        let mut settings = world.exporter_settings("exporter-1");
        settings.clickhouse.runs_table = "other".to_owned();
        settings.clickhouse.feedbacks_table = "other_feedback".to_owned();
        let exporter = world.start_exporter(&settings);
        let export = world
            .export_with(DAY.0, DAY.1, |spec| {
                spec.export_fields = vec!["id".into(), "name".into(), "feedbacks".into()]
            })
            .await;
        ended(&world, &export).await;
        // Merges of the engine itself may have thrown the newest away where its version is another
        // column.
        let first = if what == "another version column" { "old" } else { "new" };
        let kept = named(&world.rows(&export));
        assert_eq!(kept[1..], expected(&[(3, "back"), (4, "other"), (5, "only new")]), "{what}");
        assert!(
            kept[0] == (id(1), "new".to_owned()) || kept[0] == (id(1), first.to_owned()),
            "{what}: {kept:?}"
        );
        assert_eq!(world.reconciled(&export).await.rows_in_source, 4, "{what}");
        let feedback: Vec<_> = world
            .rows(&export)
            .iter()
            .map(|row| row["feedbacks"].as_str().unwrap().matches("\"key\"").count())
            .collect();
        assert_eq!(feedback, [1, 0, 0, 1], "{what}");
        for (filter, rows) in
            [(r#"like(name, "%new%")"#, vec![1, 5]), (r#"eq(feedback_key, "good")"#, vec![5])]
        {
            if first == "old" && filter.contains("like") {
                continue;
            }
            let export =
                world.export_with(DAY.0, DAY.1, |spec| spec.filter = filter.to_owned()).await;
            ended(&world, &export).await;
            assert_eq!(
                ids(&world.rows(&export)),
                rows.into_iter().map(id).collect::<Vec<_>>(),
                "{what} {filter}"
            );
        }
        exporter.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs chDB: make test"]
async fn many_rows_with_versions_are_read_right_from_a_view_in_small_blocks() {
    let world = World::start().await;
    world
        .clickhouse
        .execute("SYSTEM STOP MERGES runs;\nCREATE VIEW other AS SELECT * FROM runs")
        .await;
    let at = |n: u128| format!("2024-01-01 12:{:02}:{:02}", n / 60 % 60, n % 60);
    world.insert(&(1..=3000_u128).map(|n| version(n, &at(n), "old", 1)).collect::<Vec<_>>()).await;
    world
        .insert(
            &(1..=3000_u128)
                .filter(|n| n.is_multiple_of(3))
                .map(|n| version(n, &at(n), "new", 2))
                .collect::<Vec<_>>(),
        )
        .await;
    world
        .insert(
            &(1..=3000_u128)
                .filter(|n| n.is_multiple_of(5))
                .map(|n| with(version(n, &at(n), "gone", 3), "is_deleted", 1))
                .collect::<Vec<_>>(),
        )
        .await;
    let mut settings = world.exporter_settings("exporter-1");
    settings.clickhouse.runs_table = "other".to_owned();
    settings.limits.batch_bytes = 100_000;
    let _exporter = world.start_exporter(&settings);
    let export = world.export(DAY.0, DAY.1).await;
    ended(&world, &export).await;
    let meant = |n: &u128| (id(*n), if n.is_multiple_of(3) { "new" } else { "old" }.to_owned());
    assert_eq!(
        named(&world.rows(&export)),
        (1..=3000_u128).filter(|n| !n.is_multiple_of(5)).map(|n| meant(&n)).collect::<Vec<_>>()
    );
}
