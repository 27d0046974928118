//! Queued tasks, tenant by tenant and export by export. Every statement reads a few rows of an
//! index, however many tasks are queued: an idle fleet queries once per second and exporter.
//!
//! Limits apply to tasks that have a window: partitions and the search for experiments, which
//! counts as a partition here.

use std::collections::{BTreeMap, BTreeSet};

use tracelift_core::{
    id::{ExportId, TaskId, TenantId},
    limit::AtOnce,
    task::TaskKind,
    time::Timestamp,
};

use super::{tasks, tenants};
use crate::store::{
    StoreError,
    sql::{self, Value},
    transaction::Transaction,
};

/// A tenant that may be served next.
pub(crate) struct Served {
    /// The tenant.
    pub(crate) tenant: TenantId,
    /// How many of its tasks are leased.
    pub(crate) at_work: usize,
    /// When it was last served.
    pub(crate) last: Option<Timestamp>,
}

/// An export with claimable partitions.
pub(crate) struct Waiting {
    pub(crate) id: ExportId,
    pub(crate) created_at: Timestamp,
    /// How many of its partitions are leased.
    pub(crate) at_work: usize,
}

/// How many more tenants are examined than needed if all had equally many leased partitions.
const CLOSER: u32 = 16;
/// Larger than any real count, with room left for additions.
const MANY: i64 = 1 << 40;

const WAITING: &str = "r.state = 'queued' AND r.window_start IS NOT NULL";
const BEGUN: &str = "e.status IN ('Created', 'Running') AND e.started_at IS NOT NULL";
const NOT_BEGUN: &str = "e.status IN ('Created', 'Running') AND e.started_at IS NULL";
const AT_WORK: &str = "r.state = 'leased' AND r.window_start IS NOT NULL";
/// `$1` is now. A retried run waits until its leftovers have been cleaned up.
const QUEUED: &str = "q.state = 'queued' AND q.window_start IS NOT NULL AND q.state_at <= $1
    AND (SELECT c.id FROM runs c WHERE c.subject = q.id AND c.state IN ('queued', 'leased') LIMIT 1) IS NULL";

/// Whether an export has a claimable partition.
fn waits() -> String {
    // In index order, so that PostgreSQL picks that index.
    format!(
        "(SELECT q.id FROM runs q WHERE q.export_id = e.id AND {QUEUED} ORDER BY q.window_start, q.id LIMIT 1) IS NOT NULL"
    )
}

/// Started exports of a tenant (`{whose}`) with a claimable partition and fewer than `$2` leased.
fn with_room(whose: &str) -> String {
    format!(
        "{BEGUN} AND e.tenant_id = {whose}
         AND {}
         AND (SELECT count(*) FROM runs r WHERE r.tenant_id = {whose} AND r.export_id = e.id AND {AT_WORK}) < $2",
        waits()
    )
}

/// Asked again once the tenant is locked: it may have been suspended since.
fn not_suspended(whose: &str) -> String {
    format!("(SELECT s.suspended_at FROM tenants s WHERE s.id = {whose}) IS NULL")
}

fn or_many(limit: u32) -> Value {
    Value::Number(if limit == 0 { i64::MAX } else { limit.into() })
}

fn most(number: usize) -> Value {
    Value::Number(i64::try_from(number).unwrap_or(i64::MAX))
}

/// Tenants with claimable partitions, those with the fewest leased first, then those that have
/// waited longest. Only the `number` + [`CLOSER`] tenants that have waited longest are examined, so
/// that a call need not visit every tenant. Nothing is locked: the result only tells where to look.
pub(crate) fn waiting(
    tx: &mut dyn Transaction,
    limits: AtOnce,
    number: usize,
    now: Timestamp,
) -> Result<Vec<TenantId>, StoreError> {
    let (begun, waits) = (with_room("t.id"), waits());
    // Skips from tenant to tenant by index, so that a tenant with ten thousand tasks costs one
    // step; then examines them one by one until there are enough.
    let sql = format!(
        "WITH RECURSIVE waiting (tenant_id) AS (
             SELECT (SELECT r.tenant_id FROM runs r WHERE {WAITING} ORDER BY r.tenant_id LIMIT 1)
             UNION ALL
             SELECT (SELECT r.tenant_id FROM runs r WHERE {WAITING} AND r.tenant_id > waiting.tenant_id ORDER BY r.tenant_id LIMIT 1)
             FROM waiting WHERE waiting.tenant_id IS NOT NULL
         )
         SELECT c.id FROM (
             SELECT t.id, t.served_at FROM (
                 SELECT t.id, t.served_at FROM waiting w JOIN tenants t ON t.id = w.tenant_id AND t.suspended_at IS NULL
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

/// Keeps others from claiming this tenant's partitions until the transaction ends.
pub(crate) fn lock(tx: &mut dyn Transaction, tenant: TenantId) -> Result<Served, StoreError> {
    let last = tenants::lock(tx, tenant)?.map_or(Ok(None), |row| row.get("served_at"))?;
    // What has no window takes slots too.
    let at_work = count(
        tx,
        &format!(
            "SELECT (SELECT count(*) FROM runs r WHERE r.tenant_id = $1 AND {AT_WORK})
                  + (SELECT count(*) FROM runs r WHERE r.tenant_id = $1 AND r.state = 'leased' AND r.window_start IS NULL) AS n"
        ),
        tenant,
    )?;
    Ok(Served { tenant, at_work, last })
}

/// Records that the tenant was served.
pub(crate) fn serve(
    tx: &mut dyn Transaction,
    tenant: TenantId,
    now: Timestamp,
) -> Result<(), StoreError> {
    sql::update(tx, "tenants", tenant, vec![("served_at", now.into())])
}

/// How many of a tenant's exports are started and not ended.
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

/// A claimable task without a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unseen {
    pub(crate) id: TaskId,
    pub(crate) tenant: TenantId,
    pub(crate) kind: TaskKind,
    pub(crate) since: Timestamp,
}

const UNSEEN: &str = "state = 'queued' AND window_start IS NULL";

/// Claimable tasks without a window, those that have waited longest first.
pub(crate) fn unseen(
    tx: &mut dyn Transaction,
    number: usize,
    now: Timestamp,
) -> Result<Vec<Unseen>, StoreError> {
    let sql = format!(
        "SELECT * FROM runs WHERE {UNSEEN} AND state_at <= $1 ORDER BY state_at, id LIMIT $2"
    );
    tx.query(&sql, &[now.into(), most(number)])?.iter().map(unseen_from).collect()
}

/// The same of one tenant.
pub(crate) fn unseen_of(
    tx: &mut dyn Transaction,
    tenant: TenantId,
    number: usize,
    now: Timestamp,
) -> Result<Vec<Unseen>, StoreError> {
    let sql = format!(
        "SELECT * FROM runs WHERE {UNSEEN} AND tenant_id = $3 AND state_at <= $1
         ORDER BY CASE WHEN kind = 'finalise' THEN 0 ELSE 1 END, state_at, id LIMIT $2"
    );
    let rows = tx.query(&sql, &[now.into(), most(number), tenant.into()])?;
    rows.iter().map(unseen_from).collect()
}

/// Tenants with queued tasks without a window, claimable or not. Skips from tenant to tenant by
/// index.
pub(crate) fn tenants_of_unseen(tx: &mut dyn Transaction) -> Result<Vec<TenantId>, StoreError> {
    let sql = format!(
        "WITH RECURSIVE waiting (tenant_id) AS (
             SELECT (SELECT tenant_id FROM runs WHERE {UNSEEN} ORDER BY tenant_id LIMIT 1)
             UNION ALL
             SELECT (SELECT r.tenant_id FROM runs r WHERE {UNSEEN} AND r.tenant_id > waiting.tenant_id ORDER BY r.tenant_id LIMIT 1)
             FROM waiting WHERE waiting.tenant_id IS NOT NULL
         )
         SELECT tenant_id FROM waiting WHERE tenant_id IS NOT NULL"
    );
    tx.query(&sql, &[])?.iter().map(|row| row.get("tenant_id")).collect()
}

/// How many of each tenant's tasks without a window are leased: finalize tasks, and others.
pub(crate) fn unseen_at_work(
    tx: &mut dyn Transaction,
    tenants: &BTreeSet<TenantId>,
) -> Result<BTreeMap<TenantId, [usize; 2]>, StoreError> {
    let mut at_work = BTreeMap::new();
    for tenant in tenants {
        let sql = "SELECT kind, count(*) AS n FROM runs
                   WHERE tenant_id = $1 AND state = 'leased' AND window_start IS NULL GROUP BY kind";
        let mut counts = [0; 2];
        for row in tx.query(sql, &[(*tenant).into()])? {
            let number: u32 = row.get("n")?;
            counts[usize::from(row.get::<String>("kind")? != "finalise")] += number as usize;
        }
        at_work.insert(*tenant, counts);
    }
    Ok(at_work)
}

fn unseen_from(row: &sql::Row) -> Result<Unseen, StoreError> {
    Ok(Unseen {
        id: row.get("id")?,
        tenant: row.get("tenant_id")?,
        kind: tasks::kind(row)?,
        since: row.get("state_at")?,
    })
}

/// Started exports that may have another of their queued partitions claimed, oldest first.
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
         FROM exports e WHERE {} AND {} ORDER BY e.created_at, e.id LIMIT $4",
        with_room("$3"),
        not_suspended("$3")
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

/// Exports that have not started, oldest first.
pub(crate) fn not_begun(
    tx: &mut dyn Transaction,
    tenant: TenantId,
    number: usize,
    now: Timestamp,
) -> Result<Vec<Waiting>, StoreError> {
    let sql = format!(
        "SELECT e.id, e.created_at FROM exports e
         WHERE {NOT_BEGUN} AND e.tenant_id = $2 AND {} AND {} ORDER BY e.created_at, e.id LIMIT $3",
        waits(),
        not_suspended("$2")
    );
    let rows = tx.query(&sql, &[now.into(), tenant.into(), most(number)])?;
    rows.iter()
        .map(|row| {
            Ok(Waiting { id: row.get("id")?, created_at: row.get("created_at")?, at_work: 0 })
        })
        .collect()
}

/// Claimable partitions of an export, oldest first.
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
