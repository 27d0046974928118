//! The store: the single source of truth. Every call is one transaction, and every read that a
//! caller can trigger is scoped to its tenant.
//!
//! SQLite is the default ([`sqlite`]); PostgreSQL serves several control planes at once
//! ([`postgres`]). Nothing above the store knows which database is in use. From top to bottom:
//! `calls` turns each call into a transaction, `rules` decide what is allowed, `tables` know the
//! columns, `engine` runs statements.

mod acts;
mod calls;
#[cfg(test)]
pub(crate) mod conformance;
mod engine;
mod outcomes;
mod rules;
mod stream;
mod tables;
mod views;

use tracelift_core::{
    id::{ExportId, ExporterId, KeyId, TaskId, TenantId},
    task::{Fence, IllegalEvent},
};
use uuid::Uuid;

pub use acts::{Act, Action, AuditEntry, AuditFilter, AuditPage, Who};
pub use engine::{postgres, sqlite};
use engine::{sql, transaction};
pub use outcomes::{
    Access, ClaimRequest, CreateDestinationOutcome, CreateOutcome, Deletion, Due, Holder,
    NewDestination, NewExport, NewIdentity, NewKey, ReportOutcome, RequestKey, Retry, Rotated,
    TimeLimits,
};
pub use tables::quota::Full;
pub use views::{
    Actor, ApiKey, ClaimGrant, Claimed, ExportFilter, ExportView, KnownKey, Page, Permission,
    Place, Replica, RunFiles, RunView, Tenant, Usage,
};

/// How many notifications a slow receiver may fall behind by before it misses some.
const NOTIFICATIONS: usize = 1024;

/// Why a call to the store failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// The database is unavailable.
    #[error("the database is not available: {0}")]
    Unavailable(String),
    /// The database's address is invalid.
    #[error("the database's address is not usable: {0}")]
    Address(String),
    /// Other transactions kept changing the same rows.
    #[error("the database is busy with the same rows; try again")]
    Contended,
    /// The value to store exists already.
    #[error("{0} exists already")]
    Exists(String),
    /// A stored value cannot be decoded.
    #[error("the database holds a value that this version cannot read: {0}")]
    Corrupt(String),
    /// The database's schema was created by a newer version.
    #[error(
        "the database has a newer schema than this version knows; run the newer version, or restore the backup made before it"
    )]
    NewerSchema,
}

/// A notification: something that others may be waiting for, on whichever control plane it
/// happened. Losing one causes delay, never damage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Notifications may have been lost: reread the store.
    Missed,
    /// A task can be claimed.
    TasksQueued,
    /// An export or one of its tasks has changed.
    Export(ExportId),
    /// A key was revoked, or expires earlier than before.
    KeyRevoked(KeyId),
    /// A tenant was suspended, resumed or deleted.
    Tenant(TenantId),
    /// A task was stopped while this exporter held it under this fence.
    Stopped {
        /// The task.
        task: TaskId,
        /// The fence that its exporter holds it under.
        fence: Fence,
        /// Its exporter.
        exporter: ExporterId,
    },
    /// An exporter has connected; its earlier sessions are over.
    Connected {
        /// The exporter.
        exporter: ExporterId,
        /// Its new session.
        session: Uuid,
    },
}

/// Why a report failed.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The report is not allowed in the task's state.
    #[error(transparent)]
    Illegal(#[from] IllegalEvent),
}

/// The durable state of the control plane.
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
    /// A store that lives in memory until it is dropped.
    pub fn in_memory() -> Result<Self, StoreError> {
        sqlite::SqliteEngine::in_memory().map(Into::into)
    }

    /// A store whose clock never answers, with a notification for each time that it is asked.
    #[cfg(test)]
    pub(crate) fn silent() -> Result<(Self, std::sync::Arc<tokio::sync::Notify>), StoreError> {
        let asked = std::sync::Arc::<tokio::sync::Notify>::default();
        let engine = sqlite::SqliteEngine::in_memory()?;
        Ok((Self { engine: engine::Engine::Silent(engine, asked.clone()) }, asked))
    }
}
