//! The store in one SQLite file: nothing to install. One connection, one transaction at a time, off
//! the reactor; calls that arrive in the meantime share the next transaction ([`line`]).

mod line;

use std::{
    fmt,
    path::Path,
    sync::{Arc, LazyLock, Mutex},
};

use rusqlite::{
    Connection, ErrorCode, ToSql, params_from_iter, types::ToSqlOutput, types::ValueRef,
};
use rusqlite_migration::{M, MigrationDefinitionError, Migrations};
use tokio::sync::{broadcast, oneshot};
use tracelift_core::{audit::Chained, id::ExporterId, time::Timestamp};
use tracelift_runtime::clock::{SharedClock, SystemClock};

use line::{Asked, Line};

use super::{
    sql::{Row, Value},
    transaction::{Failure, Transaction},
};
use crate::store::{Change, NOTIFICATIONS, StoreError};

/// Every schema change, oldest first. Append only.
static MIGRATIONS: LazyLock<Migrations<'static>> = LazyLock::new(|| {
    let changes = [
        include_str!("sqlite/migrations/0001_initial.sql"),
        include_str!("sqlite/migrations/0002_reported.sql"),
        include_str!("sqlite/migrations/0003_deadlines.sql"),
        include_str!("sqlite/migrations/0004_identity.sql"),
        include_str!("sqlite/migrations/0005_schedules.sql"),
        include_str!("sqlite/migrations/0006_limits.sql"),
        include_str!("sqlite/migrations/0007_requests.sql"),
        include_str!("sqlite/migrations/0008_retries.sql"),
        include_str!("sqlite/migrations/0009_filter.sql"),
        include_str!("sqlite/migrations/0010_oversized.sql"),
        include_str!("sqlite/migrations/0011_destination_requests.sql"),
        include_str!("sqlite/migrations/0012_experiments.sql"),
        include_str!("sqlite/migrations/0013_queues.sql"),
        include_str!("sqlite/migrations/0014_left_out.sql"),
        include_str!("sqlite/migrations/0015_open_windows.sql"),
        include_str!("sqlite/migrations/0016_under_way.sql"),
        include_str!("sqlite/migrations/0017_file_format.sql"),
        include_str!("sqlite/migrations/0018_unseen.sql"),
        include_str!("sqlite/migrations/0019_replicas.sql"),
        include_str!("sqlite/migrations/0020_asked_back.sql"),
        include_str!("sqlite/migrations/0021_audit.sql"),
        include_str!("sqlite/migrations/0022_keys.sql"),
    ];
    Migrations::new(changes.map(M::up).into())
});

/// One SQLite file.
#[derive(Clone)]
pub struct SqliteEngine {
    connection: Arc<Mutex<Connection>>,
    line: Arc<Line>,
    changes: broadcast::Sender<Change>,
    clock: SharedClock,
}

impl fmt::Debug for SqliteEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SqliteEngine")
    }
}

impl SqliteEngine {
    /// Opens or creates the file and brings its schema up to date.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let opened = Connection::open(path).map_err(StoreError::from).and_then(Self::of);
        opened.map_err(|error| match error {
            StoreError::Unavailable(words) => {
                StoreError::Unavailable(format!("{}: {words}", path.display()))
            }
            other => other,
        })
    }

    /// A store that lives in memory until it is dropped.
    pub fn in_memory() -> Result<Self, StoreError> {
        Self::of(Connection::open_in_memory()?)
    }

    /// The same store with a clock other than the machine's.
    #[must_use]
    pub fn with_clock(self, clock: SharedClock) -> Self {
        Self { clock, ..self }
    }

    fn of(mut connection: Connection) -> Result<Self, StoreError> {
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "foreign_keys", "ON")?;
        MIGRATIONS.to_latest(&mut connection).map_err(|error| match error {
            rusqlite_migration::Error::MigrationDefinition(
                MigrationDefinitionError::DatabaseTooFarAhead,
            ) => StoreError::NewerSchema,
            other => StoreError::Unavailable(other.to_string()),
        })?;
        let (changes, _) = broadcast::channel(NOTIFICATIONS);
        Ok(Self {
            connection: Arc::new(Mutex::new(connection)),
            line: Arc::default(),
            changes,
            clock: Arc::new(SystemClock),
        })
    }
}

impl SqliteEngine {
    pub(super) async fn transact<T, E>(
        &self,
        work: impl Fn(&mut dyn Transaction) -> Result<T, E> + Send + Sync + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: Failure,
    {
        let (asker, answer) = oneshot::channel();
        if self.line.join(Box::new(Asked { work, outcome: None, asker })) {
            let store = self.clone();
            let served = tracelift_runtime::tasks::off_reactor(move || line::serve(store));
            served.await.map_err(|error| StoreError::Unavailable(error.to_string()))?;
        }
        answer.await.unwrap_or_else(|_| {
            Err(StoreError::Unavailable("the store is closing".to_owned()).into())
        })
    }

    pub(super) fn time(&self) -> Timestamp {
        self.clock.now()
    }

    pub(super) fn notifications(&self) -> broadcast::Receiver<Change> {
        self.changes.subscribe()
    }
}

struct SqliteTransaction<'a> {
    inner: rusqlite::Transaction<'a>,
    notifications: Vec<Change>,
    records: Vec<Chained>,
}

impl Transaction for SqliteTransaction<'_> {
    fn query(&mut self, sql: &str, values: &[Value]) -> Result<Vec<Row>, StoreError> {
        let mut statement = self.inner.prepare_cached(&numbered(sql))?;
        let names: Arc<[String]> =
            statement.column_names().into_iter().map(str::to_owned).collect();
        let mut found = statement.query(params_from_iter(values))?;
        let mut rows = Vec::new();
        while let Some(row) = found.next()? {
            let values = (0..names.len())
                .map(|column| row.get_ref(column).map_err(StoreError::from).and_then(value));
            rows.push(Row::new(names.clone(), values.collect::<Result<_, _>>()?));
        }
        Ok(rows)
    }

    fn execute(&mut self, sql: &str, values: &[Value]) -> Result<(), StoreError> {
        self.inner.prepare_cached(&numbered(sql))?.execute(params_from_iter(values))?;
        Ok(())
    }

    fn side_by_side(&self) -> bool {
        false
    }

    fn lock_exporter(&mut self, _: &ExporterId) -> Result<(), StoreError> {
        Ok(())
    }

    fn tell(&mut self, change: Change) {
        if !self.notifications.contains(&change) {
            self.notifications.push(change);
        }
    }

    fn stream(&mut self, record: Chained) {
        self.records.push(record);
    }
}

/// SQLite numbers its parameters `?1`; `$1` would be a named parameter.
fn numbered(sql: &str) -> String {
    sql.replace('$', "?")
}

impl ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(match self {
            Self::Null => ToSqlOutput::Borrowed(ValueRef::Null),
            Self::Number(number) => ToSqlOutput::Borrowed(ValueRef::Integer(*number)),
            Self::Flag(flag) => ToSqlOutput::Borrowed(ValueRef::Integer(i64::from(*flag))),
            Self::Text(text) => ToSqlOutput::Borrowed(ValueRef::Text(text.as_bytes())),
            Self::Id(id) => ToSqlOutput::Owned(id.as_hyphenated().to_string().into()),
            Self::Bytes(bytes) => ToSqlOutput::Borrowed(ValueRef::Blob(bytes)),
        })
    }
}

fn value(found: ValueRef<'_>) -> Result<Value, StoreError> {
    match found {
        ValueRef::Null => Ok(Value::Null),
        ValueRef::Integer(number) => Ok(Value::Number(number)),
        ValueRef::Text(text) => String::from_utf8(text.to_vec())
            .map(Value::Text)
            .map_err(|error| StoreError::Corrupt(error.to_string())),
        ValueRef::Blob(bytes) => Ok(Value::Bytes(bytes.to_vec())),
        ValueRef::Real(real) => {
            Err(StoreError::Corrupt(format!("{real} stands where no fraction belongs")))
        }
    }
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        use rusqlite::Error as E;
        match error {
            E::SqliteFailure(failure, _) if failure.code == ErrorCode::ConstraintViolation => {
                Self::Exists("it".to_owned())
            }
            other => Self::Unavailable(other.to_string()),
        }
    }
}

#[cfg(test)]
mod tests;
