//! The API keys that were found lately, so that a flood of calls with wrong keys, each of which costs
//! a lookup in the database, does not hold up calls with right ones.
//!
//! A key that is revoked is forgotten as soon as this control plane hears of it. A lost notification
//! costs [`FRESH`]. When a key expires is looked at with every call. When keys were last used is
//! stored once a minute, together, while no call waits for it.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{Semaphore, broadcast},
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tracelift_core::id::KeyId;
use tracelift_proto::status::overloaded;

use crate::{
    admission::RETRY_SECONDS,
    api::unavailable,
    store::{ApiKey, Change, KnownKey, Store, StoreError},
};

/// How long a key is taken for valid without asking the store.
const FRESH: Duration = Duration::from_secs(5);
/// The same while the store has more questions about keys than it may.
const KEPT: Duration = Duration::from_secs(60);
/// Lookups at once. Each takes a connection for the time of an indexed read.
const LOOKUPS: usize = 4;
/// How long a call waits for its lookup.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often it is stored when keys were last used.
const USED: Duration = Duration::from_secs(60);
/// Keys kept. More are looked up each time.
const MOST: usize = 10_000;

/// Finds keys.
#[derive(Debug, Clone)]
pub(crate) struct Keys {
    store: Arc<Store>,
    lookups: Arc<Semaphore>,
    known: Arc<Mutex<Known>>,
    /// When keys were used since that was last stored.
    used: Arc<Mutex<HashMap<KeyId, Instant>>>,
}

#[derive(Debug)]
struct Known {
    by_hash: HashMap<[u8; 32], (KnownKey, Instant)>,
    notifications: broadcast::Receiver<Change>,
    /// Counts what was forgotten: a lookup that began before must not be kept.
    forgotten: u64,
}

impl Keys {
    pub(crate) fn new(store: Arc<Store>) -> Self {
        let known = Known { by_hash: HashMap::new(), notifications: store.changes(), forgotten: 0 };
        let known = Arc::new(Mutex::new(known));
        Self { store, lookups: Arc::new(Semaphore::new(LOOKUPS)), known, used: Arc::default() }
    }

    /// The valid key with this hash, and a note that it is used.
    pub(crate) async fn find(&self, hash: [u8; 32]) -> Result<Option<KnownKey>, Status> {
        let Some(found) = self.known_by(hash).await? else { return Ok(None) };
        if self.has_expired(&found.key).await? {
            return Ok(None);
        }
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        if used.len() < MOST || used.contains_key(&found.key.id) {
            used.insert(found.key.id, Instant::now());
        }
        Ok(Some(found))
    }

    /// Asks for the time only if the key expires at all.
    async fn has_expired(&self, key: &ApiKey) -> Result<bool, Status> {
        let Some(at) = key.expires_at else { return Ok(false) };
        Ok(self.store.now().await.map_err(unavailable)? >= at)
    }

    /// The key with this hash, unless it was revoked.
    async fn known_by(&self, hash: [u8; 32]) -> Result<Option<KnownKey>, Status> {
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

    /// Fails if a key that was valid is not any more, or its tenant is suspended.
    pub(crate) async fn check(&self, id: KeyId) -> Result<(), Status> {
        let fresh = |(known, at): &&(KnownKey, Instant)| known.key.id == id && at.elapsed() < FRESH;
        let found = self.known().by_hash.values().find(fresh).map(|(known, _)| known.clone());
        let found = match found {
            Some(found) => Some(found),
            None => self.store.key_by_id(id).await.map_err(unavailable)?,
        };
        match found {
            Some(KnownKey { suspended: true, .. }) => Err(suspended()),
            Some(found) if !self.has_expired(&found.key).await? => Ok(()),
            _ => Err(Status::unauthenticated("the API key of this watch is not valid any more")),
        }
    }

    /// Stores once a minute, and at the end, when keys were last used.
    pub(crate) async fn run(self, stopping: CancellationToken) {
        let mut ticks = tokio::time::interval(USED);
        let mut goes_on = true;
        while goes_on {
            goes_on = stopping.run_until_cancelled(ticks.tick()).await.is_some();
            if let Err(error) = self.store_used().await {
                tracing::warn!(%error, "it could not be stored when API keys were last used");
            }
        }
    }

    async fn store_used(&self) -> Result<(), StoreError> {
        let used = std::mem::take(&mut *self.used.lock().unwrap_or_else(PoisonError::into_inner));
        if used.is_empty() {
            return Ok(());
        }
        let now = self.store.now().await?;
        let ago = |at: Instant| i64::try_from(at.elapsed().as_secs()).unwrap_or(0);
        let used: BTreeMap<_, _> =
            used.into_iter().map(|(key, at)| (key, now.plus_seconds(-ago(at)))).collect();
        self.store.keys_used(used).await
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
                Ok(Change::Tenant(id)) => self.forget(|key| key.tenant == id),
                Ok(Change::Missed) | Err(TryRecvError::Lagged(_)) => self.forget(|_| true),
                Ok(_) => {}
                Err(TryRecvError::Empty | TryRecvError::Closed) => return,
            }
        }
    }

    fn forget(&mut self, which: impl Fn(&ApiKey) -> bool) {
        self.forgotten += 1;
        self.by_hash.retain(|_, (known, _)| !which(&known.key));
    }
}

/// The error of every call of a suspended tenant.
pub(crate) fn suspended() -> Status {
    Status::permission_denied("the workspace is suspended; ask the operator of this service")
}

fn busy() -> Status {
    overloaded("the control plane looks up too many API keys; try again shortly", RETRY_SECONDS)
}

#[cfg(test)]
mod tests {
    use tracelift_core::time::Timestamp;

    use super::*;
    use crate::store::{
        Permission,
        conformance::{act, owner},
    };

    #[tokio::test]
    async fn a_key_that_is_used_is_stored_as_used_once_for_all_its_calls() {
        let store = Arc::new(Store::in_memory().unwrap());
        let tenant = owner(&store, 1).await.tenant;
        let key = ApiKey {
            id: KeyId(uuid::Uuid::from_u128(1)),
            tenant,
            display_name: "ci".into(),
            permission: Permission::Read,
            created_at: Timestamp::EPOCH,
            revoked_at: None,
            expires_at: None,
            last_used_at: None,
        };
        store.create_key(act(), key, [1; 32]).await.unwrap();
        let keys = Keys::new(store.clone());
        let used = async || store.keys(tenant).await.unwrap()[0].last_used_at;
        keys.store_used().await.unwrap();
        assert_eq!(used().await, None);
        for _ in 0..3 {
            assert!(keys.find([1; 32]).await.unwrap().is_some());
        }
        assert_eq!(keys.find([2; 32]).await.unwrap(), None);
        assert_eq!(used().await, None, "no call waits for it");
        let before = store.now().await.unwrap().plus_seconds(-60);
        keys.store_used().await.unwrap();
        assert!(used().await.unwrap() >= before);
    }
}
