//! The store: the only truth. Every call is one transaction, and every read that a caller can cause
//! names its tenant.
//!
//! SQLite is the default ([`sqlite`]), PostgreSQL serves several control planes at once
//! ([`postgres`]). Nothing above knows which database there is. Down the line: `calls` makes a call
//! a transaction, `rules` say what is allowed, `tables` know the columns, `engine` runs statements.

mod calls;
#[cfg(test)]
pub(crate) mod conformance;
mod engine;
mod outcomes;
mod rules;
mod tables;
mod views;

use tracelift_core::{
    id::{ExportId, ExporterId, TaskId},
    task::{Fence, IllegalEvent},
};
use uuid::Uuid;

pub use engine::{postgres, sqlite};
use engine::{sql, transaction};
pub use outcomes::{
    Access, ClaimRequest, CreateDestinationOutcome, CreateOutcome, Deletion, Due, NewDestination,
    NewExport, ReportOutcome, RequestKey, Retry, TimeLimits,
};
pub use tables::quota::Full;
pub use views::{
    ApiKey, ClaimGrant, Claimed, ExportFilter, ExportView, Page, Permission, Place, RunFiles,
    RunView, Tenant, Usage,
};

/// News that a slow listener may fall behind by, before it misses some.
const NOTIFICATIONS: usize = 1024;

/// Why a call to the store failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// The database cannot be used now.
    #[error("the database is not available: {0}")]
    Unavailable(String),
    /// Where the database is said to be cannot be used.
    #[error("the database's address is not usable: {0}")]
    Address(String),
    /// Others kept changing the same rows.
    #[error("the database is busy with the same rows; try again")]
    Contended,
    /// What would be stored is there already.
    #[error("{0} exists already")]
    Exists(String),
    /// A stored value cannot be read back.
    #[error("the database holds a value that this version cannot read: {0}")]
    Corrupt(String),
    /// The database was made by a newer version.
    #[error(
        "the database has a newer schema than this version knows; run the newer version, or restore the backup made before it"
    )]
    NewerSchema,
}

/// Something that others may be waiting for, whichever control plane it happened in. Losing one
/// delays, never breaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// News may have been lost: look at the store.
    Missed,
    /// A run can be claimed.
    TasksQueued,
    /// An export or one of its runs looks different.
    Export(ExportId),
    /// A run was stopped while that exporter held it under that fence.
    Stopped {
        /// The run.
        task: TaskId,
        /// The fence its exporter knows.
        fence: Fence,
        /// Its exporter.
        exporter: ExporterId,
    },
    /// An exporter has said hello; its sessions of before are over.
    Connected {
        /// The exporter.
        exporter: ExporterId,
        /// Its session from now on.
        session: Uuid,
    },
}

/// What a report can fail with.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The report makes no sense.
    #[error(transparent)]
    Illegal(#[from] IllegalEvent),
}

/// Everything that is remembered.
#[derive(Debug)]
pub struct Store {
    engine: engine::Engine,
}

impl From<sqlite::SqliteEngine> for Store {
    fn from(engine: sqlite::SqliteEngine) -> Self {
        Self { engine: engine::Engine::Sqlite(engine) }
    }
}

impl From<postgres::PostgresEngine> for Store {
    fn from(engine: postgres::PostgresEngine) -> Self {
        Self { engine: engine::Engine::Postgres(engine) }
    }
}

impl Store {
    /// A store that is gone when it is dropped.
    pub fn in_memory() -> Result<Self, StoreError> {
        sqlite::SqliteEngine::in_memory().map(Into::into)
    }

    /// A store whose database never says what time it is, and a sign for each time that it is asked.
    #[cfg(test)]
    pub(crate) fn silent() -> Result<(Self, std::sync::Arc<tokio::sync::Notify>), StoreError> {
        let asked = std::sync::Arc::<tokio::sync::Notify>::default();
        let engine = sqlite::SqliteEngine::in_memory()?;
        Ok((Self { engine: engine::Engine::Silent(engine, asked.clone()) }, asked))
    }
}
