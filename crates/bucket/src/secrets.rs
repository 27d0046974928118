//! The secrets that were sent to a store, and how they are cut out of what it says: a store may
//! repeat whatever it received, and its words are stored, shown and logged.

use std::sync::{Arc, Mutex, PoisonError};

use aws_credential_types::{
    Credentials,
    provider::{ProvideCredentials, SharedCredentialsProvider, future},
};
use secrecy::{ExposeSecret as _, SecretString};

use crate::Keys;

/// Shorter secrets are not cut out: they occur in ordinary words, and hide nothing.
const SHORTEST: usize = 4;
/// Characters at the beginning of a secret that are cut out even if the rest is missing.
const BEGINNING: usize = 20;
/// Credentials that are remembered: those in use, and those that a late answer may still repeat.
const REMEMBERED: usize = 2;

/// The credentials that were last sent to a store. Clones share them. `Debug` prints nothing.
#[derive(Clone, Default)]
pub struct Sent(Arc<Mutex<Vec<Keys>>>);

impl std::fmt::Debug for Sent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sent { [redacted] }")
    }
}

impl Sent {
    /// Remembers keys that are about to be sent, in place of the oldest ones.
    pub(crate) fn note(&self, keys: Keys) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.last() != Some(&keys) {
            let surplus = (known.len() + 1).saturating_sub(REMEMBERED);
            known.drain(..surplus);
            known.push(keys);
        }
    }

    /// Notes whatever `provider` provides.
    pub(crate) fn noting(
        &self,
        provider: impl ProvideCredentials + 'static,
    ) -> SharedCredentialsProvider {
        let (provider, sent) = (SharedCredentialsProvider::new(provider), self.clone());
        SharedCredentialsProvider::new(Noting { provider, sent })
    }

    /// The words without the access key ids, secret keys and session tokens, whole or cut short
    /// behind the first 20 characters.
    pub(crate) fn cut(&self, mut words: String) -> String {
        for keys in self.0.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            let secret = keys.secret_access_key.expose_secret();
            let token = keys.session_token.as_ref().map(|token| token.expose_secret());
            words = without(words, token.unwrap_or_default(), "[session token]");
            words = without(words, secret, "[secret access key]");
            words = without(words, &keys.access_key_id, "[access key id]");
        }
        words
    }
}

fn without(mut words: String, secret: &str, instead: &str) -> String {
    if secret.chars().count() < SHORTEST {
        return words;
    }
    let beginning = secret.char_indices().nth(BEGINNING).map(|(end, _)| &secret[..end]);
    for whole in spellings(secret) {
        words = words.replace(&whole, instead);
    }
    for beginning in beginning.into_iter().flat_map(spellings) {
        words = without_beginning(&words, &beginning, instead);
    }
    words
}

/// A secret as it is, as in a URL in capital and in small letters, and as in JSON.
fn spellings(secret: &str) -> [String; 4] {
    let in_url = |write: fn(u8) -> String| -> String {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.~".contains(&b);
        let letter = |b| if plain(b) { char::from(b).to_string() } else { write(b) };
        secret.bytes().map(letter).collect()
    };
    [
        secret.to_owned(),
        in_url(|b| format!("%{b:02X}")),
        in_url(|b| format!("%{b:02x}")),
        secret.replace('/', "\\/"),
    ]
}

/// Cuts out each `beginning`, and what follows it and may be the rest of the secret, whole or not.
fn without_beginning(words: &str, beginning: &str, instead: &str) -> String {
    let mut pieces = words.split(beginning);
    let mut left = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        left.push_str(instead);
        left.push_str(
            piece.trim_start_matches(|c: char| {
                c.is_ascii_alphanumeric() || "+/=%_-\\&;#".contains(c)
            }),
        );
    }
    left
}

/// A provider whose credentials are noted.
#[derive(Debug)]
struct Noting {
    provider: SharedCredentialsProvider,
    sent: Sent,
}

impl ProvideCredentials for Noting {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(async move {
            let credentials = self.provider.provide_credentials().await?;
            self.sent.note(keys(&credentials));
            Ok(credentials)
        })
    }

    fn fallback_on_interrupt(&self) -> Option<Credentials> {
        let credentials = self.provider.fallback_on_interrupt()?;
        self.sent.note(keys(&credentials));
        Some(credentials)
    }
}

fn keys(credentials: &Credentials) -> Keys {
    Keys {
        access_key_id: credentials.access_key_id().to_owned(),
        secret_access_key: SecretString::from(credentials.secret_access_key()),
        session_token: credentials.session_token().map(SecretString::from),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "AKIAIOSFODNN7EXAMPLE";
    const SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
    const TOKEN: &str = "IQoJb3JpZ2luX2VjEPT//////////wEXAMPLE+TOKEN==";

    fn keys(id: &str, secret: &str, token: Option<&str>) -> Keys {
        Keys {
            access_key_id: id.to_owned(),
            secret_access_key: SecretString::from(secret),
            session_token: token.map(SecretString::from),
        }
    }

    fn sent(all: impl IntoIterator<Item = Keys>) -> Sent {
        let sent = Sent::default();
        all.into_iter().for_each(|keys| sent.note(keys));
        sent
    }

    #[test]
    fn no_secret_is_left_in_the_words_of_a_store_whole_or_cut_short_or_encoded() {
        let sent = sent([keys(ID, SECRET, Some(TOKEN))]);
        let cut = |words: String| sent.cut(words);
        assert_eq!(
            cut(format!("{ID}/20261130 {SECRET}, token={TOKEN} end")),
            "[access key id]/20261130 [secret access key], token=[session token] end"
        );
        assert_eq!(cut(format!("'{}'", &SECRET[..20])), "'[secret access key]'");
        assert_eq!(cut(format!("'{}'", &SECRET[..33])), "'[secret access key]'");
        assert_eq!(cut(format!("\"{}\"", TOKEN.replace('/', "\\/"))), "\"[session token]\"");
        let encoded = TOKEN.replace('/', "%2F").replace('+', "%2B").replace('=', "%3D");
        assert_eq!(cut(format!("?t={encoded} x")), "?t=[session token] x");
        assert_eq!(cut(SECRET.replace('/', "%2f")), "[secret access key]");
        assert_eq!(cut(format!("{TOKEN}{TOKEN}")), "[session token][session token]");
        assert_eq!(cut("nothing of ours".to_owned()), "nothing of ours");
    }

    #[test]
    fn a_secret_too_short_to_be_one_leaves_words_as_they_are() {
        assert_eq!(
            sent([keys("AKIA", "s", Some(""))]).cut("yes: AKIA".to_owned()),
            "yes: [access key id]"
        );
    }

    #[test]
    fn renewed_credentials_and_those_before_them_are_remembered() {
        let of = |number: u32| keys(&format!("AKIA-{number}"), "secret", None);
        let sent = sent([of(1), of(2), of(2), of(3)]);
        assert_eq!(
            sent.cut("AKIA-1 AKIA-2 AKIA-3".to_owned()),
            "AKIA-1 [access key id] [access key id]"
        );
    }

    #[tokio::test]
    async fn what_a_provider_provides_is_noted() {
        let sent = Sent::default();
        let provider = sent.noting(Credentials::new(ID, SECRET, Some(TOKEN.into()), None, "test"));
        provider.provide_credentials().await.unwrap();
        assert_eq!(sent.cut(TOKEN.to_owned()), "[session token]");
        assert!(!format!("{sent:?} {provider:?}").contains(SECRET));
    }
}
