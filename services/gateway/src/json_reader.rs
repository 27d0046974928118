//! Typed readers for the fields of a JSON object. A missing field or one of the wrong type is
//! recorded, and reading continues.
//!
//! Types and their names follow pydantic, without its coercions: a number is not a string, and a
//! string is not a number. Only times are accepted in every form that pydantic accepts.

use std::{borrow::Cow, ops::RangeInclusive};

use serde_json::{Map, Number, Value};
use tracelift_core::{Invalid, time::Timestamp};
use uuid::Uuid;

use crate::validation::{FieldError, Loc, ValidationErrors};

/// Whether a field is required.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Presence {
    /// Required and not null.
    Required,
    /// Required; null counts as missing.
    Present,
    /// Optional, but not nullable.
    Optional,
    /// Optional and nullable.
    Nullable,
}
pub(crate) use Presence::{Nullable, Optional, Present, Required};

/// A JSON object and its location.
#[derive(Debug)]
pub(crate) struct Object<'a> {
    entries: &'a Map<String, Value>,
    loc: Loc,
}

impl<'a> Object<'a> {
    /// Interprets the request body as an object.
    pub(crate) fn body(value: &'a Value) -> Result<Self, ValidationErrors> {
        let loc = Loc::root("body");
        match value {
            Value::Object(entries) => Ok(Self { entries, loc }),
            _ => Err(ValidationErrors::one(loc, not_an_object())),
        }
    }

    /// The location of this object.
    pub(crate) fn loc(&self) -> &Loc {
        &self.loc
    }

    /// The location of one of its fields.
    pub(crate) fn at(&self, name: &str) -> Loc {
        self.loc.then(name)
    }

    /// The value of a field, or `None` if it is missing or null.
    pub(crate) fn present(&self, name: &str) -> Option<&'a Value> {
        self.entries.get(name).filter(|value| !value.is_null())
    }

    /// Reads a field with `read`. Returns `None` if the field is missing or invalid; an error is
    /// recorded.
    pub(crate) fn take<T>(
        &self,
        wrong: &mut ValidationErrors,
        name: &str,
        presence: Presence,
        read: impl FnOnce(&'a Value) -> Result<T, FieldError>,
    ) -> Option<T> {
        let value = match (self.entries.get(name), presence) {
            (None, Required | Present) | (Some(Value::Null), Present) => {
                wrong.add(self.at(name), FieldError::missing());
                return None;
            }
            (None, _) | (Some(Value::Null), Nullable) => return None,
            (Some(value), _) => value,
        };
        read(value).map_err(|fault| wrong.add(self.at(name), fault)).ok()
    }

    /// Reads a nested object.
    pub(crate) fn json_reader(
        &self,
        wrong: &mut ValidationErrors,
        name: &str,
        presence: Presence,
    ) -> Option<Object<'a>> {
        let entries =
            self.take(wrong, name, presence, |value| value.as_object().ok_or_else(not_an_object))?;
        Some(Object { entries, loc: self.at(name) })
    }

    /// Every field as a string, with its name.
    pub(crate) fn texts(&self, wrong: &mut ValidationErrors) -> Vec<(String, String)> {
        let names = self.entries.keys();
        names
            .filter_map(|name| {
                Some((name.clone(), self.take(wrong, name, Required, text)?.to_owned()))
            })
            .collect()
    }

    /// Reads a list of at most `most` strings. An item that is not a string is recorded and read as
    /// empty.
    pub(crate) fn list(
        &self,
        wrong: &mut ValidationErrors,
        name: &str,
        presence: Presence,
        most: usize,
    ) -> Option<Vec<&'a str>> {
        let items = self.take(wrong, name, presence, |value| list(value, most))?;
        let mut item = |(index, value)| match text(value) {
            Ok(text) => text,
            Err(fault) => {
                wrong.add(self.at(name).index(index), fault);
                ""
            }
        };
        Some(items.iter().enumerate().map(&mut item).collect())
    }
}

fn not_an_object() -> FieldError {
    FieldError::new(
        "model_attributes_type",
        "Input should be a valid dictionary or object to extract fields from",
    )
}

pub(crate) fn text(value: &Value) -> Result<&str, FieldError> {
    value.as_str().ok_or_else(|| FieldError::new("string_type", "Input should be a valid string"))
}

pub(crate) fn boolean(value: &Value) -> Result<bool, FieldError> {
    value.as_bool().ok_or_else(|| FieldError::new("bool_type", "Input should be a valid boolean"))
}

pub(crate) fn integer(
    range: RangeInclusive<u32>,
) -> impl FnOnce(&Value) -> Result<u32, FieldError> {
    move |value| {
        let number = value
            .as_i64()
            .ok_or_else(|| FieldError::new("int_type", "Input should be a valid integer"))?;
        within(number, &range)
    }
}

/// Checks that a number is within a range.
pub(crate) fn within(number: i64, range: &RangeInclusive<u32>) -> Result<u32, FieldError> {
    let (least, most) = (range.start(), range.end());
    match u32::try_from(number) {
        Ok(number) if range.contains(&number) => Ok(number),
        _ if number < i64::from(*least) => Err(FieldError::new(
            "greater_than_equal",
            format!("Input should be greater than or equal to {least}"),
        )),
        _ => Err(FieldError::new(
            "less_than_equal",
            format!("Input should be less than or equal to {most}"),
        )),
    }
}

pub(crate) fn uuid(value: &Value) -> Result<Uuid, FieldError> {
    let text = value
        .as_str()
        .ok_or_else(|| FieldError::new("uuid_type", "UUID input should be a string"))?;
    parse_uuid(text)
}

pub(crate) fn parse_uuid(text: &str) -> Result<Uuid, FieldError> {
    Uuid::parse_str(text)
        .map_err(|_| FieldError::new("uuid_parsing", "Input should be a valid UUID"))
}

/// A date and time as a string, or Unix time as a number.
pub(crate) fn time(value: &Value) -> Result<Timestamp, FieldError> {
    let text = match value {
        Value::String(text) => Cow::from(text),
        Value::Number(number) => Cow::from(decimal(number)),
        _ => return Err(FieldError::new("datetime_type", "Input should be a valid datetime")),
    };
    Timestamp::parse("", &text).map_err(FieldError::rule)
}

/// Formats a number without an exponent. A fraction gets the fewest digits that identify the same
/// number, which are the digits the caller wrote.
fn decimal(number: &Number) -> String {
    if number.is_f64() {
        number.as_f64().unwrap_or_default().to_string()
    } else {
        number.to_string()
    }
}

/// A string parsed by one of the core rules.
pub(crate) fn word<T>(
    parse: impl Fn(&str, &str) -> Result<T, Invalid>,
) -> impl FnOnce(&Value) -> Result<T, FieldError> {
    move |value| parse("", text(value)?).map_err(FieldError::rule)
}

/// A string with a single valid value.
pub(crate) fn only(
    kind: &'static str,
    word: &'static str,
) -> impl FnOnce(&Value) -> Result<(), FieldError> {
    move |value| {
        if value == word {
            Ok(())
        } else {
            Err(FieldError::new(kind, format!("Input should be '{word}'")))
        }
    }
}

fn list(value: &Value, most: usize) -> Result<&[Value], FieldError> {
    match value.as_array() {
        Some(items) if items.len() <= most => Ok(items),
        Some(_) => {
            Err(FieldError::new("too_long", format!("List should have at most {most} items")))
        }
        None => Err(FieldError::new("list_type", "Input should be a valid list")),
    }
}
