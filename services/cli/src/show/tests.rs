//! Output for people and for scripts, from fixed messages.

use super::*;
use crate::json;

fn at(seconds: i64) -> Option<prost_types::Timestamp> {
    Some(prost_types::Timestamp { seconds: 1_747_153_200 + seconds, nanos: 123_456_000 })
}

fn id(number: u32) -> String {
    format!("0190d1a2-0000-7000-8000-{number:012}")
}

fn some_destination() -> v1::Destination {
    v1::Destination {
        id: id(3),
        tenant_id: id(4),
        display_name: "My S3 Destination".into(),
        config: Some(v1::BucketConfig {
            bucket_name: "traces".into(),
            endpoint_url: "https://storage.googleapis.com".into(),
            addressing_style: v1::AddressingStyle::Path.into(),
            s3_additional_kwargs: [("StorageClass".to_owned(), "STANDARD_IA".to_owned())].into(),
            ..Default::default()
        }),
        credentials_keys: vec!["access_key_id".into(), "secret_access_key".into()],
        created_at: at(0),
        updated_at: at(1),
        aws_role_arn: String::new(),
        features: Some(v1::StoreFeatures {
            checksums: true,
            conditional_writes: false,
            object_size: true,
        }),
    }
}

fn some_export() -> v1::Export {
    v1::Export {
        id: id(1),
        tenant_id: id(4),
        spec: Some(v1::ExportSpec {
            destination_id: id(3),
            session_id: id(5),
            start_time: at(-86_400),
            end_time: at(0),
            export_fields: vec!["id".into(), "inputs".into()],
            filter: "eq(run_type, \"llm\")".into(),
            ..Default::default()
        }),
        status: v1::ExportStatus::Failed.into(),
        created_at: at(10),
        updated_at: at(11),
        finished_at: at(12),
        source_export_id: String::new(),
        progress: Some(v1::ExportProgress {
            runs_total: 3,
            runs_completed: 1,
            rows_written: 1_234_567,
            bytes_written: 123_456_789,
            files_written: 2,
            rows_total_estimate: Some(3_000_000),
            eta_seconds: Some(3725),
            rows_undecided: 2,
        }),
        error: "Access denied\u{1b}[2J".into(),
        reconciliation: Some(v1::Reconciliation {
            rows_exported: 1_234_567,
            rows_in_source: 1_234_569,
            reconciled_at: at(20),
            ..Default::default()
        }),
        read_at: at(-1),
        window_open: true,
    }
}

fn some_run() -> v1::ExportRun {
    v1::ExportRun {
        id: id(2),
        export_id: id(1),
        session_id: id(5),
        status: v1::RunStatus::Running.into(),
        retry_number: 1,
        errors: vec!["the source went away".into()],
        created_at: at(10),
        updated_at: at(12),
        start_time: at(-86_400),
        end_time: at(0),
        prefix: "root".into(),
        result: Some(v1::RunResult {
            rows_written: 1000,
            exported_files: vec!["traces/root/0.parquet".into()],
            files: 1,
            ..Default::default()
        }),
        stage: "reading".into(),
        progress: Some(v1::RunProgress { rows: 1500, ..Default::default() }),
        exporter_id: "exporter-1".into(),
        ..Default::default()
    }
}

#[test]
fn things_are_shown_a_line_per_field() {
    let tenant = v1::Tenant {
        id: id(4),
        display_name: "acme".into(),
        created_at: at(0),
        ..Default::default()
    };
    let shown = [destination(&some_destination()), export(&some_export()), super::tenant(&tenant)];
    insta::assert_snapshot!(shown.join("\n"));
}

#[test]
fn lists_are_aligned() {
    let small =
        v1::Export { status: v1::ExportStatus::Created.into(), progress: None, ..some_export() };
    let fresh = v1::ExportRun {
        stage: String::new(),
        errors: Vec::new(),
        progress: None,
        result: None,
        ..some_run()
    };
    let shown = [
        destinations(&[some_destination()]),
        exports(&[some_export(), small]),
        runs(&[some_run(), fresh]),
        exports(&[]),
    ];
    insta::assert_snapshot!(shown.join("\n"));
}

#[test]
fn json_has_the_names_of_the_rest_api() {
    let key = v1::ApiKey {
        id: id(6),
        tenant_id: id(4),
        display_name: "ci".into(),
        created_at: at(0),
        ..Default::default()
    };
    let shown = [
        json::destination(&some_destination()),
        json::export(&some_export()),
        json::run(&some_run()),
        json::new_key(&key, "tl_shown_once"),
    ];
    insta::assert_snapshot!(shown.map(|value| format!("{value:#}")).join("\n"));
}

#[test]
fn numbers_are_for_people() {
    assert_eq!([0, 999, 1000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
    assert_eq!([5, 65, 7380].map(seconds), ["5s", "1m 05s", "2h 03m"]);
    assert_eq!([1, 2].map(|n| counted(n, "file")), ["1 file", "2 files"]);
}
