//! One transaction of one database, and how a call to the store runs in it.
//!
//! The rules (`rules`) and the tables (`tables`) are written once, synchronously, against
//! [`Transaction`]; a database says only how statements are run, how rows are locked and how news
//! travels.

use tracelift_core::id::ExporterId;

use super::sql::{Row, Value};
use crate::store::{Change, ReportError, StoreError};

/// What rules and rows need of a database, within one transaction. Parameters are `$1`, `$2`, …
///
/// Locks are always taken in this order, so that no two transactions wait for each other: the
/// exporter, tenants by id, its or an export's runs by id, exports by id.
pub(crate) trait Transaction {
    /// Reads rows.
    fn query(&mut self, sql: &str, values: &[Value]) -> Result<Vec<Row>, StoreError>;
    /// Writes. A fault of it is told by this call, by the next query, or by the commit.
    fn execute(&mut self, sql: &str, values: &[Value]) -> Result<(), StoreError>;
    /// Whether transactions run side by side, so that rows must be locked before they are changed.
    fn side_by_side(&self) -> bool;
    /// Lets no other transaction count or change what this exporter holds, until this one ends.
    fn lock_exporter(&mut self, exporter: &ExporterId) -> Result<(), StoreError>;
    /// Tells this as soon as the transaction is durable: whoever hears it sees what was written. It
    /// may be lost when the process ends.
    fn tell(&mut self, change: Change);
}

/// The end of a SELECT whose rows this transaction will change.
///
/// Not FOR UPDATE: a run that is written twice in a transaction has its foreign key checked, which
/// shares a lock on the export's key; two transactions that both share it and both want FOR UPDATE
/// wait for each other.
pub(crate) fn for_update(tx: &dyn Transaction) -> &'static str {
    if tx.side_by_side() { " FOR NO KEY UPDATE" } else { "" }
}

/// The same, but rows that another transaction is about to change are left to it.
pub(crate) fn for_update_of_free(tx: &dyn Transaction) -> &'static str {
    if tx.side_by_side() { " FOR NO KEY UPDATE SKIP LOCKED" } else { "" }
}

/// What a transaction may fail with.
pub(crate) trait Failure: From<StoreError> + Send + 'static {
    /// The store's own part in it.
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
