//! Validation errors: one value per invalid field, so that a caller sees all of them at once.

use std::fmt;

/// One invalid field of a request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {message}")]
pub struct Invalid {
    /// Dotted path from the request's root, e.g. `config.bucket_name`.
    pub field: String,
    /// What is expected, for people.
    pub message: String,
    /// Which kind of rule was broken. Programs decide on this, never on `message`.
    pub kind: InvalidKind,
}

string_enum! {
    /// The kind of rule that a value breaks.
    InvalidKind {
        /// Any rule without a kind of its own.
        #[default]
        Value = "VALUE",
        /// A required field is missing.
        Missing = "MISSING",
        /// Unknown field or option.
        Unsupported = "UNSUPPORTED",
        /// Not a UUID.
        Uuid = "UUID",
        /// Not a date and time.
        DateTime = "DATE_TIME",
        /// Not one of the allowed strings.
        OneOf = "ONE_OF",
        /// Does not match the required pattern.
        Pattern = "PATTERN",
        /// Shorter than the minimum length.
        TooShort = "TOO_SHORT",
        /// Longer than the maximum length.
        TooLong = "TOO_LONG",
    }
}

impl Invalid {
    /// An error on `field` of kind [`InvalidKind::Value`].
    pub fn new(field: impl Into<String>, message: impl fmt::Display) -> Self {
        let kind = InvalidKind::default();
        Self { field: field.into(), message: message.to_string(), kind }
    }

    /// An error for a required field that is missing.
    pub fn missing(field: impl Into<String>) -> Self {
        Self::new(field, "is required").of_kind(InvalidKind::Missing)
    }

    /// An error for text that is not a UUID.
    pub fn no_uuid(field: impl Into<String>) -> Self {
        Self::new(field, "must be a UUID").of_kind(InvalidKind::Uuid)
    }

    /// An error for a string that is not in `allowed`; the message lists those.
    pub fn not_one_of(field: impl Into<String>, allowed: &[&str]) -> Self {
        let message = format!("must be one of {}", allowed.join(", "));
        Self::new(field, message).of_kind(InvalidKind::OneOf)
    }

    /// Replaces the kind.
    #[must_use]
    pub fn of_kind(self, kind: InvalidKind) -> Self {
        Self { kind, ..self }
    }

    /// Prepends `parent` to the field's path.
    #[must_use]
    pub fn within(self, parent: &str) -> Self {
        let field = match (parent, self.field.as_str()) {
            ("", field) | (field, "") => field.to_owned(),
            (parent, field) => format!("{parent}.{field}"),
        };
        Self { field, ..self }
    }
}

/// Collects the errors of several fields instead of stopping at the first.
#[derive(Debug, Default)]
pub struct Faults(Vec<Invalid>);

impl Faults {
    /// Returns the value, or records the error and returns `None`.
    pub fn take<T>(&mut self, result: Result<T, Invalid>) -> Option<T> {
        result.map_err(|fault| self.0.push(fault)).ok()
    }

    /// Returns the value, or records every error below `parent` and returns `None`.
    pub fn take_all<T>(&mut self, parent: &str, result: Result<T, Vec<Invalid>>) -> Option<T> {
        result
            .map_err(|faults| self.0.extend(faults.into_iter().map(|fault| fault.within(parent))))
            .ok()
    }

    /// Records an error.
    pub fn push(&mut self, fault: Invalid) {
        self.0.push(fault);
    }

    /// Whether no error has been recorded.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns `value` if no error was recorded, otherwise all errors. Pass `None` only after
    /// recording an error.
    pub fn finish<T>(self, value: Option<T>) -> Result<T, Vec<Invalid>> {
        match value {
            Some(value) if self.0.is_empty() => Ok(value),
            _ => Err(self.0),
        }
    }
}
