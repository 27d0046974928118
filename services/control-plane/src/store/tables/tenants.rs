//! Tenants and the hashes of their API keys.

use tracelift_core::{
    id::{KeyId, TenantId},
    time::Timestamp,
};

use crate::store::{
    ApiKey, Change, Permission, StoreError, Tenant,
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

pub(crate) fn exists(tx: &mut dyn Transaction, id: TenantId) -> Result<bool, StoreError> {
    Ok(sql::one(tx, "SELECT id FROM tenants WHERE id = $1", &[id.into()])?.is_some())
}

pub(crate) fn all(tx: &mut dyn Transaction) -> Result<Vec<Tenant>, StoreError> {
    let rows = tx.query("SELECT * FROM tenants ORDER BY created_at DESC, id", &[])?;
    let tenant = |row: Row| {
        Ok(Tenant {
            id: row.get("id")?,
            display_name: row.get("display_name")?,
            created_at: row.get("created_at")?,
        })
    };
    rows.into_iter().map(tenant).collect()
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

/// The key, and whether this has revoked it; `None` if there is none.
pub(crate) fn revoke_key(
    tx: &mut dyn Transaction,
    id: KeyId,
    now: Timestamp,
) -> Result<(bool, Option<ApiKey>), StoreError> {
    let sql =
        "UPDATE api_keys SET revoked_at = $2 WHERE id = $1 AND revoked_at IS NULL RETURNING id";
    let revoked = sql::one(tx, sql, &[id.into(), now.into()])?.is_some();
    tx.tell(Change::KeyRevoked(id));
    let found = sql::one(tx, "SELECT * FROM api_keys WHERE id = $1", &[id.into()])?;
    Ok((revoked, found.as_ref().map(key).transpose()?))
}

pub(crate) fn is_key_valid(tx: &mut dyn Transaction, id: KeyId) -> Result<bool, StoreError> {
    let sql = "SELECT id FROM api_keys WHERE id = $1 AND revoked_at IS NULL";
    Ok(sql::one(tx, sql, &[id.into()])?.is_some())
}

pub(crate) fn key_by_hash(
    tx: &mut dyn Transaction,
    hash: &[u8; 32],
) -> Result<Option<ApiKey>, StoreError> {
    sql::one(tx, "SELECT * FROM api_keys WHERE hash = $1 AND revoked_at IS NULL", &[hash.into()])?
        .as_ref()
        .map(key)
        .transpose()
}

fn key(row: &Row) -> Result<ApiKey, StoreError> {
    Ok(ApiKey {
        id: row.get("id")?,
        tenant: row.get("tenant_id")?,
        display_name: row.get("display_name")?,
        permission: permission(row)?,
        created_at: row.get("created_at")?,
        revoked_at: row.get("revoked_at")?,
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
