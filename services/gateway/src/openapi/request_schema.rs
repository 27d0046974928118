//! Request schemas for the OpenAPI document. The readers in `request` are authoritative; a test
//! sends them requests built from these schemas.

#![allow(dead_code, reason = "described, never made")]

use std::collections::BTreeMap;

use utoipa::{IntoParams, ToSchema};

use tracelift_rest_api::enums;

/// What to copy where.
#[derive(ToSchema)]
pub(crate) struct BulkExportCreate {
    #[schema(format = Uuid)]
    bulk_export_destination_id: String,
    /// The tracing project; needed without `all_experiments`, forbidden with it.
    #[schema(format = Uuid)]
    session_id: Option<String>,
    /// Instead of a project: every one with a reference dataset that has rows in the range, as
    /// found when the export starts.
    all_experiments: Option<bool>,
    /// Inclusive. Unix time in seconds or milliseconds is taken too, as a number or as text. A
    /// time between two microseconds counts as the later one, here and in `end_time`.
    #[schema(format = DateTime)]
    start_time: String,
    /// Exclusive; needed without `interval_hours`, forbidden with it.
    #[schema(format = DateTime)]
    end_time: Option<String>,
    /// Which rows, in the language of docs/filter.md.
    #[schema(max_length = 32768)]
    filter: Option<String>,
    #[schema(schema_with = enums::format, required = false)]
    format: String,
    #[schema(schema_with = enums::format_version, required = false)]
    format_version: String,
    #[schema(schema_with = enums::compression, required = false)]
    compression: String,
    /// Makes a schedule of it: an export for each window of so many hours.
    #[schema(minimum = 1, maximum = 168)]
    interval_hours: Option<u32>,
    /// Columns in this order; without it all but `feedbacks`.
    #[schema(max_items = 64)]
    export_fields: Option<Vec<String>>,
}

/// An empty object cancels too.
#[derive(ToSchema)]
pub(crate) struct BulkExportUpdate {
    #[schema(schema_with = enums::cancelled, required = false)]
    status: String,
}

/// Filters to look at.
#[derive(ToSchema)]
pub(crate) struct FilterQuery {
    filter: Option<String>,
    trace_filter: Option<String>,
    tree_filter: Option<String>,
}

/// A bucket, and by what it lets us in: credentials, a role, or neither where the operator allows
/// that.
#[derive(ToSchema)]
pub(crate) struct BulkExportDestinationCreate {
    #[schema(schema_with = enums::destination_type, required = false)]
    destination_type: String,
    #[schema(max_length = 255, pattern = r"^[a-zA-Z0-9\-_ ']+$")]
    display_name: String,
    config: DestinationConfig,
    credentials: Option<BucketCredentials>,
    /// Instead of credentials.
    aws_role_arn: Option<String>,
}

/// Exactly one of the two.
#[derive(ToSchema)]
pub(crate) struct BulkExportDestinationUpdate {
    credentials: Option<BucketCredentials>,
    aws_role_arn: Option<String>,
}

/// Where the bucket is.
#[derive(ToSchema)]
struct DestinationConfig {
    #[schema(min_length = 3, max_length = 63)]
    bucket_name: String,
    /// Root of everything written.
    #[schema(max_length = 791, required = false)]
    prefix: String,
    /// Needed for AWS.
    region: Option<String>,
    /// Needed for anything but AWS.
    #[schema(max_length = 2048)]
    endpoint_url: Option<String>,
    /// False when the endpoint's host begins with the bucket's name already.
    #[schema(default = true, required = false)]
    include_bucket_in_prefix: bool,
    /// ServerSideEncryption, SSEKMSKeyId, ExpectedBucketOwner, StorageClass, Tagging, ACL,
    /// RequestPayer.
    s3_additional_kwargs: Option<BTreeMap<String, String>>,
    config_kwargs_s3: Option<DestinationClient>,
    aws_role_arn: Option<String>,
}

/// How requests are made.
#[derive(ToSchema)]
struct DestinationClient {
    #[schema(schema_with = enums::addressing_style, required = false)]
    addressing_style: Option<String>,
    /// AWS only.
    use_accelerate_endpoint: Option<bool>,
    payload_signing_enabled: Option<bool>,
    #[schema(schema_with = enums::us_east_1, required = false)]
    us_east_1_regional_endpoint: Option<String>,
}

/// Keys of the bucket. They are never returned.
#[derive(ToSchema)]
struct BucketCredentials {
    #[schema(min_length = 1, max_length = 255)]
    access_key_id: String,
    #[schema(min_length = 1, max_length = 2048)]
    secret_access_key: String,
    #[schema(max_length = 2048)]
    session_token: Option<String>,
}

#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
pub(crate) struct ExportId {
    #[param(format = Uuid)]
    bulk_export_id: String,
}

#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
pub(crate) struct TaskId {
    #[param(format = Uuid)]
    run_id: String,
}

#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
pub(crate) struct DestinationId {
    #[param(format = Uuid)]
    destination_id: String,
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Page {
    /// How many.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
    /// How many to skip.
    #[param(minimum = 0)]
    offset: Option<u32>,
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct ListFilter {
    /// Only those; may be given several times.
    #[param(schema_with = enums::export_status, required = false)]
    status: String,
    #[param(format = Uuid)]
    destination_id: Option<String>,
    #[param(format = Uuid)]
    session_id: Option<String>,
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Source {
    /// The schedule.
    #[param(format = Uuid)]
    source_bulk_export_id: String,
}

#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
pub(crate) struct Idempotency {
    /// The same key and body within a day: the same answer, and nothing new.
    #[param(rename = "Idempotency-Key")]
    idempotency_key: Option<String>,
}

#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
pub(crate) struct LastEvent {
    /// The last event that a client was told before its stream broke.
    #[param(rename = "Last-Event-ID")]
    last_event_id: Option<String>,
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct AuditQuery {
    /// Inclusive.
    #[param(format = DateTime)]
    start_time: Option<String>,
    /// Inclusive.
    #[param(format = DateTime)]
    end_time: Option<String>,
    /// Only records of these operations; may be given several times.
    operations: Option<Vec<String>>,
    /// The workspace of the key; no other can be asked for.
    #[param(format = Uuid)]
    workspace_id: Option<String>,
    /// How many; 100 unless given.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}
