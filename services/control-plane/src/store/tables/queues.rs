//! What waits for exporters, tenant by tenant and export by export. Every statement reads a few
//! rows of an index, however many runs are queued: an idle fleet asks once a second and exporter.
//!
//! Limits hold for what has a window: partitions, and the run that finds experiments, which is here
//! taken for one.

use tracelift_core::{
    id::{ExportId, TaskId, TenantId},
    limit::AtOnce,
    time::Timestamp,
};

use super::tenants;
use crate::store::{
    StoreError,
    sql::{self, Value},
    transaction::Transaction,
};

/// A tenant whose turn it may be.
pub(crate) struct Served {
    /// Which.
    pub(crate) tenant: TenantId,
    /// How many of its partitions are worked on.
    pub(crate) at_work: usize,
    /// When it was given an exporter last.
    pub(crate) last: Option<Timestamp>,
}

/// An export with partitions that may be given out.
pub(crate) struct Waiting {
    pub(crate) id: ExportId,
    pub(crate) created_at: Timestamp,
    /// How many of its partitions are worked on.
    pub(crate) at_work: usize,
}

/// Tenants that are looked at closer than would be needed if all had as much at work.
const CLOSER: u32 = 16;
/// More than there ever are, and still a number with something added.
const MANY: i64 = 1 << 40;

const WAITING: &str = "r.state = 'queued' AND r.window_start IS NOT NULL";
const BEGUN: &str = "e.status IN ('Created', 'Running') AND e.started_at IS NOT NULL";
const NOT_BEGUN: &str = "e.status IN ('Created', 'Running') AND e.started_at IS NULL";
const AT_WORK: &str = "r.state = 'leased' AND r.window_start IS NOT NULL";
/// `$1` is now. A run that was asked for anew waits until what it had left is cleaned up.
const QUEUED: &str = "q.state = 'queued' AND q.window_start IS NOT NULL AND q.state_at <= $1
    AND (SELECT c.id FROM runs c WHERE c.subject = q.id AND c.state IN ('queued', 'leased') LIMIT 1) IS NULL";

/// Whether an export has a partition that may be given out.
fn waits() -> String {
    // In the order of its index, so that PostgreSQL takes that one.
    format!(
        "(SELECT q.id FROM runs q WHERE q.export_id = e.id AND {QUEUED} ORDER BY q.window_start, q.id LIMIT 1) IS NOT NULL"
    )
}

/// Exports of a tenant (`{whose}`) that are worked on and have room (`$2`) for another run that
/// waits.
fn with_room(whose: &str) -> String {
    format!(
        "{BEGUN} AND e.tenant_id = {whose}
         AND {}
         AND (SELECT count(*) FROM runs r WHERE r.tenant_id = {whose} AND r.export_id = e.id AND {AT_WORK}) < $2",
        waits()
    )
}

fn or_many(limit: u32) -> Value {
    Value::Number(if limit == 0 { i64::MAX } else { limit.into() })
}

fn most(number: usize) -> Value {
    Value::Number(i64::try_from(number).unwrap_or(i64::MAX))
}

/// Tenants with something that may be given out, those with least at work first, of several whoever
/// waited longest: of the `number` + [`CLOSER`] that waited longest, so that not every tenant is
/// looked at each time. Nothing is locked: it is only where to look.
pub(crate) fn waiting(
    tx: &mut dyn Transaction,
    limits: AtOnce,
    number: usize,
    now: Timestamp,
) -> Result<Vec<TenantId>, StoreError> {
    let (begun, waits) = (with_room("t.id"), waits());
    // From one tenant to the next by index: a tenant with ten thousand runs is one step. Then one
    // after the other, for as long as there are too few.
    let sql = format!(
        "WITH RECURSIVE waiting (tenant_id) AS (
             SELECT (SELECT r.tenant_id FROM runs r WHERE {WAITING} ORDER BY r.tenant_id LIMIT 1)
             UNION ALL
             SELECT (SELECT r.tenant_id FROM runs r WHERE {WAITING} AND r.tenant_id > waiting.tenant_id ORDER BY r.tenant_id LIMIT 1)
             FROM waiting WHERE waiting.tenant_id IS NOT NULL
         )
         SELECT c.id FROM (
             SELECT t.id, t.served_at FROM (
                 SELECT t.id, t.served_at FROM waiting w JOIN tenants t ON t.id = w.tenant_id
                 ORDER BY t.served_at NULLS FIRST, t.id LIMIT {MANY}
             ) t
             WHERE (SELECT e.id FROM exports e WHERE {begun} LIMIT 1) IS NOT NULL
                OR ((SELECT e.id FROM exports e WHERE {NOT_BEGUN} AND e.tenant_id = t.id AND {waits} LIMIT 1) IS NOT NULL
                    AND (SELECT count(*) FROM exports e WHERE {BEGUN} AND e.tenant_id = t.id) < $3)
             LIMIT CAST($4 AS bigint) + {CLOSER}
         ) c
         ORDER BY (SELECT count(*) FROM runs r WHERE r.tenant_id = c.id AND {AT_WORK}), c.served_at NULLS FIRST, c.id
         LIMIT $4"
    );
    let number = Value::Number(i64::try_from(number).unwrap_or(MANY).min(MANY));
    let rows = tx.query(
        &sql,
        &[now.into(), or_many(limits.runs_per_export), or_many(limits.exports), number],
    )?;
    rows.iter().map(|row| row.get("id")).collect()
}

/// Lets nobody else give out this tenant's partitions until the transaction ends.
pub(crate) fn lock(tx: &mut dyn Transaction, tenant: TenantId) -> Result<Served, StoreError> {
    let last = tenants::lock(tx, tenant)?.map_or(Ok(None), |row| row.get("served_at"))?;
    let at_work = count(
        tx,
        &format!("SELECT count(*) AS n FROM runs r WHERE r.tenant_id = $1 AND {AT_WORK}"),
        tenant,
    )?;
    Ok(Served { tenant, at_work, last })
}

/// It was given an exporter.
pub(crate) fn serve(
    tx: &mut dyn Transaction,
    tenant: TenantId,
    now: Timestamp,
) -> Result<(), StoreError> {
    sql::update(tx, "tenants", tenant, vec![("served_at", now.into())])
}

/// A tenant's exports that are worked on.
pub(crate) fn count_begun(tx: &mut dyn Transaction, tenant: TenantId) -> Result<usize, StoreError> {
    count(
        tx,
        &format!("SELECT count(*) AS n FROM exports e WHERE {BEGUN} AND e.tenant_id = $1"),
        tenant,
    )
}

fn count(tx: &mut dyn Transaction, sql: &str, tenant: TenantId) -> Result<usize, StoreError> {
    let number: u64 = sql::one(tx, sql, &[tenant.into()])?.map_or(Ok(0), |row| row.get("n"))?;
    Ok(usize::try_from(number).unwrap_or(usize::MAX))
}

/// Exports that are worked on and have room for another run that waits, oldest first.
pub(crate) fn begun(
    tx: &mut dyn Transaction,
    tenant: TenantId,
    limits: AtOnce,
    number: usize,
    now: Timestamp,
) -> Result<Vec<Waiting>, StoreError> {
    let sql = format!(
        "SELECT e.id, e.created_at,
                (SELECT count(*) FROM runs r WHERE r.tenant_id = e.tenant_id AND r.export_id = e.id AND {AT_WORK}) AS at_work
         FROM exports e WHERE {} ORDER BY e.created_at, e.id LIMIT $4",
        with_room("$3")
    );
    let rows = tx
        .query(&sql, &[now.into(), or_many(limits.runs_per_export), tenant.into(), most(number)])?;
    let of = |row: &sql::Row| {
        let at_work: u32 = row.get("at_work")?;
        Ok(Waiting {
            id: row.get("id")?,
            created_at: row.get("created_at")?,
            at_work: at_work as usize,
        })
    };
    rows.iter().map(of).collect()
}

/// Exports that nobody works on, oldest first.
pub(crate) fn not_begun(
    tx: &mut dyn Transaction,
    tenant: TenantId,
    number: usize,
    now: Timestamp,
) -> Result<Vec<Waiting>, StoreError> {
    let sql = format!(
        "SELECT e.id, e.created_at FROM exports e
         WHERE {NOT_BEGUN} AND e.tenant_id = $2 AND {} ORDER BY e.created_at, e.id LIMIT $3",
        waits()
    );
    let rows = tx.query(&sql, &[now.into(), tenant.into(), most(number)])?;
    rows.iter()
        .map(|row| {
            Ok(Waiting { id: row.get("id")?, created_at: row.get("created_at")?, at_work: 0 })
        })
        .collect()
}

/// Partitions of an export that may be given out now, oldest first.
pub(crate) fn partitions(
    tx: &mut dyn Transaction,
    export: ExportId,
    number: usize,
    now: Timestamp,
) -> Result<Vec<TaskId>, StoreError> {
    let sql = format!(
        "SELECT q.id FROM runs q WHERE q.export_id = $2 AND {QUEUED} ORDER BY q.window_start, q.id LIMIT $3"
    );
    let rows = tx.query(&sql, &[now.into(), export.into(), most(number)])?;
    rows.iter().map(|row| row.get("id")).collect()
}
