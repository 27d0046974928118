//! Whose objects a pointer may name. The table holds rows by tenant, but a pointer is only text: a
//! fault of ingestion must not put one tenant's input into another tenant's files.

use std::str::FromStr;

use tracelift_core::id::{SessionId, TenantId};

/// A prefix that keys must have, with the ids of the row that points to them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyPrefix(String);

const TENANT: &str = "{tenant_id}";
const SESSION: &str = "{session_id}";

impl FromStr for KeyPrefix {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let rest = text.replace(TENANT, "").replace(SESSION, "");
        if !text.contains(TENANT) {
            Err(format!("must contain {TENANT}, as in traces/{TENANT}/"))
        } else if rest.contains(['{', '}']) {
            Err(format!("must not contain braces but those of {TENANT} and {SESSION}"))
        } else {
            Ok(Self(text.to_owned()))
        }
    }
}

/// The project whose rows are exported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) tenant: TenantId,
    pub(crate) session: SessionId,
}

impl KeyPrefix {
    /// Whether a key of this owner begins like this one.
    fn admits(&self, owner: Owner, key: &str) -> bool {
        let prefix = self.0.replace(TENANT, &owner.tenant.to_string());
        key.starts_with(&prefix.replace(SESSION, &owner.session.to_string()))
    }
}

/// Why a key may not be read for this owner, if so. Without prefixes, every key may, unless a proxy
/// in front of the store could take it for another one.
pub(super) fn refusal(prefixes: &[KeyPrefix], owner: Owner, key: &str) -> Option<&'static str> {
    if key.split('/').any(|segment| segment == "." || segment == "..") {
        return Some("the pointer's key has a segment of dots, which proxies resolve");
    }
    if prefixes.is_empty() {
        return None;
    }
    if key.contains("//") {
        return Some("the pointer's key has an empty segment, which proxies drop");
    }
    let is_own = prefixes.iter().any(|prefix| prefix.admits(owner, key));
    (!is_own).then_some("the pointer names an object outside of BLOB_KEY_PREFIX of its row")
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn owner(n: u128) -> Owner {
        Owner { tenant: TenantId(Uuid::from_u128(n)), session: SessionId(Uuid::from_u128(n + 1)) }
    }

    #[test]
    fn a_key_of_another_tenant_or_project_is_refused() {
        let (own, other) = (owner(1), owner(5));
        let prefixes = ["ttl_s/{tenant_id}/", "ttl_l/{tenant_id}/{session_id}/"];
        let prefixes: Vec<KeyPrefix> = prefixes.iter().map(|text| text.parse().unwrap()).collect();
        let refused = |key: &str| refusal(&prefixes, own, key).is_some();
        assert!(!refused(&format!("ttl_s/{}/k", own.tenant)));
        assert!(!refused(&format!("ttl_l/{}/{}/k", own.tenant, own.session)));
        for key in [
            format!("ttl_s/{}/k", other.tenant),
            format!("ttl_l/{}/{}/k", own.tenant, other.session),
            format!("ttl_l/{}/k", own.tenant),
            format!("{}/k", own.tenant),
            format!("ttl_s/{}/../{}/k", own.tenant, other.tenant),
            format!("ttl_s/{}//k", own.tenant),
            String::new(),
        ] {
            assert!(refused(&key), "{key}");
        }
    }

    #[test]
    fn without_a_prefix_only_segments_of_dots_are_refused() {
        for (key, refused) in [
            ("a/b", false),
            ("a//b", false),
            ("a..b/.c", false),
            ("a/../b", true),
            ("..", true),
            ("./a", true),
        ] {
            assert_eq!(refusal(&[], owner(1), key).is_some(), refused, "{key}");
        }
    }

    #[test]
    fn a_prefix_that_tells_no_tenants_apart_is_no_setting() {
        for (text, cause) in [
            ("traces/", "must contain {tenant_id}"),
            ("{session_id}/", "must contain {tenant_id}"),
            ("{tenant_id}/{day}/", "must not contain braces"),
        ] {
            assert!(text.parse::<KeyPrefix>().unwrap_err().starts_with(cause), "{text}");
        }
    }
}
