//! Refused logins: counted, and recorded in the audit log, at most one a minute from each address, so
//! that nobody can fill the log without a key.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use tonic::{Code, Status};
use tracelift_core::id::TenantId;

use crate::store::{Act, Action, AuditEntry, Store, StoreError, Who};

/// How often refusals of one address are recorded.
const INTERVAL: Duration = Duration::from_secs(60);
/// Addresses remembered. While there are more, further ones are counted only.
const MOST: usize = 10_000;

/// Why a request is refused, and what is known of who sent it.
pub(crate) struct Refused {
    pub(crate) who: Who,
    pub(crate) tenant: Option<TenantId>,
    pub(crate) status: Status,
}

impl From<Status> for Refused {
    fn from(status: Status) -> Self {
        Self { who: Who::Anonymous, tenant: None, status }
    }
}

/// Counts and records refused logins.
#[derive(Debug, Clone)]
pub(crate) struct Logins {
    store: Arc<Store>,
    lately: Arc<Mutex<HashMap<String, Instant>>>,
}

impl Logins {
    pub(crate) fn new(store: Arc<Store>) -> Self {
        Self { store, lately: Arc::default() }
    }

    /// Counts a refusal, and records it unless one of the same address was recorded lately.
    pub(crate) async fn refused(&self, act: Act, tenant: Option<TenantId>, status: &Status) {
        if !matches!(status.code(), Code::Unauthenticated | Code::PermissionDenied) {
            return; // the store could not be asked
        }
        metrics::counter!("tracelift_logins_refused_total").increment(1);
        if !self.is_due(&act.address, Instant::now()) {
            return;
        }
        let refused = Some(status.message().to_owned());
        let entry =
            AuditEntry { tenant, action: Action::RefuseLogin, object: String::new(), refused };
        if let Err(error) = self.record(act, entry).await {
            tracing::error!(%error, "a refused login could not be recorded");
        }
    }

    async fn record(&self, act: Act, entry: AuditEntry) -> Result<(), StoreError> {
        let now = self.store.now().await?;
        self.store.record(act, entry, now).await
    }

    fn is_due(&self, address: &str, now: Instant) -> bool {
        let mut lately = self.lately.lock().unwrap_or_else(PoisonError::into_inner);
        let is_over = |at: &Instant| now.duration_since(*at) >= INTERVAL;
        if lately.len() >= MOST {
            lately.retain(|_, at| !is_over(at));
        }
        let has_room = lately.len() < MOST || lately.contains_key(address);
        let is_due = has_room && lately.get(address).is_none_or(is_over);
        if is_due {
            lately.insert(address.to_owned(), now);
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_recorded_once_a_minute_and_no_more_than_so_many_at_once() {
        let logins = Logins::new(Arc::new(Store::in_memory().unwrap()));
        let (start, later) = (Instant::now(), Instant::now() + INTERVAL);
        assert!(logins.is_due("192.0.2.1", start));
        assert!(!logins.is_due("192.0.2.1", start));
        assert!(logins.is_due("192.0.2.2", start));
        assert!(logins.is_due("192.0.2.1", later));
        for n in 0..MOST * 2 {
            logins.is_due(&n.to_string(), later);
        }
        assert!(!logins.is_due("192.0.2.3", later), "there is no room");
        assert!(logins.is_due("192.0.2.3", later + INTERVAL));
    }
}
