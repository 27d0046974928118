//! The rules of the audit log: a record is written in the transaction of its act, so neither exists
//! without the other.
//!
//! The end of a tenant's chain is locked last of all, until the act commits: tenants never wait for
//! each other, and no other lock is waited for while it is held.

use tracelift_core::{
    audit::{Chained, Link, Record},
    id::TenantId,
    time::Timestamp,
};

use crate::store::{
    Act, Action, AuditEntry, AuditFilter, AuditPage, StoreError, tables::audit,
    transaction::Transaction,
};

/// Records an act.
pub(in crate::store) fn record(
    tx: &mut dyn Transaction,
    act: &Act,
    now: Timestamp,
    entry: AuditEntry,
) -> Result<(), StoreError> {
    record_all(tx, act, now, entry.tenant, vec![entry])
}

/// Records acts about one tenant.
pub(in crate::store) fn record_all(
    tx: &mut dyn Transaction,
    act: &Act,
    now: Timestamp,
    tenant: Option<TenantId>,
    entries: Vec<AuditEntry>,
) -> Result<(), StoreError> {
    let (chain, last) = audit::lock(tx, tenant)?;
    let (mut head, at) = (chain.head, now.max(last));
    for entry in entries {
        let record = Record {
            number: head.number + 1,
            at,
            tenant,
            actor_kind: act.who.kind().to_owned(),
            actor: act.who.name(),
            action: entry.action.as_str().to_owned(),
            object: entry.object,
            refused: entry.refused,
            request_id: act.request_id.clone(),
            address: act.address.clone(),
        };
        let hash = record.hash(&head.hash);
        head = Link { number: record.number, hash };
        audit::append(tx, &record, &hash)?;
        tx.stream(Chained { record, hash });
    }
    audit::set_head(tx, tenant, head, at)
}

/// What was done to an object of a tenant, or why it was not.
pub(in crate::store) fn about(
    tenant: TenantId,
    action: Action,
    object: impl ToString,
    refused: Option<&str>,
) -> AuditEntry {
    let refused = refused.map(str::to_owned);
    AuditEntry { tenant: Some(tenant), action, object: object.to_string(), refused }
}

pub(in crate::store) fn page(
    tx: &mut dyn Transaction,
    tenant: Option<TenantId>,
    wanted: &AuditFilter,
    most: u32,
) -> Result<AuditPage, StoreError> {
    // The chain first: what is recorded between the two reads is newer than its head.
    let chain = audit::chain(tx, tenant)?;
    let before = wanted.before.unwrap_or(chain.head.number + 1);
    let wanted = AuditFilter { before: Some(before), ..wanted.clone() };
    Ok(AuditPage { records: audit::records(tx, tenant, &wanted, most)?, chain })
}
