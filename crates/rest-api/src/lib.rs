//! The objects of the REST API: field names, types and order, their OpenAPI schemas, and their
//! conversion from gRPC messages.
//!
//! The gateway returns and documents them, and the command prints them with `--json`, so the three
//! cannot differ.

mod audit;
mod destinations;
pub mod enums;
mod exports;
mod limits;
mod runs;

use tracelift_proto::time_from;

pub use audit::{AuditLog, AuditLogs, AuditRecord};
pub use destinations::BulkExportDestination;
pub use exports::{BulkExport, FilterValidation};
pub use limits::Limits;
pub use runs::BulkExportRun;

/// `2025-05-13T16:20:34.123456+00:00`, or null.
fn time(time: Option<&prost_types::Timestamp>) -> Option<String> {
    time_from("", time).ok().map(|time| time.to_string())
}

/// Null instead of an empty string.
fn text(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}
