//! Messages as JSON for scripts, with the field names of the REST API.

use serde_json::{Map, Value, json};
use tracelift_core::{
    destination::Addressing,
    export::{Compression, FileFormat, FormatVersion},
};
use tracelift_proto::{time_from, v1};

fn time(time: Option<&prost_types::Timestamp>) -> Value {
    time_from("", time).map_or(Value::Null, |time| time.to_string().into())
}

fn text(text: &str) -> Value {
    if text.is_empty() { Value::Null } else { text.into() }
}

pub(crate) fn destination(destination: &v1::Destination) -> Value {
    let config = destination.config.clone().unwrap_or_default();
    let style = [Addressing::Virtual, Addressing::Path]
        .into_iter()
        .find(|style| v1::AddressingStyle::from(*style) == config.addressing_style());
    json!({
        "id": destination.id,
        "tenant_id": destination.tenant_id,
        "destination_type": "s3",
        "display_name": destination.display_name,
        "config": {
            "bucket_name": config.bucket_name,
            "prefix": config.prefix,
            "region": text(&config.region),
            "endpoint_url": text(&config.endpoint_url),
            "include_bucket_in_prefix": config.include_bucket_in_prefix.unwrap_or(true),
            "s3_additional_kwargs": Some(&config.s3_additional_kwargs).filter(|options| !options.is_empty()),
            "config_kwargs_s3": style.map(|style| json!({"addressing_style": style.as_str()})),
        },
        "credentials_keys": destination.credentials_keys,
        "created_at": time(destination.created_at.as_ref()),
        "updated_at": time(destination.updated_at.as_ref()),
        "store_features": destination.features.map(|features| json!({
            "checksums": features.checksums,
            "conditional_writes": features.conditional_writes,
            "object_size": features.object_size,
        })),
    })
}

pub(crate) fn export(export: &v1::Export) -> Value {
    let spec = export.spec.clone().unwrap_or_default();
    let progress = export.progress.unwrap_or_default();
    let compression = Compression::ALL
        .iter()
        .copied()
        .find(|known| v1::Compression::from(*known) == spec.compression());
    let format = FileFormat::ALL
        .iter()
        .copied()
        .find(|known| v1::FileFormat::from(*known) == spec.file_format());
    let version = FormatVersion::ALL
        .iter()
        .copied()
        .find(|known| v1::FormatVersion::from(*known) == spec.format_version());
    json!({
        "id": export.id,
        "tenant_id": export.tenant_id,
        "bulk_export_destination_id": spec.destination_id,
        "session_id": Some(spec.session_id).filter(|id| !id.is_empty()),
        "all_experiments": spec.all_experiments,
        "start_time": time(spec.start_time.as_ref()),
        "end_time": time(spec.end_time.as_ref()),
        "interval_hours": Some(spec.interval_hours).filter(|hours| *hours > 0),
        "compression": compression.unwrap_or_default().as_str(),
        "format": format.unwrap_or_default().as_str(),
        "format_version": version.unwrap_or_default().as_str(),
        "export_fields": Some(&spec.export_fields).filter(|fields| !fields.is_empty()),
        "filter": text(&spec.filter),
        "status": export.status().word(),
        "created_at": time(export.created_at.as_ref()),
        "updated_at": time(export.updated_at.as_ref()),
        "finished_at": time(export.finished_at.as_ref()),
        "source_bulk_export_id": text(&export.source_export_id),
        "progress": {
            "runs_total": progress.runs_total,
            "runs_completed": progress.runs_completed,
            "rows_written": progress.rows_written,
            "bytes_written": progress.bytes_written,
            "files_written": progress.files_written,
            "rows_total_estimate": progress.rows_total_estimate,
            "eta_seconds": progress.eta_seconds,
            "rows_undecided": progress.rows_undecided,
        },
        "error": text(&export.error),
        "reconciliation": export.reconciliation.as_ref().map(|found| json!({
            "rows_exported": found.rows_exported,
            "rows_in_source": found.rows_in_source,
            "reconciled_at": time(found.reconciled_at.as_ref()),
            "rows_undecided": found.rows_undecided,
            "rows_decided_against": found.rows_decided_against,
        })),
        "read_at": time(export.read_at.as_ref()),
        "window_open": export.window_open,
    })
}

pub(crate) fn run(run: &v1::ExportRun) -> Value {
    let errors = run
        .errors
        .iter()
        .enumerate()
        .filter(|(_, error)| !error.is_empty())
        .map(|(attempt, error)| (format!("retry_{attempt}"), error.as_str().into()));
    let errors: Map<_, _> = errors.collect();
    json!({
        "id": run.id,
        "bulk_export_id": run.export_id,
        "session_id": run.session_id,
        "status": run.status().word(),
        "retry_number": run.retry_number,
        "errors": Some(errors).filter(|errors| !errors.is_empty()),
        "created_at": time(run.created_at.as_ref()),
        "updated_at": time(run.updated_at.as_ref()),
        "finished_at": time(run.finished_at.as_ref()),
        "start_time": time(run.start_time.as_ref()),
        "end_time": time(run.end_time.as_ref()),
        "prefix": run.prefix,
        "result": run.result.as_ref().map(result),
        "stage": text(&run.stage),
        "progress": run.progress.as_ref().map(progress),
        "exporter_id": text(&run.exporter_id),
    })
}

fn result(result: &v1::RunResult) -> Value {
    json!({
        "rows_written": result.rows_written,
        "bytes_written": result.bytes_written,
        "exported_files": result.exported_files,
        "export_path": result.export_path,
        "latest_cursor": text(&result.latest_cursor),
        "hydrated_objects": result.hydrated_objects,
        "hydration_misses": result.hydration_misses,
        "pending_upload": result.pending_upload.as_ref().map(|pending| json!({
            "target_cursor": text(&pending.target_cursor),
            "file_path": pending.file_path,
            "rows_count": pending.rows_count,
        })),
        "undecided": result.undecided,
        "decided_against": result.decided_against,
        "undecided_fields": result.undecided_fields.iter().map(|field| json!({
            "id": field.id,
            "column": field.column,
            "reason": field.reason,
        })).collect::<Vec<_>>(),
    })
}

fn progress(progress: &v1::RunProgress) -> Value {
    let seconds = progress.stage_seconds.unwrap_or_default();
    json!({
        "rows": progress.rows,
        "bytes": progress.bytes,
        "files": progress.files,
        "rows_estimate": progress.rows_estimate,
        "hydrated_objects": progress.hydrated_objects,
        "hydration_misses": progress.hydration_misses,
        "stage_seconds": {"read": seconds.read, "hydrate": seconds.hydrate, "encode": seconds.encode, "upload": seconds.upload},
    })
}

pub(crate) fn limits(limits: &v1::Limits) -> Value {
    let limit = |limit: Option<v1::Limit>| {
        let v1::Limit { limit, used } = limit.unwrap_or_default();
        json!({"limit": Some(limit).filter(|limit| *limit > 0), "used": used})
    };
    json!({
        "running_exports": limit(limits.running_exports),
        "queued_exports": limits.queued_exports,
        "runs_per_export": limit(limits.runs_per_export),
        "exports_per_hour": limit(limits.exports_per_hour),
        "active_schedules": limit(limits.active_schedules),
        "run_timeout_seconds": limits.run_timeout_seconds,
        "export_timeout_seconds": limits.export_timeout_seconds,
        "retries_per_run": limits.retries_per_run,
        "days_per_export": limits.days_per_export,
        "schedule_days_back": Some(limits.schedule_days_back).filter(|days| *days > 0),
        "exports_per_schedule": Some(limits.exports_per_schedule).filter(|exports| *exports > 0),
    })
}

pub(crate) fn filter(found: &v1::ValidateFilterResponse) -> Value {
    let errors: Vec<_> = found
        .errors
        .iter()
        .map(|error| json!({"field": error.field, "message": error.message}))
        .collect();
    json!({"valid": found.valid, "errors": errors})
}

pub(crate) fn tenant(tenant: &v1::Tenant) -> Value {
    json!({"id": tenant.id, "display_name": tenant.display_name, "created_at": time(tenant.created_at.as_ref())})
}

/// With the key itself, which is in no other answer.
pub(crate) fn new_key(key: &v1::ApiKey, secret: &str) -> Value {
    json!({
        "id": key.id,
        "tenant_id": key.tenant_id,
        "display_name": key.display_name,
        "permission": if key.permission() == v1::Permission::Read { "read" } else { "manage" },
        "created_at": time(key.created_at.as_ref()),
        "key": secret,
    })
}
