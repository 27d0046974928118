//! Decides which addresses a customer's endpoint may have. Endpoints are untrusted: one could point
//! into our own network.
//!
//! The policy is enforced on the addresses that are actually connected to, so a name that resolves
//! differently the second time gains nothing. Literal addresses bypass the resolver and are checked
//! up front.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use aws_smithy_runtime_api::client::dns::{DnsFuture, ResolveDns, ResolveDnsError};
use url::{Host, Url};

/// Which addresses the operator permits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndpointPolicy {
    /// Public addresses only, for shared installations.
    PublicOnly,
    /// Also private, loopback and link-local addresses, for stores in the operator's own network.
    AllowPrivate,
}

/// Why an endpoint is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Not a URL with a host.
    #[error("{0} is not a URL with a host")]
    Malformed(String),
    /// Points to a private address.
    #[error("{0} is not a public address; the operator of this service does not allow others")]
    Private(String),
}

impl EndpointPolicy {
    /// Checks a URL. Host names are checked again when they are resolved.
    pub fn admits(self, endpoint: &str) -> Result<(), Refused> {
        let malformed = || Refused::Malformed(endpoint.to_owned());
        let url = Url::parse(endpoint).map_err(|_| malformed())?;
        let private = match url.host().ok_or_else(malformed)? {
            Host::Domain(name) => name == "localhost" || name.ends_with(".localhost"),
            Host::Ipv4(address) => !is_public(IpAddr::V4(address)),
            Host::Ipv6(address) => !is_public(IpAddr::V6(address)),
        };
        if private && self == Self::PublicOnly {
            Err(Refused::Private(endpoint.to_owned()))
        } else {
            Ok(())
        }
    }

    fn admits_address(self, address: IpAddr) -> bool {
        self == Self::AllowPrivate || is_public(address)
    }
}

fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => is_public_v4(v4),
        IpAddr::V6(v6) => v6.to_ipv4().map_or_else(|| is_public_v6(v6), is_public_v4),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let carrier_nat = a == 100 && (64..128).contains(&b);
    let benchmark = a == 198 && (b == 18 || b == 19);
    let protocol = a == 192 && b == 0 && c == 0;
    !(address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_multicast()
        || address.is_documentation()
        || a == 0
        || a >= 240
        || carrier_nat
        || benchmark
        || protocol)
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let [first, second, ..] = address.segments();
    let translated = first == 0x64 && second == 0xff9b || first == 0x2002;
    let documentation = first == 0x2001 && second == 0xdb8;
    (first & 0xe000) == 0x2000 && !translated && !documentation
}

/// Resolves names with the system's resolver and drops addresses that the policy does not admit.
#[derive(Debug, Clone)]
pub(crate) struct GuardedResolver(pub(crate) EndpointPolicy);

impl ResolveDns for GuardedResolver {
    fn resolve_dns<'a>(&'a self, name: &'a str) -> DnsFuture<'a> {
        let policy = self.0;
        DnsFuture::new(async move {
            // RFC 6761: these names mean this machine, whatever a resolver says.
            let found: Vec<IpAddr> = match name == "localhost" || name.ends_with(".localhost") {
                true => vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()],
                false => tokio::net::lookup_host((name, 0))
                    .await
                    .map_err(ResolveDnsError::new)?
                    .map(|address| address.ip())
                    .collect(),
            };
            let admitted: Vec<_> =
                found.into_iter().filter(|ip| policy.admits_address(*ip)).collect();
            if admitted.is_empty() {
                return Err(ResolveDnsError::new(Arc::new(Refused::Private(name.to_owned()))));
            }
            Ok(admitted)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_our_own_network_are_refused() {
        for inside in [
            "http://127.0.0.1:9000",
            "http://localhost:9000",
            "http://10.1.2.3",
            "http://169.254.169.254",
            "http://[::1]:9000",
            "http://[fd00::1]",
            "http://[::ffff:169.254.169.254]",
            "http://[64:ff9b::a00:1]",
            "http://0.0.0.0",
            "http://2130706433",
            "http://0x7f.1",
            "http://100.100.0.1",
        ] {
            assert!(
                matches!(EndpointPolicy::PublicOnly.admits(inside), Err(Refused::Private(_))),
                "{inside}"
            );
            assert_eq!(EndpointPolicy::AllowPrivate.admits(inside), Ok(()), "{inside}");
        }
    }

    #[tokio::test]
    async fn names_of_this_machine_are_judged_by_their_addresses() {
        let resolve = async |policy| GuardedResolver(policy).resolve_dns("traces.localhost").await;
        assert!(resolve(EndpointPolicy::PublicOnly).await.is_err());
        assert!(
            resolve(EndpointPolicy::AllowPrivate).await.unwrap().iter().all(IpAddr::is_loopback)
        );
    }

    #[test]
    fn public_endpoints_are_admitted() {
        for outside in [
            "https://storage.googleapis.com",
            "https://play.min.io:9000",
            "https://8.8.8.8",
            "https://[2606:4700::1111]",
        ] {
            assert_eq!(EndpointPolicy::PublicOnly.admits(outside), Ok(()), "{outside}");
        }
    }

    #[test]
    fn what_is_no_url_is_malformed() {
        assert!(matches!(
            EndpointPolicy::AllowPrivate.admits("https://"),
            Err(Refused::Malformed(_))
        ));
    }

    #[tokio::test]
    async fn a_name_that_resolves_inside_is_refused_when_it_is_connected_to() {
        assert!(
            GuardedResolver(EndpointPolicy::PublicOnly).resolve_dns("localhost").await.is_err()
        );
        assert!(
            GuardedResolver(EndpointPolicy::AllowPrivate).resolve_dns("localhost").await.is_ok()
        );
    }
}
