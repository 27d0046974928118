//! Tasks, as rows and as their owner sees them.

use std::collections::{BTreeMap, BTreeSet};

use tracelift_core::{
    file::{Cursor, Totals},
    id::{ExportId, ExporterId, TaskId, TenantId},
    plan::Partition,
    task::{Fence, Identity, Lease, Progress, RunStatus, State, Task, TaskKind},
    time::Timestamp,
};
use uuid::Uuid;

use super::{
    destinations, exports, files,
    intent::{self, IntentRecord, MissRecord, miss_record},
    limit, offset, oversized, reported,
};
use crate::store::{
    Holder, Page, Place, RunFiles, RunView, StoreError,
    sql::{self, Row, Value},
    transaction::{Transaction, for_update, for_update_of_free},
};

/// Most files that a run is shown with.
const SHOWN_FILES: u32 = 5000;

/// Most tasks, or exporters, named in one statement.
pub(crate) const AT_ONCE: usize = 64;

pub(crate) fn create(tx: &mut dyn Transaction, task: &Task) -> Result<(), StoreError> {
    let (kind, session, window, subject) = match task.kind {
        TaskKind::FindExperiments(window) => ("find_experiments", None, Some(window), None),
        TaskKind::Partition(Partition { session, window }) => {
            ("partition", Some(session), Some(window), None)
        }
        TaskKind::Finalize => ("finalise", None, None, None),
        TaskKind::CleanUp(subject) => ("clean_up", None, None, Some(subject)),
        TaskKind::Reconcile => ("reconcile", None, None, None),
    };
    let mut columns = vec![
        ("id", task.id.into()),
        ("export_id", task.export.into()),
        ("tenant_id", task.tenant.into()),
        ("session_id", session.into()),
        ("kind", kind.into()),
        ("subject", subject.into()),
        ("window_start", window.map(|window| window.start()).into()),
        ("window_end", window.map(|window| window.end()).into()),
        ("created_at", task.created_at.into()),
    ];
    columns.extend(changing(task)?);
    sql::insert(tx, "runs", columns)
}

/// Writes the columns of a task that may change.
pub(crate) fn save(tx: &mut dyn Transaction, task: &Task) -> Result<(), StoreError> {
    sql::update(tx, "runs", task.id, changing(task)?)
}

/// The same, with its reported progress.
pub(crate) fn save_reported(
    tx: &mut dyn Transaction,
    task: &Task,
    said: &Progress,
) -> Result<(), StoreError> {
    let mut columns = changing(task)?;
    columns.extend(reported::columns(said)?);
    sql::update(tx, "runs", task.id, columns)
}

fn changing(task: &Task) -> Result<sql::Columns, StoreError> {
    let (state, at) = match &task.state {
        State::Queued { not_before } => ("queued", *not_before),
        State::Leased(lease) => ("leased", lease.until),
        State::Completed(at) => ("completed", *at),
        State::Failed(at) => ("failed", *at),
        State::Cancelled(at) => ("cancelled", *at),
        State::TimedOut(at) => ("timed_out", *at),
    };
    let intent =
        task.intent.as_ref().map(|intent| sql::json(&IntentRecord::from(intent))).transpose()?;
    let mut columns = vec![
        ("state", state.into()),
        ("state_at", at.into()),
        ("fence", task.fence.0.into()),
        ("attempt", task.attempt.into()),
        ("spent", task.spent.into()),
        ("errors", sql::json(&task.errors)?),
        ("narrow", task.batch_shrink.into()),
        ("started_at", task.started_at.into()),
        ("read_at", task.read_at.into()),
        ("files", task.totals.files.into()),
        ("rows", task.totals.rows.into()),
        ("bytes", task.totals.bytes.into()),
        ("hydrated_objects", task.totals.hydrated_objects.into()),
        ("hydration_misses", task.totals.hydration_misses.into()),
        ("oversized", oversized::column(task.totals.oversized)?),
        ("undecided", task.totals.undecided.into()),
        ("decided_against", task.totals.decided_against.into()),
        (
            "undecided_fields",
            sql::json(&task.undecided.iter().map(miss_record).collect::<Vec<_>>())?,
        ),
        ("identity", task.identity.map(identity_word).into()),
        ("cursor_time", task.cursor.map(|cursor| cursor.start_time).into()),
        ("cursor_id", task.cursor.map(|cursor| cursor.id).into()),
        ("intent", intent.unwrap_or(Value::Null)),
        ("frozen", task.frozen.into()),
        ("updated_at", task.updated_at.into()),
    ];
    // The exporter's name stays after the lease ends, so that people can see who did the work.
    if let Some(lease) = task.lease() {
        columns.extend([
            ("exporter_id", lease.exporter.as_str().into()),
            ("incarnation", (&lease.incarnation).into()),
            ("progressed_at", lease.progressed_at.into()),
            ("patience", lease.patience.into()),
            ("asked_back", lease.asked_back.into()),
        ]);
    }
    Ok(columns)
}

/// The current state of a task.
pub(crate) fn one(tx: &mut dyn Transaction, id: TaskId) -> Result<Option<Task>, StoreError> {
    sql::one(tx, "SELECT * FROM runs WHERE id = $1", &[id.into()])?.as_ref().map(task).transpose()
}

/// A task that this transaction will change.
pub(crate) fn lock(tx: &mut dyn Transaction, id: TaskId) -> Result<Option<Task>, StoreError> {
    Ok(lock_reported(tx, id)?.map(|(task, _)| task))
}

/// The same, with the progress last reported.
pub(crate) fn lock_reported(
    tx: &mut dyn Transaction,
    id: TaskId,
) -> Result<Option<(Task, Progress)>, StoreError> {
    let sql = format!("SELECT * FROM runs WHERE id = $1{}", for_update(tx));
    let found = sql::one(tx, &sql, &[id.into()])?;
    found.map(|row| Ok((task(&row)?, reported::of(&row)?))).transpose()
}

/// Those of these tasks that exist, locked in the order of their ids.
pub(crate) fn lock_all(
    tx: &mut dyn Transaction,
    ids: &BTreeSet<TaskId>,
) -> Result<BTreeMap<TaskId, Task>, StoreError> {
    let (ids, mut locked) = (ids.iter().copied().collect::<Vec<_>>(), BTreeMap::new());
    for ids in ids.chunks(AT_ONCE) {
        let sql = format!(
            "SELECT * FROM runs WHERE id IN ({}) ORDER BY id{}",
            marks(ids.len()),
            for_update(tx)
        );
        let values: Vec<_> = ids.iter().map(|id| Value::from(*id)).collect();
        for row in tx.query(&sql, &values)? {
            let task = task(&row)?;
            locked.insert(task.id, task);
        }
    }
    Ok(locked)
}

/// A task and, for a clean-up, the task that it cleans up after, locked in the order of their ids.
pub(crate) fn lock_with_subject(
    tx: &mut dyn Transaction,
    id: TaskId,
) -> Result<BTreeMap<TaskId, Task>, StoreError> {
    let subject = "SELECT subject FROM runs WHERE id = $1";
    let sql =
        format!("SELECT * FROM runs WHERE id IN ($1, ({subject})) ORDER BY id{}", for_update(tx));
    tx.query(&sql, &[id.into()])?.iter().map(|row| task(row).map(|task| (task.id, task))).collect()
}

/// The status of an export's tasks: the distinct statuses of those that precede the finalize task,
/// and the finalize task's own.
pub(crate) fn standing(
    tx: &mut dyn Transaction,
    export: ExportId,
) -> Result<(Vec<RunStatus>, Option<RunStatus>), StoreError> {
    let sql = "SELECT kind, state, fence = 0 AS untouched FROM runs
               WHERE export_id = $1 AND kind IN ('find_experiments', 'partition', 'finalise') GROUP BY kind, state, fence = 0";
    let (mut first, mut finalizing) = (Vec::new(), None);
    for row in tx.query(sql, &[export.into()])? {
        let status = match (row.get::<String>("state")?.as_str(), row.get("untouched")?) {
            ("queued", true) => RunStatus::Created,
            ("queued" | "leased", _) => RunStatus::Running,
            ("completed", _) => RunStatus::Completed,
            ("failed", _) => RunStatus::Failed,
            ("cancelled", _) => RunStatus::Cancelled,
            ("timed_out", _) => RunStatus::TimedOut,
            (other, _) => {
                return Err(StoreError::Corrupt(format!("column state: {other} is none")));
            }
        };
        if row.get::<String>("kind")? == "finalise" {
            finalizing = Some(status)
        } else {
            first.push(status)
        }
    }
    Ok((first, finalizing))
}

/// All tasks of an export, by time; the finalize task before them.
pub(crate) fn of_export(
    tx: &mut dyn Transaction,
    export: ExportId,
) -> Result<Vec<Task>, StoreError> {
    let rows = tx.query(
        "SELECT * FROM runs WHERE export_id = $1 ORDER BY window_start NULLS FIRST, id",
        &[export.into()],
    )?;
    rows.iter().map(task).collect()
}

/// All tasks of an export, locked.
pub(crate) fn lock_of_export(
    tx: &mut dyn Transaction,
    export: ExportId,
) -> Result<Vec<Task>, StoreError> {
    let sql = format!("SELECT * FROM runs WHERE export_id = $1 ORDER BY id{}", for_update(tx));
    tx.query(&sql, &[export.into()])?.iter().map(task).collect()
}

/// Every task: by export, then by time, those without a window last.
pub(crate) fn all(tx: &mut dyn Transaction) -> Result<Vec<Task>, StoreError> {
    let rows = tx.query(
        "SELECT * FROM runs ORDER BY export_id, window_start IS NULL, window_start, id",
        &[],
    )?;
    rows.iter().map(task).collect()
}

/// The tasks leased to an exporter.
pub(crate) fn leased_to(
    tx: &mut dyn Transaction,
    exporter: &ExporterId,
) -> Result<Vec<Task>, StoreError> {
    let rows = tx.query(
        "SELECT * FROM runs WHERE exporter_id = $1 AND state = 'leased'",
        &[exporter.as_str().into()],
    )?;
    rows.iter().map(task).collect()
}

/// Whether this process of an exporter holds the task's lease, or was the last to hold it.
pub(crate) fn was_held_by(
    tx: &mut dyn Transaction,
    id: TaskId,
    holder: &Holder,
) -> Result<bool, StoreError> {
    let sql = "SELECT id FROM runs WHERE id = $1 AND exporter_id = $2 AND incarnation = $3";
    let values = [id.into(), holder.exporter.as_str().into(), (&holder.incarnation).into()];
    Ok(sql::one(tx, sql, &values)?.is_some())
}

/// How many tasks each of these exporters holds, by exporter name.
pub(crate) fn held(
    tx: &mut dyn Transaction,
    exporters: &[&ExporterId],
) -> Result<BTreeMap<String, usize>, StoreError> {
    let mut held = BTreeMap::new();
    for exporters in exporters.chunks(AT_ONCE) {
        let sql = format!(
            "SELECT exporter_id, count(*) AS n FROM runs WHERE state = 'leased' AND exporter_id IN ({}) GROUP BY exporter_id",
            marks(exporters.len())
        );
        let values: Vec<_> =
            exporters.iter().map(|exporter| Value::from(exporter.as_str())).collect();
        for row in tx.query(&sql, &values)? {
            held.insert(row.get("exporter_id")?, row.get::<u32>("n")? as usize);
        }
    }
    Ok(held)
}

/// `$1, $2, …`
pub(crate) fn marks(number: usize) -> String {
    (1..=number).map(|n| format!("${n}")).collect::<Vec<_>>().join(", ")
}

/// Tasks stopped since then that this exporter was the last to hold. Stopping has raised the fence
/// by one, so one less is returned.
pub(crate) fn stopped(
    tx: &mut dyn Transaction,
    exporter: &ExporterId,
    since: Timestamp,
) -> Result<Vec<(TaskId, Fence)>, StoreError> {
    let rows = tx.query(
        "SELECT id, fence - 1 AS held FROM runs WHERE exporter_id = $1 AND state IN ('cancelled', 'timed_out') AND state_at >= $2",
        &[exporter.as_str().into(), since.into()],
    )?;
    rows.iter().map(|row| Ok((row.get("id")?, Fence(row.get("held")?)))).collect()
}

/// Whether a clean-up after this task is queued or in progress.
pub(crate) fn is_cleaned(tx: &mut dyn Transaction, subject: TaskId) -> Result<bool, StoreError> {
    let sql = "SELECT id FROM runs WHERE subject = $1 AND state IN ('queued', 'leased')";
    Ok(sql::one(tx, sql, &[subject.into()])?.is_some())
}

/// Those of these tasks that are queued, locked: without tasks that another transaction holds or
/// has already handled, and without tasks that await a clean-up.
pub(crate) fn lock_free(
    tx: &mut dyn Transaction,
    ids: &[TaskId],
) -> Result<BTreeMap<TaskId, Task>, StoreError> {
    let mut free = BTreeMap::new();
    for ids in ids.chunks(AT_ONCE) {
        let (marks, values) =
            (marks(ids.len()), ids.iter().map(|id| Value::from(*id)).collect::<Vec<_>>());
        let sql = format!(
            "SELECT * FROM runs WHERE id IN ({marks}) ORDER BY id{}",
            for_update_of_free(tx)
        );
        let found = tx.query(&sql, &values)?.iter().map(task).collect::<Result<Vec<_>, _>>()?;
        free.extend(
            found
                .into_iter()
                .filter(|task| matches!(task.state, State::Queued { .. }))
                .map(|task| (task.id, task)),
        );
        let sql = format!(
            "SELECT subject FROM runs WHERE subject IN ({marks}) AND state IN ('queued', 'leased')"
        );
        for row in tx.query(&sql, &values)? {
            free.remove(&row.get("subject")?);
        }
    }
    Ok(free)
}

/// Those of these tenants that have leased tasks.
pub(crate) fn busy(
    tx: &mut dyn Transaction,
    tenants: &[TenantId],
) -> Result<BTreeSet<TenantId>, StoreError> {
    let mut busy = BTreeSet::new();
    for tenants in tenants.chunks(AT_ONCE) {
        let sql = format!(
            "SELECT DISTINCT tenant_id FROM runs WHERE state = 'leased' AND tenant_id IN ({})",
            marks(tenants.len())
        );
        let values: Vec<_> = tenants.iter().map(|tenant| Value::from(*tenant)).collect();
        for row in tx.query(&sql, &values)? {
            busy.insert(row.get("tenant_id")?);
        }
    }
    Ok(busy)
}

/// Leased tasks of each tenant, those that were claimed last first; tenants with none are left out.
pub(crate) fn at_work(
    tx: &mut dyn Transaction,
) -> Result<BTreeMap<TenantId, Vec<AtWork>>, StoreError> {
    let sql =
        "SELECT id, tenant_id, kind = 'partition' AND NOT frozen AS divisible, asked_back FROM runs
               WHERE state = 'leased' ORDER BY started_at DESC, id";
    let mut at_work: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for row in tx.query(sql, &[])? {
        let task = AtWork {
            id: row.get("id")?,
            divisible: row.get("divisible")?,
            asked_back: row.get("asked_back")?,
        };
        at_work.entry(row.get("tenant_id")?).or_default().push(task);
    }
    Ok(at_work)
}

/// A leased task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AtWork {
    pub(crate) id: TaskId,
    /// Whether another exporter can go on where this one stops.
    pub(crate) divisible: bool,
    /// When it was asked back, if it was.
    pub(crate) asked_back: Option<Timestamp>,
}

/// Tasks whose lease has passed one of its deadlines, locked. Tasks that another transaction holds,
/// such as a report, are skipped.
pub(crate) fn lock_lapsed(
    tx: &mut dyn Transaction,
    now: Timestamp,
) -> Result<Vec<Task>, StoreError> {
    let sql = format!(
        "SELECT * FROM runs WHERE state = 'leased' AND (state_at <= $1 OR progressed_at + patience * 1000000 <= $1) ORDER BY id{}",
        for_update_of_free(tx)
    );
    tx.query(&sql, &[now.into()])?.iter().map(task).collect()
}

/// Ids of unfinished tasks that were started before `run_limit`, or whose export was started before
/// `export_limit`.
pub(crate) fn overdue(
    tx: &mut dyn Transaction,
    run_limit: Timestamp,
    export_limit: Timestamp,
) -> Result<Vec<TaskId>, StoreError> {
    let rows = tx.query(
        "SELECT r.id FROM runs r JOIN exports e ON e.id = r.export_id
         WHERE r.state IN ('queued', 'leased') AND r.kind IN ('find_experiments', 'partition', 'finalise')
           AND (r.started_at <= $1 OR (e.started_at <= $2 AND e.status IN ('Created', 'Running')))
         LIMIT 1000",
        &[run_limit.into(), export_limit.into()],
    )?;
    rows.iter().map(|row| row.get("id")).collect()
}

/// Partitions with the bucket of their destination.
const VIEW: &str = "
    SELECT r.*, d.bucket_name, d.prefix, d.region, d.endpoint_url, d.include_bucket_in_prefix, d.addressing, d.write_options,
        d.client_options
    FROM runs r JOIN exports e ON e.id = r.export_id JOIN destinations d ON d.id = e.destination_id
    WHERE r.tenant_id = $1 AND r.kind = 'partition'";

pub(crate) fn views(
    tx: &mut dyn Transaction,
    tenant: TenantId,
    export: ExportId,
    page: Page,
) -> Result<Option<Vec<RunView>>, StoreError> {
    views_where(tx, "r.export_id = $2", tenant, export, page)
}

pub(crate) fn views_of_schedule(
    tx: &mut dyn Transaction,
    tenant: TenantId,
    source: ExportId,
    page: Page,
) -> Result<Option<Vec<RunView>>, StoreError> {
    views_where(tx, "e.source_id = $2", tenant, source, page)
}

fn views_where(
    tx: &mut dyn Transaction,
    condition: &str,
    tenant: TenantId,
    export: ExportId,
    page: Page,
) -> Result<Option<Vec<RunView>>, StoreError> {
    if exports::view(tx, tenant, export)?.is_none() {
        return Ok(None);
    }
    let mut values = vec![tenant.into(), export.into(), limit(page), offset(page)];
    let mut behind = "";
    if let Some(Place(start, id)) = page.after {
        values.extend([start.into(), id.into()]);
        behind = "AND (r.window_start, r.id) > ($5, $6)";
    }
    let sql =
        format!("{VIEW} AND {condition} {behind} ORDER BY r.window_start, r.id LIMIT $3 OFFSET $4");
    let rows = tx.query(&sql, &values)?;
    views_of(tx, &rows).map(Some)
}

pub(crate) fn view(
    tx: &mut dyn Transaction,
    tenant: TenantId,
    export: ExportId,
    id: TaskId,
) -> Result<Option<RunView>, StoreError> {
    let found = sql::one(
        tx,
        &format!("{VIEW} AND r.export_id = $2 AND r.id = $3"),
        &[tenant.into(), export.into(), id.into()],
    )?;
    Ok(views_of(tx, found.as_slice())?.pop())
}

/// Complete files of a partition: up to `most` with greater numbers.
pub(crate) fn files(
    tx: &mut dyn Transaction,
    tenant: TenantId,
    export: ExportId,
    id: TaskId,
    after: Option<u32>,
    most: u32,
) -> Result<Option<RunFiles>, StoreError> {
    let found = sql::one(
        tx,
        &format!("{VIEW} AND r.export_id = $2 AND r.id = $3"),
        &[tenant.into(), export.into(), id.into()],
    )?;
    found
        .map(|row| {
            Ok(RunFiles {
                bucket: destinations::bucket(&row)?,
                keys: files::keys(tx, id, after, most)?,
            })
        })
        .transpose()
}

/// Reads what belongs to the runs of a page in two statements, however many runs there are.
fn views_of(tx: &mut dyn Transaction, rows: &[Row]) -> Result<Vec<RunView>, StoreError> {
    let tasks = rows.iter().map(task).collect::<Result<Vec<_>, _>>()?;
    let exports = exports::of_runs(tx, tasks.iter().map(|task| task.export).collect())?;
    let ids: Vec<_> = tasks.iter().map(|task| task.id).collect();
    let mut keys = files::keys_of(tx, &ids, SHOWN_FILES)?;
    let view = |(task, row): (Task, &Row)| {
        let export = exports.get(&task.export).cloned();
        Ok(RunView {
            export: export.ok_or_else(|| exports::gone(task.export))?,
            bucket: destinations::bucket(row)?,
            keys: keys.remove(&task.id).unwrap_or_default(),
            reported: reported::of(row)?,
            exporter: row.get("exporter_id")?,
            task,
        })
    };
    tasks.into_iter().zip(rows).map(view).collect()
}

fn task(row: &Row) -> Result<Task, StoreError> {
    let cursor = match (row.get("cursor_time")?, row.get::<Option<Uuid>>("cursor_id")?) {
        (Some(start_time), Some(id)) => Some(Cursor { start_time, id }),
        _ => None,
    };
    let intent: Option<IntentRecord> =
        row.get::<Option<String>>("intent")?.map(|_| row.json("intent")).transpose()?;
    let intent = intent
        .map(|record| record.try_into().map_err(|fault| sql::unreadable("intent", fault)))
        .transpose()?;
    Ok(Task {
        id: row.get("id")?,
        export: row.get("export_id")?,
        tenant: row.get("tenant_id")?,
        kind: kind(row)?,
        state: state(row)?,
        fence: Fence(row.get("fence")?),
        attempt: row.get("attempt")?,
        spent: row.get("spent")?,
        errors: row.json("errors")?,
        batch_shrink: row.get("narrow")?,
        started_at: row.get("started_at")?,
        read_at: row.get("read_at")?,
        totals: Totals {
            files: row.get("files")?,
            rows: row.get("rows")?,
            bytes: row.get("bytes")?,
            hydrated_objects: row.get("hydrated_objects")?,
            hydration_misses: row.get("hydration_misses")?,
            oversized: oversized::read(row)?,
            undecided: row.get("undecided")?,
            decided_against: row.get("decided_against")?,
        },
        undecided: row
            .json::<Vec<MissRecord>>("undecided_fields")?
            .into_iter()
            .map(intent::miss)
            .collect(),
        identity: identity(row)?,
        cursor,
        intent,
        frozen: row.get("frozen")?,
        created_at: row.get("created_at")?,
        updated_at: row.get("updated_at")?,
    })
}

pub(crate) fn kind(row: &Row) -> Result<TaskKind, StoreError> {
    // Tasks other than partitions name a project if an earlier version created them.
    Ok(match (row.get::<String>("kind")?.as_str(), row.window()?, row.get("subject")?) {
        ("find_experiments", Some(window), None) => TaskKind::FindExperiments(window),
        ("partition", Some(window), None) => {
            TaskKind::Partition(Partition { session: row.get("session_id")?, window })
        }
        ("finalise", None, None) => TaskKind::Finalize,
        ("clean_up", None, Some(subject)) => TaskKind::CleanUp(subject),
        ("reconcile", None, None) => TaskKind::Reconcile,
        (other, ..) => {
            return Err(StoreError::Corrupt(format!(
                "column kind: {other} does not go with the rest of the row"
            )));
        }
    })
}

fn identity_word(identity: Identity) -> &'static str {
    match identity {
        Identity::Id => "id",
        Identity::IdAndStartTime => "id_and_start_time",
    }
}

fn identity(row: &Row) -> Result<Option<Identity>, StoreError> {
    match row.get::<Option<String>>("identity")?.as_deref() {
        None => Ok(None),
        Some("id") => Ok(Some(Identity::Id)),
        Some("id_and_start_time") => Ok(Some(Identity::IdAndStartTime)),
        Some(other) => Err(StoreError::Corrupt(format!("column identity: {other} is none"))),
    }
}

fn state(row: &Row) -> Result<State, StoreError> {
    let at: Timestamp = row.get("state_at")?;
    Ok(match row.get::<String>("state")?.as_str() {
        "queued" => State::Queued { not_before: at },
        "leased" => State::Leased(Lease {
            exporter: row.word("exporter_id", |text| ExporterId::parse("exporter_id", text))?,
            incarnation: row.get("incarnation")?,
            until: at,
            progressed_at: row.get("progressed_at")?,
            patience: row.get("patience")?,
            asked_back: row.get("asked_back")?,
        }),
        "completed" => State::Completed(at),
        "failed" => State::Failed(at),
        "cancelled" => State::Cancelled(at),
        "timed_out" => State::TimedOut(at),
        other => return Err(StoreError::Corrupt(format!("column state: {other} is none"))),
    })
}
