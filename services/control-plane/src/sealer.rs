//! Credentials at rest: AES-256-GCM under one of the operator's keys, whose id is part of the
//! sealed value so that keys can be rotated.
//!
//! A sealed value is bound to its tenant and destination; copied to another row, it cannot be
//! opened.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use aes_gcm::{
    Aes256Gcm, Nonce,
    aead::{Aead as _, KeyInit as _, Payload},
};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use hmac::{Hmac, Mac as _};
use secrecy::{ExposeSecret as _, SecretString};
use sha2::Sha256;
use tracelift_core::id::{DestinationId, TenantId};
use tracelift_proto::BucketSecrets;

/// A sealed value as stored: `<key id>.<nonce>.<ciphertext>`, the last two in base64.
#[derive(Clone, PartialEq, Eq)]
pub struct Sealed(pub String);

impl std::fmt::Debug for Sealed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sealed")
    }
}

impl Sealed {
    fn key_id(&self) -> &str {
        self.0.split('.').next().unwrap_or_default()
    }
}

/// Errors of keys and sealed values.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The setting is malformed.
    #[error(
        "the master keys must be ID:BASE64 pairs separated by commas, each key 32 bytes (openssl rand -base64 32); the first one seals"
    )]
    Keys,
    /// A stored value was sealed with a key that is no longer configured.
    #[error(
        "a stored credential was sealed with master key {0:?}, which is not among the given ones; give it as well"
    )]
    UnknownKey(String),
    /// A stored value cannot be opened.
    #[error("a stored credential does not open: it was changed, or its master key was")]
    Broken,
    /// The system provides no randomness.
    #[error("no randomness to be had from the system")]
    Randomness,
}

struct MasterKey {
    id: String,
    cipher: Aes256Gcm,
    /// Keyed with a key derived from the master key for this purpose only.
    digest: Hmac<Sha256>,
}

/// Seals with one of its keys, at first with the first one; opens with any of them.
pub struct CredentialSealer {
    keys: Vec<MasterKey>,
    /// Index of the key that seals.
    seals: AtomicUsize,
}

impl std::fmt::Debug for CredentialSealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.keys.iter().map(|key| &key.id)).finish()
    }
}

impl CredentialSealer {
    /// From `id:base64[,id:base64…]`.
    pub fn new(keys: &SecretString) -> Result<Self, SealError> {
        let keys: Vec<_> = keys
            .expose_secret()
            .split(',')
            .map(|pair| master_key(pair.trim()))
            .collect::<Option<_>>()
            .ok_or(SealError::Keys)?;
        Ok(Self { keys, seals: AtomicUsize::new(0) })
    }

    /// The ids of its keys, in the operator's order.
    pub(crate) fn key_ids(&self) -> Vec<String> {
        self.keys.iter().map(|key| key.id.clone()).collect()
    }

    /// From now on seals with the key of this id.
    pub(crate) fn use_key(&self, id: &str) {
        if let Some(index) = self.keys.iter().position(|key| key.id == id) {
            self.seals.store(index, Relaxed);
        }
    }

    fn current(&self) -> Option<&MasterKey> {
        self.keys.get(self.seals.load(Relaxed))
    }

    /// Seals credentials for one destination.
    pub fn seal(
        &self,
        tenant: TenantId,
        destination: DestinationId,
        secrets: &BucketSecrets,
    ) -> Result<Sealed, SealError> {
        let fields = [
            Some(&secrets.access_key_id),
            Some(&secrets.secret_access_key),
            secrets.session_token.as_ref(),
        ];
        let plain = serde_json::to_vec(&fields).map_err(|_| SealError::Broken)?;
        let mut nonce = [0; 12];
        getrandom::fill(&mut nonce).map_err(|_| SealError::Randomness)?;
        let aad = bound_to(tenant, destination);
        let key = self.current().ok_or(SealError::Keys)?;
        let sealed = key
            .cipher
            .encrypt(&Nonce::from(nonce), Payload { msg: &plain, aad: &aad })
            .map_err(|_| SealError::Broken)?;
        Ok(Sealed(format!("{}.{}.{}", key.id, BASE64.encode(nonce), BASE64.encode(sealed))))
    }

    /// Opens a value that was sealed for this destination.
    pub fn open(
        &self,
        tenant: TenantId,
        destination: DestinationId,
        sealed: &Sealed,
    ) -> Result<BucketSecrets, SealError> {
        let mut fields = sealed.0.splitn(3, '.');
        let (id, nonce, text) = (fields.next(), fields.next(), fields.next());
        let id = id.unwrap_or_default();
        let key = self
            .keys
            .iter()
            .find(|key| key.id == id)
            .ok_or_else(|| SealError::UnknownKey(id.to_owned()))?;
        let decode = |text: Option<&str>| {
            BASE64.decode(text.unwrap_or_default()).map_err(|_| SealError::Broken)
        };
        let nonce: [u8; 12] = decode(nonce)?.try_into().map_err(|_| SealError::Broken)?;
        let aad = bound_to(tenant, destination);
        let payload = Payload { msg: &decode(text)?, aad: &aad };
        let plain =
            key.cipher.decrypt(&Nonce::from(nonce), payload).map_err(|_| SealError::Broken)?;
        let [access_key_id, secret_access_key, session_token]: [Option<String>; 3] =
            serde_json::from_slice(&plain).map_err(|_| SealError::Broken)?;
        Ok(BucketSecrets {
            access_key_id: access_key_id.ok_or(SealError::Broken)?,
            secret_access_key: secret_access_key.ok_or(SealError::Broken)?,
            session_token,
        })
    }

    /// Digests that identify `request`, which may hold secrets: first under the key that seals now,
    /// then under the others. Without the master key, a stored digest cannot be used to test
    /// guesses.
    pub fn digests(&self, request: &[u8]) -> Vec<[u8; 32]> {
        let digest = |key: &MasterKey| {
            key.digest.clone().chain_update(request).finalize().into_bytes().into()
        };
        let current = self.seals.load(Relaxed);
        let (before, from) = self.keys.split_at(current.min(self.keys.len()));
        from.iter().chain(before).map(digest).collect()
    }

    /// Whether a value was sealed with the key that seals now.
    pub fn is_current(&self, sealed: &Sealed) -> bool {
        self.current().is_some_and(|key| key.id == sealed.key_id())
    }
}

fn master_key(pair: &str) -> Option<MasterKey> {
    let (id, key) = pair.split_once(':')?;
    let plain =
        !id.is_empty() && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
    let key = BASE64.decode(key).ok()?;
    let cipher = Aes256Gcm::new_from_slice(&key).ok()?;
    let digests = Hmac::<Sha256>::new_from_slice(&key)
        .ok()?
        .chain_update(b"digests of requests")
        .finalize()
        .into_bytes();
    let digest = Hmac::new_from_slice(&digests).ok()?;
    plain.then(|| MasterKey { id: id.to_owned(), cipher, digest })
}

fn bound_to(tenant: TenantId, destination: DestinationId) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes[..16].copy_from_slice(tenant.0.as_bytes());
    bytes[16..].copy_from_slice(destination.0.as_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    const OLD: &str = "k1:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    const NEW: &str = "k2:HwECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

    fn sealer(keys: &str) -> CredentialSealer {
        CredentialSealer::new(&SecretString::from(keys)).unwrap()
    }

    fn owner(n: u128) -> (TenantId, DestinationId) {
        (TenantId(Uuid::from_u128(n)), DestinationId(Uuid::from_u128(9)))
    }

    fn secrets() -> BucketSecrets {
        BucketSecrets {
            access_key_id: "AK".into(),
            secret_access_key: "sk".into(),
            session_token: None,
        }
    }

    #[test]
    fn what_is_sealed_opens_for_its_owner_only() {
        let (tenant, destination) = owner(1);
        let sealed = sealer(OLD).seal(tenant, destination, &secrets()).unwrap();
        assert_eq!(sealer(OLD).open(tenant, destination, &sealed).unwrap().secret_access_key, "sk");
        assert!(matches!(
            sealer(OLD).open(owner(2).0, destination, &sealed),
            Err(SealError::Broken)
        ));
    }

    #[test]
    fn keys_can_be_rotated() {
        let (tenant, destination) = owner(1);
        let sealed = sealer(OLD).seal(tenant, destination, &secrets()).unwrap();
        let both = sealer(&format!("{NEW},{OLD}"));
        assert!(both.open(tenant, destination, &sealed).is_ok());
        assert!(!both.is_current(&sealed));
        assert!(
            matches!(sealer(NEW).open(tenant, destination, &sealed), Err(SealError::UnknownKey(id)) if id == "k1")
        );
    }

    #[test]
    fn the_same_secret_never_looks_the_same_and_never_shows() {
        let (tenant, destination) = owner(1);
        let seal = || sealer(OLD).seal(tenant, destination, &secrets()).unwrap();
        assert_ne!(seal(), seal());
        assert_eq!(format!("{:?}", seal()), "Sealed");
    }

    #[test]
    fn keys_that_are_none_are_refused() {
        for wrong in
            ["", "k1", "k1:", "k1:c2hvcnQ=", ":AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="]
        {
            assert!(
                matches!(CredentialSealer::new(&SecretString::from(wrong)), Err(SealError::Keys)),
                "{wrong}"
            );
        }
    }

    #[test]
    fn a_request_is_recognised_under_every_key_that_is_still_given() {
        let (old, both, new) = (sealer(OLD), sealer(&format!("{NEW},{OLD}")), sealer(NEW));
        let request = b"a request with a secret";
        assert!(
            both.digests(request).contains(&old.digests(request)[0]),
            "asked before the key was changed"
        );
        assert_eq!(
            both.digests(request)[0],
            new.digests(request)[0],
            "what is kept is under the key that seals"
        );
        assert_ne!(old.digests(request), new.digests(request));
        assert_ne!(new.digests(request), new.digests(b"another"));
    }
}
