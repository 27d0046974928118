//! Rotation of the master key, in two steps that cannot be done in the wrong order.
//!
//! Each control plane announces in the store which master keys it has. The one that the operator
//! names first seals only once every control plane that runs has it; until then, an older key seals
//! that all of them have. Then whatever an older key sealed is sealed anew, and the older key can be
//! removed. A control plane without a key that a stored credential needs does not start.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;
use tracelift_core::time::Timestamp;
use uuid::Uuid;

use crate::{
    Error,
    sealer::CredentialSealer,
    store::{Replica, Store},
};

/// How often a control plane announces its keys.
const INTERVAL: Duration = Duration::from_secs(5);
/// How long a start waits for the store to take the announcement.
const PATIENCE: Duration = Duration::from_secs(2);
/// A control plane that has announced nothing for this long does not run any more, in seconds.
const GONE_SECONDS: i64 = 30;

/// This control plane among others.
pub(crate) struct Rotation {
    store: Arc<Store>,
    sealer: Arc<CredentialSealer>,
    id: Uuid,
    name: String,
}

impl Rotation {
    /// Announces the keys, and seals with the one that all control planes have; with the oldest while
    /// the store does not answer. Fails if a stored credential needs a key that this one lacks.
    pub(crate) async fn begin(
        store: Arc<Store>,
        sealer: Arc<CredentialSealer>,
        name: String,
    ) -> Result<Self, Error> {
        for (tenant, destination, sealed) in store.all_sealed().await? {
            sealer.open(tenant, destination, &sealed)?;
        }
        if let Some(oldest) = sealer.key_ids().last() {
            sealer.use_key(oldest);
        }
        let rotation = Self { store, sealer, id: Uuid::new_v4(), name };
        match tokio::time::timeout(PATIENCE, rotation.turn()).await {
            Ok(done) => done?,
            Err(_) => tracing::warn!("the store does not answer; master keys are announced later"),
        }
        Ok(rotation)
    }

    /// Goes on until `stopping`.
    pub(crate) async fn run(self, stopping: CancellationToken) {
        let mut ticks = tokio::time::interval(INTERVAL);
        while stopping.run_until_cancelled(ticks.tick()).await.is_some() {
            if let Err(error) = self.turn().await {
                tracing::warn!(%error, "master keys could not be announced or credentials not be sealed anew");
            }
        }
        let _ = self.store.replica_gone(self.id).await; // or it counts as gone in half a minute
    }

    async fn turn(&self) -> Result<(), Error> {
        let now = self.store.now().await?;
        let keys = self.sealer.key_ids();
        let own =
            Replica { id: self.id, name: self.name.clone(), keys: keys.clone(), seen_at: now };
        let replicas = self.store.announce_replica(own, gone(now)).await?;
        match decide(&keys, &replicas) {
            Some(Decision { seals, waits_for: None }) => self.seal_with(&seals).await,
            Some(Decision { seals, waits_for: Some(lacking) }) => {
                tracing::warn!(
                    key = keys.first(),
                    replica = lacking,
                    sealing_with = seals,
                    "the new master key is not used yet: a control plane lacks it; give it to all of them, and restart them"
                );
                self.seal_with(&seals).await
            }
            None => Ok(()),
        }
    }

    async fn seal_with(&self, key: &str) -> Result<(), Error> {
        self.sealer.use_key(key);
        let mut resealed = 0;
        for (tenant, destination, old) in self.store.all_sealed().await? {
            if !self.sealer.is_current(&old) {
                let opened = self.sealer.open(tenant, destination, &old)?;
                let new = self.sealer.seal(tenant, destination, &opened)?;
                self.store.reseal(destination, old, new).await?;
                resealed += 1;
            }
        }
        if resealed > 0 {
            tracing::info!(
                resealed,
                key,
                "credentials sealed anew; older master keys can be removed"
            );
        }
        Ok(())
    }
}

fn gone(now: Timestamp) -> Timestamp {
    now.plus_seconds(-GONE_SECONDS)
}

/// Which key seals, and who keeps the first one from doing so.
#[derive(Debug, PartialEq, Eq)]
struct Decision {
    seals: String,
    waits_for: Option<String>,
}

/// The first of `own` keys that every replica has; `None` if there is none, then nothing changes.
fn decide(own: &[String], replicas: &[Replica]) -> Option<Decision> {
    let common = |key: &&String| replicas.iter().all(|replica| replica.keys.contains(key));
    let seals = own.iter().find(common)?.clone();
    let first = own.first()?;
    let lacking: BTreeSet<_> = replicas
        .iter()
        .filter(|replica| !replica.keys.contains(first))
        .map(|replica| replica.name.clone())
        .collect();
    let waits_for =
        (!lacking.is_empty()).then(|| lacking.into_iter().collect::<Vec<_>>().join(", "));
    Some(Decision { seals, waits_for })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replica(name: &str, keys: &[&str]) -> Replica {
        let keys = keys.iter().map(|key| (*key).to_owned()).collect();
        Replica { id: Uuid::nil(), name: name.to_owned(), keys, seen_at: Timestamp::EPOCH }
    }

    #[test]
    fn the_first_key_seals_once_every_control_plane_has_it() {
        let decided = |own: &[&str], others: &[Replica]| {
            let own: Vec<_> = own.iter().map(|key| (*key).to_owned()).collect();
            decide(&own, others).map(|decision| (decision.seals, decision.waits_for))
        };
        let (a, b) = (replica("a", &["k2", "k1"]), replica("b", &["k1"]));
        let seals = |key: &str, waits_for: Option<&str>| {
            Some((key.to_owned(), waits_for.map(str::to_owned)))
        };
        assert_eq!(decided(&["k2", "k1"], std::slice::from_ref(&a)), seals("k2", None));
        assert_eq!(decided(&["k2", "k1"], &[a.clone(), b.clone()]), seals("k1", Some("b")));
        assert_eq!(decided(&["k1"], &[a, b.clone()]), seals("k1", None));
        assert_eq!(decided(&["k2"], &[replica("c", &["k2"]), b]), None);
    }
}
