//! The conformance suite on PostgreSQL, and what is true of several control planes over one
//! database.

use std::{collections::BTreeSet, sync::LazyLock};

use futures::future::join_all;
use secrecy::SecretString;
use tokio::sync::broadcast::Receiver;
use tracelift_core::task::TaskKind;
use tracelift_postgres_server::{PASSWORD, Postgres, execute};
use uuid::Uuid;

use super::*;
use crate::store::{
    ClaimRequest, ReportOutcome, Store,
    conformance::{
        ALL, GRACE, RETRIES, UNLIMITED, act, at, claim, claim_one, complete, everything, export,
        exporter, file, held, lease, lease_of, owner, report,
    },
    sql,
};
use tracelift_core::task::Event;

/// One server for all tests of this process, a database for each.
static SERVER: LazyLock<Postgres> = LazyLock::new(Postgres::start_new);

fn settings(url: &str) -> PostgresSettings {
    PostgresSettings::new(&SecretString::from(url), None, None, 8).unwrap()
}

async fn open(url: &str) -> Store {
    PostgresEngine::open(&settings(url)).await.unwrap().into()
}

async fn server() -> &'static Postgres {
    tokio::task::spawn_blocking(|| &*SERVER).await.unwrap()
}

async fn fresh() -> Store {
    open(&server().await.new_database().await).await
}

/// Two stores over one database, as two control planes have them.
async fn replicas() -> (Store, Store) {
    let url = server().await.new_database().await;
    tokio::join!(open(&url), open(&url))
}

async fn hear(notifications: &mut Receiver<Change>, expected: Change) {
    while notifications.recv().await.unwrap() != expected {}
}

mod conforms {
    crate::store::conformance::suite!(
        crate::store::engine::postgres::tests::fresh,
        12,
        ignore = "needs PostgreSQL: make test"
    );
}

#[tokio::test]
#[ignore = "needs PostgreSQL: make test"]
async fn news_of_one_replica_is_heard_by_the_other() {
    let (a, b) = replicas().await;
    let mine = owner(&a, 1).await;
    let mut notifications = b.changes();
    let id = export(&a, mine, 1, 1).await;
    hear(&mut notifications, Change::TasksQueued).await;
    let task = claim_one(&b, "x", 1).await;
    hear(&mut notifications, Change::Export(id)).await;
    a.cancel_export(act(), mine.tenant, id, at(2)).await.unwrap();
    hear(
        &mut notifications,
        Change::Stopped { task: task.id, fence: task.fence, exporter: exporter("x") },
    )
    .await;
    let session = Uuid::from_u128(5);
    a.hello(session, lease("x", 3), Vec::new(), RETRIES, at(3)).await.unwrap();
    hear(&mut notifications, Change::Connected { exporter: exporter("x"), session }).await;
}

#[tokio::test]
#[ignore = "needs PostgreSQL: make test"]
async fn two_replicas_give_no_run_twice_and_fill_no_exporter_over() {
    let (a, b) = replicas().await;
    let mine = owner(&a, 1).await;
    let id = export(&a, mine, 1, 40).await;
    let names: Vec<_> = (0..12).map(|n| format!("e{n}")).collect();
    let asked = names.iter().flat_map(|name| [claim(&a, name, 3, 1), claim(&b, name, 3, 1)]);
    let claims = join_all(asked).await;
    // A run that another claim was about to take is passed over, so some slots may have stayed free
    // for a moment.
    let mut all: Vec<_> = claims.iter().flatten().map(|claimed| claimed.task.id).collect();
    for name in &names {
        all.extend(claim(&b, name, 3, 2).await.iter().map(|claimed| claimed.task.id));
    }
    let distinct: BTreeSet<_> = all.iter().copied().collect();
    assert_eq!((all.len(), distinct.len()), (36, 36), "twelve exporters with three slots each");
    let tasks = a.tasks(mine.tenant, id, ALL).await.unwrap().unwrap();
    for name in &names {
        let held = tasks
            .iter()
            .filter(|view| view.task.lease().is_some_and(|lease| lease.exporter.as_str() == name));
        assert_eq!(held.count(), 3, "{name}");
    }
}

#[tokio::test]
#[ignore = "needs PostgreSQL: make test"]
async fn runs_that_end_at_once_at_two_replicas_begin_one_finalising_run() {
    let (a, b) = replicas().await;
    let mine = owner(&a, 1).await;
    for n in 1..=8 {
        export(&a, mine, n, 2).await;
        let claimed = claim(&a, "x", 2, 1).await;
        tokio::join!(complete(&a, &claimed[0].task, 1, 2), complete(&b, &claimed[1].task, 1, 2));
        let finalizing = claim(&b, "x", 9, 3).await;
        assert_eq!(
            finalizing.iter().map(|claimed| claimed.task.kind).collect::<Vec<_>>(),
            [TaskKind::Finalize]
        );
        report(&a, &finalizing[0].task, Event::Published, 4).await;
    }
}

/// Claims, reports, heartbeats, hellos, lapses and cancels of the same runs, all at the same time:
/// nothing hangs, nothing fails, and what is left is whole.
#[tokio::test]
#[ignore = "needs PostgreSQL: make test"]
async fn replicas_in_each_others_way_end_well() {
    let (a, b) = replicas().await;
    let mine = owner(&a, 1).await;
    for n in 1..=6 {
        let id = export(&a, mine, n, 6).await;
        let tasks: Vec<_> =
            claim(&a, "x", 6, 1).await.into_iter().map(|claimed| claimed.task).collect();
        let all = held(&tasks.iter().collect::<Vec<_>>());
        let reports = join_all(tasks.iter().enumerate().map(|(n, task)| {
            let store = if n % 2 == 0 { &a } else { &b };
            store.report(None, task.id, task.fence, Event::FileDone(file(0)), GRACE, at(2))
        }));
        let (reports, beat, hello, lapsed, claimed, cancelled) = tokio::join!(
            reports,
            a.heartbeat(lease("x", 2), all.clone(), at(2)),
            b.hello(Uuid::from_u128(n), lease("x", 2), all[..3].to_vec(), RETRIES, at(2)),
            a.lapse(RETRIES, at(500)),
            b.claim(
                vec![ClaimRequest { lease: lease_of("y", "first", 2), capacity: 3 }],
                UNLIMITED,
                at(2)
            ),
            b.cancel_export(act(), mine.tenant, id, at(3)),
        );
        assert!(
            reports.into_iter().all(|report| matches!(
                report,
                Ok(ReportOutcome::Applied(_) | ReportOutcome::Stale)
            ))
        );
        assert_eq!((beat.unwrap().len(), hello.unwrap().len()), (6, 3));
        assert!(lapsed.is_ok() && claimed.is_ok() && cancelled.unwrap().is_some());
        let ended = a.tasks(mine.tenant, id, ALL).await.unwrap().unwrap();
        assert!(ended.iter().all(|view| view.task.finished_at().is_some()
            && view.task.totals.files as usize == view.keys.len()));
    }
}

#[tokio::test]
#[ignore = "needs PostgreSQL: make test"]
async fn a_lost_connection_for_news_comes_back_and_says_that_some_may_be_missed() {
    let url = server().await.new_database().await;
    let (a, b) = tokio::join!(open(&url), open(&url));
    let mine = owner(&a, 1).await;
    let mut notifications = b.changes();
    execute(
        &url,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'tracelift news' AND datname = current_database()",
    )
    .await;
    hear(&mut notifications, Change::Missed).await;
    export(&a, mine, 1, 1).await;
    hear(&mut notifications, Change::TasksQueued).await;
}

/// Writes are sent with what comes behind them, so that a refused one is noticed late.
#[tokio::test]
#[ignore = "needs PostgreSQL: make test"]
async fn a_refused_write_leaves_nothing_and_its_connection_is_used_again() {
    let url = server().await.new_database().await;
    let one = PostgresSettings::new(&SecretString::from(url.as_str()), None, None, 1).unwrap();
    let store = Store::from(PostgresEngine::open(&one).await.unwrap());
    let mine = owner(&store, 1).await;
    let connection = || async {
        store
            .engine
            .transact(|tx| {
                sql::one(tx, "SELECT pg_backend_pid()::bigint AS pid", &[])?
                    .unwrap()
                    .get::<i64>("pid")
            })
            .await
    };
    let before = connection().await.unwrap();
    let refused = store
        .engine
        .transact(move |tx| {
            tx.execute("UPDATE tenants SET display_name = 'lost'", &[])?;
            tx.execute(
                "INSERT INTO tenants (id, display_name, created_at) VALUES ($1, 'twice', 0)",
                &[mine.tenant.into()],
            )?;
            tx.execute("UPDATE tenants SET display_name = 'lost too'", &[])?;
            tx.tell(Change::TasksQueued);
            Ok::<_, StoreError>(())
        })
        .await;
    assert!(matches!(refused, Err(StoreError::Exists(_))), "{refused:?}");
    assert!(!store.tenants().await.unwrap()[0].display_name.as_str().contains("lost"));
    assert_eq!(connection().await.unwrap(), before);
}

#[tokio::test]
#[ignore = "needs PostgreSQL: make test"]
async fn a_transaction_that_panics_leaves_nothing_for_the_next_one_on_its_connection() {
    let url = server().await.new_database().await;
    let one = PostgresSettings::new(&SecretString::from(url.as_str()), None, None, 1).unwrap();
    let store = Store::from(PostgresEngine::open(&one).await.unwrap());
    let mine = owner(&store, 1).await;
    let fallen = store
        .engine
        .transact(|tx| {
            tx.execute("UPDATE tenants SET display_name = 'lost'", &[])?;
            tx.query("SELECT id FROM tenants", &[])?;
            if tx.side_by_side() { panic!("a fault of ours") } else { Ok::<_, StoreError>(()) }
        })
        .await;
    assert!(matches!(fallen, Err(StoreError::Unavailable(_))), "{fallen:?}");
    export(&store, mine, 1, 1).await;
    assert!(!store.tenants().await.unwrap()[0].display_name.as_str().contains("lost"));
}

#[tokio::test]
#[ignore = "needs PostgreSQL: make test"]
async fn whoever_asks_for_the_time_is_told_one_between_the_question_and_the_answer() {
    let store = fresh().await;
    let before = store.now().await.unwrap();
    let times = join_all((0..50).map(|_| store.now())).await;
    let after = store.now().await.unwrap();
    assert!(times.into_iter().all(|time| (before..=after).contains(&time.unwrap())));
}

#[tokio::test]
#[ignore = "needs PostgreSQL: make test"]
async fn lost_connections_are_replaced() {
    let url = server().await.new_database().await;
    let store = open(&url).await;
    let mine = owner(&store, 1).await;
    execute(&url, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'tracelift transactions' AND datname = current_database()").await;
    // The first call may still meet a connection that has not noticed.
    let mut answer = store.tenants().await;
    while let Err(StoreError::Unavailable(_)) = answer {
        answer = store.tenants().await;
    }
    assert_eq!(answer.unwrap().len(), 1);
    assert_eq!(store.destinations(mine.tenant).await.unwrap().len(), 1);
}

#[tokio::test]
#[ignore = "needs PostgreSQL: make test"]
async fn replicas_that_start_at_once_make_one_schema() {
    let url = server().await.new_database().await;
    let stores = join_all((0..6).map(|_| open(&url))).await;
    let mine = owner(&stores[0], 1).await;
    for store in &stores {
        assert_eq!(store.destinations(mine.tenant).await.unwrap().len(), 1);
    }
}

#[tokio::test]
#[ignore = "needs PostgreSQL: make test"]
async fn a_database_of_a_newer_schema_is_refused_and_left_alone() {
    let url = server().await.new_database().await;
    let store = open(&url).await;
    let mine = owner(&store, 1).await;
    let id = export(&store, mine, 1, 2).await;
    let before = everything(&store, mine, id).await;
    execute(&url, "UPDATE tracelift_schema SET version = version + 98").await;
    let refused = PostgresEngine::open(&settings(&url)).await;
    assert!(matches!(refused, Err(StoreError::NewerSchema)), "{refused:?}");
    execute(&url, "UPDATE tracelift_schema SET version = version - 98").await;
    assert_eq!(everything(&open(&url).await, mine, id).await, before);
}

#[tokio::test]
#[ignore = "needs PostgreSQL: make test"]
async fn a_value_that_cannot_be_read_back_is_named_and_never_guessed() {
    let url = server().await.new_database().await;
    let store = open(&url).await;
    let mine = owner(&store, 1).await;
    let id = export(&store, mine, 1, 1).await;
    execute(&url, "UPDATE runs SET errors = 'nonsense'").await;
    match store.tasks(mine.tenant, id, ALL).await {
        Err(StoreError::Corrupt(text)) => assert!(text.contains("errors"), "{text}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
#[ignore = "needs PostgreSQL: make test"]
async fn who_does_not_get_in_is_told_why_and_no_password_is_shown() {
    let url = server().await.new_database().await;
    let wrong = url.replace(PASSWORD, "wr0ng-w0rd");
    let error = PostgresEngine::open(&settings(&wrong)).await.unwrap_err();
    assert!(
        error.to_string().contains("password authentication failed for user \"postgres\" (28P01)"),
        "{error}"
    );
    let nowhere = format!("postgres://u:{PASSWORD}@127.0.0.1:1/t");
    let away = PostgresEngine::open(&settings(&nowhere)).await.unwrap_err();
    assert!(
        away.to_string()
            .starts_with("the database is not available: PostgreSQL at 127.0.0.1:1/t: "),
        "{away}"
    );
    let unencrypted =
        PostgresEngine::open(&settings(&format!("{url}?sslmode=require"))).await.unwrap_err();
    assert!(unencrypted.to_string().contains("TLS"), "{unencrypted}");
    let store = open(&url).await;
    for text in [
        format!("{error} {error:?}"),
        format!("{away} {away:?}"),
        format!("{unencrypted:?}"),
        format!("{store:?} {:?}", settings(&url)),
    ] {
        assert!(!text.contains(PASSWORD) && !text.contains("wr0ng"), "{text}");
    }
    // A password of its own stands before the address's.
    let given = PostgresSettings::new(
        &SecretString::from(wrong),
        Some(&SecretString::from(PASSWORD)),
        None,
        2,
    )
    .unwrap();
    assert!(PostgresEngine::open(&given).await.is_ok());
}

/// Every table, column, constraint and index, as the migrations leave them.
#[tokio::test]
#[ignore = "needs PostgreSQL: make test"]
async fn the_schema_as_it_is_today() {
    const COLUMNS: &str = "SELECT table_name || '.' || column_name || ' ' || data_type
               || CASE is_nullable WHEN 'NO' THEN ' not null' ELSE '' END
               || coalesce(' default ' || column_default, '') AS line
        FROM information_schema.columns WHERE table_schema = 'public'
        ORDER BY table_name, ordinal_position";
    const CONSTRAINTS: &str =
        "SELECT conrelid::regclass || ': ' || pg_get_constraintdef(oid) AS line
        FROM pg_constraint WHERE connamespace = 'public'::regnamespace AND contype <> 'n'
        ORDER BY 1";
    const INDEXES: &str = "SELECT indexdef AS line FROM pg_indexes
        WHERE schemaname = 'public' ORDER BY 1";
    let store = fresh().await;
    let lines = store.engine.transact(|tx| {
        let mut lines = Vec::new();
        for sql in [COLUMNS, CONSTRAINTS, INDEXES] {
            for row in tx.query(sql, &[])? {
                lines.push(row.get::<String>("line")?);
            }
            lines.push(String::new());
        }
        Ok::<_, StoreError>(lines)
    });
    insta::assert_snapshot!(lines.await.unwrap().join("\n"));
}

#[tokio::test]
#[ignore = "needs PostgreSQL: make test"]
async fn nobody_changes_or_removes_a_record_of_the_audit_log_behind_its_back() {
    let url = server().await.new_database().await;
    let store = open(&url).await;
    let mine = owner(&store, 1).await;
    let engine = PostgresEngine::open(&settings(&url)).await.unwrap();
    for change in ["UPDATE audit_log SET actor = 'x'", "DELETE FROM audit_log WHERE number = 2"] {
        let refused = engine
            .transact::<(), StoreError>(move |tx| tx.execute(change, &[]))
            .await
            .unwrap_err()
            .to_string();
        assert!(refused.contains("append only"), "{refused}");
    }
    let filter = crate::store::AuditFilter::default();
    let page = store.audit_records(Some(mine.tenant), filter, 9).await.unwrap();
    assert_eq!(page.records.len(), 2, "the workspace and its destination");
}
