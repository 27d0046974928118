//! `BulkExportRun`

use std::collections::BTreeMap;

use serde::{Serialize, Serializer, ser::SerializeMap as _};
use tracelift_proto::v1;
use utoipa::ToSchema;

use crate::{enums, text, time};

/// One time partition of an export.
#[derive(Debug, Serialize, ToSchema)]
pub struct BulkExportRun {
    #[schema(format = Uuid)]
    id: String,
    #[schema(format = Uuid)]
    bulk_export_id: String,
    #[schema(format = Uuid)]
    session_id: Option<String>,
    #[schema(schema_with = enums::run_status)]
    status: &'static str,
    retry_number: u32,
    #[schema(value_type = Option<BTreeMap<String, String>>)]
    errors: Option<Errors>,
    #[schema(format = DateTime)]
    created_at: Option<String>,
    #[schema(format = DateTime)]
    updated_at: Option<String>,
    #[schema(format = DateTime)]
    finished_at: Option<String>,
    #[schema(format = DateTime)]
    start_time: Option<String>,
    #[schema(format = DateTime)]
    end_time: Option<String>,
    metadata: RunMetadata,
    /// Beyond LangSmith.
    stage: Option<String>,
    /// Beyond LangSmith.
    progress: Option<RunProgress>,
    /// Beyond LangSmith.
    exporter_id: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
struct RunMetadata {
    prefix: String,
    #[schema(format = DateTime)]
    start_time: Option<String>,
    #[schema(format = DateTime)]
    end_time: Option<String>,
    execution_backend: &'static str,
    result: Option<RunResult>,
}

#[derive(Debug, Serialize, ToSchema)]
struct RunResult {
    rows_written: u64,
    exported_files: Vec<String>,
    export_path: String,
    latest_cursor: Option<String>,
    pending_upload: Option<PendingUpload>,
    /// Beyond LangSmith.
    bytes_written: u64,
    /// Beyond LangSmith: fields restored from objects.
    hydrated_objects: u64,
    /// Beyond LangSmith: fields that could not be restored and are null.
    hydration_misses: u64,
    /// Beyond LangSmith: rows that are not exported because nobody can decide whether they match
    /// the filter.
    undecided: u64,
    /// Beyond LangSmith: rows that were read and do not match the filter, as their content says.
    decided_against: u64,
    /// Beyond LangSmith: the content for which rows are undecided, 100 fields at most.
    undecided_fields: Vec<UndecidedField>,
}

/// Content that could not be had.
#[derive(Debug, Serialize, ToSchema)]
struct UndecidedField {
    #[schema(format = Uuid)]
    id: String,
    column: String,
    reason: String,
}

/// A file that is on its way.
#[derive(Debug, Serialize, ToSchema)]
struct PendingUpload {
    target_cursor: Option<String>,
    file_path: String,
    rows_count: u64,
}

#[derive(Debug, Serialize, ToSchema)]
struct RunProgress {
    rows: u64,
    bytes: u64,
    files: u32,
    rows_estimate: Option<u64>,
    hydrated_objects: u64,
    hydration_misses: u64,
    #[schema(value_type = BTreeMap<String, f64>)]
    stage_seconds: BTreeMap<&'static str, f64>,
}

/// `{"retry_0": "…", "retry_1": "…"}`, in that order.
#[derive(Debug)]
struct Errors(Vec<String>);

impl Serialize for Errors {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (attempt, error) in self.0.iter().enumerate().filter(|(_, error)| !error.is_empty()) {
            map.serialize_entry(&format!("retry_{attempt}"), error)?;
        }
        map.end()
    }
}

impl From<v1::ExportRun> for BulkExportRun {
    fn from(run: v1::ExportRun) -> Self {
        let completed = run.status() == v1::RunStatus::Completed;
        let (start_time, end_time) = (time(run.start_time.as_ref()), time(run.end_time.as_ref()));
        Self {
            status: run.status().word(),
            id: run.id,
            bulk_export_id: run.export_id,
            session_id: text(run.session_id),
            retry_number: run.retry_number,
            errors: run.errors.iter().any(|error| !error.is_empty()).then_some(Errors(run.errors)),
            created_at: time(run.created_at.as_ref()),
            updated_at: time(run.updated_at.as_ref()),
            finished_at: time(run.finished_at.as_ref()),
            start_time: start_time.clone(),
            end_time: end_time.clone(),
            metadata: RunMetadata {
                prefix: run.prefix,
                start_time,
                end_time,
                execution_backend: "clickhouse",
                result: run
                    .result
                    .filter(|result| {
                        completed
                            || !result.exported_files.is_empty()
                            || result.pending_upload.is_some()
                    })
                    .map(Into::into),
            },
            stage: text(run.stage),
            progress: run.progress.map(Into::into),
            exporter_id: text(run.exporter_id),
        }
    }
}

impl From<v1::RunResult> for RunResult {
    fn from(result: v1::RunResult) -> Self {
        Self {
            rows_written: result.rows_written,
            exported_files: result.exported_files,
            export_path: result.export_path,
            latest_cursor: text(result.latest_cursor),
            pending_upload: result.pending_upload.map(|pending| PendingUpload {
                target_cursor: text(pending.target_cursor),
                file_path: pending.file_path,
                rows_count: pending.rows_count,
            }),
            bytes_written: result.bytes_written,
            hydrated_objects: result.hydrated_objects,
            hydration_misses: result.hydration_misses,
            undecided: result.undecided,
            decided_against: result.decided_against,
            undecided_fields: result
                .undecided_fields
                .into_iter()
                .map(|field| UndecidedField {
                    id: field.id,
                    column: field.column,
                    reason: field.reason,
                })
                .collect(),
        }
    }
}

impl From<v1::RunProgress> for RunProgress {
    fn from(progress: v1::RunProgress) -> Self {
        let seconds = progress.stage_seconds.unwrap_or_default();
        Self {
            rows: progress.rows,
            bytes: progress.bytes,
            files: progress.files,
            rows_estimate: progress.rows_estimate,
            hydrated_objects: progress.hydrated_objects,
            hydration_misses: progress.hydration_misses,
            stage_seconds: BTreeMap::from([
                ("read", seconds.read),
                ("hydrate", seconds.hydrate),
                ("encode", seconds.encode),
                ("upload", seconds.upload),
            ]),
        }
    }
}
