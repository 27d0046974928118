//! What is wrong with a caller's input: one value per wrong field, so that all of them can be named
//! at once.

use std::fmt;

/// One field of a request that does not hold what it must.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {message}")]
pub struct Invalid {
    /// Dotted path from the request's root, e.g. `config.bucket_name`.
    pub field: String,
    /// What is expected, in words.
    pub message: String,
    /// Which kind of rule was broken: what programs decide on, never the words.
    pub kind: InvalidKind,
}

string_enum! {
    /// Which kind of rule a value breaks.
    InvalidKind {
        /// A rule that is none of the others.
        #[default]
        Value = "VALUE",
        /// The field is missing.
        Missing = "MISSING",
        /// There is no such field or option.
        Unsupported = "UNSUPPORTED",
        /// The text is not a UUID.
        Uuid = "UUID",
        /// The text is not a date and time.
        DateTime = "DATE_TIME",
        /// The text is not one of those that are allowed.
        OneOf = "ONE_OF",
        /// The text does not match a pattern.
        Pattern = "PATTERN",
        /// The text is too short.
        TooShort = "TOO_SHORT",
        /// The text is too long.
        TooLong = "TOO_LONG",
    }
}

impl Invalid {
    /// A fault of `field`.
    pub fn new(field: impl Into<String>, message: impl fmt::Display) -> Self {
        let kind = InvalidKind::default();
        Self { field: field.into(), message: message.to_string(), kind }
    }

    /// A required field that is missing.
    pub fn missing(field: impl Into<String>) -> Self {
        Self::new(field, "is required").of_kind(InvalidKind::Missing)
    }

    /// A text that is no UUID.
    pub fn no_uuid(field: impl Into<String>) -> Self {
        Self::new(field, "must be a UUID").of_kind(InvalidKind::Uuid)
    }

    /// A text that is none of those that are allowed.
    pub fn not_one_of(field: impl Into<String>, allowed: &[&str]) -> Self {
        let message = format!("must be one of {}", allowed.join(", "));
        Self::new(field, message).of_kind(InvalidKind::OneOf)
    }

    /// The same fault, of another kind.
    #[must_use]
    pub fn of_kind(self, kind: InvalidKind) -> Self {
        Self { kind, ..self }
    }

    /// The same fault seen from one level further out.
    #[must_use]
    pub fn within(self, parent: &str) -> Self {
        let field = match (parent, self.field.as_str()) {
            ("", field) | (field, "") => field.to_owned(),
            (parent, field) => format!("{parent}.{field}"),
        };
        Self { field, ..self }
    }
}

/// Collects the faults of several fields instead of stopping at the first.
#[derive(Debug, Default)]
pub struct Faults(Vec<Invalid>);

impl Faults {
    /// The value, or `None` with the fault noted.
    pub fn take<T>(&mut self, result: Result<T, Invalid>) -> Option<T> {
        result.map_err(|fault| self.0.push(fault)).ok()
    }

    /// The value, or `None` with every fault noted below `parent`.
    pub fn take_all<T>(&mut self, parent: &str, result: Result<T, Vec<Invalid>>) -> Option<T> {
        result
            .map_err(|faults| self.0.extend(faults.into_iter().map(|fault| fault.within(parent))))
            .ok()
    }

    /// Notes a fault.
    pub fn push(&mut self, fault: Invalid) {
        self.0.push(fault);
    }

    /// Whether nothing was noted so far.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// `value` when nothing was wrong, else every fault. `value` is `None` only when a fault was
    /// noted.
    pub fn finish<T>(self, value: Option<T>) -> Result<T, Vec<Invalid>> {
        match value {
            Some(value) if self.0.is_empty() => Ok(value),
            _ => Err(self.0),
        }
    }
}
