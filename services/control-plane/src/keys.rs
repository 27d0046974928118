//! The API keys that were found lately, so that a flood of calls with wrong keys, each of which costs
//! a lookup in the database, does not hold up calls with right ones.
//!
//! A key that is revoked is forgotten as soon as this control plane hears of it. A lost notification
//! costs [`FRESH`].

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{Semaphore, broadcast},
    time::Instant,
};
use tonic::Status;
use tracelift_core::id::KeyId;
use tracelift_proto::status::overloaded;

use crate::{
    admission::RETRY_SECONDS,
    api::unavailable,
    store::{ApiKey, Change, Store},
};

/// How long a key is taken for valid without asking the store.
const FRESH: Duration = Duration::from_secs(5);
/// The same while the store has more questions about keys than it may.
const KEPT: Duration = Duration::from_secs(60);
/// Lookups at once. Each takes a connection for the time of an indexed read.
const LOOKUPS: usize = 4;
/// How long a call waits for its lookup.
const PATIENCE: Duration = Duration::from_secs(2);
/// Keys kept. More are looked up each time.
const MOST: usize = 10_000;

/// Finds keys.
#[derive(Debug, Clone)]
pub(crate) struct Keys {
    store: Arc<Store>,
    lookups: Arc<Semaphore>,
    known: Arc<Mutex<Known>>,
}

#[derive(Debug)]
struct Known {
    by_hash: HashMap<[u8; 32], (ApiKey, Instant)>,
    notifications: broadcast::Receiver<Change>,
    /// Counts what was forgotten: a lookup that began before must not be kept.
    forgotten: u64,
}

impl Keys {
    pub(crate) fn new(store: Arc<Store>) -> Self {
        let known = Known { by_hash: HashMap::new(), notifications: store.changes(), forgotten: 0 };
        let known = Arc::new(Mutex::new(known));
        Self { store, lookups: Arc::new(Semaphore::new(LOOKUPS)), known }
    }

    /// The valid key with this hash.
    pub(crate) async fn find(&self, hash: [u8; 32]) -> Result<Option<ApiKey>, Status> {
        let known = self.known().by_hash.get(&hash).cloned();
        if let Some((key, _)) = known.as_ref().filter(|(_, at)| at.elapsed() < FRESH) {
            return Ok(Some(key.clone()));
        }
        let kept = known.filter(|(_, at)| at.elapsed() < KEPT).map(|(key, _)| key);
        let _lookup = match self.lookups.try_acquire() {
            Ok(lookup) => lookup,
            Err(_) if kept.is_some() => return Ok(kept),
            Err(_) => tokio::time::timeout(PATIENCE, self.lookups.acquire())
                .await
                .ok()
                .and_then(Result::ok)
                .ok_or_else(busy)?,
        };
        let began = self.known().forgotten;
        let found = self.store.key_by_hash(hash).await.map_err(unavailable)?;
        let mut known = self.known();
        match &found {
            Some(key) if known.forgotten == began && known.by_hash.len() < MOST => {
                known.by_hash.insert(hash, (key.clone(), Instant::now()));
            }
            Some(_) => {}
            None => drop(known.by_hash.remove(&hash)),
        }
        known.by_hash.retain(|_, (_, at)| at.elapsed() < KEPT);
        Ok(found)
    }

    /// Whether a key that was valid still is.
    pub(crate) async fn is_valid(&self, id: KeyId) -> Result<bool, Status> {
        let is_known = |(key, at): &(ApiKey, Instant)| key.id == id && at.elapsed() < FRESH;
        if self.known().by_hash.values().any(is_known) {
            return Ok(true);
        }
        self.store.is_key_valid(id).await.map_err(unavailable)
    }

    /// What is known, without what was revoked since.
    fn known(&self) -> MutexGuard<'_, Known> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.listen();
        known
    }
}

impl Known {
    fn listen(&mut self) {
        use broadcast::error::TryRecvError;
        loop {
            match self.notifications.try_recv() {
                Ok(Change::KeyRevoked(id)) => self.forget(|key| key.id == id),
                Ok(Change::Missed) | Err(TryRecvError::Lagged(_)) => self.forget(|_| true),
                Ok(_) => {}
                Err(TryRecvError::Empty | TryRecvError::Closed) => return,
            }
        }
    }

    fn forget(&mut self, which: impl Fn(&ApiKey) -> bool) {
        self.forgotten += 1;
        self.by_hash.retain(|_, (key, _)| !which(key));
    }
}

fn busy() -> Status {
    overloaded("the control plane looks up too many API keys; try again shortly", RETRY_SECONDS)
}
