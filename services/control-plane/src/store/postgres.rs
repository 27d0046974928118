//! The store in PostgreSQL, for any number of control planes over one database. Transactions run side by side (READ
//! COMMITTED) and lock the rows that they change; the clock is the database's.

mod news;
mod schema;
mod settings;
mod values;

use std::{future::Future, sync::Arc, time::Duration};

use deadpool_postgres::{Manager, ManagerConfig, Object, Pool, RecyclingMethod, Runtime};
use tokio::{runtime::Handle, sync::broadcast};
use tokio_postgres::types::ToSql;
use tracelift_core::{id::ExporterId, time::Timestamp};
use tracelift_runtime::tasks::{self, Owned};

use super::{
    Change, NEWS, StoreError,
    sql::{Row, Value},
    transaction::{Database, Failure, Transaction},
};

pub use settings::PostgresSettings;

/// How often a transaction is run when others are in its way.
const ATTEMPTS: u32 = 8;
/// Longest wait before a transaction is run again.
const ATTEMPT_WAIT: Duration = Duration::from_millis(50);
/// A connection that has not answered by then is given up. Longer than the database's own limit on a statement.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);

/// The store in PostgreSQL.
#[derive(Debug)]
pub struct PostgresStore {
    pool: Pool,
    changes: broadcast::Sender<Change>,
    _listening: Owned<()>,
}

impl PostgresStore {
    /// Connects, and brings the schema up to date.
    pub async fn open(settings: &PostgresSettings) -> Result<Self, StoreError> {
        Self::connect(settings).await.map_err(|error| match error {
            StoreError::Unavailable(words) => StoreError::Unavailable(format!("{}: {words}", settings.place())),
            other => other,
        })
    }

    async fn connect(settings: &PostgresSettings) -> Result<Self, StoreError> {
        let (mut client, connection) = settings.dedicated("schema").connect(settings.tls()).await?;
        let _speaking = Owned(tasks::start("schema", connection));
        schema::migrate(&mut client).await?;

        let recycling = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let pool = Pool::builder(Manager::from_config(settings.pooled(), settings.tls(), recycling))
            .max_size(settings.connections)
            .runtime(Runtime::Tokio1)
            .wait_timeout(Some(settings::CONNECT_TIMEOUT))
            .create_timeout(Some(settings::CONNECT_TIMEOUT))
            .build()
            .map_err(|error| StoreError::Unavailable(error.to_string()))?;
        let (changes, _) = broadcast::channel(NEWS);
        let listener = news::Listener::connect(settings).await?;
        let listening = Owned(tasks::start("news", news::listen(settings.clone(), listener, changes.clone())));
        Ok(Self { pool, changes, _listening: listening })
    }

    async fn connection(&self) -> Result<Object, StoreError> {
        self.pool.get().await.map_err(|error| match error {
            deadpool_postgres::PoolError::Backend(error) => error.into(),
            other => StoreError::Unavailable(other.to_string()),
        })
    }

    /// One try.
    async fn run<T, E>(&self, work: Arc<impl Fn(&mut dyn Transaction) -> Result<T, E> + Send + Sync + 'static>) -> Result<T, E>
    where
        T: Send + 'static,
        E: Failure,
    {
        let mut connection = self.connection().await?;
        let runtime = Handle::current();
        let done = tokio::task::spawn_blocking(move || {
            let outcome = within(&mut connection, &runtime, work.as_ref());
            if let Err(error) = &outcome
                && matches!(error.of_store(), Some(StoreError::Unavailable(_)))
            {
                drop(Object::take(connection)); // not one to use again
            }
            outcome
        });
        done.await.unwrap_or_else(|error| Err(StoreError::Unavailable(error.to_string()).into()))
    }
}

impl Database for PostgresStore {
    async fn transact<T, E>(&self, work: impl Fn(&mut dyn Transaction) -> Result<T, E> + Send + Sync + 'static) -> Result<T, E>
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

    async fn time(&self) -> Result<Timestamp, StoreError> {
        let connection = self.connection().await?;
        let statement = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint";
        let asked = async { connection.query_one(&connection.prepare_cached(statement).await?, &[]).await };
        let micros: i64 = match answered(asked).await {
            Ok(row) => row.get(0),
            Err(error) => {
                drop(Object::take(connection)); // not one to use again
                return Err(error);
            }
        };
        Timestamp::from_micros(micros).ok_or_else(|| StoreError::Corrupt(format!("{micros} is no time")))
    }

    fn news(&self) -> broadcast::Receiver<Change> {
        self.changes.subscribe()
    }
}

/// Runs the work in a transaction of that connection, on a thread that may wait.
fn within<T, E: Failure>(connection: &mut Object, runtime: &Handle, work: &dyn Fn(&mut dyn Transaction) -> Result<T, E>) -> Result<T, E> {
    let inner = runtime.block_on(answered(connection.transaction()))?;
    let mut transaction = PostgresTransaction { inner, runtime, news: Vec::new() };
    let value = work(&mut transaction)?; // dropped without a commit, it is rolled back
    transaction.commit()?;
    Ok(value)
}

async fn answered<T>(answer: impl Future<Output = Result<T, tokio_postgres::Error>>) -> Result<T, StoreError> {
    match tokio::time::timeout(ANSWER_TIMEOUT, answer).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(StoreError::Unavailable(format!("no answer within {} s", ANSWER_TIMEOUT.as_secs()))),
    }
}

/// Up to `most`, at random: whoever was in each other's way, or lost the same server, does not come back in step.
fn waiting(most: Duration) -> Duration {
    let share = getrandom::u32().unwrap_or(u32::MAX);
    most.mul_f64(f64::from(share) / f64::from(u32::MAX))
}

struct PostgresTransaction<'a> {
    inner: deadpool_postgres::Transaction<'a>,
    runtime: &'a Handle,
    news: Vec<Change>,
}

impl PostgresTransaction<'_> {
    fn ask(&self, sql: &str, values: &[&(dyn ToSql + Sync)]) -> Result<Vec<tokio_postgres::Row>, StoreError> {
        self.runtime.block_on(answered(async { self.inner.query(&self.inner.prepare_cached(sql).await?, values).await }))
    }

    fn commit(self) -> Result<(), StoreError> {
        for change in &self.news {
            self.ask("SELECT pg_notify($1, $2)", &[&news::CHANNEL, &news::written(change)])?;
        }
        self.runtime.block_on(answered(self.inner.commit()))
    }
}

impl Transaction for PostgresTransaction<'_> {
    fn query(&mut self, sql: &str, values: &[Value]) -> Result<Vec<Row>, StoreError> {
        let values: Vec<_> = values.iter().map(|value| value as &(dyn ToSql + Sync)).collect();
        let found = self.ask(sql, &values)?;
        let Some(first) = found.first() else { return Ok(Vec::new()) };
        let names: Arc<[String]> = first.columns().iter().map(|column| column.name().to_owned()).collect();
        let unreadable = |error: tokio_postgres::Error| StoreError::Corrupt(error.to_string());
        let row = |row: &tokio_postgres::Row| {
            let values = (0..row.len()).map(|column| row.try_get(column).map_err(unreadable));
            Ok(Row::new(names.clone(), values.collect::<Result<_, _>>()?))
        };
        found.iter().map(row).collect()
    }

    fn execute(&mut self, sql: &str, values: &[Value]) -> Result<(), StoreError> {
        let values: Vec<_> = values.iter().map(|value| value as &(dyn ToSql + Sync)).collect();
        self.ask(sql, &values).map(drop)
    }

    fn side_by_side(&self) -> bool {
        true
    }

    fn lock_exporter(&mut self, exporter: &ExporterId) -> Result<(), StoreError> {
        self.ask("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", &[&exporter.as_str()]).map(drop)
    }

    fn tell(&mut self, change: Change) {
        if !self.news.contains(&change) {
            self.news.push(change);
        }
    }
}

#[cfg(test)]
mod tests;
