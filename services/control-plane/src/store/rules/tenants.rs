//! The rules of tenants and their keys, with their records in the audit log.

use tracelift_core::{
    id::{KeyId, TenantId},
    time::Timestamp,
};

use super::{
    audit::{about, record},
    exports,
};
use crate::store::{
    Act, Action, ApiKey, Change, NewKey, Rotated, StoreError, Tenant, tables::tenants,
    transaction::Transaction,
};

/// How long after its deletion a tenant is looked at for what was made in the moment of it.
const LATE_SECONDS: i64 = 3600;

type Tx<'a> = &'a mut dyn Transaction;

pub(in crate::store) fn create(tx: Tx<'_>, act: &Act, tenant: &Tenant) -> Result<(), StoreError> {
    tenants::create(tx, tenant)?;
    let entry = about(tenant.id, Action::CreateTenant, tenant.id, None);
    record(tx, act, tenant.created_at, entry)
}

/// Suspends a tenant, or lets it go on; `None` if there is none.
pub(in crate::store) fn set_suspended(
    tx: Tx<'_>,
    act: &Act,
    id: TenantId,
    suspended: bool,
    now: Timestamp,
) -> Result<Option<Tenant>, StoreError> {
    let Some(tenant) = tenants::locked(tx, id)?.filter(|tenant| tenant.deleted_at.is_none()) else {
        return Ok(None);
    };
    if tenant.suspended_at.is_some() == suspended {
        return Ok(Some(tenant));
    }
    let tenant = Tenant { suspended_at: suspended.then_some(now), ..tenant };
    tenants::save(tx, &tenant)?;
    if !suspended {
        tx.tell(Change::TasksQueued);
    }
    let action = if suspended { Action::SuspendTenant } else { Action::ResumeTenant };
    record(tx, act, now, about(id, action, id, None))?;
    Ok(Some(tenant))
}

/// Deletes a tenant: at once its keys and credentials, then step by step its exports.
pub(in crate::store) fn delete(
    tx: Tx<'_>,
    act: &Act,
    id: TenantId,
    now: Timestamp,
) -> Result<Option<Tenant>, StoreError> {
    let Some(tenant) = tenants::locked(tx, id)? else { return Ok(None) };
    if tenant.deleted_at.is_some() {
        return Ok(Some(tenant));
    }
    let tenant = Tenant { suspended_at: None, deleted_at: Some(now), ..tenant };
    tenants::save(tx, &tenant)?;
    tenants::revoke_all(tx, id, now)?;
    tenants::destroy_credentials(tx, now)?;
    record(tx, act, now, about(id, Action::DeleteTenant, id, None))?;
    Ok(Some(tenant))
}

/// Cancels an export of a deleted tenant; returns whether there was one.
pub(in crate::store) fn end_next(tx: Tx<'_>, now: Timestamp) -> Result<bool, StoreError> {
    if let Some((tenant, export)) = tenants::unfinished(tx)? {
        exports::cancel(tx, tenant, export, now)?;
        return Ok(true);
    }
    tenants::destroy_credentials(tx, now)?;
    tenants::emptied(tx, now.plus_seconds(-LATE_SECONDS), now)?;
    Ok(false)
}

/// Adds a key; returns whether its tenant exists.
pub(in crate::store) fn create_key(
    tx: Tx<'_>,
    act: &Act,
    key: &ApiKey,
    hash: &[u8; 32],
) -> Result<bool, StoreError> {
    if tenants::locked(tx, key.tenant)?.is_none_or(|tenant| tenant.deleted_at.is_some()) {
        return Ok(false);
    }
    tenants::create_key(tx, key, hash)?;
    record(tx, act, key.created_at, about(key.tenant, Action::CreateApiKey, key.id, None))?;
    Ok(true)
}

pub(in crate::store) fn revoke_key(
    tx: Tx<'_>,
    act: &Act,
    whose: Option<TenantId>,
    id: KeyId,
    now: Timestamp,
) -> Result<Option<ApiKey>, StoreError> {
    let Some(key) = tenants::locked_key(tx, whose, id)? else { return Ok(None) };
    if key.revoked_at.is_some() {
        return Ok(Some(key));
    }
    let key = ApiKey { revoked_at: Some(now), ..key };
    tenants::save_key(tx, &key)?;
    record(tx, act, now, about(key.tenant, Action::DeleteApiKey, id, None))?;
    Ok(Some(key))
}

/// Lets a key expire at `until` at the latest, and adds one with the same rights.
pub(in crate::store) fn rotate_key(
    tx: Tx<'_>,
    act: &Act,
    whose: Option<TenantId>,
    id: KeyId,
    new: &NewKey,
    (until, now): (Timestamp, Timestamp),
) -> Result<Rotated, StoreError> {
    let Some(old) = tenants::locked_key(tx, whose, id)? else { return Ok(Rotated::Absent) };
    if old.revoked_at.is_some() || old.expires_at.is_some_and(|at| at <= now) {
        let why = Some("the key is not valid any more");
        record(tx, act, now, about(old.tenant, Action::RotateApiKey, id, why))?;
        return Ok(Rotated::Invalid);
    }
    let expires_at = Some(old.expires_at.map_or(until, |at| at.min(until)));
    let made = ApiKey {
        id: new.id,
        created_at: now,
        expires_at: new.expires_at,
        last_used_at: None,
        ..old.clone()
    };
    let old = ApiKey { expires_at, ..old };
    tenants::save_key(tx, &old)?;
    tenants::create_key(tx, &made, &new.hash)?;
    record(tx, act, now, about(old.tenant, Action::RotateApiKey, id, None))?;
    record(tx, act, now, about(old.tenant, Action::CreateApiKey, made.id, None))?;
    Ok(Rotated::Done(Box::new((old, made))))
}
