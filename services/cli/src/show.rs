//! Messages as text for people.

use std::cmp::Ordering;

/// Untrusted text, without what could move the cursor or turn the line.
pub(crate) use tracelift_core::printable::printable as plain;
use tracelift_proto::{time_from, v1};

use crate::table::{Table, fields};

/// A time to the second; empty if unset.
fn time(time: Option<&prost_types::Timestamp>) -> String {
    let text = time_from("", time).map(|time| time.to_string()).unwrap_or_default();
    text.get(..19).map(|text| format!("{text}Z")).unwrap_or_default()
}

/// `1,234,567`
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 row`, `2 rows`
pub(crate) fn counted(number: u64, what: &str) -> String {
    format!("{} {what}{}", count(number), if number == 1 { "" } else { "s" })
}

/// `1.2 MiB`
pub(crate) fn bytes(bytes: u64) -> String {
    indicatif::BinaryBytes(bytes).to_string()
}

/// `5s`, `1m 05s`, `2h 03m`
pub(crate) fn seconds(seconds: u64) -> String {
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, s) => format!("{s}s"),
        (0, m, s) => format!("{m}m {s:02}s"),
        (h, m, _) => format!("{h}h {m:02}m"),
    }
}

pub(crate) fn destination(destination: &v1::Destination) -> String {
    let config = destination.config.clone().unwrap_or_default();
    let mut options: Vec<_> =
        config.s3_additional_kwargs.iter().map(|(name, value)| format!("{name}={value}")).collect();
    options.sort_unstable();
    fields([
        ("id", destination.id.clone()),
        ("name", destination.display_name.clone()),
        ("bucket", config.bucket_name.clone()),
        ("prefix", config.prefix.clone()),
        ("region", config.region.clone()),
        ("endpoint", config.endpoint_url.clone()),
        ("options", options.join(" ")),
        ("credentials", destination.credentials_keys.join(", ")),
        ("role", destination.aws_role_arn.clone()),
        ("store", destination.features.map(|features| unknown(&features)).unwrap_or_default()),
        ("created", time(destination.created_at.as_ref())),
        ("updated", time(destination.updated_at.as_ref())),
    ])
}

/// The features that a store does not support.
fn unknown(features: &v1::StoreFeatures) -> String {
    let named = [
        (features.checksums, "checksums"),
        (features.conditional_writes, "conditional writes"),
        (features.object_size, "object sizes"),
    ];
    let unknown: Vec<_> = named.iter().filter(|(known, _)| !known).map(|(_, name)| *name).collect();
    if unknown.is_empty() { String::new() } else { format!("knows no {}", unknown.join(", no ")) }
}

pub(crate) fn destinations(destinations: &[v1::Destination]) -> String {
    let mut table = Table::new(["ID", "NAME", "BUCKET", "PREFIX", "WHERE", "CREATED"]);
    for destination in destinations {
        let config = destination.config.clone().unwrap_or_default();
        let place =
            if config.endpoint_url.is_empty() { config.region } else { config.endpoint_url };
        let (id, name) = (destination.id.clone(), destination.display_name.clone());
        table.row([
            id,
            name,
            config.bucket_name,
            config.prefix,
            place,
            time(destination.created_at.as_ref()),
        ]);
    }
    table.to_string()
}

pub(crate) fn export(export: &v1::Export) -> String {
    let spec = export.spec.clone().unwrap_or_default();
    let progress = export.progress.unwrap_or_default();
    fields([
        ("id", export.id.clone()),
        ("status", export.status().word().to_owned()),
        ("destination", spec.destination_id),
        (
            "project",
            if spec.all_experiments { "all experiments".to_owned() } else { spec.session_id },
        ),
        ("from", time(spec.start_time.as_ref())),
        ("to", time(spec.end_time.as_ref())),
        (
            "every",
            Some(spec.interval_hours)
                .filter(|hours| *hours > 0)
                .map(|hours| format!("{hours}h"))
                .unwrap_or_default(),
        ),
        ("columns", spec.export_fields.join(", ")),
        ("filter", spec.filter),
        ("runs", format!("{} of {}", progress.runs_completed, progress.runs_total)),
        ("rows", rows(&progress)),
        (
            "undecided",
            Some(progress.rows_undecided)
                .filter(|rows| *rows > 0)
                .map(undecided)
                .unwrap_or_default(),
        ),
        ("bytes", bytes(progress.bytes_written)),
        ("files", count(progress.files_written.into())),
        ("eta", progress.eta_seconds.map(seconds).unwrap_or_default()),
        ("created", time(export.created_at.as_ref())),
        ("finished", time(export.finished_at.as_ref())),
        ("window", if export.window_open { open_window(export) } else { String::new() }),
        ("in source", export.reconciliation.as_ref().map(in_source).unwrap_or_default()),
        ("error", export.error.clone()),
    ])
}

/// `2 rows: content that the filter reads could not be had; the manifest names them`
fn undecided(rows: u64) -> String {
    format!(
        "{}: content that the filter reads could not be had; the manifest names them",
        counted(rows, "row")
    )
}

/// Warns that rows which arrived after the read are not included.
fn open_window(export: &v1::Export) -> String {
    format!(
        "still open when it was read at {}: rows that came later may be missing",
        time(export.read_at.as_ref())
    )
}

/// `1,002 rows, 2 more than were exported`. With a filter on content, the row count is that of
/// potential matches, compared with the rows that were looked at.
fn in_source(found: &v1::Reconciliation) -> String {
    let (rows, judged) =
        (count(found.rows_in_source), found.rows_undecided + found.rows_decided_against);
    let (read, done) =
        (found.rows_exported + judged, if judged == 0 { "exported" } else { "looked at" });
    match found.rows_in_source.cmp(&read) {
        Ordering::Equal => format!("{rows} rows, all {done}"),
        Ordering::Greater => {
            format!("{rows} rows, {} more than were {done}", count(found.rows_in_source - read))
        }
        Ordering::Less => {
            format!("{rows} rows, {} fewer than were {done}", count(read - found.rows_in_source))
        }
    }
}

/// `1,000 of ~3,000`
pub(crate) fn rows(progress: &v1::ExportProgress) -> String {
    let total = total(progress).map(|total| format!(" of ~{}", count(total)));
    format!("{}{}", count(progress.rows_written), total.unwrap_or_default())
}

/// The estimated total, as long as it is greater than the number of rows written.
pub(crate) fn total(progress: &v1::ExportProgress) -> Option<u64> {
    progress.rows_total_estimate.filter(|total| *total > progress.rows_written)
}

pub(crate) fn exports(exports: &[v1::Export]) -> String {
    let mut table = Table::new(["ID", "STATUS", "FROM", "TO", "ROWS", "FILES", "CREATED"]);
    for export in exports {
        let spec = export.spec.clone().unwrap_or_default();
        let progress = export.progress.unwrap_or_default();
        table.row([
            export.id.clone(),
            export.status().word().to_owned(),
            time(spec.start_time.as_ref()),
            time(spec.end_time.as_ref()),
            count(progress.rows_written),
            count(progress.files_written.into()),
            time(export.created_at.as_ref()),
        ]);
    }
    table.to_string()
}

pub(crate) fn runs(runs: &[v1::ExportRun]) -> String {
    let mut table =
        Table::new(["ID", "STATUS", "STAGE", "FROM", "TO", "ROWS", "FILES", "RETRY", "LAST ERROR"]);
    for run in runs {
        let result = run.result.clone().unwrap_or_default();
        table.row([
            run.id.clone(),
            run.status().word().to_owned(),
            run.stage.clone(),
            time(run.start_time.as_ref()),
            time(run.end_time.as_ref()),
            count(result.rows_written.max(run.progress.map_or(0, |progress| progress.rows))),
            count(result.files.into()),
            run.retry_number.to_string(),
            run.errors.last().cloned().unwrap_or_default(),
        ]);
    }
    table.to_string()
}

pub(crate) fn limits(limits: &v1::Limits) -> String {
    let limit = |limit: Option<v1::Limit>| {
        let v1::Limit { limit, used } = limit.unwrap_or_default();
        if limit == 0 { format!("{used}, no limit") } else { format!("{used} of {limit}") }
    };
    fields([
        ("running exports", limit(limits.running_exports)),
        ("waiting exports", limits.queued_exports.to_string()),
        ("runs of one export", limit(limits.runs_per_export)),
        ("exports this hour", limit(limits.exports_per_hour)),
        ("schedules", limit(limits.active_schedules)),
        ("time for a run", seconds(limits.run_timeout_seconds.into())),
        ("time for an export", seconds(limits.export_timeout_seconds.into())),
        ("retries of a run", limits.retries_per_run.to_string()),
        ("days of an export", limits.days_per_export.to_string()),
        ("days back of a schedule", or_none(limits.schedule_days_back)),
        ("exports of a schedule", or_none(limits.exports_per_schedule)),
    ])
}

fn or_none(limit: u32) -> String {
    if limit == 0 { "no limit".to_owned() } else { limit.to_string() }
}

/// `valid`, or one line per error.
pub(crate) fn filter(found: &v1::ValidateFilterResponse) -> String {
    let lines: Vec<_> = found.errors.iter().map(|error| plain(&error.message)).collect();
    if found.valid { "valid\n".to_owned() } else { format!("{}\n", lines.join("\n")) }
}

pub(crate) fn records(records: &[v1::AuditRecord]) -> String {
    let mut table = Table::new(["#", "TIME", "ACTOR", "ACTION", "OBJECT", "FROM", "REFUSED"]);
    for record in records {
        table.row([
            record.number.to_string(),
            time(record.time.as_ref()),
            format!("{} {}", record.actor_kind, record.actor).trim_end().to_owned(),
            record.action.clone(),
            record.object.clone(),
            record.peer_address.clone(),
            record.refused.clone().unwrap_or_default(),
        ]);
    }
    table.to_string()
}

pub(crate) fn tenant(tenant: &v1::Tenant) -> String {
    fields([
        ("id", tenant.id.clone()),
        ("name", tenant.display_name.clone()),
        ("created", time(tenant.created_at.as_ref())),
        ("suspended", time(tenant.suspended_at.as_ref())),
        ("deleted", time(tenant.deleted_at.as_ref())),
    ])
}

pub(crate) fn tenants(tenants: &[v1::Tenant]) -> String {
    let mut table = Table::new(["ID", "NAME", "CREATED", "SUSPENDED", "DELETED"]);
    for tenant in tenants {
        table.row([
            tenant.id.clone(),
            tenant.display_name.clone(),
            time(tenant.created_at.as_ref()),
            time(tenant.suspended_at.as_ref()),
            time(tenant.deleted_at.as_ref()),
        ]);
    }
    table.to_string()
}

pub(crate) fn keys(keys: &[v1::ApiKey]) -> String {
    let mut table =
        Table::new(["ID", "NAME", "PERMISSION", "CREATED", "EXPIRES", "LAST USED", "REVOKED"]);
    for key in keys {
        table.row([
            key.id.clone(),
            key.display_name.clone(),
            key.permission().word().to_owned(),
            time(key.created_at.as_ref()),
            time(key.expires_at.as_ref()),
            time(key.last_used_at.as_ref()),
            time(key.revoked_at.as_ref()),
        ]);
    }
    table.to_string()
}

#[cfg(test)]
mod tests;
