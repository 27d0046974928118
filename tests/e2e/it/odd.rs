//! Content as real traces have it: JSON that is not valid, texts that are none, pointers that are
//! broken. Inline and offloaded are the same.

use serde_json::{Value, json};
use tracelift_proto::v1::ExportStatus;
use tracelift_test_support::world::{SOURCE_BUCKET, World};

use crate::{id, ids};

const DAY: (&str, &str) = ("2024-01-01", "2024-01-02");

/// Exports the day with a filter: the rows, and how many could not be decided.
async fn filtered(world: &World, filter: &str) -> (Vec<String>, u64) {
    let export = world.export_with(DAY.0, DAY.1, |spec| spec.filter = filter.to_owned()).await;
    let ended = world.ended(&export).await;
    assert_eq!(ended.status(), ExportStatus::Completed, "{filter}: {}", ended.error);
    (ids(&world.rows(&export)), ended.progress.unwrap().rows_undecided)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs chDB: make test"]
async fn a_row_that_nobody_can_decide_is_counted_and_named_and_not_exported() {
    let world = World::start().await;
    world.s3.put(SOURCE_BUCKET, "boom", b"\"boom\"");
    world.s3.put(SOURCE_BUCKET, "huge", &vec![b' '; 3000]);
    world.s3.put(SOURCE_BUCKET, "text", b"no JSON at all");
    let at = |n: u128| format!("2024-01-01 12:00:{n:02}");
    world
        .insert(&[
            json!({"id": id(1), "start_time": at(1), "error": "boom"}),
            json!({"id": id(2), "start_time": at(2), "s3_urls": r#"{"error":"ttl_s/gone"}"#}),
            json!({"id": id(3), "start_time": at(3), "s3_urls": r#"{"error":"boom"}"#}),
            json!({"id": id(4), "start_time": at(4), "s3_urls": r#"{"extra":"ttl_s/gone"}"#}),
            json!({"id": id(5), "start_time": at(5), "s3_urls": r#"{"extra":"huge"}"#}),
            json!({"id": id(6), "start_time": at(6), "s3_urls": r#"{"extra":"text"}"#}),
            json!({"id": id(7), "start_time": at(7), "s3_urls": r#"{"extra":7}"#}),
            json!({"id": id(8), "start_time": at(8), "extra": r#"{"metadata":{"env":"prod"}}"#}),
        ])
        .await;
    let mut settings = world.exporter_settings("exporter-1");
    settings.blobs.blob_max_bytes = 2000;
    let _exporter = world.start_exporter(&settings);
    assert_eq!(filtered(&world, "neq(error, null)").await, (vec![id(1), id(3)], 1));
    assert_eq!(filtered(&world, "eq(error, null)").await, ([4, 5, 6, 7, 8].map(id).to_vec(), 1));

    let filter = r#"and(eq(metadata_key,"env"), eq(metadata_value,"prod"))"#;
    let export = world.export_with(DAY.0, DAY.1, |spec| spec.filter = filter.to_owned()).await;
    assert_eq!(world.ended(&export).await.status(), ExportStatus::Completed);
    assert_eq!(ids(&world.rows(&export)), [id(8)]);
    let found = world.reconciled(&export).await;
    assert_eq!(
        (
            found.rows_exported,
            found.rows_undecided,
            found.rows_decided_against,
            found.rows_in_source
        ),
        (1, 3, 1, 5)
    );
    let run = &world.runs(&export).await[0];
    let result = run.result.clone().unwrap();
    assert_eq!((result.undecided, result.decided_against, result.hydration_misses), (3, 1, 0));
    let named: Vec<_> = result
        .undecided_fields
        .iter()
        .map(|field| format!("{} {}: {}", field.id, field.column, field.reason))
        .collect();
    insta::assert_snapshot!(named.join("\n"));
    let (manifest, whole) = (world.manifest(&export, Some(&run.id)), world.manifest(&export, None));
    assert_eq!(
        (&manifest["totals"]["undecided"], &manifest["undecided_fields"].as_array().unwrap().len()),
        (&json!(3), &3)
    );
    assert_eq!(
        (&whole["totals"]["undecided"], &whole["totals"]["decided_against"]),
        (&json!(3), &json!(1))
    );

    // What does not hang on the lost content is decided all the same.
    let (rows, undecided) = filtered(
        &world,
        r#"or(eq(id, "00000000-0000-0000-0000-000000000004"), eq(metadata_key, "env"))"#,
    )
    .await;
    assert_eq!((rows, undecided), ([4, 8].map(id).to_vec(), 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs chDB: make test"]
async fn undecided_rows_are_counted_once_however_often_a_run_begins_anew() {
    let world = World::start().await;
    let row = |n: u128| {
        let extra =
            if n.is_multiple_of(3) { json!({"extra": "gone"}).to_string() } else { String::new() };
        let inline = if n % 3 == 1 { r#"{"metadata":{"env":"prod"}}"# } else { "" };
        json!({"id": id(n), "start_time": format!("2024-01-01 12:{:02}:{:02}", n / 60, n % 60), "extra": inline, "s3_urls": extra,
               "inputs": "x".repeat(2000)})
    };
    world.insert(&(1..=900).map(row).collect::<Vec<_>>()).await;
    let line = tracelift_test_support::line::Line::to(
        &world.clickhouse.url,
        tracelift_test_support::line::Habit { cut_after: Some(250_000), ..Default::default() },
    );
    let line = line.await;
    let mut settings = world.exporter_settings("exporter-1");
    settings.clickhouse.clickhouse_url = line.url();
    settings.limits.file_bytes = 1000;
    settings.limits.batch_bytes = 50_000;
    let _exporter = world.start_exporter(&settings);
    let filter = r#"eq(metadata_key,"env")"#;
    let export = world.export_with(DAY.0, DAY.1, |spec| spec.filter = filter.to_owned()).await;
    let ended = world.ended(&export).await;
    assert_eq!(ended.status(), ExportStatus::Completed, "{}", ended.error);
    assert!(line.cuts() > 0, "it was cut");
    assert_eq!(ids(&world.rows(&export)).len(), 300);
    let found = world.reconciled(&export).await;
    assert_eq!(
        (
            found.rows_exported,
            found.rows_undecided,
            found.rows_decided_against,
            found.rows_in_source
        ),
        (300, 300, 0, 600)
    );
}

/// Documents that mean the same to every filter below: `env` is `prod`, `question` is `q`, whatever
/// else stands there.
fn odd() -> Vec<String> {
    let beside = [
        r#""plain""#,
        r#""caf\ud83d""#,
        r#""\ude00\ud83d x""#,
        "NaN",
        "-Infinity",
        "Infinity",
        "1e999",
        "-1e999",
        "123456789012345678901234567890",
        "\"tab\there\"",
        r#""\x41\u12""#,
        "\"a\u{feff}b\"",
        "01",
        "+1",
        "undefined",
    ];
    let mut odd: Vec<String> = Vec::new();
    for beside in beside {
        odd.push(format!(r#"{{"metadata":{{"env":"prod","t":{beside}}},"question":"q"}}"#));
        odd.push(format!(r#"{{"metadata":{{"t":{beside},"env":"prod"}},"question":"q"}}"#));
        odd.push(format!(
            r#"{{"runtime":{{"x":{beside}}},"question":"q","metadata":{{"env":"prod"}}}}"#
        ));
    }
    for depth in [50, 150, 900, 1100, 5000] {
        let deep = format!("{}1{}", r#"{"a":"#.repeat(depth), "}".repeat(depth));
        odd.push(format!(r#"{{"question":"q","d":{deep},"metadata":{{"env":"prod"}}}}"#));
        odd.push(format!(
            r#"{{"question":"q","metadata":{{"env":"prod","d":{}{}}}}}"#,
            "[".repeat(depth),
            "]".repeat(depth)
        ));
    }
    odd.extend([
        "\u{feff}{\"question\":\"q\",\"metadata\":{\"env\":\"prod\"}}".to_owned(),
        " \n\t{ \"question\" : \"q\" , \"metadata\" : { \"env\" : \"prod\" } } \n".to_owned(),
        r#"{"question":"q","metadata":{"env":"prod"}} trailing"#.to_owned(),
        "{\"question\":\"q\",\"metadata\":{\"env\":\"prod\"}}\u{0}".to_owned(),
        r#"{"question":"other","question":"q","metadata":{"env":"test","env":"prod"}}"#.to_owned(),
        r#"{"question":"q","question":"other","metadata":{"env":"prod","env":"test"}}"#.to_owned(),
        r#"{"\u0071uestion":"q","metadata":{"\u0065nv":"pr\u006fd"}}"#.to_owned(),
        r#"{"question":"q","metadata":{"env":"prod"},"cut":[1,"#.to_owned(),
        r#"{"question":"q","metadata":{"env":"prod","cut":"pro"#.to_owned(),
    ]);
    odd
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs chDB: make test"]
async fn odd_json_is_judged_by_the_path_that_is_asked_for_inline_and_offloaded_alike() {
    let world = World::start().await;
    let odd = odd();
    let mut rows = Vec::new();
    for (n, document) in (1..).zip(&odd) {
        let (inline, away) = (id(2 * n), id(2 * n + 1));
        world.s3.put(SOURCE_BUCKET, &format!("odd/{n}"), document.as_bytes());
        rows.push(json!({"id": inline, "extra": document, "inputs": document}));
        let pointer = format!("odd/{n}");
        rows.push(
            json!({"id": away, "s3_urls": json!({"extra": pointer}).to_string(), "inputs_s3_urls": json!({"ROOT": pointer}).to_string()}),
        );
    }
    world.insert(&rows).await;
    let _exporter = world.exporter();
    let every: Vec<_> = (2..2 * odd.len() as u128 + 2).map(id).collect();
    for filter in [
        r#"and(eq(metadata_key,"env"), eq(metadata_value,"prod"))"#,
        r#"eq(metadata_key,"env")"#,
        r#"and(eq(input_key,"question"), eq(input_value,"q"))"#,
        r#"and(in(metadata_key,["env","nothing"]), like(metadata_value,"pr%"))"#,
        r#"eq(input_key,"metadata.env")"#,
        r#"neq(metadata_key,"absent")"#,
        r#"not(and(eq(metadata_key,"env"), eq(metadata_value,"staging")))"#,
    ] {
        let (found, undecided) = filtered(&world, filter).await;
        let lacks: Vec<_> = every.iter().filter(|id| !found.contains(id)).collect();
        assert!(
            lacks.is_empty() && undecided == 0,
            "{filter}: {undecided} undecided, not found: {:?}",
            told(&lacks, &odd)
        );
    }
    for filter in [
        r#"neq(metadata_key,"env")"#,
        r#"eq(metadata_key,"absent")"#,
        r#"neq(input_key,"question")"#,
        r#"and(eq(metadata_key,"env"), eq(metadata_value,"staging"))"#,
    ] {
        let (found, undecided) = filtered(&world, filter).await;
        let found: Vec<_> = found.iter().collect();
        assert!(
            found.is_empty() && undecided == 0,
            "{filter}: {undecided} undecided, found: {:?}",
            told(&found, &odd)
        );
    }
}

/// What the rows with these ids hold, and where.
fn told(ids: &[&String], odd: &[String]) -> Vec<String> {
    let of = |wanted: &&&String| {
        (2..).map(|n| (n, id(n))).find(|(_, id)| id == **wanted).unwrap().0 as usize
    };
    let ids = ids.iter().map(|wanted| of(&wanted));
    ids.map(|n| {
        format!("{} {:.120}", if n % 2 == 0 { "inline" } else { "offloaded" }, odd[n / 2 - 1])
    })
    .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs chDB: make test"]
async fn what_passes_inline_passes_offloaded() {
    let world = World::start().await;
    let texts = [
        r#"{"score": NaN,"q":"x"}"#,
        "\u{feff}{\"a\":1}",
        "{\"a\":1}\u{0}",
        "",
        "\n",
        "   ",
        "plain text",
        "{\"cut\":",
        r#"{"a":"caf\ud83d"}"#,
        "null",
        "\"\"",
        "[]",
        "日本 \u{1f600}",
    ];
    let mut rows = Vec::new();
    for (n, text) in (1..).zip(texts) {
        world.s3.put(SOURCE_BUCKET, &format!("same/{n}"), text.as_bytes());
        rows.push(json!({"id": id(2 * n), "inputs": text, "extra": text, "events": text}));
        let (key, others) = (
            format!("same/{n}"),
            json!({"extra": format!("same/{n}"), "events": format!("same/{n}")}),
        );
        rows.push(json!({"id": id(2 * n + 1), "inputs_s3_urls": json!({"ROOT": key}).to_string(), "s3_urls": others.to_string()}));
    }
    world.insert(&rows).await;
    let _exporter = world.exporter();
    let export = world.export(DAY.0, DAY.1).await;
    assert_eq!(world.ended(&export).await.status(), ExportStatus::Completed);
    let rows = world.rows(&export);
    let field =
        |n: u128, name: &str| rows.iter().find(|row| row["id"] == id(n)).unwrap()[name].clone();
    for (n, text) in (1..).zip(texts) {
        let meant = if text.is_empty() { Value::Null } else { text.into() };
        for name in ["inputs", "extra", "events"] {
            assert_eq!(
                (field(2 * n, name), field(2 * n + 1, name)),
                (meant.clone(), meant.clone()),
                "{name} {text:?}"
            );
        }
    }
    assert_eq!(world.manifest(&export, None)["totals"]["hydration_misses"], 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs chDB: make test"]
async fn an_empty_inline_value_beside_a_pointer_gives_way_to_the_object() {
    let world = World::start().await;
    world.s3.put(SOURCE_BUCKET, "k", br#"{"q":"x"}"#);
    let empty = ["{}", "null", "\"\"", "[]", ""];
    let row = |n: usize| json!({"id": id(n as u128 + 1), "inputs": empty[n], "inputs_s3_urls": r#"{"ROOT":"k"}"#});
    world.insert(&(0..empty.len()).map(row).collect::<Vec<_>>()).await;
    world.insert(&[json!({"id": id(9), "inputs": "{}", "inputs_s3_urls": "{}"})]).await;
    let _exporter = world.exporter();
    let export = world.export(DAY.0, DAY.1).await;
    assert_eq!(world.ended(&export).await.status(), ExportStatus::Completed);
    let rows = world.rows(&export);
    let filled = rows.iter().filter(|row| row["inputs"] == r#"{"q":"x"}"#).count();
    assert_eq!(
        (filled, rows.iter().find(|row| row["id"] == id(9)).unwrap()["inputs"].as_str()),
        (5, Some("{}"))
    );
    assert_eq!(filtered(&world, r#"eq(input_key,"q")"#).await, ((1..=5).map(id).collect(), 0));
    assert_eq!(filtered(&world, r#"neq(input_key,"q")"#).await, (vec![id(9)], 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs chDB: make test"]
async fn texts_and_numbers_come_as_they_were_ingested() {
    let world = World::start().await;
    let odd = "a/b\\c\t\u{0}\r\n\"'\u{7f}é😀";
    world
        .insert(&[
            json!({"id": id(1), "tags": ["openai/gpt-4o", "env/prod", "https://x/y", odd], "name": odd, "error": odd, "inputs": odd,
                   "feedback_stats": odd, "dotted_order": odd, "status": odd, "run_type": odd, "trace_tier": odd}),
            json!({"id": id(2), "prompt_tokens": i64::MAX, "completion_tokens": u64::MAX, "total_tokens": i64::MAX as u64 + 1,
                   "prompt_cost": "999999.999999999999", "completion_cost": "-999999.999999999999", "total_cost": "0.000000000001"}),
        ])
        .await;
    let _exporter = world.exporter();
    let export = world.export_with(DAY.0, DAY.1, |spec| spec.format_version = 2).await;
    assert_eq!(world.ended(&export).await.status(), ExportStatus::Completed);
    let rows = world.rows(&export);
    let row = |n: u128| rows.iter().find(|row| row["id"] == id(n)).unwrap();
    for name in [
        "name",
        "error",
        "inputs",
        "feedback_stats",
        "dotted_order",
        "status",
        "run_type",
        "trace_tier",
    ] {
        assert_eq!(row(1)[name], odd, "{name}");
    }
    let tags = row(1)["tags"].as_str().unwrap();
    assert!(tags.starts_with(r#"["openai/gpt-4o","env/prod","https://x/y","a/b\\c"#), "{tags}");
    assert_eq!(serde_json::from_str::<Vec<String>>(tags).unwrap()[3], odd);
    let numbers = [
        "prompt_tokens",
        "completion_tokens",
        "total_tokens",
        "prompt_cost",
        "completion_cost",
        "total_cost",
    ]
    .map(|name| &row(2)[name]);
    let meant = [json!("9223372036854775807"), Value::Null, Value::Null];
    let costs =
        ["999999.999999999999", "-999999.999999999999", "0.000000000001"].map(|cost| json!(cost));
    assert_eq!(numbers, [&meant[0], &meant[1], &meant[2], &costs[0], &costs[1], &costs[2]]);
    let run = world.runs(&export).await[0].id.clone();
    let misses = world.manifest(&export, Some(&run))["files"][0]["misses"].clone();
    let named: Vec<_> =
        misses.as_array().unwrap().iter().map(|miss| miss["column"].as_str().unwrap()).collect();
    assert_eq!(
        named,
        ["completion_tokens", "total_tokens"],
        "what Parquet cannot hold is null and named"
    );
}
