//! Messages as JSON for scripts: the objects of the REST API, as the gateway returns them, and
//! those of admin calls, which REST does not have.

use serde::Serialize;
use serde_json::{Value, json};
use tracelift_proto::{time_from, v1};
use tracelift_rest_api::{
    AuditRecord, BulkExport, BulkExportDestination, BulkExportRun, FilterValidation, Limits,
};

fn value(object: impl Serialize) -> Value {
    serde_json::to_value(object).unwrap_or_default()
}

fn time(time: Option<&prost_types::Timestamp>) -> Value {
    time_from("", time).map_or(Value::Null, |time| time.to_string().into())
}

pub(crate) fn destination(destination: &v1::Destination) -> Value {
    value(BulkExportDestination::from(destination.clone()))
}

pub(crate) fn export(export: &v1::Export) -> Value {
    value(BulkExport::from(export.clone()))
}

pub(crate) fn run(run: &v1::ExportRun) -> Value {
    value(BulkExportRun::from(run.clone()))
}

pub(crate) fn limits(limits: &v1::Limits) -> Value {
    value(Limits::from(*limits))
}

pub(crate) fn filter(found: &v1::ValidateFilterResponse) -> Value {
    value(FilterValidation::from(found.clone()))
}

pub(crate) fn record(record: &v1::AuditRecord) -> Value {
    value(AuditRecord::from(record.clone()))
}

pub(crate) fn tenant(tenant: &v1::Tenant) -> Value {
    json!({
        "id": tenant.id,
        "display_name": tenant.display_name,
        "created_at": time(tenant.created_at.as_ref()),
        "suspended_at": time(tenant.suspended_at.as_ref()),
        "deleted_at": time(tenant.deleted_at.as_ref()),
    })
}

pub(crate) fn key(key: &v1::ApiKey) -> Value {
    json!({
        "id": key.id,
        "tenant_id": key.tenant_id,
        "display_name": key.display_name,
        "permission": key.permission().word(),
        "created_at": time(key.created_at.as_ref()),
        "expires_at": time(key.expires_at.as_ref()),
        "last_used_at": time(key.last_used_at.as_ref()),
        "revoked_at": time(key.revoked_at.as_ref()),
    })
}

/// A new key including its secret, which no other response contains.
pub(crate) fn new_key(key: &v1::ApiKey, secret: &str) -> Value {
    let mut shown = self::key(key);
    shown["key"] = secret.into();
    shown
}
