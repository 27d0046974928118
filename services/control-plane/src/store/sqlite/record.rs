//! How values stand in columns. A value that cannot be read back is an error, never a default.

use rusqlite::{Row, types::Type};
use serde::{Serialize, de::DeserializeOwned};
use tracelift_core::{
    Invalid,
    time::{Timestamp, Window},
};
use uuid::Uuid;

use crate::store::StoreError;

pub(super) fn unreadable(column: &str, text: impl std::fmt::Display) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(0, Type::Text, format!("column {column}: {text}").into())
}

/// Every fault of a value that has several.
pub(super) fn all_unreadable(column: &str, faults: &[Invalid]) -> rusqlite::Error {
    let faults: Vec<_> = faults.iter().map(ToString::to_string).collect();
    unreadable(column, faults.join("; "))
}

pub(super) fn id<T: From<UuidOf>>(row: &Row<'_>, column: &str) -> rusqlite::Result<T> {
    let text: String = row.get(column)?;
    Uuid::parse_str(&text).map(|id| T::from(UuidOf(id))).map_err(|error| unreadable(column, error))
}

pub(super) fn optional_id<T: From<UuidOf>>(row: &Row<'_>, column: &str) -> rusqlite::Result<Option<T>> {
    let text: Option<String> = row.get(column)?;
    text.map(|text| Uuid::parse_str(&text).map(|id| T::from(UuidOf(id))).map_err(|error| unreadable(column, error))).transpose()
}

/// A UUID on its way into the id type that the caller asks for.
pub(super) struct UuidOf(Uuid);

macro_rules! ids {
    ($($name:ident),*) => {$(
        impl From<UuidOf> for tracelift_core::id::$name {
            fn from(id: UuidOf) -> Self {
                Self(id.0)
            }
        }
    )*};
}

ids!(TenantId, DestinationId, ExportId, RunId, SessionId, KeyId);

impl From<UuidOf> for Uuid {
    fn from(id: UuidOf) -> Self {
        id.0
    }
}

pub(super) fn time(row: &Row<'_>, column: &str) -> rusqlite::Result<Timestamp> {
    optional_time(row, column)?.ok_or_else(|| unreadable(column, "no time"))
}

pub(super) fn optional_time(row: &Row<'_>, column: &str) -> rusqlite::Result<Option<Timestamp>> {
    let micros: Option<i64> = row.get(column)?;
    micros.map(|micros| Timestamp::from_micros(micros).ok_or_else(|| unreadable(column, micros))).transpose()
}

pub(super) fn optional_window(row: &Row<'_>) -> rusqlite::Result<Option<Window>> {
    let (Some(start), Some(end)) = (optional_time(row, "window_start")?, optional_time(row, "window_end")?) else { return Ok(None) };
    Window::new(start, end).map(Some).ok_or_else(|| unreadable("window_end", end))
}

pub(super) fn word<T, E: std::fmt::Display>(row: &Row<'_>, column: &str, parse: impl FnOnce(&str) -> Result<T, E>) -> rusqlite::Result<T> {
    let text: String = row.get(column)?;
    parse(&text).map_err(|error| unreadable(column, error))
}

/// A count; SQLite's integers are signed.
pub(super) fn count(row: &Row<'_>, column: &str) -> rusqlite::Result<u64> {
    let value: i64 = row.get(column)?;
    u64::try_from(value).map_err(|error| unreadable(column, error))
}

pub(super) fn small(row: &Row<'_>, column: &str) -> rusqlite::Result<u32> {
    u32::try_from(count(row, column)?).map_err(|error| unreadable(column, error))
}

/// A count on its way in; beyond 2^63 it is held at that.
pub(super) fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

pub(super) fn json<T: DeserializeOwned>(row: &Row<'_>, column: &str) -> rusqlite::Result<T> {
    let text: String = row.get(column)?;
    serde_json::from_str(&text).map_err(|error| unreadable(column, error))
}

pub(super) fn to_json(value: &impl Serialize) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|error| StoreError::Corrupt(error.to_string()))
}
