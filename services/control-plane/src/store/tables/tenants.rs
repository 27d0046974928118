//! Tenants and the hashes of their API keys.

use std::collections::BTreeMap;

use tracelift_core::{
    id::{ExportId, KeyId, TenantId},
    time::Timestamp,
};

use crate::store::{
    ApiKey, Change, KnownKey, Permission, StoreError, Tenant,
    sql::{self, Row},
    transaction::{Transaction, for_update},
};

pub(crate) fn create(tx: &mut dyn Transaction, tenant: &Tenant) -> Result<(), StoreError> {
    let sql = "INSERT INTO tenants (id, display_name, created_at) VALUES ($1, $2, $3) ON CONFLICT (id) DO NOTHING RETURNING id";
    let made = sql::one(
        tx,
        sql,
        &[tenant.id.into(), (&tenant.display_name).into(), tenant.created_at.into()],
    )?;
    made.map(drop).ok_or_else(|| StoreError::Exists(format!("tenant {}", tenant.id)))
}

/// Keeps others from claiming this tenant's tasks, or creating exports under its limits, until the
/// transaction ends.
pub(crate) fn lock(tx: &mut dyn Transaction, id: TenantId) -> Result<Option<Row>, StoreError> {
    let sql = format!("SELECT served_at FROM tenants WHERE id = $1{}", for_update(tx));
    sql::one(tx, &sql, &[id.into()])
}

/// Whether there is such a tenant, and it was not deleted.
pub(crate) fn exists(tx: &mut dyn Transaction, id: TenantId) -> Result<bool, StoreError> {
    let sql = "SELECT id FROM tenants WHERE id = $1 AND deleted_at IS NULL";
    Ok(sql::one(tx, sql, &[id.into()])?.is_some())
}

/// The tenant, locked until the transaction ends.
pub(crate) fn locked(tx: &mut dyn Transaction, id: TenantId) -> Result<Option<Tenant>, StoreError> {
    let sql = format!("SELECT * FROM tenants WHERE id = $1{}", for_update(tx));
    sql::one(tx, &sql, &[id.into()])?.as_ref().map(of).transpose()
}

/// Stores whether a tenant is suspended or deleted.
pub(crate) fn save(tx: &mut dyn Transaction, tenant: &Tenant) -> Result<(), StoreError> {
    let columns = vec![
        ("suspended_at", tenant.suspended_at.into()),
        ("deleted_at", tenant.deleted_at.into()),
    ];
    tx.tell(Change::Tenant(tenant.id));
    sql::update(tx, "tenants", tenant.id, columns)
}

/// Revokes every key of a tenant.
pub(crate) fn revoke_all(
    tx: &mut dyn Transaction,
    tenant: TenantId,
    now: Timestamp,
) -> Result<(), StoreError> {
    let sql = "UPDATE api_keys SET revoked_at = $2 WHERE tenant_id = $1 AND revoked_at IS NULL";
    tx.execute(sql, &[tenant.into(), now.into()])
}

/// An export of a deleted tenant that has not ended.
pub(crate) fn unfinished(
    tx: &mut dyn Transaction,
) -> Result<Option<(TenantId, ExportId)>, StoreError> {
    let sql = "SELECT e.tenant_id, e.id FROM tenants t JOIN exports e ON e.tenant_id = t.id
         WHERE t.deleted_at IS NOT NULL AND t.emptied_at IS NULL AND e.finished_at IS NULL LIMIT 1";
    let found = sql::one(tx, sql, &[])?;
    found.map(|row| Ok((row.get("tenant_id")?, row.get("id")?))).transpose()
}

/// Destroys the credentials of deleted tenants, also those that were saved while they were deleted.
pub(crate) fn destroy_credentials(
    tx: &mut dyn Transaction,
    now: Timestamp,
) -> Result<(), StoreError> {
    let sql = "UPDATE destinations SET sealed = '', deleted_at = $1 WHERE deleted_at IS NULL
         AND tenant_id IN (SELECT id FROM tenants WHERE deleted_at IS NOT NULL AND emptied_at IS NULL)";
    tx.execute(sql, &[now.into()])
}

/// Deleted tenants without anything unfinished are not looked at again.
pub(crate) fn emptied(
    tx: &mut dyn Transaction,
    limit: Timestamp,
    now: Timestamp,
) -> Result<(), StoreError> {
    let sql = "UPDATE tenants SET emptied_at = $2 WHERE deleted_at < $1 AND emptied_at IS NULL";
    tx.execute(sql, &[limit.into(), now.into()])
}

pub(crate) fn all(tx: &mut dyn Transaction) -> Result<Vec<Tenant>, StoreError> {
    let rows = tx.query("SELECT * FROM tenants ORDER BY created_at DESC, id", &[])?;
    rows.iter().map(of).collect()
}

fn of(row: &Row) -> Result<Tenant, StoreError> {
    Ok(Tenant {
        id: row.get("id")?,
        display_name: row.get("display_name")?,
        created_at: row.get("created_at")?,
        suspended_at: row.get("suspended_at")?,
        deleted_at: row.get("deleted_at")?,
    })
}

pub(crate) fn create_key(
    tx: &mut dyn Transaction,
    key: &ApiKey,
    hash: &[u8; 32],
) -> Result<(), StoreError> {
    let columns = vec![
        ("id", key.id.into()),
        ("tenant_id", key.tenant.into()),
        ("display_name", (&key.display_name).into()),
        ("permission", key.permission.as_str().into()),
        ("is_admin", (key.permission == Permission::Admin).into()),
        ("hash", hash.into()),
        ("created_at", key.created_at.into()),
        ("expires_at", key.expires_at.into()),
    ];
    sql::insert(tx, "api_keys", columns)
}

pub(crate) fn keys(tx: &mut dyn Transaction, tenant: TenantId) -> Result<Vec<ApiKey>, StoreError> {
    let rows = tx.query(
        "SELECT * FROM api_keys WHERE tenant_id = $1 ORDER BY created_at DESC, id",
        &[tenant.into()],
    )?;
    rows.iter().map(key).collect()
}

/// A key, of this tenant if one is given, locked until the transaction ends.
pub(crate) fn locked_key(
    tx: &mut dyn Transaction,
    whose: Option<TenantId>,
    id: KeyId,
) -> Result<Option<ApiKey>, StoreError> {
    let sql = format!("SELECT * FROM api_keys WHERE id = $1{}", for_update(tx));
    let found = sql::one(tx, &sql, &[id.into()])?.as_ref().map(key).transpose()?;
    Ok(found.filter(|key| whose.is_none_or(|tenant| tenant == key.tenant)))
}

/// Stores when a key was revoked and when it expires.
pub(crate) fn save_key(tx: &mut dyn Transaction, key: &ApiKey) -> Result<(), StoreError> {
    tx.tell(Change::KeyRevoked(key.id));
    let columns =
        vec![("revoked_at", key.revoked_at.into()), ("expires_at", key.expires_at.into())];
    sql::update(tx, "api_keys", key.id, columns)
}

/// Keys that were not revoked.
const KNOWN: &str = "SELECT k.*, t.suspended_at FROM api_keys k JOIN tenants t ON t.id = k.tenant_id WHERE k.revoked_at IS NULL";

pub(crate) fn key_by_id(
    tx: &mut dyn Transaction,
    id: KeyId,
) -> Result<Option<KnownKey>, StoreError> {
    let found = sql::one(tx, &format!("{KNOWN} AND k.id = $1"), &[id.into()])?;
    found.as_ref().map(known).transpose()
}

pub(crate) fn key_by_hash(
    tx: &mut dyn Transaction,
    hash: &[u8; 32],
) -> Result<Option<KnownKey>, StoreError> {
    let found = sql::one(tx, &format!("{KNOWN} AND k.hash = $1"), &[hash.into()])?;
    found.as_ref().map(known).transpose()
}

fn known(row: &Row) -> Result<KnownKey, StoreError> {
    let suspended_at: Option<Timestamp> = row.get("suspended_at")?;
    Ok(KnownKey { key: key(row)?, suspended: suspended_at.is_some() })
}

/// Stores when keys were last used, in the order of their ids, unless a later time is stored.
pub(crate) fn used(
    tx: &mut dyn Transaction,
    keys: &BTreeMap<KeyId, Timestamp>,
) -> Result<(), StoreError> {
    let sql = "UPDATE api_keys SET last_used_at = $2 WHERE id = $1 AND (last_used_at IS NULL OR last_used_at < $2)";
    keys.iter().try_for_each(|(id, at)| tx.execute(sql, &[(*id).into(), (*at).into()]))
}

fn key(row: &Row) -> Result<ApiKey, StoreError> {
    Ok(ApiKey {
        id: row.get("id")?,
        tenant: row.get("tenant_id")?,
        display_name: row.get("display_name")?,
        permission: permission(row)?,
        created_at: row.get("created_at")?,
        revoked_at: row.get("revoked_at")?,
        expires_at: row.get("expires_at")?,
        last_used_at: row.get("last_used_at")?,
    })
}

/// Of a key that may administer, the previous version knows that it may manage.
fn permission(row: &Row) -> Result<Permission, StoreError> {
    let permission = row.word("permission", Permission::parse)?;
    Ok(if row.get("is_admin")? { Permission::Admin } else { permission })
}

impl Permission {
    fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Manage | Self::Admin => "manage",
        }
    }

    fn parse(word: &str) -> Result<Self, String> {
        match word {
            "read" => Ok(Self::Read),
            "manage" => Ok(Self::Manage),
            other => Err(other.to_owned()),
        }
    }
}
