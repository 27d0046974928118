//! Feedback as JSON text: the same bytes for the same feedback in every export.

use std::fmt::Write as _;

use arrow::{
    array::{
        Array as _, ArrayRef, AsArray as _, BooleanArray, Float64Array, RecordBatch, StringArray,
        StringBuilder, TimestampMicrosecondArray,
    },
    datatypes::{Float64Type, TimestampMicrosecondType},
};
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use tracelift_core::time::Timestamp;

use crate::source::query::out;

/// How a field of feedback is stored, and therefore how it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::source) enum Kind {
    /// Lower-case text.
    Uuid,
    Bool,
    /// `2025-05-13T16:20:34.123456+00:00`
    Time,
    /// A number; null if missing, infinite or NaN, which JSON cannot represent.
    Score,
    /// Text.
    Name,
    /// Text; null if empty.
    Text,
    /// Text; null if empty, and embedded if it is a JSON object or array. Numbers and quoted
    /// strings stay the text they are in the table, because filters on `feedback_value` compare
    /// that text, and so that a field's type does not depend on what people typed.
    Json,
}

/// The fields, in order: all except the tenant, who is the reader, and the deletion flag, which is
/// never set.
pub(in crate::source) const FIELDS: [(&str, Kind); 14] = [
    ("id", Kind::Uuid),
    ("run_id", Kind::Uuid),
    ("session_id", Kind::Uuid),
    ("trace_id", Kind::Uuid),
    ("is_root", Kind::Bool),
    ("start_time", Kind::Time),
    ("created_at", Kind::Time),
    ("modified_at", Kind::Time),
    ("key", Kind::Name),
    ("score", Kind::Score),
    ("value", Kind::Json),
    ("comment", Kind::Text),
    ("correction", Kind::Json),
    ("feedback_source", Kind::Json),
];

/// The fields of some feedback rows.
pub(super) struct Fields(Vec<Values>);

enum Values {
    Bool(BooleanArray),
    Time(TimestampMicrosecondArray),
    Score(Float64Array),
    Text(Kind, StringArray),
}

impl Fields {
    /// `None` if a field is missing or has an unexpected type.
    pub(super) fn read(batch: &RecordBatch) -> Option<Self> {
        let values = FIELDS
            .iter()
            .map(|(name, kind)| Values::read(*kind, batch.column_by_name(&out(name))?));
        values.collect::<Option<_>>().map(Self)
    }

    /// One row as a JSON object.
    pub(super) fn json(&self, row: usize) -> String {
        let mut text = String::new();
        for ((name, _), values) in FIELDS.iter().zip(&self.0) {
            text.push(if text.is_empty() { '{' } else { ',' });
            let _ = write!(text, "\"{name}\":");
            values.write(row, &mut text);
        }
        text.push('}');
        text
    }
}

impl Values {
    fn read(kind: Kind, array: &ArrayRef) -> Option<Self> {
        Some(match kind {
            Kind::Bool => Self::Bool(array.as_boolean_opt()?.clone()),
            Kind::Time => Self::Time(array.as_primitive_opt::<TimestampMicrosecondType>()?.clone()),
            Kind::Score => Self::Score(array.as_primitive_opt::<Float64Type>()?.clone()),
            Kind::Uuid | Kind::Name | Kind::Text | Kind::Json => {
                Self::Text(kind, array.as_string_opt::<i32>()?.clone())
            }
        })
    }

    fn write(&self, row: usize, out: &mut String) {
        let value = match self {
            Self::Bool(values) => Value::from(values.value(row)),
            Self::Time(values) => {
                Timestamp::from_micros(values.value(row)).map(|time| time.to_string()).into()
            }
            Self::Score(values) => values.is_valid(row).then(|| values.value(row)).into(),
            Self::Text(Kind::Json, values) if is_embedded(values.value(row)) => {
                return out.push_str(values.value(row));
            }
            Self::Text(Kind::Text | Kind::Json, values) if values.value(row).is_empty() => {
                Value::Null
            }
            Self::Text(_, values) => values.value(row).into(),
        };
        let _ = write!(out, "{value}");
    }
}

/// Whether a text is a JSON object or array that every JSON parser accepts.
fn is_embedded(text: &str) -> bool {
    text.trim_start().starts_with(['{', '[']) && serde_json::from_str::<Valid>(text).is_ok()
}

/// JSON that was validated completely. (serde's `IgnoredAny` does not look into strings, which can
/// hide half a surrogate pair.)
struct Valid;

impl<'de> Deserialize<'de> for Valid {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Self)
    }
}

impl<'de> Visitor<'de> for Valid {
    type Value = Self;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self, A::Error> {
        while items.next_element::<Self>()?.is_some() {}
        Ok(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self, A::Error> {
        while entries.next_entry::<Self, Self>()?.is_some() {}
        Ok(self)
    }
}

/// Maximum size of one row's list in bytes: far more than anybody writes, and small enough for a
/// text column with 31-bit offsets.
const MOST_BYTES: usize = 1 << 30;

/// The feedback on one row exceeds the maximum size.
#[derive(Debug, thiserror::Error)]
#[error("the feedback on it has more than {MOST_BYTES} bytes")]
pub(super) struct TooLarge;

/// A JSON array for each row, in row order.
#[derive(Default)]
pub(super) struct Lists {
    finished: StringBuilder,
    /// The list that can still grow, and the row it belongs to.
    open: String,
    row: usize,
}

impl Lists {
    /// Adds to the list of a row, finishing the lists of all rows before it.
    pub(super) fn add(&mut self, row: usize, feedback: &str) -> Result<(), TooLarge> {
        self.finish(row);
        if self.open.len() + feedback.len() > MOST_BYTES {
            return Err(TooLarge);
        }
        self.open.push(if self.open.is_empty() { '[' } else { ',' });
        self.open.push_str(feedback);
        Ok(())
    }

    /// Finishes the lists of all rows before this one. A row without feedback gets an empty list.
    pub(super) fn finish(&mut self, before: usize) {
        while self.row < before {
            let list = std::mem::take(&mut self.open);
            self.finished.append_value(if list.is_empty() { "[]".to_owned() } else { list + "]" });
            self.row += 1;
        }
    }

    /// Size of the finished lists, in bytes.
    pub(super) fn bytes(&self) -> u64 {
        self.finished.values_slice().len() as u64
    }

    /// Takes the finished lists.
    pub(super) fn take(&mut self) -> StringArray {
        self.finished.finish()
    }
}

#[cfg(test)]
mod tests;
