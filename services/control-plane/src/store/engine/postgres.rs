//! The store in PostgreSQL, for any number of control planes over one database. Transactions run
//! concurrently (READ COMMITTED) and lock the rows that they change; the clock is the database's.
//!
//! The cost of a call is its round trips. So a transaction sends its writes together with its next
//! read or with its commit; sessions that ask for the time at once share one query; and
//! notifications of many transactions are sent together.

mod clock;
mod notifications;
mod schema;
mod settings;
mod values;

use std::{
    borrow::Cow,
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Weak},
    time::Duration,
};

use deadpool_postgres::{Manager, ManagerConfig, Object, Pool, RecyclingMethod, Runtime};
use futures::future::join_all;
use tokio::{
    runtime::Handle,
    sync::{broadcast, mpsc},
};
use tokio_postgres::types::ToSql;
use tracelift_core::{audit::Chained, id::ExporterId, time::Timestamp};
use tracelift_runtime::tasks::{self, Owned};

use super::{
    sql::{Row, Value},
    transaction::{Failure, Transaction},
};
use crate::store::{Change, NOTIFICATIONS, StoreError, stream};

use clock::Clock;
pub use settings::PostgresSettings;

/// How often a transaction is attempted when it conflicts with others.
const ATTEMPTS: u32 = 8;
/// Longest wait before a transaction is attempted again.
const ATTEMPT_WAIT: Duration = Duration::from_millis(50);
/// A connection that has not answered within this time is abandoned. Longer than the database's own
/// statement timeout.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);

/// A PostgreSQL database.
#[derive(Debug)]
pub struct PostgresEngine {
    pool: Pool,
    clock: Clock,
    changes: broadcast::Sender<Change>,
    /// Notifications of committed transactions, on their way to the database.
    told: mpsc::UnboundedSender<Change>,
    _news: Owned<()>,
}

impl PostgresEngine {
    /// Connects, and brings the schema up to date.
    pub async fn open(settings: &PostgresSettings) -> Result<Self, StoreError> {
        Self::connect(settings).await.map_err(|error| match error {
            StoreError::Unavailable(words) => {
                StoreError::Unavailable(format!("{}: {words}", settings.place()))
            }
            other => other,
        })
    }

    async fn connect(settings: &PostgresSettings) -> Result<Self, StoreError> {
        let (mut client, connection) = settings.dedicated("schema").connect(settings.tls()).await?;
        let _speaking = Owned(tasks::start("schema", connection));
        schema::migrate(&mut client).await?;

        let recycling = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let pool =
            Pool::builder(Manager::from_config(settings.pooled(), settings.tls(), recycling))
                .max_size(settings.connections)
                .runtime(Runtime::Tokio1)
                .wait_timeout(Some(settings::CONNECT_TIMEOUT))
                .create_timeout(Some(settings::CONNECT_TIMEOUT))
                .build()
                .map_err(|error| StoreError::Unavailable(error.to_string()))?;
        let (changes, _) = broadcast::channel(NOTIFICATIONS);
        let (told, to_tell) = mpsc::unbounded_channel();
        let line = notifications::Line::connect(settings).await?;
        let notifications = Owned(tasks::start(
            "news",
            notifications::pass_on(settings.clone(), line, to_tell, changes.clone()),
        ));
        Ok(Self { pool, clock: Clock::default(), changes, told, _news: notifications })
    }

    async fn connection(&self) -> Result<Object, StoreError> {
        self.pool.get().await.map_err(|error| match error {
            deadpool_postgres::PoolError::Backend(error) => error.into(),
            other => StoreError::Unavailable(other.to_string()),
        })
    }

    /// One attempt.
    async fn run<T, E>(
        &self,
        work: Arc<impl Fn(&mut dyn Transaction) -> Result<T, E> + Send + Sync + 'static>,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: Failure,
    {
        let connection = self.connection().await?;
        let (runtime, told) = (Handle::current(), self.told.clone());
        // A transaction ends with its call: one whose caller has gone is rolled back.
        let caller = Arc::new(());
        let waiting = Arc::downgrade(&caller);
        let done = tokio::task::spawn_blocking(move || {
            let mut transaction = PostgresTransaction {
                connection: &connection,
                runtime: &runtime,
                caller: waiting,
                unsent: vec![BEGIN],
                notifications: Vec::new(),
                records: Vec::new(),
            };
            let worked = || {
                work(&mut transaction)
                    .and_then(|value| transaction.commit().map(|()| value).map_err(E::from))
            };
            let outcome = catch_unwind(AssertUnwindSafe(worked)).unwrap_or_else(|_| {
                Err(StoreError::Unavailable("a transaction panicked".to_owned()).into()) // its connection is closed, so it is rolled back
            });
            match &outcome {
                Ok(_) => {
                    transaction.records.iter().for_each(stream::write);
                    transaction.notifications.into_iter().for_each(|change| drop(told.send(change)))
                } /* refused only when the store closes */
                Err(error)
                    if !matches!(error.of_store(), Some(StoreError::Unavailable(_)))
                        && transaction.rolled_back() => {}
                Err(_) => drop(Object::take(connection)), // do not reuse the connection
            }
            outcome
        });
        let done = done.await;
        drop(caller);
        done.unwrap_or_else(|error| Err(StoreError::Unavailable(error.to_string()).into()))
    }
}

impl PostgresEngine {
    pub(super) async fn transact<T, E>(
        &self,
        work: impl Fn(&mut dyn Transaction) -> Result<T, E> + Send + Sync + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: Failure,
    {
        let work = Arc::new(work);
        for _ in 1..ATTEMPTS {
            match self.run(work.clone()).await {
                Err(error) if matches!(error.of_store(), Some(StoreError::Contended)) => {
                    tracing::debug!("a transaction was in another's way; it is run again");
                    tokio::time::sleep(waiting(ATTEMPT_WAIT)).await;
                }
                outcome => return outcome,
            }
        }
        self.run(work).await
    }

    pub(super) async fn time(&self) -> Result<Timestamp, StoreError> {
        self.clock.time(async || self.connection().await).await
    }

    pub(super) fn notifications(&self) -> broadcast::Receiver<Change> {
        self.changes.subscribe()
    }
}

async fn answered<T>(
    answer: impl Future<Output = Result<T, tokio_postgres::Error>>,
) -> Result<T, StoreError> {
    match tokio::time::timeout(ANSWER_TIMEOUT, answer).await {
        Ok(answer) => Ok(answer?),
        Err(_) => {
            Err(StoreError::Unavailable(format!("no answer within {} s", ANSWER_TIMEOUT.as_secs())))
        }
    }
}

/// A random wait of up to `most`: transactions that conflicted, or lost the same server, do not
/// retry in step.
fn waiting(most: Duration) -> Duration {
    let share = getrandom::u32().unwrap_or(u32::MAX);
    most.mul_f64(f64::from(share) / f64::from(u32::MAX))
}

/// A statement with its values.
type Statement = (Cow<'static, str>, Vec<Value>);

const BEGIN: Statement = (Cow::Borrowed("BEGIN"), Vec::new());
const COMMIT: Statement = (Cow::Borrowed("COMMIT"), Vec::new());
const ROLLBACK: Statement = (Cow::Borrowed("ROLLBACK"), Vec::new());

/// A transaction on one connection, on a thread that may block.
struct PostgresTransaction<'a> {
    connection: &'a Object,
    runtime: &'a Handle,
    /// Is gone once nobody waits for the transaction.
    caller: Weak<()>,
    /// Statements to send together with the next one whose answer is awaited: initially BEGIN.
    unsent: Vec<Statement>,
    notifications: Vec<Change>,
    records: Vec<Chained>,
}

impl PostgresTransaction<'_> {
    /// Sends this statement behind all unsent ones, pipelined. Returns its answer, or the error of
    /// the first statement that failed.
    fn ask(&mut self, statement: Statement) -> Result<Vec<tokio_postgres::Row>, StoreError> {
        if self.caller.strong_count() == 0 && statement != ROLLBACK {
            return Err(StoreError::Contended); // nobody will hear it; the connection is reused
        }
        let mut statements = std::mem::take(&mut self.unsent);
        statements.push(statement);
        self.runtime.block_on(answered(sent(self.connection, &statements)))
    }

    fn commit(&mut self) -> Result<(), StoreError> {
        self.ask(COMMIT).map(drop)
    }

    /// Rolls back. Returns whether the connection can be reused.
    fn rolled_back(&mut self) -> bool {
        if self.unsent.first() == Some(&BEGIN) {
            return true; // nothing was sent
        }
        self.unsent.clear();
        self.ask(ROLLBACK).is_ok()
    }
}

/// Pipelines these statements: each is sent before the previous one is answered. Returns the last
/// answer. After a failure the remaining statements of the transaction, including its commit, have
/// no effect.
async fn sent(
    connection: &Object,
    statements: &[Statement],
) -> Result<Vec<tokio_postgres::Row>, tokio_postgres::Error> {
    let mut prepared = Vec::with_capacity(statements.len());
    for (sql, _) in statements {
        prepared.push(connection.prepare_cached(sql).await?); // sends nothing after the first time
    }
    let answers = statements.iter().zip(&prepared).map(|((_, values), statement)| async move {
        let values: Vec<_> = values.iter().map(|value| value as &(dyn ToSql + Sync)).collect();
        connection.query(statement, &values).await
    });
    // The first poll, in this order, sends each statement.
    join_all(answers).await.into_iter().try_fold(Vec::new(), |_, answer| answer)
}

impl Transaction for PostgresTransaction<'_> {
    fn query(&mut self, sql: &str, values: &[Value]) -> Result<Vec<Row>, StoreError> {
        let found = self.ask((sql.to_owned().into(), values.to_vec()))?;
        let Some(first) = found.first() else { return Ok(Vec::new()) };
        let names: Arc<[String]> =
            first.columns().iter().map(|column| column.name().to_owned()).collect();
        let unreadable = |error: tokio_postgres::Error| StoreError::Corrupt(error.to_string());
        let row = |row: &tokio_postgres::Row| {
            let values = (0..row.len()).map(|column| row.try_get(column).map_err(unreadable));
            Ok(Row::new(names.clone(), values.collect::<Result<_, _>>()?))
        };
        found.iter().map(row).collect()
    }

    fn execute(&mut self, sql: &str, values: &[Value]) -> Result<(), StoreError> {
        self.unsent.push((sql.to_owned().into(), values.to_vec()));
        Ok(())
    }

    fn side_by_side(&self) -> bool {
        true
    }

    fn lock_exporter(&mut self, exporter: &ExporterId) -> Result<(), StoreError> {
        self.execute(
            "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))",
            &[exporter.as_str().into()],
        )
    }

    fn tell(&mut self, change: Change) {
        if let Change::Connected { .. } = change {
            // Of an exporter's two sessions, everyone must be notified of the later one last: in
            // commit order.
            let told = (
                notifications::STATEMENT.into(),
                vec![notifications::CHANNEL.into(), Value::Text(notifications::written(&change))],
            );
            self.unsent.push(told);
        } else if !self.notifications.contains(&change) {
            self.notifications.push(change);
        }
    }

    fn stream(&mut self, record: Chained) {
        self.records.push(record);
    }
}

#[cfg(test)]
mod tests;
