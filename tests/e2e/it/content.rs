//! What is in the files.

use std::io::Write as _;

use serde_json::{Value, json};
use tracelift_exporter::TransportCompression;
use tracelift_proto::v1::{Compression, ExportStatus, FormatVersion};
use tracelift_test_support::{
    dataset::{PROJECT_ID, TENANT_ID},
    s3::Operation,
    world::{SOURCE_BUCKET, World},
};

use crate::{all, id, ids, offloaded};

const DAY: (&str, &str) = ("2024-01-01", "2024-01-02");

async fn export(world: &World) -> (String, Vec<Value>) {
    let export = world.export(DAY.0, DAY.1).await;
    let ended = world.ended(&export).await;
    assert_eq!(ended.status(), ExportStatus::Completed, "{}", ended.error);
    let rows = world.rows(&export);
    (export, rows)
}

fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs chDB: make test"]
async fn every_form_of_pointer_is_filled_in() {
    let world = World::start().await;
    let put = |key: &str, content: &[u8]| world.s3.put(SOURCE_BUCKET, key, content);
    put("ttl_s/plain", br#"{"a":1}"#);
    put("ttl_s/gzip", &gzip(r#"{"b":2}"#));
    put("ttl_l/zstd", &zstd::encode_all(&br#"{"c":3}"#[..], 1).unwrap());
    put("ttl_7d/error", br#""ValueError: \"x\"""#);
    put("ttl_7d/extra", br#"{"e":5}"#);
    put("ttl_7d/events", b"[6]");
    let bucket = format!("s3://{SOURCE_BUCKET}");
    world
        .insert(&[
            json!({"id": id(1), "inputs_s3_urls": r#"{"ROOT": "ttl_s/plain"}"#, "outputs_s3_urls": r#"{"ROOT": {"s3_url": "ttl_s/gzip"}}"#}),
            json!({"id": id(2), "inputs_s3_urls": json!({"ROOT": {"s3_url": format!("{bucket}/ttl_l/zstd")}}).to_string(), "outputs": "{\"inline\":1}"}),
            json!({"id": id(3), "s3_urls": r#"{"error": "ttl_7d/error", "extra": {"s3_url": "ttl_7d/extra"}, "events": "ttl_7d/events", "attachment.x": "k"}"#}),
            json!({"id": id(4), "inputs": "{\"both\":\"inline wins\"}", "inputs_s3_urls": r#"{"ROOT": "ttl_s/plain"}"#}),
        ])
        .await;
    let _exporter = world.exporter();
    let (export, rows) = export(&world).await;
    let field =
        |n: u128, name: &str| rows.iter().find(|row| row["id"] == id(n)).unwrap()[name].clone();
    assert_eq!(field(1, "inputs"), r#"{"a":1}"#);
    assert_eq!(field(1, "outputs"), r#"{"b":2}"#);
    assert_eq!(field(2, "inputs"), r#"{"c":3}"#);
    assert_eq!(field(2, "outputs"), r#"{"inline":1}"#);
    assert_eq!(field(3, "error"), r#"ValueError: "x""#);
    assert_eq!(field(3, "extra"), r#"{"e":5}"#);
    assert_eq!(field(3, "events"), "[6]");
    assert_eq!(field(3, "inputs"), Value::Null);
    assert_eq!(field(4, "inputs"), r#"{"both":"inline wins"}"#);
    assert_eq!(world.manifest(&export, None)["totals"]["hydration_misses"], 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs chDB: make test"]
async fn rows_that_clickhouse_packs_on_their_way_are_the_same() {
    let world = World::start().await;
    let row = |n: u128| json!({"id": id(n), "name": format!("é{n}"), "inputs": format!(r#"{{"text":"{}"}}"#, "packed ".repeat(40)), "tags": ["a", "b"]});
    world.insert(&(1..=100).map(row).collect::<Vec<_>>()).await;
    let mut exports = Vec::new();
    for packing in [TransportCompression::None, TransportCompression::Lz4] {
        let mut settings = world.exporter_settings("exporter-1");
        settings.clickhouse.clickhouse_compression = packing;
        let _exporter = world.start_exporter(&settings);
        exports.push(export(&world).await.1);
    }
    assert_eq!(ids(&exports[1]), all(100));
    assert_eq!(exports[0], exports[1]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs chDB: make test"]
async fn a_field_that_cannot_be_had_is_null_and_named_and_its_row_stays() {
    let world = World::start().await;
    world.s3.put(SOURCE_BUCKET, "blobs/text", b"not json");
    world.s3.put(SOURCE_BUCKET, "blobs/binary", &[0xff, 0xfe]);
    world.s3.put(SOURCE_BUCKET, "blobs/pack", &gzip("{}")[..12]);
    let row = |n: u128, pointer: &str| json!({"id": id(n), "inputs_s3_urls": pointer});
    world
        .insert(&[
            row(1, r#"{"ROOT": "blobs/gone"}"#),
            row(2, r#"{"ROOT": "blobs/text"}"#),
            row(3, r#"{"ROOT": "blobs/binary"}"#),
            row(4, r#"{"ROOT": "blobs/pack"}"#),
            row(5, r#"{"ROOT": "s3://somebody-elses/blobs/text"}"#),
            row(6, r#"{"ROOT": 7}"#),
            row(7, "{broken"),
        ])
        .await;
    let _exporter = world.exporter();
    let (export, rows) = export(&world).await;
    assert_eq!(ids(&rows), all(7));
    let inputs = |n: u128| rows.iter().find(|row| row["id"] == id(n)).unwrap()["inputs"].clone();
    assert_eq!(
        [inputs(2), inputs(3)],
        ["not json", "\u{fffd}\u{fffd}"],
        "content is passed on, whatever it is"
    );
    assert!([1, 4, 5, 6, 7].into_iter().all(|n| inputs(n).is_null()));
    let run = &world.runs(&export).await[0];
    assert_eq!(run.result.as_ref().unwrap().hydration_misses, 5);
    let manifest = world.manifest(&export, Some(&run.id));
    let misses = manifest["files"][0]["misses"].as_array().unwrap();
    let reasons: Vec<_> = misses
        .iter()
        .map(|miss| format!("{} {}: {}", miss["id"], miss["column"], miss["reason"]))
        .collect();
    insta::assert_snapshot!(reasons.join("\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs chDB: make test"]
async fn an_object_that_moved_with_its_retention_is_found() {
    let world = World::start().await;
    world.s3.put(SOURCE_BUCKET, "ttl_s/1", b"{}");
    world.insert(&[json!({"id": id(1), "inputs_s3_urls": r#"{"ROOT": "ttl_s/1"}"#})]).await;
    let gate = world.s3.faults.hold(Operation::GetObject, "ttl_s/1");
    let _exporter = world.exporter();
    let export = world.export(DAY.0, DAY.1).await;
    gate.reached().await;
    world.s3.delete(SOURCE_BUCKET, "ttl_s/1");
    world.s3.put(SOURCE_BUCKET, "ttl_l/1", br#"{"moved":true}"#);
    let moved = json!({"id": id(1), "inputs_s3_urls": r#"{"ROOT": "ttl_l/1"}"#, "modified_at": "2024-01-02 00:00:00"});
    world.insert(&[moved]).await;
    gate.open();
    assert_eq!(world.ended(&export).await.status(), ExportStatus::Completed);
    assert_eq!(world.rows(&export)[0]["inputs"], r#"{"moved":true}"#);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs chDB: make test"]
async fn every_id_appears_once_in_its_newest_version_and_deleted_ones_do_not() {
    let world = World::start().await;
    let version = |n: u128, name: &str, second: u32, deleted: u8| json!({"id": id(n), "name": name, "modified_at": format!("2024-01-01 12:00:{second:02}"), "is_deleted": deleted});
    world
        .insert(&[
            version(1, "old", 1, 0),
            version(2, "kept", 1, 0),
            version(3, "deleted later", 1, 0),
        ])
        .await;
    world.insert(&[version(1, "new", 2, 0)]).await;
    world.insert(&[version(3, "deleted later", 2, 1), version(1, "stale", 0, 0)]).await;
    let _exporter = world.exporter();
    let (_, rows) = export(&world).await;
    let mut names: Vec<_> = rows.iter().map(|row| row["name"].as_str().unwrap()).collect();
    names.sort_unstable();
    assert_eq!(names, ["kept", "new"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs chDB: make test"]
async fn it_is_so_wherever_in_a_block_of_the_answer_a_row_has_versions() {
    const ROWS: u128 = 40;
    let world = World::start().await;
    let row = |day: u128, nth: u128, name: &str, second: u32, deleted: u8| {
        let time = format!("2024-01-0{day} 12:00:{:02}", nth / 2); // two at once
        json!({"id": id(day * 100 + nth), "start_time": time, "name": name, "modified_at": format!("2024-01-01 12:00:{second:02}"), "is_deleted": deleted})
    };
    // Blocks have 16 rows here: of each day another row has versions, the fifth day has none.
    let versions = [0, 15, 16, 31, ROWS, ROWS - 1].map(|nth| move |other: u128| nth == other);
    let days = || {
        versions
            .iter()
            .zip(1..)
            .flat_map(|(has, day)| (0..ROWS).map(move |nth| (day, nth, has(nth))))
    };
    world
        .insert(&days().map(|(day, nth, _)| row(day, nth, "kept", 1, 0)).collect::<Vec<_>>())
        .await;
    world
        .insert(
            &days()
                .filter(|of| of.2)
                .map(|(day, nth, _)| row(day, nth, "new", 2, 0))
                .collect::<Vec<_>>(),
        )
        .await;
    world.insert(&[row(1, 7, "withdrawn", 2, 1), row(5, 20, "late", 0, 1)]).await;
    let mut settings = world.exporter_settings("exporter-1");
    settings.limits.batch_bytes = 10_000;
    let _exporter = world.start_exporter(&settings);
    let export = world.export("2024-01-01", "2024-01-07").await;
    assert_eq!(world.ended(&export).await.status(), ExportStatus::Completed);
    let rows = world.rows(&export);
    let expected: Vec<_> = days()
        .filter(|of| (of.0, of.1) != (1, 7))
        .map(|(day, nth, _)| id(day * 100 + nth))
        .collect();
    assert_eq!(ids(&rows), expected);
    for row in rows {
        let new = days().any(|(day, nth, new)| new && row["id"] == id(day * 100 + nth));
        assert_eq!(row["name"], if new { "new" } else { "kept" });
        assert_eq!(row["tenant_id"], TENANT_ID);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs chDB: make test"]
async fn windows_are_half_open_to_the_microsecond_and_no_other_tenants_or_projects_row_appears() {
    let world = World::start().await;
    let at = |n: u128, time: &str| json!({"id": id(n), "start_time": time});
    world
        .insert(&[
            at(10, "2024-01-01 09:59:59.999999"),
            at(1, "2024-01-01 10:00:00.000000"),
            at(2, "2024-01-01 23:59:59.999999"),
            at(3, "2024-01-02 00:00:00.000000"),
            at(4, "2024-01-02 10:00:00.123455"),
            at(11, "2024-01-02 10:00:00.123456"),
            json!({"id": id(12), "tenant_id": id(99), "start_time": "2024-01-01 12:00:00"}),
            json!({"id": id(13), "session_id": id(99), "start_time": "2024-01-01 12:00:00"}),
        ])
        .await;
    let _exporter = world.exporter();
    let export = world.export("2024-01-01T10:00:00Z", "2024-01-02T10:00:00.123456Z").await;
    assert_eq!(world.ended(&export).await.status(), ExportStatus::Completed);
    assert_eq!(ids(&world.rows(&export)), all(4));
    let days: Vec<_> = world
        .runs(&export)
        .await
        .into_iter()
        .flat_map(|run| run.result.unwrap().exported_files)
        .collect();
    assert!(
        days[0].contains("/runs/year=2024/month=1/day=1/") && days[1].contains("/day=2/"),
        "{days:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs chDB: make test"]
async fn text_that_is_no_utf_8_is_mended_and_its_row_stays() {
    let world = World::start().await;
    world.insert(&[json!({"id": id(1), "inputs": "{}"}), json!({"id": id(2)})]).await;
    let broken = "unhex('61FF62')";
    let columns = [
        "name",
        "run_type",
        "status",
        "dotted_order",
        "trace_tier",
        "inputs",
        "outputs",
        "error",
        "extra",
        "events",
        "feedback_stats",
        "s3_urls",
    ];
    let columns: Vec<_> = columns.iter().map(|column| format!("{broken} AS {column}")).collect();
    let sql = format!(
        "INSERT INTO runs SELECT * REPLACE ({}, [{broken}] AS tags, modified_at + 1 AS modified_at) FROM runs WHERE id = toUUID('{}')",
        columns.join(", "),
        id(1)
    );
    world.clickhouse.execute(&sql).await;
    let _exporter = world.exporter();
    let (_, rows) = export(&world).await;
    assert_eq!(ids(&rows), all(2));
    let mended = rows.iter().find(|row| row["id"] == id(1)).unwrap();
    for column in ["name", "status", "inputs", "extra"] {
        assert_eq!(mended[column], "a\u{fffd}b", "{column}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs chDB: make test"]
async fn a_partition_without_rows_is_complete_without_files() {
    let world = World::start().await;
    let _exporter = world.exporter();
    let (export, rows) = export(&world).await;
    assert!(rows.is_empty());
    let run = &world.runs(&export).await[0];
    let result = run.result.as_ref().unwrap();
    assert_eq!((result.rows_written, result.exported_files.len()), (0, 0));
    assert_eq!(world.manifest(&export, Some(&run.id))["totals"]["rows"], 0);
    assert!(world.succeeded(&export));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs chDB: make test"]
async fn rows_become_many_files_when_files_are_small() {
    let world = World::start().await;
    let text = |n: u128| format!("{{\"text\":\"{}\"}}", incompressible(n));
    let rows: Vec<_> = offloaded(400)
        .into_iter()
        .zip(1u128..)
        .map(|(mut row, n)| {
            row["outputs"] = json!(text(n));
            row
        })
        .collect();
    (1..=400).for_each(|n| world.s3.put(SOURCE_BUCKET, &format!("blobs/{n}"), b"{}"));
    world.insert(&rows).await;
    let mut settings = world.exporter_settings("exporter-1");
    settings.limits.batch_bytes = 100_000;
    settings.limits.row_group_bytes = 20_000;
    settings.limits.file_bytes = 60_000;
    let _exporter = world.start_exporter(&settings);
    let (export, rows) = export(&world).await;
    assert_eq!(ids(&rows), all(400));
    let files = world.runs(&export).await[0].result.clone().unwrap().exported_files;
    assert!(files.len() > 2, "{files:?}");
    assert!(
        files.iter().enumerate().all(|(n, file)| file.ends_with(&format!("-{n:05}.parquet"))),
        "{files:?}"
    );
}

/// Text that does not compress.
fn incompressible(n: u128) -> String {
    (0..64)
        .map(|k| {
            format!("{:x}", (n * 31 + k).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835))
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs chDB: make test"]
async fn columns_formats_and_codecs_are_as_asked_for_and_no_object_is_fetched_in_vain() {
    let world = World::start().await;
    world.insert(&[json!({"id": id(1), "inputs_s3_urls": r#"{"ROOT": "blobs/1"}"#, "total_cost": "0.000000000001"})]).await;
    let _exporter = world.exporter();
    let before = world.s3.faults.calls();
    let export = world
        .export_with(DAY.0, DAY.1, |spec| {
            spec.export_fields = vec!["total_cost".into(), "name".into()];
            spec.format_version = FormatVersion::V2Beta.into();
            spec.compression = Compression::Gzip.into();
        })
        .await;
    assert_eq!(world.ended(&export).await.status(), ExportStatus::Completed);
    let run = &world.runs(&export).await[0];
    let file = &run.result.as_ref().unwrap().exported_files[0];
    assert!(
        file.contains(&format!("/session_id={PROJECT_ID}/resource=runs/year=2024/month=1/day=1/")),
        "{file}"
    );
    assert_eq!(world.rows(&export), [json!({"total_cost": "0.000000000001", "name": "n"})]);
    // The check of the destination takes six calls, the file one, the manifests three; none is a
    // fetched blob.
    assert_eq!(world.s3.faults.calls() - before, 6 + 1 + 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs chDB: make test"]
async fn a_value_of_sixty_megabytes_goes_through() {
    let world = World::start().await;
    let large = format!("\"{}\"", "x".repeat(60 << 20));
    world.s3.put(SOURCE_BUCKET, "blobs/1", large.as_bytes());
    (2..=40).for_each(|n| world.s3.put(SOURCE_BUCKET, &format!("blobs/{n}"), b"{}"));
    world.insert(&offloaded(40)).await;
    let _exporter = world.exporter();
    let (_, rows) = export(&world).await;
    assert_eq!(ids(&rows), all(40));
    let found = rows.iter().find(|row| row["id"] == id(1)).unwrap();
    assert_eq!(found["inputs"].as_str().map(str::len), Some(large.len()));
}
