//! Requests with an idempotency key, and what each key created, until the key expires.

use tracelift_core::{
    id::{ExportId, TenantId},
    time::Timestamp,
};

use crate::store::{
    RequestKey, StoreError,
    sql::{self, Read, Value},
    transaction::Transaction,
};

/// How long an idempotency key is valid, in seconds.
pub(crate) const REQUEST_SECONDS: i64 = 86_400;

/// A kind of request; each has its own keys.
pub(crate) struct Kind {
    table: &'static str,
    /// The column with the id of what was created.
    made: &'static str,
}

pub(crate) const EXPORTS: Kind = Kind { table: "requests", made: "export_id" };
pub(crate) const DESTINATIONS: Kind =
    Kind { table: "destination_requests", made: "destination_id" };

/// The record of a key.
pub(crate) struct Known<Id> {
    /// The id of what was created.
    pub(crate) made: Id,
    /// Whether the request was the same.
    pub(crate) same: bool,
}

/// The record of a tenant's key, if it was made after `limit`. Unless the tenant is locked, the
/// answer may already be outdated.
pub(crate) fn find<Id: Read>(
    tx: &mut dyn Transaction,
    kind: &Kind,
    tenant: TenantId,
    request: &RequestKey,
    limit: Timestamp,
) -> Result<Option<Known<Id>>, StoreError> {
    let Kind { table, made } = kind;
    let sql = format!(
        "SELECT {made}, hash FROM {table} WHERE tenant_id = $1 AND key = $2 AND created_at > $3"
    );
    let found = sql::one(tx, &sql, &[tenant.into(), (&request.key).into(), limit.into()])?;
    let known = |row: sql::Row| {
        let digest: [u8; 32] = row.get("hash")?;
        Ok(Known { made: row.get(made)?, same: request.digests.contains(&digest) })
    };
    found.map(known).transpose()
}

/// Records what a key created.
pub(crate) fn remember(
    tx: &mut dyn Transaction,
    kind: &Kind,
    tenant: TenantId,
    request: &RequestKey,
    made: Value,
    now: Timestamp,
) -> Result<(), StoreError> {
    let Some(digest) = request.digests.first() else { return Ok(()) };
    let forgotten = format!("DELETE FROM {} WHERE tenant_id = $1 AND key = $2", kind.table);
    tx.execute(&forgotten, &[tenant.into(), (&request.key).into()])?; // an expired one
    let columns: Vec<(&str, Value)> = vec![
        ("tenant_id", tenant.into()),
        ("key", (&request.key).into()),
        ("hash", digest.into()),
        (kind.made, made),
        ("created_at", now.into()),
    ];
    sql::insert(tx, kind.table, columns)
}

/// Deletes keys recorded before `limit`.
pub(crate) fn forget(tx: &mut dyn Transaction, limit: Timestamp) -> Result<(), StoreError> {
    tx.execute("DELETE FROM requests WHERE created_at <= $1", &[limit.into()])?;
    tx.execute("DELETE FROM destination_requests WHERE created_at <= $1", &[limit.into()])
}

/// Deletes the keys of an export that is being deleted.
pub(crate) fn forget_of(tx: &mut dyn Transaction, export: ExportId) -> Result<(), StoreError> {
    tx.execute("DELETE FROM requests WHERE export_id = $1", &[export.into()])
}
