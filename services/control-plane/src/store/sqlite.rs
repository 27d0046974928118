//! The store in one SQLite file: nothing to install. One connection, one transaction at a time, off the reactor.

mod destinations;
mod exports;
mod fleet;
mod inspect;
mod record;
mod runs;
mod tenants;

use std::{
    path::Path,
    sync::{Arc, LazyLock, Mutex, PoisonError},
};

use async_trait::async_trait;
use rusqlite::{Connection, ErrorCode, Transaction, TransactionBehavior};
use rusqlite_migration::{M, MigrationDefinitionError, Migrations};
use tokio::sync::broadcast;
use tracelift_core::{
    destination::Destination,
    export::Export,
    file::File,
    id::{DestinationId, ExportId, ExporterId, KeyId, RunId, TenantId},
    run::{Event, Fence, Lease, Run},
    time::Timestamp,
};

use super::{Access, ApiKey, Change, Claimed, ExportView, Heard, Page, ReportError, Reported, RunView, Store, StoreError, Tenant, Verdict};
use crate::vault::Sealed;

/// Every change of the schema, oldest first. Only ever append.
static MIGRATIONS: LazyLock<Migrations<'static>> = LazyLock::new(|| Migrations::new(vec![M::up(include_str!("sqlite/schema.sql"))]));

/// News that a slow listener may fall behind by, before it misses some.
const NEWS: usize = 1024;

/// The store in one SQLite file.
#[derive(Debug, Clone)]
pub struct SqliteStore {
    connection: Arc<Mutex<Connection>>,
    changes: broadcast::Sender<Change>,
}

impl SqliteStore {
    /// Opens or makes the file and brings its schema up to date.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let opened = Connection::open(path).map_err(StoreError::from).and_then(Self::of);
        opened.map_err(|error| match error {
            StoreError::Unavailable(words) => StoreError::Unavailable(format!("{}: {words}", path.display())),
            other => other,
        })
    }

    /// A store that is gone when it is dropped.
    pub fn in_memory() -> Result<Self, StoreError> {
        Self::of(Connection::open_in_memory()?)
    }

    fn of(mut connection: Connection) -> Result<Self, StoreError> {
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "foreign_keys", "ON")?;
        MIGRATIONS.to_latest(&mut connection).map_err(|error| match error {
            rusqlite_migration::Error::MigrationDefinition(MigrationDefinitionError::DatabaseTooFarAhead) => StoreError::NewerSchema,
            other => StoreError::Unavailable(other.to_string()),
        })?;
        let (changes, _) = broadcast::channel(NEWS);
        Ok(Self { connection: Arc::new(Mutex::new(connection)), changes })
    }

    /// One transaction; what it has to tell is told after it is durable.
    async fn transact<T, E>(&self, work: impl FnOnce(&Transaction<'_>, &mut News) -> Result<T, E> + Send + 'static) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        let store = self.clone();
        let done = tracelift_runtime::tasks::off_reactor(move || {
            let mut connection = store.connection.lock().unwrap_or_else(PoisonError::into_inner);
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(StoreError::from)?;
            let mut news = News::default();
            let value = work(&transaction, &mut news)?;
            transaction.commit().map_err(StoreError::from)?;
            drop(connection);
            for change in news.0 {
                let _ = store.changes.send(change); // nobody listens: nobody is waiting
            }
            Ok(value)
        });
        done.await.unwrap_or_else(|error| Err(StoreError::Unavailable(error.to_string()).into()))
    }
}

/// What a transaction has to tell, each thing once.
#[derive(Debug, Default)]
struct News(Vec<Change>);

impl News {
    fn push(&mut self, change: Change) {
        if !self.0.contains(&change) {
            self.0.push(change);
        }
    }
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        use rusqlite::Error as E;
        match error {
            E::SqliteFailure(failure, _) if failure.code == ErrorCode::ConstraintViolation => Self::Exists("it".to_owned()),
            E::FromSqlConversionFailure(..) | E::InvalidColumnType(..) | E::IntegralValueOutOfRange(..) => Self::Corrupt(error.to_string()),
            other => Self::Unavailable(other.to_string()),
        }
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn create_tenant(&self, tenant: Tenant) -> Result<(), StoreError> {
        self.transact(move |tx, _| tenants::create(tx, &tenant)).await
    }

    async fn tenants(&self) -> Result<Vec<Tenant>, StoreError> {
        self.transact(|tx, _| tenants::all(tx)).await
    }

    async fn has_tenant(&self, id: TenantId) -> Result<bool, StoreError> {
        self.transact(move |tx, _| tenants::exists(tx, id)).await
    }

    async fn create_key(&self, key: ApiKey, hash: [u8; 32]) -> Result<(), StoreError> {
        self.transact(move |tx, _| tenants::create_key(tx, &key, &hash)).await
    }

    async fn keys(&self, tenant: TenantId) -> Result<Vec<ApiKey>, StoreError> {
        self.transact(move |tx, _| tenants::keys(tx, tenant)).await
    }

    async fn revoke_key(&self, id: KeyId, now: Timestamp) -> Result<Option<ApiKey>, StoreError> {
        self.transact(move |tx, _| tenants::revoke_key(tx, id, now)).await
    }

    async fn key_by_hash(&self, hash: [u8; 32]) -> Result<Option<ApiKey>, StoreError> {
        self.transact(move |tx, _| tenants::key_by_hash(tx, &hash)).await
    }

    async fn create_destination(&self, destination: Destination, sealed: Sealed) -> Result<(), StoreError> {
        self.transact(move |tx, _| destinations::create(tx, &destination, &sealed)).await
    }

    async fn destination(&self, tenant: TenantId, id: DestinationId) -> Result<Option<Destination>, StoreError> {
        self.transact(move |tx, _| destinations::one(tx, tenant, id)).await
    }

    async fn destinations(&self, tenant: TenantId) -> Result<Vec<Destination>, StoreError> {
        self.transact(move |tx, _| destinations::all(tx, tenant)).await
    }

    async fn replace_credentials(
        &self,
        tenant: TenantId,
        id: DestinationId,
        sealed: Sealed,
        keys: Vec<String>,
        now: Timestamp,
    ) -> Result<Option<Destination>, StoreError> {
        self.transact(move |tx, _| destinations::replace_credentials(tx, tenant, id, &sealed, &keys, now)).await
    }

    async fn all_sealed(&self) -> Result<Vec<(TenantId, DestinationId, Sealed)>, StoreError> {
        self.transact(|tx, _| destinations::all_sealed(tx)).await
    }

    async fn reseal(&self, id: DestinationId, old: Sealed, new: Sealed) -> Result<(), StoreError> {
        self.transact(move |tx, _| destinations::reseal(tx, id, &old, &new)).await
    }

    async fn create_export(&self, export: Export, runs: Vec<Run>) -> Result<bool, StoreError> {
        self.transact(move |tx, news| exports::create(tx, news, &export, &runs)).await
    }

    async fn export(&self, tenant: TenantId, id: ExportId) -> Result<Option<ExportView>, StoreError> {
        self.transact(move |tx, _| exports::view(tx, tenant, id)).await
    }

    async fn exports(&self, tenant: TenantId, page: Page) -> Result<Vec<ExportView>, StoreError> {
        self.transact(move |tx, _| exports::views(tx, tenant, page)).await
    }

    async fn cancel_export(&self, tenant: TenantId, id: ExportId, now: Timestamp) -> Result<Option<ExportView>, StoreError> {
        self.transact(move |tx, news| exports::cancel(tx, news, tenant, id, now)).await
    }

    async fn runs(&self, tenant: TenantId, export: ExportId, page: Page) -> Result<Option<Vec<RunView>>, StoreError> {
        self.transact(move |tx, _| runs::views(tx, tenant, export, page)).await
    }

    async fn run(&self, tenant: TenantId, export: ExportId, run: RunId) -> Result<Option<RunView>, StoreError> {
        self.transact(move |tx, _| runs::view(tx, tenant, export, run)).await
    }

    async fn schedule_runs(&self, tenant: TenantId, source: ExportId, page: Page) -> Result<Option<Vec<RunView>>, StoreError> {
        self.transact(move |tx, _| runs::views_of_schedule(tx, tenant, source, page)).await
    }

    async fn hello(&self, lease: Lease, held: Vec<(RunId, Fence)>, max_retries: u32, now: Timestamp) -> Result<Vec<Verdict>, StoreError> {
        self.transact(move |tx, news| fleet::hello(tx, news, &lease, &held, max_retries, now)).await
    }

    async fn heartbeat(&self, lease: Lease, held: Vec<(RunId, Fence)>, now: Timestamp) -> Result<Vec<Verdict>, StoreError> {
        self.transact(move |tx, _| fleet::heartbeat(tx, &lease, &held, now)).await
    }

    async fn claim(&self, lease: Lease, capacity: u32, now: Timestamp) -> Result<Vec<Claimed>, StoreError> {
        self.transact(move |tx, news| fleet::claim(tx, news, &lease, capacity, now)).await
    }

    async fn report(&self, run: RunId, fence: Fence, event: Event, now: Timestamp) -> Result<Heard, ReportError> {
        self.transact(move |tx, news| fleet::report(tx, news, run, fence, event, now)).await
    }

    async fn progress(&self, run: RunId, fence: Fence, reported: Reported, now: Timestamp) -> Result<Heard, StoreError> {
        self.transact(move |tx, news| fleet::progress(tx, news, run, fence, &reported, now)).await
    }

    async fn files(&self, run: RunId) -> Result<Vec<File>, StoreError> {
        self.transact(move |tx, _| runs::files(tx, run)).await
    }

    async fn access(&self, run: RunId, fence: Fence, exporter: ExporterId, incarnation: String) -> Result<Option<Access>, StoreError> {
        self.transact(move |tx, _| fleet::access(tx, run, fence, &exporter, &incarnation)).await
    }

    async fn lapse(&self, max_retries: u32, now: Timestamp) -> Result<usize, StoreError> {
        self.transact(move |tx, news| fleet::lapse(tx, news, max_retries, now)).await
    }

    fn changes(&self) -> broadcast::Receiver<Change> {
        self.changes.subscribe()
    }
}

#[cfg(test)]
mod tests;
