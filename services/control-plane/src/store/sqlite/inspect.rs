//! What no caller may ask: all runs of all tenants, for the rules that the simulation checks.

use tracelift_core::invariant::Seen;

use super::{SqliteStore, runs};
use crate::store::StoreError;

impl SqliteStore {
    /// A number that differs whenever a run has changed.
    pub async fn revision(&self) -> Result<i64, StoreError> {
        self.transact(|tx, _| {
            let mut query = tx.prepare_cached("SELECT coalesce(sum(updated_at + fence + files + frozen), 0) + count(*) FROM runs")?;
            Ok(query.query_row([], |row| row.get(0))?)
        })
        .await
    }

    /// Every run, the finalising ones included, with its files; by export, then by time.
    pub async fn everything(&self) -> Result<Vec<Seen>, StoreError> {
        self.transact(|tx, _| {
            let mut query = tx.prepare_cached("SELECT * FROM runs ORDER BY export_id, window_start IS NULL, window_start, id")?;
            let found = query.query_map([], runs::run)?.collect::<Result<Vec<_>, _>>()?;
            found.into_iter().map(|run| Ok(Seen { files: runs::files(tx, run.id)?, run })).collect()
        })
        .await
    }
}
