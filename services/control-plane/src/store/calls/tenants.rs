//! The calls about tenants, their keys and the audit log.

use std::collections::BTreeMap;

use tracelift_core::{
    id::{KeyId, TenantId},
    time::Timestamp,
};

use crate::store::{
    Act, ApiKey, AuditEntry, AuditFilter, AuditPage, KnownKey, NewKey, Rotated, Store, StoreError,
    Tenant,
    rules::{audit, tenants},
    tables,
};

impl Store {
    /// Adds a tenant.
    pub async fn create_tenant(&self, act: Act, tenant: Tenant) -> Result<(), StoreError> {
        self.engine.transact(move |tx| tenants::create(tx, &act, &tenant)).await
    }

    /// All tenants, newest first.
    pub async fn tenants(&self) -> Result<Vec<Tenant>, StoreError> {
        self.engine.transact(|tx| tables::tenants::all(tx)).await
    }

    /// Whether there is such a tenant, and it was not deleted.
    pub async fn has_tenant(&self, id: TenantId) -> Result<bool, StoreError> {
        self.engine.transact(move |tx| tables::tenants::exists(tx, id)).await
    }

    /// Suspends a tenant, or lets it go on; `None` if there is none.
    pub async fn set_suspended(
        &self,
        act: Act,
        id: TenantId,
        suspended: bool,
        now: Timestamp,
    ) -> Result<Option<Tenant>, StoreError> {
        self.engine.transact(move |tx| tenants::set_suspended(tx, &act, id, suspended, now)).await
    }

    /// Deletes a tenant with its keys and credentials; `None` if there is none. What it has under way
    /// is ended by [`Self::end_next`].
    pub async fn delete_tenant(
        &self,
        act: Act,
        id: TenantId,
        now: Timestamp,
    ) -> Result<Option<Tenant>, StoreError> {
        self.engine.transact(move |tx| tenants::delete(tx, &act, id, now)).await
    }

    /// Ends an export or a schedule of a deleted tenant; returns whether there was one.
    pub async fn end_next(&self, now: Timestamp) -> Result<bool, StoreError> {
        self.engine.transact(move |tx| tenants::end_next(tx, now)).await
    }

    /// Adds a key by the hash of its secret; returns whether its tenant exists.
    pub async fn create_key(
        &self,
        act: Act,
        key: ApiKey,
        hash: [u8; 32],
    ) -> Result<bool, StoreError> {
        self.engine.transact(move |tx| tenants::create_key(tx, &act, &key, &hash)).await
    }

    /// A tenant's keys, newest first.
    pub async fn keys(&self, tenant: TenantId) -> Result<Vec<ApiKey>, StoreError> {
        self.engine.transact(move |tx| tables::tenants::keys(tx, tenant)).await
    }

    /// Revokes a key, of this tenant if one is given; `None` if there is none.
    pub async fn revoke_key(
        &self,
        act: Act,
        whose: Option<TenantId>,
        id: KeyId,
        now: Timestamp,
    ) -> Result<Option<ApiKey>, StoreError> {
        self.engine.transact(move |tx| tenants::revoke_key(tx, &act, whose, id, now)).await
    }

    /// Lets a key, of this tenant if one is given, expire at `until` at the latest, and adds one with
    /// the same rights.
    pub async fn rotate_key(
        &self,
        act: Act,
        whose: Option<TenantId>,
        id: KeyId,
        new: NewKey,
        until: Timestamp,
        now: Timestamp,
    ) -> Result<Rotated, StoreError> {
        self.engine
            .transact(move |tx| tenants::rotate_key(tx, &act, whose, id, &new, (until, now)))
            .await
    }

    /// The key with this hash, unless it was revoked; it may have expired.
    pub async fn key_by_hash(&self, hash: [u8; 32]) -> Result<Option<KnownKey>, StoreError> {
        self.engine.transact(move |tx| tables::tenants::key_by_hash(tx, &hash)).await
    }

    /// The key with this id, unless it was revoked; it may have expired.
    pub async fn key_by_id(&self, id: KeyId) -> Result<Option<KnownKey>, StoreError> {
        self.engine.transact(move |tx| tables::tenants::key_by_id(tx, id)).await
    }

    /// Stores when keys were last used.
    pub async fn keys_used(&self, keys: BTreeMap<KeyId, Timestamp>) -> Result<(), StoreError> {
        self.engine.transact(move |tx| tables::tenants::used(tx, &keys)).await
    }

    /// Records an act that changes nothing else, such as a refusal.
    pub async fn record(
        &self,
        act: Act,
        entry: AuditEntry,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.engine.transact(move |tx| audit::record(tx, &act, now, entry.clone())).await
    }

    /// Up to `most` records about a tenant, or about none, newest first.
    pub async fn audit_records(
        &self,
        tenant: Option<TenantId>,
        wanted: AuditFilter,
        most: u32,
    ) -> Result<AuditPage, StoreError> {
        self.engine.transact(move |tx| audit::page(tx, tenant, &wanted, most)).await
    }

    /// Removes records of the audit log older than `limit`, a bounded number at a time; returns how
    /// many.
    pub async fn remove_records(&self, limit: Timestamp) -> Result<u64, StoreError> {
        self.engine.transact(move |tx| tables::audit::remove(tx, limit)).await
    }
}
