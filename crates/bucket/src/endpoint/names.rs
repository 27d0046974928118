//! Looks up the addresses of host names, within bounds: customers choose the names, and whoever
//! serves a name decides when and what to answer.
//!
//! The system's resolver is a function that blocks its thread until it gives up, which may take
//! half a minute; on tokio's threads for blocking work, which the store uses too, a few hundred
//! slow names would stop everything else. These lookups hold no thread.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::Duration,
};

use hickory_resolver::{
    Resolver, TokioResolver,
    config::{LookupIpStrategy, NameServerConfig, ResolverConfig, ResolverOpts},
    lookup_ip::LookupIp,
    net::{NetError, runtime::TokioRuntimeProvider},
    proto::rr::{Name, RData},
    system_conf::read_system_conf,
};
use tokio::{sync::Semaphore, time::timeout};

use super::plain;

/// Lookups in progress at once; further ones wait.
const MAX_LOOKUPS: usize = 64;
/// Longest wait for a place, and then for the answer.
const LONGEST: Duration = Duration::from_secs(5);
/// Longest wait for one name server before it is asked again, and then no more.
const LONGEST_OF_SERVER: Duration = Duration::from_secs(2);
/// Addresses of a name that are kept.
const MAX_ADDRESSES: usize = 16;
/// Answers that are remembered, and for how long at most: found, and not found.
const MAX_REMEMBERED: u64 = 1024;
const REMEMBER_FOUND: Duration = Duration::from_secs(60);
const REMEMBER_MISSING: Duration = Duration::from_secs(10);

/// A resolver. Clones share its bounds and what it remembers.
#[derive(Debug, Clone)]
pub(crate) struct Names {
    resolver: Result<TokioResolver, Arc<NetError>>,
    places: Arc<Semaphore>,
}

/// What a name leads to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// At most [`MAX_ADDRESSES`].
    pub(super) addresses: Vec<IpAddr>,
    /// The full name that was found, and those that it is an alias of, in lower case.
    pub(super) names: Vec<String>,
}

/// Why nothing was found.
#[derive(Debug, Clone, thiserror::Error)]
pub(super) enum NotFound {
    /// No place came free in time.
    #[error(
        "{MAX_LOOKUPS} other host names were being looked up for {} s, so this one was not",
        LONGEST.as_secs()
    )]
    Busy,
    /// No answer in time.
    #[error("no name server answered within {} s", LONGEST.as_secs())]
    Late,
    /// The name has no addresses, or the name servers cannot be asked.
    #[error("{0}")]
    Failed(#[from] Arc<NetError>),
}

impl Names {
    /// A resolver with the system's name servers, search domains and hosts file, as they are now.
    pub(crate) fn system() -> Self {
        let (config, options) = read_system_conf().unwrap_or_else(|error| {
            tracing::warn!(
                "/etc/resolv.conf cannot be used, so names are looked up at 127.0.0.1: {error}"
            );
            let server = NameServerConfig::udp_and_tcp(Ipv4Addr::LOCALHOST.into());
            let config = ResolverConfig::from_parts(None, Vec::new(), vec![server]);
            (config, ResolverOpts::default())
        });
        Self::over(config, options)
    }

    fn over(config: ResolverConfig, mut options: ResolverOpts) -> Self {
        options.timeout = options.timeout.min(LONGEST_OF_SERVER);
        options.attempts = options.attempts.min(2);
        options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
        options.cache_size = MAX_REMEMBERED;
        options.positive_max_ttl = Some(REMEMBER_FOUND);
        options.negative_max_ttl = Some(REMEMBER_MISSING);
        let builder = Resolver::builder_with_config(config, TokioRuntimeProvider::default());
        let resolver = builder.with_options(options).build().map_err(Arc::new);
        Self { resolver, places: Arc::new(Semaphore::new(MAX_LOOKUPS)) }
    }

    /// Looks up a name. Takes 10 s at most, half of them for a place.
    pub(super) async fn find(&self, name: &str) -> Result<Found, NotFound> {
        let resolver = self.resolver.as_ref().map_err(Arc::clone)?;
        let place = timeout(LONGEST, self.places.acquire()).await;
        let _place = place.map_err(|_| NotFound::Busy)?.map_err(|_| NotFound::Busy)?;
        let found = timeout(LONGEST, resolver.lookup_ip(name)).await;
        let found = found.map_err(|_| NotFound::Late)?.map_err(Arc::new)?;
        Ok(Found { addresses: found.iter().take(MAX_ADDRESSES).collect(), names: names(&found) })
    }
}

/// The names in an answer.
fn names(found: &LookupIp) -> Vec<String> {
    let text = |name: &Name| plain(&name.to_ascii());
    let alias = found.as_lookup().answers().iter().filter_map(|record| match &record.data {
        RData::CNAME(target) => Some(text(&target.0)),
        _ => None,
    });
    let owners = found.as_lookup().answers().iter().map(|record| text(&record.name));
    let mut names: Vec<_> =
        std::iter::once(text(found.query().name())).chain(owners).chain(alias).collect();
    names.sort_unstable();
    names.dedup();
    names
}

#[cfg(test)]
pub(super) mod tests;
