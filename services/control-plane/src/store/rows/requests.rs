//! Requests that may be repeated: what a caller's key stands for, as long as it is kept.

use tracelift_core::{
    id::{ExportId, TenantId},
    time::Timestamp,
};

use crate::store::{RequestKey, StoreError, sql, sql::Value, transaction::Transaction};

/// What a key stands for.
pub(crate) struct Known {
    /// The export that was made.
    pub(crate) export: ExportId,
    /// Whether the request was the same.
    pub(crate) same: bool,
}

/// What a tenant's key stands for since `limit`. The tenant is locked.
pub(crate) fn find(
    tx: &mut dyn Transaction,
    tenant: TenantId,
    request: &RequestKey,
    limit: Timestamp,
) -> Result<Option<Known>, StoreError> {
    let sql = "SELECT export_id, hash = $3 AS same FROM requests WHERE tenant_id = $1 AND key = $2 AND created_at > $4";
    let values = [tenant.into(), (&request.key).into(), (&request.hash).into(), limit.into()];
    sql::one(tx, sql, &values)?.map(|row| Ok(Known { export: row.get("export_id")?, same: row.get("same")? })).transpose()
}

/// From now on the key stands for that export.
pub(crate) fn remember(
    tx: &mut dyn Transaction,
    tenant: TenantId,
    request: &RequestKey,
    export: ExportId,
    now: Timestamp,
) -> Result<(), StoreError> {
    tx.execute("DELETE FROM requests WHERE tenant_id = $1 AND key = $2", &[tenant.into(), (&request.key).into()])?; // one that is too old
    let columns: Vec<(&str, Value)> = vec![
        ("tenant_id", tenant.into()),
        ("key", (&request.key).into()),
        ("hash", (&request.hash).into()),
        ("export_id", export.into()),
        ("created_at", now.into()),
    ];
    sql::insert(tx, "requests", columns)
}

/// Forgets keys that were used before `limit`.
pub(crate) fn forget(tx: &mut dyn Transaction, limit: Timestamp) -> Result<(), StoreError> {
    tx.execute("DELETE FROM requests WHERE created_at <= $1", &[limit.into()])
}

/// Forgets what stands for an export that is removed.
pub(crate) fn forget_of(tx: &mut dyn Transaction, export: ExportId) -> Result<(), StoreError> {
    tx.execute("DELETE FROM requests WHERE export_id = $1", &[export.into()])
}
