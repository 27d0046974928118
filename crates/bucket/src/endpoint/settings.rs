//! The operator's settings for endpoints, the same for the control plane and the exporters.

use super::{EndpointPolicy, EndpointRule};

/// Which endpoints customers' destinations may have.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct EndpointSettings {
    /// Endpoints that destinations may have besides public addresses, separated by commas: host
    /// names, *.example.org, IP addresses and networks, each with an optional port, as in
    /// store.example.org:9000,10.1.0.0/16,[fd00::/8]:443. Loopback addresses and those of metadata
    /// services must be named one by one. Default: only public addresses
    #[arg(long, env = "TRACELIFT_ENDPOINTS_ALLOW", value_delimiter = ',')]
    pub endpoints_allow: Vec<EndpointRule>,
    /// Endpoints that destinations may not have, in the same form; wins over
    /// TRACELIFT_ENDPOINTS_ALLOW
    #[arg(long, env = "TRACELIFT_ENDPOINTS_DENY", value_delimiter = ',')]
    pub endpoints_deny: Vec<EndpointRule>,
    /// Refuse destinations whose endpoint does not begin with https://
    #[arg(long, env = "TRACELIFT_REQUIRE_TLS_ENDPOINTS")]
    pub require_tls_endpoints: bool,
    /// Deprecated, use TRACELIFT_ENDPOINTS_ALLOW: allow destinations in private and link-local
    /// networks, except at addresses of metadata services
    #[arg(long, env = "TRACELIFT_ALLOW_PRIVATE_ENDPOINTS")]
    pub allow_private_endpoints: bool,
}

/// What the deprecated switch admits.
const PRIVATE: &str =
    "10.0.0.0/8,172.16.0.0/12,192.168.0.0/16,169.254.0.0/16,100.64.0.0/10,fc00::/7,fe80::/10";

impl EndpointSettings {
    /// The policy that they describe.
    #[must_use]
    pub fn policy(&self) -> EndpointPolicy {
        let mut allow = self.endpoints_allow.clone();
        if self.allow_private_endpoints {
            allow.extend(PRIVATE.split(',').filter_map(|rule| rule.parse().ok()));
        }
        EndpointPolicy::new(allow, self.endpoints_deny.clone(), self.require_tls_endpoints)
    }

    /// Logs a warning if a deprecated setting is used. Call it once, when the process starts.
    pub fn warn(&self) {
        if self.allow_private_endpoints {
            tracing::warn!(
                "TRACELIFT_ALLOW_PRIVATE_ENDPOINTS is deprecated and the next release ignores it: set TRACELIFT_ENDPOINTS_ALLOW to the \
                 hosts or networks of your stores. It no longer admits loopback addresses, which must be named there"
            );
        }
    }
}
