//! The schema and its migrations. Several control planes may start at once: one migrates, the
//! others wait and find it done.

use tokio_postgres::Client;

use crate::store::StoreError;

/// Every schema change, oldest first. Append only: replicas of the previous version still work on
/// the schema.
const CHANGES: &[&str] = &[
    include_str!("migrations/0001_initial.sql"),
    include_str!("migrations/0002_identity.sql"),
    include_str!("migrations/0003_schedules.sql"),
    include_str!("migrations/0004_limits.sql"),
    include_str!("migrations/0005_requests.sql"),
    include_str!("migrations/0006_retries.sql"),
    include_str!("migrations/0007_filter.sql"),
    include_str!("migrations/0008_oversized.sql"),
    include_str!("migrations/0009_destination_requests.sql"),
    include_str!("migrations/0010_experiments.sql"),
    include_str!("migrations/0011_queues.sql"),
    include_str!("migrations/0012_left_out.sql"),
    include_str!("migrations/0013_open_windows.sql"),
    include_str!("migrations/0014_under_way.sql"),
    include_str!("migrations/0015_file_format.sql"),
    include_str!("migrations/0016_unseen.sql"),
    include_str!("migrations/0017_replicas.sql"),
    include_str!("migrations/0018_asked_back.sql"),
    include_str!("migrations/0019_audit.sql"),
    include_str!("migrations/0020_keys.sql"),
];

/// An advisory lock of our own, provided that nobody else picks these bytes ("tracelft").
const LOCK: i64 = i64::from_be_bytes(*b"tracelft");

/// Brings the schema up to date, in one transaction. A newer schema is left alone.
pub(super) async fn migrate(client: &mut Client) -> Result<(), StoreError> {
    let transaction = client.transaction().await?;
    transaction.execute("SELECT pg_advisory_xact_lock($1)", &[&LOCK]).await?;
    let is_there: bool = transaction
        .query_one("SELECT to_regclass('tracelift_schema') IS NOT NULL", &[])
        .await?
        .get(0);
    let done = match is_there {
        true => transaction.query_one("SELECT version FROM tracelift_schema", &[]).await?.get(0),
        false => {
            transaction
                .batch_execute("CREATE TABLE tracelift_schema (version bigint NOT NULL); INSERT INTO tracelift_schema VALUES (0)")
                .await?;
            0i64
        }
    };
    let done = usize::try_from(done)
        .map_err(|_| StoreError::Corrupt(format!("column version: {done} is none")))?;
    let Some(missing) = CHANGES.get(done..) else { return Err(StoreError::NewerSchema) };
    for (change, version) in missing.iter().zip(done + 1..) {
        transaction
            .batch_execute(&format!("{change}; UPDATE tracelift_schema SET version = {version}"))
            .await?;
        tracing::info!(version, "the database's schema was changed");
    }
    Ok(transaction.commit().await?)
}
