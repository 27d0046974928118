//! Enforces the policy where requests leave: on the URL of each request, and on the addresses of
//! each name that is resolved for it.

use std::net::IpAddr;

use aws_smithy_runtime_api::{
    client::{
        dns::{DnsFuture, ResolveDns, ResolveDnsError},
        http::{
            HttpClient as _, HttpConnector, HttpConnectorFuture, SharedHttpClient,
            SharedHttpConnector, http_client_fn,
        },
        orchestrator::HttpRequest,
        result::ConnectorError,
    },
    shared::IntoShared as _,
};
use url::Url;

use super::{
    EndpointPolicy, Refused,
    names::{Found, Names, NotFound},
    own_addresses, plain,
};

/// Checks the URL of each request and sends it over the connections for its port.
#[derive(Debug)]
pub(crate) struct Guard {
    policy: EndpointPolicy,
    /// Connections for each port that a rule names: a resolver does not see ports, so each of them
    /// has one of its own.
    named: Vec<(u16, SharedHttpConnector)>,
    /// For all other ports.
    others: SharedHttpConnector,
}

impl Guard {
    /// Guards connections made by `connect`, which is called for each port that a rule names, and
    /// with `None` for all others.
    pub(crate) fn around(
        policy: &EndpointPolicy,
        connect: impl Fn(Option<u16>) -> SharedHttpConnector,
    ) -> SharedHttpConnector {
        let named = policy.ports().into_iter().map(|port| (port, connect(Some(port)))).collect();
        Self { policy: policy.clone(), named, others: connect(None) }.into_shared()
    }
}

/// Guards a client. `build` is called for each port that a rule names, and with `None` for all
/// others.
pub(crate) fn with_guard(
    policy: &EndpointPolicy,
    build: impl Fn(Option<u16>) -> SharedHttpClient,
) -> SharedHttpClient {
    let named: Vec<_> = policy.ports().into_iter().map(|port| (port, build(Some(port)))).collect();
    let (policy, others) = (policy.clone(), build(None));
    http_client_fn(move |settings, components| {
        let connector = |client: &SharedHttpClient| client.http_connector(settings, components);
        let named = named.iter().map(|(port, client)| (*port, connector(client))).collect();
        Guard { policy: policy.clone(), named, others: connector(&others) }.into_shared()
    })
}

impl HttpConnector for Guard {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        if let Err(refused) = self.policy.admits(request.uri()) {
            return HttpConnectorFuture::ready(Err(ConnectorError::user(Box::new(refused))));
        }
        if self.named.is_empty() {
            return self.others.call(request);
        }
        let port = Url::parse(request.uri()).ok().and_then(|url| url.port_or_known_default());
        let named = self.named.iter().find(|(named, _)| Some(*named) == port);
        named.map_or(&self.others, |(_, connector)| connector).call(request)
    }
}

/// Resolves names and drops addresses that the policy does not admit at
/// one port, or at every port that no rule names.
#[derive(Debug, Clone)]
pub(crate) struct GuardedResolver {
    pub(crate) policy: EndpointPolicy,
    pub(crate) port: Option<u16>,
    pub(crate) names: Names,
}

impl GuardedResolver {
    /// The addresses of a name that the policy admits, which may be none.
    async fn admitted(&self, name: &str) -> Result<Vec<IpAddr>, NotFound> {
        let plain = plain(name);
        let found = match own_addresses(&plain) {
            Some(own) => Found { addresses: own.to_vec(), names: Vec::new() },
            None => self.names.find(name).await?,
        };
        // A name may be short for another one, or an alias of it, and that one may be denied.
        if !found.names.iter().all(|other| self.policy.admits_name(other, self.port)) {
            return Ok(Vec::new());
        }
        let admitted = |ip: &IpAddr| self.policy.admits_address(Some(&plain), *ip, self.port);
        Ok(found.addresses.into_iter().filter(admitted).collect())
    }
}

/// The one answer for a name that leads nowhere and for a name that leads where nobody may go, so
/// that names of our own network cannot be tried out. The log has the reason. Unlike the refusal of
/// a URL, it may pass by itself.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Nowhere(Refused);

impl ResolveDns for GuardedResolver {
    fn resolve_dns<'a>(&'a self, name: &'a str) -> DnsFuture<'a> {
        DnsFuture::new(async move {
            let reason = match self.admitted(name).await {
                Ok(admitted) if !admitted.is_empty() => return Ok(admitted),
                Err(busy @ NotFound::Busy) => return Err(ResolveDnsError::new(busy)),
                Ok(_) => "its addresses, or names on the way to them, are not allowed".to_owned(),
                Err(other) => other.to_string(),
            };
            tracing::info!(name, "nothing is connected to under this name: {reason}");
            Err(ResolveDnsError::new(Nowhere(Refused::NotAllowed(name.to_owned()))))
        })
    }
}
