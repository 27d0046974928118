//! The databases: how statements run, how rows are locked, how notifications travel.

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

/// One of the databases.
#[derive(Debug)]
pub(super) enum Engine {
    /// One file.
    Sqlite(SqliteEngine),
    /// A server.
    Postgres(PostgresEngine),
    /// One that never says what time it is.
    #[cfg(test)]
    Silent(SqliteEngine, std::sync::Arc<tokio::sync::Notify>),
}

impl Engine {
    /// Runs `work` in one transaction: what it says is durable when this returns, or nothing of it
    /// is. It may run several times, when transactions side by side were in each other's way; only
    /// the last time counts.
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

    /// The time that leases are judged by.
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
