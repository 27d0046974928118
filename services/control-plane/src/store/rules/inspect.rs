//! Queries that no caller may make: all tasks of all tenants, for the invariants that the
//! simulation checks.

use tracelift_core::invariant::Seen;

use crate::store::{
    Store, StoreError, sql,
    tables::{files, tasks},
};

impl Store {
    /// A number that changes whenever a task changes.
    pub async fn revision(&self) -> Result<i64, StoreError> {
        self.engine.transact(|tx| {
            let sql = "SELECT coalesce(sum(updated_at + fence + files + frozen), 0) + count(*) AS revision FROM runs";
            sql::one(tx, sql, &[])?.map_or(Ok(0), |row| row.get("revision"))
        })
        .await
    }

    /// Every task, hidden kinds included, with its files; by export, then by time.
    pub async fn everything(&self) -> Result<Vec<Seen>, StoreError> {
        self.engine
            .transact(|tx| {
                tasks::all(tx)?
                    .into_iter()
                    .map(|task| Ok(Seen { files: files::all(tx, task.id)?, task }))
                    .collect()
            })
            .await
    }
}
