//! Request bodies for exports and filters.

use http::HeaderMap;
use serde_json::Value;
use tracelift_core::{
    column::Columns,
    export::{self, Compression, FileFormat, FormatVersion},
    filter::Filter,
    schedule::NO_END,
    time::Timestamp,
};
use tracelift_proto::{time_to, v1};

use crate::{
    json_reader::{
        Nullable, Object, Optional, Present, Required, boolean, integer, only, text, time, uuid,
        word,
    },
    validation::{FieldError, Loc, ValidationErrors},
};

/// More fields than there are columns can only be a mistake; the rules name each invalid one.
const MOST_FIELDS: usize = 64;
/// The maximum length of a range is enforced by the control plane.
const ANY_DAYS: u64 = u64::MAX;

/// `BulkExportCreate`
pub(crate) fn create_export(body: &Value) -> Result<v1::CreateExportRequest, ValidationErrors> {
    let (mut wrong, top) = (ValidationErrors::default(), Object::body(body)?);
    let destination = top.take(&mut wrong, "bulk_export_destination_id", Required, uuid);
    let all_experiments =
        top.take(&mut wrong, "all_experiments", Nullable, boolean).unwrap_or_default();
    let filter = filter(&top, &mut wrong);
    let session = session(&top, &mut wrong, all_experiments);
    let interval_hours = top.take(&mut wrong, "interval_hours", Nullable, integer(1..=168));
    let span = span(&top, &mut wrong);
    let format = top.take(&mut wrong, "format", Optional, file_format).unwrap_or_default();
    let format_version = top
        .take(&mut wrong, "format_version", Optional, word(FormatVersion::parse))
        .unwrap_or_default();
    let compression = top.take(&mut wrong, "compression", Optional, word(Compression::parse));
    let export_fields = columns(&top, &mut wrong);
    let spec = (|| {
        let (start, end) = span?;
        Some(v1::ExportSpec {
            destination_id: destination?.to_string(),
            session_id: session?,
            all_experiments,
            start_time: Some(time_to(start)),
            end_time: end.map(time_to),
            compression: compression
                .map_or(v1::Compression::Unspecified, v1::Compression::from)
                .into(),
            file_format: v1::FileFormat::from(format).into(),
            format_version: v1::FormatVersion::from(format_version).into(),
            export_fields,
            interval_hours: interval_hours.unwrap_or_default(),
            filter,
        })
    })();
    Ok(v1::CreateExportRequest { spec: Some(wrong.finish(spec)?), ..Default::default() })
}

/// The file format; the error for an unknown one has the original API's text.
fn file_format(value: &Value) -> Result<FileFormat, FieldError> {
    let known = |value: &Value| FileFormat::parse("", value.as_str()?).ok();
    known(value).ok_or_else(|| {
        let words: Vec<_> =
            FileFormat::ALL.iter().map(|format| format!("'{}'", format.as_str())).collect();
        FieldError::new("enum", format!("Input should be {}", words.join(" or ")))
    })
}

/// The project id; empty for an export of all experiments.
fn session(
    top: &Object<'_>,
    wrong: &mut ValidationErrors,
    all_experiments: bool,
) -> Option<String> {
    if !all_experiments {
        return top.take(wrong, "session_id", Present, uuid).map(|id| id.to_string());
    }
    if top.present("session_id").is_some() {
        wrong.add(top.at("session_id"), FieldError::new("value_error", export::TWO_CHOICES));
    }
    Some(String::new())
}

/// Start and end; a schedule, whatever its interval, has no end.
fn span(top: &Object<'_>, wrong: &mut ValidationErrors) -> Option<(Timestamp, Option<Timestamp>)> {
    let start = top.take(wrong, "start_time", Required, time);
    if top.present("interval_hours").is_some() {
        if top.present("end_time").is_some() {
            wrong.add(top.at("end_time"), FieldError::new("value_error", NO_END));
        }
        return Some((start?, None));
    }
    let end = top.take(wrong, "end_time", Present, time);
    let (start, end) = start.zip(end)?;
    match export::window(start, end, ANY_DAYS) {
        Ok(_) => Some((start, Some(end))),
        Err(fault) => {
            wrong.add(top.at("end_time"), FieldError::rule(fault));
            None
        }
    }
}

fn filter(top: &Object<'_>, wrong: &mut ValidationErrors) -> String {
    let text = top.take(wrong, "filter", Nullable, text).unwrap_or_default();
    if let Err(faults) = Filter::parse("filter", text) {
        wrong.add_rules(top.loc(), faults);
    }
    text.to_owned()
}

/// Filters to validate. Other fields of a run query are ignored.
pub(crate) fn validate_filter(body: &Value) -> Result<v1::ValidateFilterRequest, ValidationErrors> {
    let (mut wrong, top) = (ValidationErrors::default(), Object::body(body)?);
    let [filter, trace_filter, tree_filter] = ["filter", "trace_filter", "tree_filter"]
        .map(|name| top.take(&mut wrong, name, Nullable, text).unwrap_or_default().to_owned());
    wrong.finish(Some(v1::ValidateFilterRequest { filter, trace_filter, tree_filter }))
}

fn columns(top: &Object<'_>, wrong: &mut ValidationErrors) -> Vec<String> {
    let Some(names) = top.list(wrong, "export_fields", Nullable, MOST_FIELDS) else {
        return Vec::new();
    };
    if let Err(faults) = Columns::parse("export_fields", &names) {
        wrong.add_rules(top.loc(), faults);
    }
    names.into_iter().map(str::to_owned).collect()
}

/// The idempotency key; empty if there is none.
pub(crate) fn idempotency_key(headers: &HeaderMap) -> Result<String, ValidationErrors> {
    let key = headers.get("idempotency-key").map_or(Ok(""), |key| key.to_str());
    key.map(str::to_owned).map_err(|_| {
        let wrong = FieldError::new("value_error", "must consist of visible ASCII characters");
        ValidationErrors::one(Loc::root("header").then("Idempotency-Key"), wrong)
    })
}

/// Cancelling is the only supported update, so an empty object cancels too.
pub(crate) fn cancellation(body: &Value) -> Result<(), ValidationErrors> {
    let (mut wrong, top) = (ValidationErrors::default(), Object::body(body)?);
    top.take(&mut wrong, "status", Optional, only("literal_error", "Cancelled"));
    wrong.finish(Some(()))
}
