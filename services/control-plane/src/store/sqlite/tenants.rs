//! Tenants and the hashes of their API keys.

use rusqlite::{OptionalExtension as _, Row, Transaction, named_params};
use tracelift_core::{
    id::{KeyId, TenantId},
    time::Timestamp,
};

use super::record;
use crate::store::{ApiKey, Permission, StoreError, Tenant};

pub(super) fn create(tx: &Transaction<'_>, tenant: &Tenant) -> Result<(), StoreError> {
    if exists(tx, tenant.id)? {
        return Err(StoreError::Exists(format!("tenant {}", tenant.id)));
    }
    let values = named_params! {
        ":id": tenant.id.to_string(), ":display_name": tenant.display_name, ":created_at": tenant.created_at.micros(),
    };
    tx.execute("INSERT INTO tenants (id, display_name, created_at) VALUES (:id, :display_name, :created_at)", values)?;
    Ok(())
}

pub(super) fn exists(tx: &Transaction<'_>, id: TenantId) -> Result<bool, StoreError> {
    Ok(tx.query_row("SELECT EXISTS (SELECT 1 FROM tenants WHERE id = ?1)", [id.to_string()], |row| row.get(0))?)
}

pub(super) fn all(tx: &Transaction<'_>) -> Result<Vec<Tenant>, StoreError> {
    let mut query = tx.prepare_cached("SELECT * FROM tenants ORDER BY created_at DESC, id")?;
    let tenants = query.query_map([], |row| {
        Ok(Tenant { id: record::id(row, "id")?, display_name: row.get("display_name")?, created_at: record::time(row, "created_at")? })
    })?;
    Ok(tenants.collect::<Result<_, _>>()?)
}

pub(super) fn create_key(tx: &Transaction<'_>, key: &ApiKey, hash: &[u8; 32]) -> Result<(), StoreError> {
    let values = named_params! {
        ":id": key.id.to_string(), ":tenant_id": key.tenant.to_string(), ":display_name": key.display_name,
        ":permission": key.permission.as_str(), ":hash": hash.as_slice(), ":created_at": key.created_at.micros(),
    };
    tx.execute(
        "INSERT INTO api_keys (id, tenant_id, display_name, permission, hash, created_at)
         VALUES (:id, :tenant_id, :display_name, :permission, :hash, :created_at)",
        values,
    )?;
    Ok(())
}

pub(super) fn keys(tx: &Transaction<'_>, tenant: TenantId) -> Result<Vec<ApiKey>, StoreError> {
    let mut query = tx.prepare_cached("SELECT * FROM api_keys WHERE tenant_id = ?1 ORDER BY created_at DESC, id")?;
    let keys = query.query_map([tenant.to_string()], key)?;
    Ok(keys.collect::<Result<_, _>>()?)
}

pub(super) fn revoke_key(tx: &Transaction<'_>, id: KeyId, now: Timestamp) -> Result<Option<ApiKey>, StoreError> {
    tx.execute("UPDATE api_keys SET revoked_at = coalesce(revoked_at, ?2) WHERE id = ?1", (id.to_string(), now.micros()))?;
    Ok(tx.query_row("SELECT * FROM api_keys WHERE id = ?1", [id.to_string()], key).optional()?)
}

pub(super) fn key_by_hash(tx: &Transaction<'_>, hash: &[u8; 32]) -> Result<Option<ApiKey>, StoreError> {
    let mut query = tx.prepare_cached("SELECT * FROM api_keys WHERE hash = ?1 AND revoked_at IS NULL")?;
    Ok(query.query_row([hash.as_slice()], key).optional()?)
}

fn key(row: &Row<'_>) -> rusqlite::Result<ApiKey> {
    Ok(ApiKey {
        id: record::id(row, "id")?,
        tenant: record::id(row, "tenant_id")?,
        display_name: row.get("display_name")?,
        permission: record::word(row, "permission", Permission::parse)?,
        created_at: record::time(row, "created_at")?,
        revoked_at: record::optional_time(row, "revoked_at")?,
    })
}

impl Permission {
    fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Manage => "manage",
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
