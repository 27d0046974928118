//! Requests that may be repeated: what a caller's key stands for, as long as it is kept.

use tracelift_core::{
    id::{ExportId, TenantId},
    time::Timestamp,
};

use crate::store::{
    RequestKey, StoreError,
    sql::{self, Read, Value},
    transaction::Transaction,
};

/// Seconds for which a caller's key stands for its request.
pub(crate) const REQUEST_SECONDS: i64 = 86_400;

/// Each kind of request has keys of its own.
pub(crate) struct Kind {
    table: &'static str,
    /// The column of what was made.
    made: &'static str,
}

pub(crate) const EXPORTS: Kind = Kind { table: "requests", made: "export_id" };
pub(crate) const DESTINATIONS: Kind =
    Kind { table: "destination_requests", made: "destination_id" };

/// What a key stands for.
pub(crate) struct Known<Id> {
    /// What was made.
    pub(crate) made: Id,
    /// Whether the request was the same.
    pub(crate) same: bool,
}

/// What a tenant's key stands for since `limit`. The tenant is locked, or the answer is about a
/// moment ago.
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

/// From now on the key stands for what was made.
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
    tx.execute(&forgotten, &[tenant.into(), (&request.key).into()])?; // one that is too old
    let columns: Vec<(&str, Value)> = vec![
        ("tenant_id", tenant.into()),
        ("key", (&request.key).into()),
        ("hash", digest.into()),
        (kind.made, made),
        ("created_at", now.into()),
    ];
    sql::insert(tx, kind.table, columns)
}

/// Forgets keys that were used before `limit`.
pub(crate) fn forget(tx: &mut dyn Transaction, limit: Timestamp) -> Result<(), StoreError> {
    tx.execute("DELETE FROM requests WHERE created_at <= $1", &[limit.into()])?;
    tx.execute("DELETE FROM destination_requests WHERE created_at <= $1", &[limit.into()])
}

/// Forgets what stands for an export that is removed.
pub(crate) fn forget_of(tx: &mut dyn Transaction, export: ExportId) -> Result<(), StoreError> {
    tx.execute("DELETE FROM requests WHERE export_id = $1", &[export.into()])
}
