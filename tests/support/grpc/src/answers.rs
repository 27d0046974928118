//! Default responses of the fake control plane.

use tracelift_core::{
    audit::{Chained, Link, Record},
    id::TenantId,
    time::Timestamp,
};
use tracelift_proto::v1;

/// The id of an export; most tests use no other.
pub const EXPORT: &str = "0190d1a2-0000-7000-8000-000000000001";
/// The id of one of its runs.
pub const RUN: &str = "0190d1a2-0000-7000-8000-000000000002";
/// The id of its destination.
pub const DESTINATION: &str = "0190d1a2-0000-7000-8000-000000000003";
/// The id of its tenant.
pub const TENANT: &str = "0190d1a2-0000-7000-8000-000000000004";
/// The id of the project it exports.
pub const PROJECT: &str = "0190d1a2-0000-7000-8000-000000000005";

pub(crate) fn at(seconds: i64) -> Option<prost_types::Timestamp> {
    Some(prost_types::Timestamp { seconds: 1_747_153_200 + seconds, nanos: 123_456_000 })
}

/// An export that is one third complete.
pub fn export() -> v1::Export {
    v1::Export {
        id: EXPORT.into(),
        tenant_id: TENANT.into(),
        spec: Some(v1::ExportSpec {
            destination_id: DESTINATION.into(),
            session_id: PROJECT.into(),
            all_experiments: false,
            start_time: at(-86_400),
            end_time: at(0),
            compression: v1::Compression::Zstandard.into(),
            file_format: v1::FileFormat::Parquet.into(),
            format_version: v1::FormatVersion::V1.into(),
            export_fields: Vec::new(),
            interval_hours: 0,
            filter: "eq(run_type, \"llm\")".into(),
        }),
        status: v1::ExportStatus::Running.into(),
        created_at: at(10),
        updated_at: at(11),
        finished_at: None,
        source_export_id: String::new(),
        progress: Some(v1::ExportProgress {
            runs_total: 3,
            runs_completed: 1,
            rows_written: 1000,
            bytes_written: 123_456,
            files_written: 2,
            rows_total_estimate: Some(3000),
            eta_seconds: None,
            rows_undecided: 2,
        }),
        error: String::new(),
        reconciliation: Some(v1::Reconciliation {
            rows_exported: 1000,
            rows_in_source: 1002,
            reconciled_at: at(13),
            ..Default::default()
        }),
        read_at: at(-1),
        window_open: true,
    }
}

/// One run that completed after many attempts, and one that is waiting.
pub(crate) fn runs() -> Vec<v1::ExportRun> {
    let done = v1::ExportRun {
        id: RUN.into(),
        export_id: EXPORT.into(),
        session_id: PROJECT.into(),
        status: v1::RunStatus::Completed.into(),
        retry_number: 11,
        errors: (0..11).map(|attempt| format!("lost {attempt}")).collect(),
        created_at: at(10),
        updated_at: at(12),
        finished_at: at(12),
        start_time: at(-86_400),
        end_time: at(0),
        prefix: "root".into(),
        result: Some(v1::RunResult {
            rows_written: 1000,
            bytes_written: 123_456,
            exported_files: vec!["bucket/root/export_id=1/0-00000.parquet".into()],
            export_path: "root/export_id=1".into(),
            latest_cursor: "2025-05-12T16:20:34.123456+00:00,0190".into(),
            hydrated_objects: 2000,
            hydration_misses: 1,
            pending_upload: Some(v1::PendingUpload {
                target_cursor: "2025-05-12T17:20:34.123456+00:00,0191".into(),
                file_path: "bucket/root/export_id=1/0-00001.parquet".into(),
                rows_count: 500,
            }),
            undecided: 2,
            decided_against: 3,
            undecided_fields: vec![v1::UndecidedField {
                id: RUN.into(),
                column: "extra".into(),
                reason: "the object does not exist".into(),
            }],
            files: 1,
        }),
        stage: "done".into(),
        progress: Some(v1::RunProgress {
            rows: 1000,
            bytes: 123_456,
            files: 1,
            rows_estimate: Some(1000),
            hydrated_objects: 2000,
            hydration_misses: 1,
            stage_seconds: Some(v1::StageSeconds {
                read: 0.5,
                hydrate: 1.25,
                encode: 0.75,
                upload: 0.25,
            }),
        }),
        exporter_id: "exporter-1".into(),
    };
    let fresh = v1::ExportRun {
        status: v1::RunStatus::Created.into(),
        retry_number: 0,
        errors: Vec::new(),
        finished_at: None,
        result: Some(v1::RunResult::default()),
        stage: "queued".into(),
        progress: None,
        exporter_id: String::new(),
        ..done.clone()
    };
    vec![done, fresh]
}

pub(crate) fn limits() -> v1::Limits {
    let of = |limit, used| Some(v1::Limit { limit, used });
    v1::Limits {
        running_exports: of(15, 3),
        runs_per_export: of(45, 12),
        exports_per_hour: of(0, 7),
        active_schedules: None,
        queued_exports: 2,
        run_timeout_seconds: 14_400,
        export_timeout_seconds: 86_400,
        retries_per_run: 20,
        days_per_export: 366,
        schedule_days_back: 366,
        exports_per_schedule: 0,
    }
}

pub(crate) fn destination() -> v1::Destination {
    v1::Destination {
        id: DESTINATION.into(),
        tenant_id: TENANT.into(),
        display_name: "My S3 Destination".into(),
        config: Some(v1::BucketConfig {
            bucket_name: "traces".into(),
            prefix: "root".into(),
            endpoint_url: "https://storage.googleapis.com".into(),
            include_bucket_in_prefix: Some(true),
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

/// Two records of a tenant, newest first, and the places where their chain begins and ends.
pub(crate) fn audit() -> v1::ListAuditRecordsResponse {
    let record = |number, action: &str| Record {
        number,
        at: Timestamp::from_nanos("", 1_747_153_200, 123_456_000).unwrap(),
        tenant: Some(TenantId::parse("", TENANT).unwrap()),
        actor_kind: "admin_token".into(),
        actor: "admin".into(),
        action: action.into(),
        object: TENANT.into(),
        refused: None,
        request_id: "request-1".into(),
        address: "192.0.2.1".into(),
    };
    let first = record(1, "create_tenant");
    let second = Record {
        actor_kind: "api_key".into(),
        actor: RUN.into(),
        object: EXPORT.into(),
        refused: Some("the export has ended".into()),
        ..record(2, "cancel_bulk_export")
    };
    let first = Chained { hash: first.hash(&Link::START.hash), record: first };
    let second = Chained { hash: second.hash(&first.hash), record: second };
    v1::ListAuditRecordsResponse {
        anchor: Some(Link::START.into()),
        head: Some(Link { number: 2, hash: second.hash }.into()),
        records: vec![second.into(), first.into()],
        next_page_token: String::new(),
    }
}
