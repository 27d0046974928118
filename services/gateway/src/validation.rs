//! Validation errors in FastAPI's format: `{"loc": ["body", "start_time"], "msg": "…", "type":
//! "…"}`, all of them in one response.
//!
//! They never contain the value, which may be a secret.

use std::borrow::Cow;

use serde::Serialize;
use tracelift_core::{Invalid, InvalidKind};

/// The maximum number of errors reported, so that a small request cannot produce a huge response.
const MOST: usize = 100;

/// One segment of a field's location.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub(crate) enum Step {
    Name(Cow<'static, str>),
    Index(u64),
}

/// The location of a field, outermost segment first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub(crate) struct Loc(Vec<Step>);

impl Loc {
    /// A location that starts with `body`, `query`, `path` or `header`.
    pub(crate) fn root(part: &'static str) -> Self {
        Self(vec![Step::Name(part.into())])
    }

    pub(crate) fn then(&self, name: &str) -> Self {
        self.step(Step::Name(name.to_owned().into()))
    }

    pub(crate) fn index(&self, index: usize) -> Self {
        self.step(Step::Index(index as u64))
    }

    /// Appends a dotted path; its numeric segments are indices.
    fn along(&self, path: &str) -> Self {
        let steps = path.split('.').filter(|step| !step.is_empty());
        steps.fold(self.clone(), |loc, step| match step.parse() {
            Ok(index) => loc.step(Step::Index(index)),
            Err(_) => loc.then(step),
        })
    }

    fn step(&self, step: Step) -> Self {
        Self(self.0.iter().cloned().chain([step]).collect())
    }
}

/// What is wrong with a value, independent of its field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FieldError {
    kind: &'static str,
    msg: Cow<'static, str>,
}

impl FieldError {
    /// A structural error, under pydantic's name for it.
    pub(crate) fn new(kind: &'static str, msg: impl Into<Cow<'static, str>>) -> Self {
        Self { kind, msg: msg.into() }
    }

    pub(crate) fn missing() -> Self {
        Self::new("missing", "Field required")
    }

    /// An error in the content, with the message of the rule that was broken.
    pub(crate) fn rule(fault: Invalid) -> Self {
        Self { kind: kind(fault.kind), msg: fault.message.into() }
    }
}

/// The pydantic name for each kind of rule.
fn kind(kind: InvalidKind) -> &'static str {
    match kind {
        InvalidKind::Value => "value_error",
        InvalidKind::Missing => "missing",
        InvalidKind::Unsupported => "extra_forbidden",
        InvalidKind::Uuid => "uuid_parsing",
        InvalidKind::DateTime => "datetime_from_date_parsing",
        InvalidKind::OneOf => "enum",
        InvalidKind::Pattern => "string_pattern_mismatch",
        InvalidKind::TooShort => "string_too_short",
        InvalidKind::TooLong => "string_too_long",
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct ValidationError {
    loc: Loc,
    msg: Cow<'static, str>,
    #[serde(rename = "type")]
    kind: &'static str,
}

/// Every validation error of one request, in the order found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub(crate) struct ValidationErrors(Vec<ValidationError>);

impl ValidationErrors {
    /// A single error.
    pub(crate) fn one(loc: Loc, wrong: FieldError) -> Self {
        let mut validation = Self::default();
        validation.add(loc, wrong);
        validation
    }

    /// Records an error, unless the field already has one.
    pub(crate) fn add(&mut self, loc: Loc, wrong: FieldError) {
        if self.0.len() < MOST && !self.has(&loc) {
            self.0.push(ValidationError { loc, msg: wrong.msg, kind: wrong.kind });
        }
    }

    /// Records broken rules of fields below `loc`.
    pub(crate) fn add_rules(&mut self, loc: &Loc, faults: Vec<Invalid>) {
        for fault in faults {
            self.add(loc.along(&fault.field), FieldError::rule(fault));
        }
    }

    /// Whether a field already has an error.
    pub(crate) fn has(&self, loc: &Loc) -> bool {
        self.0.iter().any(|field| field.loc == *loc)
    }

    /// Returns `value` if there are no errors. `value` may be `None` only if there are some.
    pub(crate) fn finish<T>(self, value: Option<T>) -> Result<T, Self> {
        match value {
            Some(value) if self.0.is_empty() => Ok(value),
            _ => Err(self),
        }
    }

    /// Converts the control plane's field violations to the field names of the REST API.
    pub(crate) fn from_violations(faults: Vec<Invalid>) -> Self {
        let mut validation = Self::default();
        for fault in faults {
            validation.add(rest_loc(&fault.field), FieldError::rule(fault));
        }
        validation
    }
}

/// Maps a field of a gRPC message to its location in the REST API.
fn rest_loc(field: &str) -> Loc {
    let body = Loc::root("body");
    let field = field.strip_prefix("spec.").unwrap_or(field);
    match field {
        "destination_id" => body.then("bulk_export_destination_id"),
        "config.addressing_style" => body.along("config.config_kwargs_s3.addressing_style"),
        "limit" | "offset" => Loc::root("query").then(field),
        "x-tenant-id" => Loc::root("header").then("X-Tenant-Id"),
        "idempotency_key" => Loc::root("header").then("Idempotency-Key"),
        _ => body.along(field),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_messages_get_the_names_of_the_rest_api() {
        let shown = |field| serde_json::to_string(&rest_loc(field)).unwrap();
        assert_eq!(shown("spec.destination_id"), r#"["body","bulk_export_destination_id"]"#);
        assert_eq!(shown("spec.end_time"), r#"["body","end_time"]"#);
        assert_eq!(shown("spec.export_fields.3"), r#"["body","export_fields",3]"#);
        assert_eq!(
            shown("config.addressing_style"),
            r#"["body","config","config_kwargs_s3","addressing_style"]"#
        );
        assert_eq!(shown("config.bucket_name"), r#"["body","config","bucket_name"]"#);
        assert_eq!(shown("credentials.access_key_id"), r#"["body","credentials","access_key_id"]"#);
        assert_eq!(shown("limit"), r#"["query","limit"]"#);
        assert_eq!(shown("x-tenant-id"), r#"["header","X-Tenant-Id"]"#);
    }

    #[test]
    fn a_field_is_named_once_and_not_more_than_a_hundred_are() {
        let mut validation = ValidationErrors::default();
        validation.add(Loc::root("body").then("a"), FieldError::missing());
        validation.add(Loc::root("body").then("a"), FieldError::new("value_error", "again"));
        assert_eq!(validation.0.len(), 1);
        for index in 0..1000 {
            validation.add(Loc::root("body").index(index), FieldError::missing());
        }
        assert_eq!(validation.0.len(), MOST);
    }
}
