//! Values, statements and rows that both databases understand: how domain values are encoded in
//! columns and decoded from them.
//!
//! A value that cannot be decoded is an error that names its column, never a default.

use std::{fmt::Display, sync::Arc};

use serde::{Serialize, de::DeserializeOwned};
use tracelift_core::{
    Invalid,
    id::{DestinationId, ExportId, KeyId, SessionId, TaskId, TenantId},
    time::{Timestamp, Window},
};
use uuid::Uuid;

use super::transaction::Transaction;
use crate::store::StoreError;

/// A column's value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Null,
    Number(i64),
    Flag(bool),
    Text(String),
    Id(Uuid),
    Bytes(Vec<u8>),
}

/// Columns and the values to write to them.
pub(crate) type Columns = Vec<(&'static str, Value)>;

/// Adds a row.
pub(crate) fn insert(
    tx: &mut dyn Transaction,
    table: &str,
    columns: Columns,
) -> Result<(), StoreError> {
    let (names, values): (Vec<_>, Vec<_>) = columns.into_iter().unzip();
    let marks: Vec<_> = (1..=values.len()).map(|n| format!("${n}")).collect();
    tx.execute(
        &format!("INSERT INTO {table} ({}) VALUES ({})", names.join(", "), marks.join(", ")),
        &values,
    )
}

/// Updates the row with this id.
pub(crate) fn update(
    tx: &mut dyn Transaction,
    table: &str,
    id: impl Into<Value>,
    columns: Columns,
) -> Result<(), StoreError> {
    let (names, mut values): (Vec<_>, Vec<_>) = columns.into_iter().unzip();
    let set: Vec<_> = names.iter().zip(1..).map(|(name, n)| format!("{name} = ${n}")).collect();
    values.push(id.into());
    tx.execute(
        &format!("UPDATE {table} SET {} WHERE id = ${}", set.join(", "), values.len()),
        &values,
    )
}

/// The only row, if there is one.
pub(crate) fn one(
    tx: &mut dyn Transaction,
    sql: &str,
    values: &[Value],
) -> Result<Option<Row>, StoreError> {
    Ok(tx.query(sql, values)?.into_iter().next())
}

/// A composite value as JSON text. Text, because it is only ever read whole, and PostgreSQL's jsonb
/// rejects `\u0000`.
pub(crate) fn json(value: &impl Serialize) -> Result<Value, StoreError> {
    serde_json::to_string(value)
        .map(Value::Text)
        .map_err(|error| StoreError::Corrupt(error.to_string()))
}

/// A row that was read.
#[derive(Debug)]
pub(crate) struct Row {
    names: Arc<[String]>,
    values: Vec<Value>,
}

impl Row {
    pub(crate) fn new(names: Arc<[String]>, values: Vec<Value>) -> Self {
        Self { names, values }
    }

    /// The value of a column.
    pub(crate) fn get<T: Read>(&self, column: &str) -> Result<T, StoreError> {
        let at = self.names.iter().position(|name| name == column);
        let value = at
            .and_then(|at| self.values.get(at))
            .ok_or_else(|| unreadable(column, "there is no such column"))?;
        T::read(value).map_err(|fault| unreadable(column, fault))
    }

    /// A text column, parsed.
    pub(crate) fn word<T, F: Display>(
        &self,
        column: &str,
        parse: impl FnOnce(&str) -> Result<T, F>,
    ) -> Result<T, StoreError> {
        parse(&self.get::<String>(column)?).map_err(|fault| unreadable(column, fault))
    }

    /// A text column, parsed; parsing may report several faults.
    pub(crate) fn checked<T>(
        &self,
        column: &str,
        checked: Result<T, Vec<Invalid>>,
    ) -> Result<T, StoreError> {
        checked.map_err(|faults| {
            unreadable(
                column,
                faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "),
            )
        })
    }

    /// A value written by [`json`].
    pub(crate) fn json<T: DeserializeOwned>(&self, column: &str) -> Result<T, StoreError> {
        self.word(column, |text| serde_json::from_str(text))
    }

    /// The window in `window_start` and `window_end`.
    pub(crate) fn window(&self) -> Result<Option<Window>, StoreError> {
        let (Some(start), Some(end)) = (self.get("window_start")?, self.get("window_end")?) else {
            return Ok(None);
        };
        Window::new(start, end).map(Some).ok_or_else(|| unreadable("window_end", end))
    }
}

pub(crate) fn unreadable(column: &str, fault: impl Display) -> StoreError {
    StoreError::Corrupt(format!("column {column}: {fault}"))
}

/// A type that can be read from a column.
pub(crate) trait Read: Sized {
    fn read(value: &Value) -> Result<Self, String>;
}

fn unfit<T>(value: &Value, expected: &str) -> Result<T, String> {
    let found = match value {
        Value::Null => "nothing",
        Value::Number(_) => "a number",
        Value::Flag(_) => "a flag",
        Value::Text(_) => "a text",
        Value::Id(_) => "an id",
        Value::Bytes(_) => "bytes",
    };
    Err(format!("{found} instead of {expected}"))
}

impl<T: Read> Read for Option<T> {
    fn read(value: &Value) -> Result<Self, String> {
        if *value == Value::Null { Ok(None) } else { T::read(value).map(Some) }
    }
}

impl Read for i64 {
    fn read(value: &Value) -> Result<Self, String> {
        if let Value::Number(number) = value { Ok(*number) } else { unfit(value, "a number") }
    }
}

impl Read for u64 {
    fn read(value: &Value) -> Result<Self, String> {
        Self::try_from(i64::read(value)?).map_err(|error| error.to_string())
    }
}

impl Read for u32 {
    fn read(value: &Value) -> Result<Self, String> {
        Self::try_from(i64::read(value)?).map_err(|error| error.to_string())
    }
}

impl Read for bool {
    fn read(value: &Value) -> Result<Self, String> {
        match value {
            Value::Flag(flag) => Ok(*flag),
            Value::Number(number) => Ok(*number != 0), // SQLite has no booleans
            other => unfit(other, "a flag"),
        }
    }
}

impl Read for String {
    fn read(value: &Value) -> Result<Self, String> {
        if let Value::Text(text) = value { Ok(text.clone()) } else { unfit(value, "a text") }
    }
}

impl Read for [u8; 32] {
    fn read(value: &Value) -> Result<Self, String> {
        let Value::Bytes(bytes) = value else { return unfit(value, "bytes") };
        Self::try_from(bytes.as_slice()).map_err(|_| format!("{} bytes instead of 32", bytes.len()))
    }
}

impl Read for Uuid {
    fn read(value: &Value) -> Result<Self, String> {
        match value {
            Value::Id(id) => Ok(*id),
            Value::Text(text) => Self::parse_str(text).map_err(|error| error.to_string()), /* SQLite has no ids */
            other => unfit(other, "an id"),
        }
    }
}

impl Read for Timestamp {
    fn read(value: &Value) -> Result<Self, String> {
        let micros = i64::read(value)?;
        Self::from_micros(micros).ok_or_else(|| format!("{micros} is no time"))
    }
}

impl<T: Into<Self>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::Number(value)
    }
}

/// Columns are signed; a count beyond their range is clamped to the largest value.
impl From<u64> for Value {
    fn from(value: u64) -> Self {
        Self::Number(i64::try_from(value).unwrap_or(i64::MAX))
    }
}

impl From<u32> for Value {
    fn from(value: u32) -> Self {
        Self::Number(value.into())
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Flag(value)
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::Text(value.to_owned())
    }
}

impl From<&String> for Value {
    fn from(value: &String) -> Self {
        Self::Text(value.clone())
    }
}

impl From<Uuid> for Value {
    fn from(value: Uuid) -> Self {
        Self::Id(value)
    }
}

impl From<&[u8; 32]> for Value {
    fn from(value: &[u8; 32]) -> Self {
        Self::Bytes(value.to_vec())
    }
}

impl From<Timestamp> for Value {
    fn from(value: Timestamp) -> Self {
        Self::Number(value.micros())
    }
}

macro_rules! ids {
    ($($name:ident),*) => {$(
        impl From<$name> for Value {
            fn from(id: $name) -> Self {
                Self::Id(id.0)
            }
        }

        impl Read for $name {
            fn read(value: &Value) -> Result<Self, String> {
                Uuid::read(value).map(Self)
            }
        }
    )*};
}

ids!(TenantId, DestinationId, ExportId, TaskId, SessionId, KeyId);
