//! The databases: how statements run, rows are locked, and notifications travel.

pub mod postgres;
pub(crate) mod sql;
pub mod sqlite;
pub(crate) mod transaction;

use tokio::sync::broadcast;
use tracelift_core::time::Timestamp;

use self::{
    postgres::PostgresEngine,
    sqlite::SqliteEngine,
    transaction::{Failure, Transaction},
};
use super::{Change, StoreError};

/// The database in use.
#[derive(Debug)]
pub(super) enum Engine {
    /// A SQLite file.
    Sqlite(SqliteEngine),
    /// A PostgreSQL server.
    Postgres(PostgresEngine),
    /// A database whose clock never answers.
    #[cfg(test)]
    Silent(SqliteEngine, std::sync::Arc<tokio::sync::Notify>),
}

impl Engine {
    /// Runs `work` in one transaction: when this returns, either all that `work` wrote is durable
    /// or none of it. `work` may run several times when concurrent transactions conflict; only the
    /// last run counts.
    pub(super) async fn transact<T, E>(
        &self,
        work: impl Fn(&mut dyn Transaction) -> Result<T, E> + Send + Sync + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: Failure,
    {
        match self {
            Self::Sqlite(engine) => engine.transact(work).await,
            Self::Postgres(engine) => engine.transact(work).await,
            #[cfg(test)]
            Self::Silent(engine, _) => engine.transact(work).await,
        }
    }

    /// The clock that leases are measured by.
    pub(super) async fn time(&self) -> Result<Timestamp, StoreError> {
        match self {
            Self::Sqlite(engine) => Ok(engine.time()),
            Self::Postgres(engine) => engine.time().await,
            #[cfg(test)]
            Self::Silent(_, asked) => {
                asked.notify_one();
                std::future::pending().await
            }
        }
    }

    /// Notifications, from now on.
    pub(super) fn notifications(&self) -> broadcast::Receiver<Change> {
        match self {
            Self::Sqlite(engine) => engine.notifications(),
            Self::Postgres(engine) => engine.notifications(),
            #[cfg(test)]
            Self::Silent(engine, _) => engine.notifications(),
        }
    }
}
