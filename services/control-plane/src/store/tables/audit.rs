//! The audit log, and where each of its chains ends.

use tracelift_core::{
    audit::{Chain, Chained, Hash, Link, Record},
    id::TenantId,
    time::Timestamp,
};

use crate::store::{
    AuditFilter, StoreError,
    sql::{self, Row, Value},
    transaction::{Transaction, for_update},
};

/// Most records removed in one transaction.
const REMOVED_AT_ONCE: u64 = 1000;

/// The name of the chain of a tenant, or of what is about no tenant.
fn name(tenant: Option<TenantId>) -> String {
    tenant.map_or_else(|| "operator".to_owned(), |tenant| tenant.to_string())
}

/// The chain, locked until the transaction ends, and the time of its newest record.
pub(crate) fn lock(
    tx: &mut dyn Transaction,
    tenant: Option<TenantId>,
) -> Result<(Chain, Timestamp), StoreError> {
    let name = Value::Text(name(tenant));
    tx.execute(
        "INSERT INTO audit_chains (chain, number, hash, at, anchor_number, anchor_hash) VALUES ($1, 0, $2, $3, 0, $2) ON CONFLICT (chain) DO NOTHING",
        &[name.clone(), (&Link::START.hash).into(), Timestamp::EPOCH.into()],
    )?;
    locked(tx, name)
}

fn locked(tx: &mut dyn Transaction, name: Value) -> Result<(Chain, Timestamp), StoreError> {
    let sql = format!("SELECT * FROM audit_chains WHERE chain = $1{}", for_update(tx));
    let row = sql::one(tx, &sql, &[name])?;
    let row = row.ok_or_else(|| StoreError::Corrupt("an audit chain has no end".to_owned()))?;
    Ok((of_row(&row)?, row.get("at")?))
}

/// Adds a record behind the end of its chain, which is locked.
pub(crate) fn append(
    tx: &mut dyn Transaction,
    record: &Record,
    hash: &Hash,
) -> Result<(), StoreError> {
    let columns = vec![
        ("chain", Value::Text(name(record.tenant))),
        ("number", record.number.into()),
        ("at", record.at.into()),
        ("tenant_id", record.tenant.into()),
        ("actor_kind", (&record.actor_kind).into()),
        ("actor", (&record.actor).into()),
        ("action", (&record.action).into()),
        ("object", (&record.object).into()),
        ("refused", record.refused.as_ref().into()),
        ("request_id", (&record.request_id).into()),
        ("address", (&record.address).into()),
        ("hash", hash.into()),
    ];
    sql::insert(tx, "audit_log", columns)
}

/// Moves the end of a chain.
pub(crate) fn set_head(
    tx: &mut dyn Transaction,
    tenant: Option<TenantId>,
    head: Link,
    at: Timestamp,
) -> Result<(), StoreError> {
    tx.execute(
        "UPDATE audit_chains SET number = $2, hash = $3, at = $4 WHERE chain = $1",
        &[Value::Text(name(tenant)), head.number.into(), (&head.hash).into(), at.into()],
    )
}

/// The chain as it is now.
pub(crate) fn chain(
    tx: &mut dyn Transaction,
    tenant: Option<TenantId>,
) -> Result<Chain, StoreError> {
    let sql = "SELECT * FROM audit_chains WHERE chain = $1";
    let found = sql::one(tx, sql, &[Value::Text(name(tenant))])?;
    found.as_ref().map_or(Ok(Chain::EMPTY), of_row)
}

/// Records of a chain, newest first, at most `most`.
pub(crate) fn records(
    tx: &mut dyn Transaction,
    tenant: Option<TenantId>,
    wanted: &AuditFilter,
    most: u32,
) -> Result<Vec<Chained>, StoreError> {
    // Names of actions hold no comma: this asks whether the list holds one, in either database.
    let sql = "SELECT * FROM audit_log
         WHERE chain = $1 AND number < $2 AND at >= $3 AND at <= $4
           AND (CAST($5 AS text) = '' OR replace($5, ',' || action || ',', '') <> $5)
         ORDER BY number DESC LIMIT $6";
    let actions = wanted.actions.iter().map(|action| format!(",{action},")).collect::<String>();
    let values = [
        Value::Text(name(tenant)),
        wanted.before.map_or(Value::Number(i64::MAX), Into::into),
        wanted.from.map_or(Value::Number(i64::MIN), Into::into),
        wanted.until.map_or(Value::Number(i64::MAX), Into::into),
        Value::Text(actions),
        most.into(),
    ];
    tx.query(sql, &values)?.iter().map(chained).collect()
}

/// Removes the oldest records of one chain that are older than `limit`, a bounded number at a time;
/// returns how many. The last of them becomes the chain's anchor.
pub(crate) fn remove(tx: &mut dyn Transaction, limit: Timestamp) -> Result<u64, StoreError> {
    let oldest = "SELECT chain FROM audit_log WHERE at < $1 ORDER BY at LIMIT 1";
    let Some(row) = sql::one(tx, oldest, &[limit.into()])? else { return Ok(0) };
    let name = Value::Text(row.get("chain")?);
    let (chain, _) = locked(tx, name.clone())?;
    // Times only grow along a chain, so what is old stands at its beginning.
    let sql = "SELECT number, hash FROM audit_log WHERE chain = $1 AND number <= $2 AND at < $3 ORDER BY number DESC LIMIT 1";
    let upto = chain.anchor.number + REMOVED_AT_ONCE;
    let Some(last) = sql::one(tx, sql, &[name.clone(), upto.into(), limit.into()])? else {
        return Ok(0); // another control plane has removed them
    };
    let anchor = Link { number: last.get("number")?, hash: last.get("hash")? };
    tx.execute(
        "UPDATE audit_chains SET anchor_number = $2, anchor_hash = $3 WHERE chain = $1",
        &[name.clone(), anchor.number.into(), (&anchor.hash).into()],
    )?;
    tx.execute(
        "DELETE FROM audit_log WHERE chain = $1 AND number <= $2",
        &[name, anchor.number.into()],
    )?;
    Ok(anchor.number - chain.anchor.number)
}

fn of_row(row: &Row) -> Result<Chain, StoreError> {
    Ok(Chain {
        anchor: Link { number: row.get("anchor_number")?, hash: row.get("anchor_hash")? },
        head: Link { number: row.get("number")?, hash: row.get("hash")? },
    })
}

fn chained(row: &Row) -> Result<Chained, StoreError> {
    let record = Record {
        number: row.get("number")?,
        at: row.get("at")?,
        tenant: row.get("tenant_id")?,
        actor_kind: row.get("actor_kind")?,
        actor: row.get("actor")?,
        action: row.get("action")?,
        object: row.get("object")?,
        refused: row.get("refused")?,
        request_id: row.get("request_id")?,
        address: row.get("address")?,
    };
    Ok(Chained { record, hash: row.get("hash")? })
}
