//! What an operator has set up wrong is said at once, by name; what is wrong with one object costs
//! its field.

use s3s::S3ErrorCode;
use secrecy::SecretString;
use serde_json::json;
use tracelift_proto::v1::{Export, ExportStatus, RetryRunRequest};
use tracelift_test_support::{
    s3::Operation,
    world::{SOURCE_BUCKET, World},
};

use crate::{all, id, ids, offloaded};

const DAY: (&str, &str) = ("2024-01-01", "2024-01-02");

/// An export that fails at its first attempt.
async fn failed(world: &World, settings: &tracelift_exporter::Settings) -> Export {
    let exporter = world.start_exporter(settings);
    let export = world.export(DAY.0, DAY.1).await;
    let end = world.ended(&export).await;
    assert_eq!(end.status(), ExportStatus::Failed);
    assert_eq!(world.runs(&export).await[0].retry_number, 0, "{}", end.error);
    exporter.stop().await;
    end
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs chDB: make test"]
async fn what_clickhouse_will_go_on_refusing_fails_at_once_and_names_what_to_change() {
    let world = World::start().await;
    world.insert(&offloaded(3)).await;
    world.clickhouse.execute("CREATE TABLE sums AS runs ENGINE = SummingMergeTree ORDER BY (tenant_id, session_id, start_time, id)").await;
    world
        .clickhouse
        .execute("CREATE TABLE few (id UUID, tenant_id UUID, session_id UUID, start_time DateTime64(6,'UTC')) ENGINE = Memory")
        .await;
    let usual = || world.exporter_settings("exporter-1");
    let mut password = usual();
    password.clickhouse.clickhouse_password = Some(SecretString::from("wrong"));
    let of_table = |name: &str| {
        let mut settings = usual();
        settings.clickhouse.runs_table = name.to_owned();
        settings
    };
    let mut errors = vec![
        failed(&world, &password).await.error,
        failed(&world, &of_table("nothing")).await.error,
        failed(&world, &of_table("sums")).await.error,
        failed(&world, &of_table("few")).await.error,
    ];
    world.clickhouse.set_profile(&[("readonly", "1")]);
    errors.push(failed(&world, &usual()).await.error);
    for (error, named) in errors.iter().zip([
        "CLICKHOUSE_PASSWORD",
        "CLICKHOUSE_RUNS_TABLE",
        "SummingMergeTree",
        "schema.sql",
        "readonly",
    ]) {
        assert!(
            error.contains("its operator must change its setup") && error.contains(named),
            "{error}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs chDB: make test"]
async fn an_object_that_the_store_refuses_costs_its_field_and_not_the_export() {
    let world = World::start().await;
    (1..=9).for_each(|n| world.s3.put(SOURCE_BUCKET, &format!("blobs/{n}"), b"{}"));
    let odd = ["ttl_s//x", &"a".repeat(1100), "/", "ttl_s/%2e%2e/z"];
    let mut rows = offloaded(9);
    rows.extend(
        odd.iter().zip(10..).map(
            |(key, n)| json!({"id": id(n), "inputs_s3_urls": json!({"ROOT": key}).to_string()}),
        ),
    );
    world.insert(&rows).await;
    for (n, code) in (2..).zip([
        "AccessDenied",
        "InvalidObjectState",
        "KeyTooLongError",
        "XMinioInvalidObjectName",
        "InvalidRequest",
        "KMS.DisabledException",
    ]) {
        let code = S3ErrorCode::from_bytes(code.as_bytes()).unwrap();
        world.s3.faults.refuse(Operation::GetObject, &format!("blobs/{n}"), code, u64::MAX);
    }
    let _exporter = world.exporter();
    let export = world.export(DAY.0, DAY.1).await;
    let end = world.ended(&export).await;
    assert_eq!(end.status(), ExportStatus::Completed, "{}", end.error);
    let rows = world.rows(&export);
    assert_eq!(rows.len(), 9 + odd.len());
    assert_eq!(rows.iter().filter(|row| row["inputs"] == "{}").count(), 3);
    let run = &world.runs(&export).await[0];
    assert_eq!(run.retry_number, 0);
    let misses = world.manifest(&export, Some(&run.id))["files"][0]["misses"].clone();
    let reason = |n: u128| {
        misses.as_array().unwrap().iter().find(|miss| miss["id"] == id(n)).unwrap()["reason"]
            .clone()
    };
    for (n, code) in (2..).zip([
        "AccessDenied",
        "InvalidObjectState",
        "KeyTooLongError",
        "XMinioInvalidObjectName",
        "InvalidRequest",
    ]) {
        assert!(reason(n).as_str().unwrap().contains(code), "{}", reason(n));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs chDB: make test"]
async fn a_store_that_refuses_every_object_is_the_operators_to_mend_and_says_so_at_once() {
    let world = World::start().await;
    (1..=30).for_each(|n| world.s3.put(SOURCE_BUCKET, &format!("blobs/{n}"), b"{}"));
    world.insert(&offloaded(30)).await;
    world.s3.faults.refuse(Operation::GetObject, "blobs/", S3ErrorCode::AccessDenied, 60);
    let end = failed(&world, &world.exporter_settings("exporter-1")).await;
    assert!(
        end.error.contains("refuses every object") && end.error.contains("s3:GetObject"),
        "{}",
        end.error
    );
    world.s3.faults.clear();
    world.s3.faults.refuse(Operation::GetObject, "blobs/", S3ErrorCode::InvalidAccessKeyId, 60);
    let end = failed(&world, &world.exporter_settings("exporter-2")).await;
    assert!(end.error.contains("BLOB_"), "{}", end.error);
    world.s3.faults.clear();
    let _exporter = world.exporter();
    let export = world.export(DAY.0, DAY.1).await;
    assert_eq!(world.ended(&export).await.status(), ExportStatus::Completed);
    assert_eq!(ids(&world.rows(&export)), all(30));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs chDB: make test"]
async fn of_rows_whose_objects_were_all_denied_nothing_is_kept_so_that_a_retry_fills_them_in() {
    let world = World::start().await;
    (1..=5).for_each(|n| world.s3.put(SOURCE_BUCKET, &format!("blobs/{n}"), b"{}"));
    world.insert(&offloaded(5)).await;
    world.s3.faults.refuse(Operation::GetObject, "blobs/", S3ErrorCode::AccessDenied, u64::MAX);
    let _exporter = world.exporter();
    let export = world.export(DAY.0, DAY.1).await;
    let end = world.ended(&export).await;
    assert_eq!(end.status(), ExportStatus::Failed);
    assert!(end.error.contains("refuses every object"), "{}", end.error);
    assert_eq!(world.rows(&export), Vec::<serde_json::Value>::new());
    world.s3.faults.clear();
    let run_id = world.runs(&export).await[0].id.clone();
    world.exports().retry_run(RetryRunRequest { export_id: export.clone(), run_id }).await.unwrap();
    let end = world.watched(&export, |export| export.status() == ExportStatus::Completed).await;
    assert_eq!(end.status(), ExportStatus::Completed);
    let rows = world.rows(&export);
    assert_eq!((rows.len(), rows.iter().filter(|row| row["inputs"] == "{}").count()), (5, 5));
}
