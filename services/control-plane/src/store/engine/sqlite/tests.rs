//! The conformance suite on SQLite, and what is true of a file only.

use std::{fs, path::Path};

use secrecy::SecretString;
use tempfile::TempDir;
use tracelift_core::id::{DestinationId, ExportId};
use tracelift_core::{id::KeyId, task::Event};
use tracelift_proto::BucketSecrets;
use uuid::Uuid;

use super::*;
use crate::{
    auth::hash,
    sealer::CredentialSealer,
    store::{
        ApiKey, ClaimRequest, NewDestination, NewExport, Permission, Store,
        conformance::{
            self, ALL, Owner, act, at, claim_one, complete, destination, everything, export, file,
            owner, report,
        },
    },
};

async fn in_memory() -> Store {
    Store::in_memory().unwrap()
}

fn open(path: &Path) -> Result<Store, StoreError> {
    SqliteEngine::open(path).map(Into::into)
}

mod conforms {
    crate::store::conformance::suite!(crate::store::engine::sqlite::tests::in_memory, 96);
}

/// A file with an export half done: one run complete, one worked on, one cancelled file and all.
async fn filled(path: &Path) -> (Owner, ExportId) {
    let store = open(path).unwrap();
    let mine = owner(&store, 1).await;
    let id = export(&store, mine, 1, 3).await;
    complete(&store, &claim_one(&store, "a", 1).await, 2, 2).await;
    let working = conformance::claim(&store, "a", 1, 3).await.remove(0).task;
    report(&store, &working, Event::FileDone(file(0)), 4).await;
    report(&store, &working, Event::FileIntent(conformance::intent(1)), 4).await;
    (mine, id)
}

fn sql(path: &Path, text: &str) {
    Connection::open(path).unwrap().execute_batch(text).unwrap();
}

#[tokio::test]
async fn everything_survives_closing_and_opening_again() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("t.db");
    let (mine, id) = filled(&path).await;
    let read = async || {
        let store = open(&path).unwrap();
        let rest = (
            store.tenants().await.unwrap(),
            store.destinations(mine.tenant).await.unwrap(),
            store.all_sealed().await.unwrap(),
        );
        format!("{}\n{rest:#?}", everything(&store, mine, id).await)
    };
    let first = read().await;
    assert!(first.contains("upload_id: \"u\""), "{first}");
    assert_eq!(read().await, first);
    // The holder goes on as if nothing had been.
    let store = open(&path).unwrap();
    let working = store
        .tasks(mine.tenant, id, ALL)
        .await
        .unwrap()
        .unwrap()
        .into_iter()
        .find(|view| view.task.lease().is_some())
        .unwrap();
    report(&store, &working.task, Event::FileDone(file(1)), 5).await;
    complete(&store, &working.task, 2, 5).await;
}

/// How many changes of the schema there were when every export and every run was of a project.
const ALL_OF_A_PROJECT: usize = 11;

#[tokio::test]
async fn rows_of_when_all_was_of_a_project_are_read_back_as_they_were() {
    let folder = TempDir::new().unwrap();
    let (now, then) = (folder.path().join("now.db"), folder.path().join("then.db"));
    let (mine, id) = filled(&now).await;
    let expected = everything(&open(&now).unwrap(), mine, id).await;
    let mut older = Connection::open(&then).unwrap();
    MIGRATIONS.to_version(&mut older, ALL_OF_A_PROJECT).unwrap();
    for table in ["tenants", "destinations", "exports", "runs", "files"] {
        let mut names =
            older.prepare(&format!("SELECT name FROM pragma_table_info('{table}')")).unwrap();
        let names: Vec<String> =
            names.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap();
        let names = names.join(", ");
        older.execute("ATTACH ?1 AS now", [now.to_str().unwrap()]).unwrap();
        older
            .execute_batch(&format!(
                "INSERT INTO main.{table} ({names}) SELECT {names} FROM now.{table}; DETACH now"
            ))
            .unwrap();
    }
    drop(older);
    assert_eq!(everything(&open(&then).unwrap(), mine, id).await, expected);
}

#[tokio::test]
async fn a_database_of_a_newer_schema_is_refused_and_left_alone() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("t.db");
    let (mine, id) = filled(&path).await;
    let version: i64 = Connection::open(&path)
        .unwrap()
        .query_row("PRAGMA user_version", [], |row| row.get(0))
        .unwrap();
    sql(&path, "PRAGMA user_version = 99");
    assert!(matches!(open(&path), Err(StoreError::NewerSchema)));
    sql(&path, &format!("PRAGMA user_version = {version}"));
    assert!(open(&path).unwrap().export(mine.tenant, id).await.unwrap().is_some());
}

#[tokio::test]
async fn what_is_no_database_is_a_clear_error() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("t.db");
    fs::write(&path, "this is a shopping list, not a database\n".repeat(500)).unwrap();
    let error = open(&path).unwrap_err().to_string();
    assert_eq!(
        error,
        format!("the database is not available: {}: file is not a database", path.display())
    );
    let error = open(&folder.path().join("no/such/folder/t.db")).unwrap_err().to_string();
    assert!(error.contains("unable to open database file"), "{error}");
}

#[tokio::test]
async fn a_damaged_file_is_an_error_and_not_a_panic() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("t.db");
    let (mine, id) = filled(&path).await;
    let mut bytes = fs::read(&path).unwrap();
    assert!(bytes.len() > 8192);
    bytes[4096..].fill(0xaa); // the schema on the first page stays
    fs::write(&path, bytes).unwrap();
    match open(&path) {
        Err(error) => assert!(error.to_string().contains("malformed"), "{error}"),
        Ok(store) => {
            let error = store.export(mine.tenant, id).await.unwrap_err();
            assert!(error.to_string().contains("malformed"), "{error}");
            assert!(
                store
                    .claim(
                        vec![ClaimRequest { lease: conformance::lease("a", 9), capacity: 9 }],
                        conformance::UNLIMITED,
                        at(9)
                    )
                    .await
                    .is_err()
            );
        }
    }
}

#[tokio::test]
async fn a_value_that_cannot_be_read_back_is_named_and_never_guessed() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("t.db");
    let (mine, id) = filled(&path).await;
    let store = open(&path).unwrap();
    for (table, column, value) in [
        ("runs", "errors", "nonsense"),
        ("runs", "exporter_id", "with space"),
        ("exports", "compression", "rar"),
        ("exports", "columns", "[\"colour\"]"),
        ("destinations", "write_options", "{\"Colour\":\"red\"}"),
        ("destinations", "addressing", "sideways"),
    ] {
        sql(
            &path,
            &format!(
                "CREATE TABLE kept AS SELECT id, {column} AS v FROM {table}; UPDATE {table} SET {column} = '{value}'"
            ),
        );
        let read = async {
            store.tasks(mine.tenant, id, ALL).await?;
            store.destinations(mine.tenant).await
        };
        match read.await {
            Err(StoreError::Corrupt(text)) => assert!(text.contains(column), "{column}: {text}"),
            other => panic!("{column}: {other:?}"),
        }
        let back = format!(
            "UPDATE {table} SET {column} = (SELECT v FROM kept WHERE kept.id = {table}.id); DROP TABLE kept"
        );
        sql(&path, &back);
    }
    assert!(store.tasks(mine.tenant, id, ALL).await.is_ok());
}

#[tokio::test]
async fn a_full_disk_refuses_what_is_new_and_loses_nothing() {
    let folder = TempDir::new().unwrap();
    let engine = SqliteEngine::open(&folder.path().join("t.db")).unwrap();
    let store = Store::from(engine.clone());
    let mine = owner(&store, 1).await;
    let pages = |most: &str| {
        let connection = engine.connection.lock().unwrap();
        connection.query_row(&format!("PRAGMA max_page_count = {most}"), [], |_| Ok(())).unwrap();
    };
    pages("1"); // no more than there are
    let mut stored = Vec::new();
    let refused = loop {
        let (planned, tasks) = conformance::planned(mine, 1 + stored.len() as u128, 30, 0);
        let id = planned.id;
        match store.create_export(act(), NewExport::of(planned, tasks)).await {
            Ok(made) => stored.push((made, id)),
            Err(error) => break (error, id),
        }
    };
    assert_eq!(refused.0.to_string(), "the database is not available: database or disk is full");
    assert!(matches!(refused.0, StoreError::Unavailable(_)), "callers are told to come back");
    assert!(
        store.export(mine.tenant, refused.1).await.unwrap().is_none(),
        "nothing of it is stored"
    );
    for (_, id) in &stored {
        assert_eq!(store.tasks(mine.tenant, *id, ALL).await.unwrap().unwrap().len(), 30);
    }
    pages("1000000");
    let again = export(&store, mine, 1 + stored.len() as u128, 30).await;
    assert_eq!(store.tasks(mine.tenant, again, ALL).await.unwrap().unwrap().len(), 30);
}

#[tokio::test]
async fn no_secret_stands_in_the_file() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("t.db");
    let store = open(&path).unwrap();
    let mine = owner(&store, 1).await;
    let sealer = CredentialSealer::new(&SecretString::from(
        "k1:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
    ))
    .unwrap();
    let secrets = BucketSecrets {
        access_key_id: "AKIDINTHECLEAR".into(),
        secret_access_key: "hunter2hunter2".into(),
        session_token: Some("ses3".into()),
    };
    let second = destination(Owner { destination: DestinationId(Uuid::from_u128(77)), ..mine }, 1);
    let sealed = sealer.seal(mine.tenant, second.id, &secrets).unwrap();
    store
        .create_destination(act(), NewDestination::of(second.clone(), Some(sealed)))
        .await
        .unwrap();
    let key = ApiKey {
        id: KeyId(Uuid::from_u128(5)),
        tenant: mine.tenant,
        display_name: "ci".into(),
        permission: Permission::Manage,
        created_at: at(1),
        revoked_at: None,
        expires_at: None,
        last_used_at: None,
    };
    store.create_key(act(), key, hash("tl_key_in_the_clear")).await.unwrap();

    let look = |when: &str| {
        for entry in fs::read_dir(folder.path()).unwrap() {
            let file = entry.unwrap().path();
            let bytes = fs::read(&file).unwrap();
            for secret in ["AKIDINTHECLEAR", "hunter2hunter2", "ses3", "tl_key_in_the_clear"] {
                let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
                assert!(!found, "{secret} stands in {} {when}", file.display());
            }
        }
    };
    look("while it is open");
    drop(store);
    look("after it was closed");

    let store = open(&path).unwrap();
    let (tenant, id, sealed) =
        store.all_sealed().await.unwrap().into_iter().find(|(_, id, _)| *id == second.id).unwrap();
    assert_eq!(sealer.open(tenant, id, &sealed).unwrap().secret_access_key, "hunter2hunter2");
}

/// A call in the line that adds tenant `number`, says so, and ends as `end` does.
fn adds(
    engine: &SqliteEngine,
    number: u128,
    end: fn() -> Result<(), StoreError>,
) -> oneshot::Receiver<Result<(), StoreError>> {
    let (asker, answer) = oneshot::channel();
    let work = move |tx: &mut dyn Transaction| {
        crate::store::tables::tenants::create(tx, &conformance::tenant(number))?;
        tx.tell(Change::Export(ExportId(Uuid::from_u128(number))));
        end()
    };
    engine.line.join(Box::new(Asked { work, outcome: None, asker }));
    answer
}

#[tokio::test]
async fn a_call_that_fails_takes_nothing_of_those_that_are_done_with_it() {
    let engine = SqliteEngine::in_memory().unwrap();
    let store = Store::from(engine.clone());
    let mut notifications = store.changes();
    let first = adds(&engine, 1, || Ok(()));
    let failing = adds(&engine, 2, || Err(StoreError::Contended));
    let dying = adds(&engine, 3, || panic!("a row of three legs"));
    let last = adds(&engine, 4, || Ok(()));
    line::serve(engine);
    assert!(first.await.unwrap().is_ok() && last.await.unwrap().is_ok());
    assert!(matches!(failing.await.unwrap(), Err(StoreError::Contended)));
    let error = dying.await.unwrap().unwrap_err().to_string();
    assert!(error.contains("a row of three legs"), "{error}");
    let mut tenants: Vec<_> =
        store.tenants().await.unwrap().into_iter().map(|tenant| tenant.id.0.as_u128()).collect();
    tenants.sort_unstable();
    assert_eq!(tenants, [1, 4]);
    for number in [1, 4] {
        assert_eq!(
            notifications.try_recv().unwrap(),
            Change::Export(ExportId(Uuid::from_u128(number)))
        );
    }
    assert!(notifications.try_recv().is_err(), "what is undone is not told");
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_that_come_at_once_are_all_done_however_many() {
    let store = std::sync::Arc::new(in_memory().await);
    let calls = (1..=500).map(|number| {
        let store = store.clone();
        async move { store.create_tenant(act(), conformance::tenant(number)).await }
    });
    for made in futures::future::join_all(calls).await {
        made.unwrap();
    }
    assert_eq!(store.tenants().await.unwrap().len(), 500);
}

/// Every table and index, as the migrations leave them.
#[tokio::test]
async fn the_schema_as_it_is_today() {
    const SQL: &str =
        "SELECT sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY type DESC, name";
    let store = in_memory().await;
    let found = store.engine.transact(|tx| {
        let rows = tx.query(SQL, &[])?;
        rows.iter().map(|row| row.get::<String>("sql")).collect::<Result<Vec<_>, _>>()
    });
    insta::assert_snapshot!(found.await.unwrap().join("\n"));
}

#[tokio::test]
async fn nobody_changes_or_removes_a_record_of_the_audit_log_behind_its_back() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("t.db");
    let (mine, _) = filled(&path).await;
    let file = Connection::open(&path).unwrap();
    for change in ["UPDATE audit_log SET actor = 'x'", "DELETE FROM audit_log WHERE number = 2"] {
        let refused = file.execute_batch(change).unwrap_err().to_string();
        assert!(refused.contains("append only"), "{refused}");
    }
    let filter = crate::store::AuditFilter::default();
    let page = open(&path).unwrap().audit_records(Some(mine.tenant), filter, 9).await.unwrap();
    assert_eq!(page.records.len(), 3, "the workspace, its destination and its export");
}

#[tokio::test]
async fn what_cannot_be_recorded_does_not_happen() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("t.db");
    let (mine, id) = filled(&path).await;
    sql(&path, "DROP TABLE audit_log");
    let store = open(&path).unwrap();
    let before = everything(&store, mine, id).await;
    store.cancel_export(act(), mine.tenant, id, at(9)).await.unwrap_err();
    assert_eq!(everything(&store, mine, id).await, before);
    let (export, tasks) = conformance::planned(mine, 2, 1, 9);
    let made = export.id;
    store.create_export(act(), NewExport::of(export, tasks)).await.unwrap_err();
    assert_eq!(store.export(mine.tenant, made).await.unwrap(), None);
    store.delete_tenant(act(), mine.tenant, at(9)).await.unwrap_err();
    assert!(store.has_tenant(mine.tenant).await.unwrap());
}
