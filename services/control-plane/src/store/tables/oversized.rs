//! Counts of oversized values, as one JSON text: name of the limit to count. Records written by an
//! earlier version have no counts.

use std::collections::BTreeMap;

use tracelift_core::oversized::Oversized;

use crate::store::{
    StoreError,
    sql::{self, Row, Value},
};

pub(super) type Record = BTreeMap<String, u64>;

pub(super) fn record(oversized: Oversized) -> Record {
    oversized.named().map(|(name, count)| (name.to_owned(), count)).collect()
}

pub(super) fn from_record(record: &Record) -> Oversized {
    Oversized::from_named(record.iter().map(|(name, count)| (name.as_str(), *count)))
}

pub(super) fn column(oversized: Oversized) -> Result<Value, StoreError> {
    sql::json(&record(oversized))
}

pub(super) fn read(row: &Row) -> Result<Oversized, StoreError> {
    Ok(from_record(&row.json("oversized")?))
}
