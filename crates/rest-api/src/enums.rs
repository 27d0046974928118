//! Schemas of enum fields, with the values that the core rules accept.

use tracelift_core::{
    destination::{Addressing, UsEast1},
    export::{Compression, ExportStatus, FileFormat, FormatVersion},
};
use utoipa::openapi::{
    RefOr, Schema,
    schema::{ObjectBuilder, SchemaType, Type},
};

fn one_of(values: impl IntoIterator<Item = &'static str>) -> RefOr<Schema> {
    Schema::Object(
        ObjectBuilder::new()
            .schema_type(SchemaType::new(Type::String))
            .enum_values(Some(values))
            .build(),
    )
    .into()
}

/// The same, but nullable.
fn or_null(values: impl IntoIterator<Item = &'static str>) -> RefOr<Schema> {
    let values = values.into_iter().map(serde_json::Value::from).chain([serde_json::Value::Null]);
    let kinds = SchemaType::from_iter([Type::String, Type::Null]);
    Schema::Object(ObjectBuilder::new().schema_type(kinds).enum_values(Some(values)).build()).into()
}

/// `format` of an export.
pub fn format() -> RefOr<Schema> {
    one_of(FileFormat::ALL.iter().map(|format| format.as_str()))
}

/// `format_version` of an export.
pub fn format_version() -> RefOr<Schema> {
    one_of(FormatVersion::ALL.iter().map(|version| version.as_str()))
}

/// `compression` of an export.
pub fn compression() -> RefOr<Schema> {
    one_of(Compression::ALL.iter().map(|codec| codec.as_str()))
}

/// `status` of an export.
pub fn export_status() -> RefOr<Schema> {
    one_of(ExportStatus::ALL.iter().map(|status| status.as_str()))
}

/// `status` of a run.
pub fn run_status() -> RefOr<Schema> {
    one_of(
        ExportStatus::ALL
            .iter()
            .filter(|status| **status != ExportStatus::IntervalScheduled)
            .map(|status| status.as_str()),
    )
}

/// The only status that a caller may set.
pub fn cancelled() -> RefOr<Schema> {
    one_of([ExportStatus::Cancelled.as_str()])
}

/// `destination_type`.
pub fn destination_type() -> RefOr<Schema> {
    one_of(["s3"])
}

/// `addressing_style`, or null.
pub fn addressing_style() -> RefOr<Schema> {
    or_null([Addressing::Auto, Addressing::Virtual, Addressing::Path].map(Addressing::as_str))
}

/// `us_east_1_regional_endpoint`, or null.
pub fn us_east_1() -> RefOr<Schema> {
    or_null([UsEast1::Regional, UsEast1::Legacy].map(UsEast1::as_str))
}
