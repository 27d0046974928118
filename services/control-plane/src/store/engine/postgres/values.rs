//! Converts values to and from PostgreSQL, and its errors.

use std::error::Error;

use bytes::BytesMut;
use tokio_postgres::{
    error::SqlState,
    types::{FromSql, IsNull, ToSql, Type, WrongType, to_sql_checked},
};
use uuid::Uuid;

use crate::store::{StoreError, sql::Value};

type Failure = Box<dyn Error + Sync + Send>;

impl ToSql for Value {
    fn to_sql(&self, ty: &Type, out: &mut BytesMut) -> Result<IsNull, Failure> {
        match self {
            Self::Null => Ok(IsNull::Yes),
            Self::Number(number) => fitting(number, ty, out),
            Self::Flag(flag) => fitting(flag, ty, out),
            // PostgreSQL's text cannot hold NUL. A report must not be lost because a bucket's error
            // message contains one.
            Self::Text(text) if text.contains('\0') => {
                fitting(&text.replace('\0', "\u{fffd}"), ty, out)
            }
            Self::Text(text) => fitting(text, ty, out),
            Self::Id(id) => fitting(id, ty, out),
            Self::Bytes(bytes) => fitting(bytes, ty, out),
        }
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

fn fitting<T: ToSql>(value: &T, ty: &Type, out: &mut BytesMut) -> Result<IsNull, Failure> {
    if T::accepts(ty) {
        value.to_sql(ty, out)
    } else {
        Err(Box::new(WrongType::new::<T>(ty.clone())))
    }
}

impl<'a> FromSql<'a> for Value {
    fn from_sql(ty: &Type, raw: &'a [u8]) -> Result<Self, Failure> {
        match *ty {
            Type::INT8 => i64::from_sql(ty, raw).map(Self::Number),
            Type::BOOL => bool::from_sql(ty, raw).map(Self::Flag),
            Type::TEXT => String::from_sql(ty, raw).map(Self::Text),
            Type::UUID => Uuid::from_sql(ty, raw).map(Self::Id),
            Type::BYTEA => Vec::from_sql(ty, raw).map(Self::Bytes),
            _ => Err(Box::new(WrongType::new::<Self>(ty.clone()))),
        }
    }

    fn from_sql_null(_: &Type) -> Result<Self, Failure> {
        Ok(Self::Null)
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

impl From<tokio_postgres::Error> for StoreError {
    fn from(error: tokio_postgres::Error) -> Self {
        let Some(said) = error.as_db_error() else { return Self::Unavailable(error.to_string()) };
        // Not the details: they quote rows.
        let words = format!("{} ({})", said.message(), said.code().code());
        match said.code() {
            &SqlState::T_R_SERIALIZATION_FAILURE
            | &SqlState::T_R_DEADLOCK_DETECTED
            | &SqlState::LOCK_NOT_AVAILABLE => Self::Contended,
            &SqlState::UNIQUE_VIOLATION | &SqlState::FOREIGN_KEY_VIOLATION => {
                Self::Exists("it".to_owned())
            }
            code if code.code().starts_with("22") || code.code().starts_with("23") => {
                Self::Corrupt(words)
            }
            _ => Self::Unavailable(words),
        }
    }
}
