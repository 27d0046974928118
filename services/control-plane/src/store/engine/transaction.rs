//! One transaction of either database, and how a call to the store runs in it.
//!
//! The rules (`rules`) and the tables (`tables`) are written once, synchronously, against
//! [`Transaction`]; a database only defines how statements run, rows are locked, and notifications
//! travel.

use tracelift_core::{audit::Chained, id::ExporterId};

use super::sql::{Row, Value};
use crate::store::{Change, ReportError, StoreError};

/// What rules and tables need from a database, within one transaction. Parameters are `$1`, `$2`, …
///
/// To avoid deadlocks, locks are always taken in this order: the exporter, tenants by id, tasks (of
/// the exporter or of an export) by id, exports by id, the end of an audit chain.
pub(crate) trait Transaction {
    /// Reads rows.
    fn query(&mut self, sql: &str, values: &[Value]) -> Result<Vec<Row>, StoreError>;
    /// Writes. An error surfaces in this call, in the next query, or in the commit.
    fn execute(&mut self, sql: &str, values: &[Value]) -> Result<(), StoreError>;
    /// Whether transactions run concurrently, so that rows must be locked before they are changed.
    fn side_by_side(&self) -> bool;
    /// Keeps other transactions from counting or changing what this exporter holds, until this one
    /// ends.
    fn lock_exporter(&mut self, exporter: &ExporterId) -> Result<(), StoreError>;
    /// Publishes a notification once the transaction is durable, so that receivers see what was
    /// written. It may be lost if the process ends.
    fn tell(&mut self, change: Change);
    /// Writes a record of the audit log to the log too, once the transaction is durable.
    fn stream(&mut self, record: Chained);
}

/// The end of a SELECT whose rows this transaction will change.
///
/// Not FOR UPDATE: when a task is written twice in a transaction, its foreign key is checked, which
/// takes a shared lock on the export's key; two transactions that both hold that lock and both
/// request FOR UPDATE deadlock.
pub(crate) fn for_update(tx: &dyn Transaction) -> &'static str {
    if tx.side_by_side() { " FOR NO KEY UPDATE" } else { "" }
}

/// The same, but skips rows that another transaction has locked.
pub(crate) fn for_update_of_free(tx: &dyn Transaction) -> &'static str {
    if tx.side_by_side() { " FOR NO KEY UPDATE SKIP LOCKED" } else { "" }
}

/// An error that a transaction may fail with.
pub(crate) trait Failure: From<StoreError> + Send + 'static {
    /// The store's error in it, if there is one.
    fn of_store(&self) -> Option<&StoreError>;
}

impl Failure for StoreError {
    fn of_store(&self) -> Option<&StoreError> {
        Some(self)
    }
}

impl Failure for ReportError {
    fn of_store(&self) -> Option<&StoreError> {
        match self {
            Self::Store(error) => Some(error),
            Self::Illegal(_) => None,
        }
    }
}
