//! The control planes that run over this database.

use tracelift_core::time::Timestamp;
use uuid::Uuid;

use crate::store::{Replica, StoreError, sql, sql::Row, transaction::Transaction};

pub(crate) fn announce(
    tx: &mut dyn Transaction,
    replica: &Replica,
    gone: Timestamp,
) -> Result<Vec<Replica>, StoreError> {
    tx.execute("DELETE FROM replicas WHERE seen_at < $1", &[gone.into()])?;
    tx.execute(
        "INSERT INTO replicas (id, name, keys, seen_at) VALUES ($1, $2, $3, $4)
         ON CONFLICT (id) DO UPDATE SET seen_at = excluded.seen_at",
        &[
            replica.id.into(),
            (&replica.name).into(),
            sql::json(&replica.keys)?,
            replica.seen_at.into(),
        ],
    )?;
    tx.query("SELECT * FROM replicas ORDER BY id", &[])?.iter().map(of).collect()
}

pub(crate) fn gone(tx: &mut dyn Transaction, id: Uuid) -> Result<(), StoreError> {
    tx.execute("DELETE FROM replicas WHERE id = $1", &[id.into()])
}

fn of(row: &Row) -> Result<Replica, StoreError> {
    Ok(Replica {
        id: row.get("id")?,
        name: row.get("name")?,
        keys: row.json("keys")?,
        seen_at: row.get("seen_at")?,
    })
}
