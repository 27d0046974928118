//! `BulkExport`, and the result of validating a filter.

use serde::Serialize;
use tracelift_core::export::{Compression, FileFormat, FormatVersion};
use tracelift_proto::v1;
use utoipa::ToSchema;

use crate::{enums, text, time};

/// Every field that a caller may give, then what became of it.
#[derive(Debug, Serialize, ToSchema)]
pub struct BulkExport {
    #[schema(format = Uuid)]
    id: String,
    #[schema(format = Uuid)]
    tenant_id: String,
    #[schema(format = Uuid)]
    bulk_export_destination_id: String,
    #[schema(format = Uuid)]
    session_id: Option<String>,
    all_experiments: bool,
    #[schema(format = DateTime)]
    start_time: Option<String>,
    #[schema(format = DateTime)]
    end_time: Option<String>,
    filter: Option<String>,
    #[schema(schema_with = enums::format)]
    format: &'static str,
    #[schema(schema_with = enums::format_version)]
    format_version: &'static str,
    #[schema(schema_with = enums::compression)]
    compression: &'static str,
    interval_hours: Option<u32>,
    export_fields: Option<Vec<String>>,
    #[schema(schema_with = enums::export_status)]
    status: &'static str,
    #[schema(format = DateTime)]
    created_at: Option<String>,
    #[schema(format = DateTime)]
    updated_at: Option<String>,
    #[schema(format = DateTime)]
    finished_at: Option<String>,
    #[schema(format = Uuid)]
    source_bulk_export_id: Option<String>,
    /// Beyond LangSmith.
    progress: ExportProgress,
    /// Beyond LangSmith.
    error: Option<String>,
    /// Beyond LangSmith: after the end, what was exported against what the trace store holds.
    reconciliation: Option<Reconciliation>,
    /// Beyond LangSmith: when its rows were first read. What came to the trace store later may be
    /// missing.
    #[schema(format = DateTime)]
    read_at: Option<String>,
    /// Beyond LangSmith: whether that was before the end of the range, so that rows of it may have
    /// come since.
    window_open: bool,
}

#[derive(Debug, Serialize, ToSchema)]
struct Reconciliation {
    rows_exported: u64,
    rows_in_source: u64,
    #[schema(format = DateTime)]
    reconciled_at: Option<String>,
    /// Of a filter that reads content: then rows_in_source should be the sum of the three other
    /// counts.
    rows_undecided: u64,
    rows_decided_against: u64,
}

#[derive(Debug, Serialize, ToSchema)]
struct ExportProgress {
    runs_total: u32,
    runs_completed: u32,
    rows_written: u64,
    bytes_written: u64,
    files_written: u32,
    rows_total_estimate: Option<u64>,
    eta_seconds: Option<u64>,
    /// Rows that are not exported because nobody can decide whether they match the filter.
    rows_undecided: u64,
}

impl From<v1::Export> for BulkExport {
    fn from(export: v1::Export) -> Self {
        let status = export.status().word();
        let spec = export.spec.unwrap_or_default();
        Self {
            id: export.id,
            tenant_id: export.tenant_id,
            format: file_format(spec.file_format()),
            format_version: format_version(spec.format_version()),
            compression: compression(spec.compression()),
            bulk_export_destination_id: spec.destination_id,
            session_id: text(spec.session_id),
            all_experiments: spec.all_experiments,
            start_time: time(spec.start_time.as_ref()),
            end_time: time(spec.end_time.as_ref()),
            filter: text(spec.filter),
            interval_hours: Some(spec.interval_hours).filter(|hours| *hours > 0),
            export_fields: Some(spec.export_fields).filter(|validation| !validation.is_empty()),
            status,
            created_at: time(export.created_at.as_ref()),
            updated_at: time(export.updated_at.as_ref()),
            finished_at: time(export.finished_at.as_ref()),
            source_bulk_export_id: text(export.source_export_id),
            progress: export.progress.unwrap_or_default().into(),
            error: text(export.error),
            reconciliation: export.reconciliation.map(|found| Reconciliation {
                rows_exported: found.rows_exported,
                rows_in_source: found.rows_in_source,
                reconciled_at: time(found.reconciled_at.as_ref()),
                rows_undecided: found.rows_undecided,
                rows_decided_against: found.rows_decided_against,
            }),
            read_at: time(export.read_at.as_ref()),
            window_open: export.window_open,
        }
    }
}

/// Whether filters are valid.
#[derive(Debug, Serialize, ToSchema)]
pub struct FilterValidation {
    valid: bool,
    errors: Vec<FilterError>,
}

#[derive(Debug, Serialize, ToSchema)]
struct FilterError {
    field: String,
    message: String,
}

impl From<v1::ValidateFilterResponse> for FilterValidation {
    fn from(response: v1::ValidateFilterResponse) -> Self {
        let errors = response
            .errors
            .into_iter()
            .map(|error| FilterError { field: error.field, message: error.message });
        Self { valid: response.valid, errors: errors.collect() }
    }
}

impl From<v1::ExportProgress> for ExportProgress {
    fn from(progress: v1::ExportProgress) -> Self {
        Self {
            runs_total: progress.runs_total,
            runs_completed: progress.runs_completed,
            rows_written: progress.rows_written,
            bytes_written: progress.bytes_written,
            files_written: progress.files_written,
            rows_total_estimate: progress.rows_total_estimate,
            eta_seconds: progress.eta_seconds,
            rows_undecided: progress.rows_undecided,
        }
    }
}

fn compression(given: v1::Compression) -> &'static str {
    let known =
        Compression::ALL.iter().copied().find(|known| v1::Compression::from(*known) == given);
    known.unwrap_or_default().as_str()
}

fn file_format(given: v1::FileFormat) -> &'static str {
    let mut known = FileFormat::ALL.iter().copied();
    known.find(|known| v1::FileFormat::from(*known) == given).unwrap_or_default().as_str()
}

fn format_version(given: v1::FormatVersion) -> &'static str {
    let known =
        FormatVersion::ALL.iter().copied().find(|known| v1::FormatVersion::from(*known) == given);
    known.unwrap_or_default().as_str()
}
