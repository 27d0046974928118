//! `BulkExport`, and what is said of a filter.

use serde::Serialize;
use tracelift_core::export::{Compression, FormatVersion};
use tracelift_proto::v1;

use super::{text, time};

/// Every field that a caller may give, then what became of it.
#[derive(Debug, Serialize)]
pub(crate) struct BulkExport {
    id: String,
    tenant_id: String,
    bulk_export_destination_id: String,
    session_id: Option<String>,
    all_experiments: bool,
    start_time: Option<String>,
    end_time: Option<String>,
    filter: Option<String>,
    format: &'static str,
    format_version: &'static str,
    compression: &'static str,
    interval_hours: Option<u32>,
    export_fields: Option<Vec<String>>,
    status: &'static str,
    created_at: Option<String>,
    updated_at: Option<String>,
    finished_at: Option<String>,
    source_bulk_export_id: Option<String>,
    /// Beyond LangSmith.
    progress: Progress,
    /// Beyond LangSmith.
    error: Option<String>,
    /// Beyond LangSmith: after the end, what was exported against what the trace store holds.
    reconciliation: Option<Reconciliation>,
}

#[derive(Debug, Serialize)]
struct Reconciliation {
    rows_exported: u64,
    rows_in_source: u64,
    reconciled_at: Option<String>,
}

#[derive(Debug, Serialize)]
struct Progress {
    runs_total: u32,
    runs_completed: u32,
    rows_written: u64,
    bytes_written: u64,
    files_written: u32,
    rows_total_estimate: Option<u64>,
    eta_seconds: Option<u64>,
}

impl From<v1::Export> for BulkExport {
    fn from(export: v1::Export) -> Self {
        let status = export.status().word();
        let spec = export.spec.unwrap_or_default();
        Self {
            id: export.id,
            tenant_id: export.tenant_id,
            format_version: format_version(spec.format_version()),
            compression: compression(spec.compression()),
            bulk_export_destination_id: spec.destination_id,
            session_id: text(spec.session_id),
            all_experiments: false,
            start_time: time(spec.start_time.as_ref()),
            end_time: time(spec.end_time.as_ref()),
            filter: text(spec.filter),
            format: "Parquet",
            interval_hours: Some(spec.interval_hours).filter(|hours| *hours > 0),
            export_fields: Some(spec.export_fields).filter(|fields| !fields.is_empty()),
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
            }),
        }
    }
}

/// Whether filters are valid.
#[derive(Debug, Serialize)]
pub(crate) struct FilterValidation {
    valid: bool,
    errors: Vec<FilterError>,
}

#[derive(Debug, Serialize)]
struct FilterError {
    field: String,
    message: String,
}

impl From<v1::ValidateFilterResponse> for FilterValidation {
    fn from(answer: v1::ValidateFilterResponse) -> Self {
        let errors = answer.errors.into_iter().map(|error| FilterError { field: error.field, message: error.message });
        Self { valid: answer.valid, errors: errors.collect() }
    }
}

impl From<v1::ExportProgress> for Progress {
    fn from(progress: v1::ExportProgress) -> Self {
        Self {
            runs_total: progress.runs_total,
            runs_completed: progress.runs_completed,
            rows_written: progress.rows_written,
            bytes_written: progress.bytes_written,
            files_written: progress.files_written,
            rows_total_estimate: progress.rows_total_estimate,
            eta_seconds: progress.eta_seconds,
        }
    }
}

fn compression(given: v1::Compression) -> &'static str {
    let known = Compression::ALL.iter().copied().find(|known| v1::Compression::from(*known) == given);
    known.unwrap_or_default().as_str()
}

fn format_version(given: v1::FormatVersion) -> &'static str {
    let known = FormatVersion::ALL.iter().copied().find(|known| v1::FormatVersion::from(*known) == given);
    known.unwrap_or_default().as_str()
}
