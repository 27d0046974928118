//! Decides which endpoints a customer's destination may have. Endpoints are untrusted: one could
//! point into our own network.
//!
//! The policy is enforced on every request and on the addresses that are actually connected to, so
//! a name that resolves differently the second time gains nothing. Literal addresses bypass the
//! resolver, which sees no ports either; both are checked where the request's URL is known.

mod address;
mod guard;
mod names;
mod rule;
mod settings;

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use url::{Host, Url};

use address::{Kind, faces, kind};
pub(crate) use guard::{Guard, GuardedResolver, with_guard};
pub(crate) use names::Names;
pub use rule::{EndpointRule, InvalidRule};
pub use settings::EndpointSettings;

/// Which endpoints the operator permits. By default those with public addresses. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct EndpointPolicy(Arc<Rules>);

#[derive(Debug, Default)]
struct Rules {
    allow: Vec<EndpointRule>,
    deny: Vec<EndpointRule>,
    require_tls: bool,
    unrestricted: bool,
}

/// Why an endpoint is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Not a URL with a host.
    #[error("{0} is not an http or https URL with a host")]
    Malformed(String),
    /// Neither public nor allowed, or denied.
    #[error(
        "{0} has no address that this service may connect to (a public one, or one that its operator allows)"
    )]
    NotAllowed(String),
    /// Not encrypted, though the operator requires it.
    #[error("{0} does not begin with https://, which the operator of this service requires")]
    Plain(String),
}

impl EndpointPolicy {
    /// Admits public addresses and whatever a rule in `allow` holds, except what a rule in `deny`
    /// holds. Addresses of this machine and of metadata services are admitted only by a rule for
    /// that one address or host name. `require_tls` refuses endpoints without TLS.
    #[must_use]
    pub fn new(allow: Vec<EndpointRule>, deny: Vec<EndpointRule>, require_tls: bool) -> Self {
        Self(Arc::new(Rules { allow, deny, require_tls, unrestricted: false }))
    }

    /// Admits everything. Only for stores that the operator names, never for customers' endpoints.
    #[must_use]
    pub fn unrestricted() -> Self {
        Self(Arc::new(Rules { unrestricted: true, ..Rules::default() }))
    }

    /// Checks a URL. The addresses of a host name are checked when it is resolved.
    pub fn admits(&self, endpoint: &str) -> Result<(), Refused> {
        let malformed = || Refused::Malformed(endpoint.to_owned());
        let url = Url::parse(endpoint).map_err(|_| malformed())?;
        let port = url.port_or_known_default().ok_or_else(malformed)?;
        if self.0.require_tls && url.scheme() != "https" {
            return Err(Refused::Plain(endpoint.to_owned()));
        }
        let admitted = match url.host().ok_or_else(malformed)? {
            Host::Domain(name) => self.admits_name(name, Some(port)),
            Host::Ipv4(address) => self.admits_address(None, address.into(), Some(port)),
            Host::Ipv6(address) => self.admits_address(None, address.into(), Some(port)),
        };
        if admitted { Ok(()) } else { Err(Refused::NotAllowed(endpoint.to_owned())) }
    }

    /// Whether a name may be resolved for this port. Names of this machine are judged at once.
    fn admits_name(&self, name: &str, port: Option<u16>) -> bool {
        let name = plain(name);
        match own_addresses(&name) {
            Some(own) => own.iter().any(|own| self.admits_address(Some(&name), *own, port)),
            None => self.0.unrestricted || !self.0.denies(Some(&name), &[], port),
        }
    }

    /// Whether an address may be connected to, under the name that was resolved to it, at this
    /// port; `None` stands for every port that no rule names.
    fn admits_address(&self, name: Option<&str>, address: IpAddr, port: Option<u16>) -> bool {
        let faces = faces(address);
        let rules = &*self.0;
        let admitted = |face: &IpAddr| match kind(*face) {
            Kind::Public => true,
            Kind::Private => rules.allows(name, &[address, *face], port, false),
            Kind::Guarded => rules.allows(name, &[address, *face], port, true),
        };
        let all = [&faces[..], &[address]].concat();
        rules.unrestricted || !rules.denies(name, &all, port) && faces.iter().all(admitted)
    }

    /// The ports that rules name, each once. All others are treated alike.
    fn ports(&self) -> Vec<u16> {
        let rules = self.0.allow.iter().chain(&self.0.deny);
        let mut ports: Vec<u16> = rules.filter_map(EndpointRule::port).collect();
        ports.sort_unstable();
        ports.dedup();
        ports
    }
}

impl Rules {
    fn denies(&self, name: Option<&str>, addresses: &[IpAddr], port: Option<u16>) -> bool {
        self.deny.iter().any(|rule| rule.holds(name, addresses, port))
    }

    /// `one_by_one` disregards rules that hold more than one host.
    fn allows(
        &self,
        name: Option<&str>,
        addresses: &[IpAddr],
        port: Option<u16>,
        one_by_one: bool,
    ) -> bool {
        let mut rules = self.allow.iter().filter(|rule| !one_by_one || rule.names_one());
        rules.any(|rule| rule.holds(name, addresses, port))
    }
}

/// A host name as rules have it: in lower case, without the dot at its end.
fn plain(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

/// RFC 6761: these names mean this machine, whatever a resolver says.
fn own_addresses(name: &str) -> Option<[IpAddr; 2]> {
    (name == "localhost" || name.ends_with(".localhost"))
        .then(|| [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()])
}

#[cfg(test)]
mod tests;
