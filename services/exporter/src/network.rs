//! How an exporter reaches other systems. A simulation supplies its own network.

use tonic::transport::Channel;
use tracelift_bucket::{Connector, EndpointPolicy};

use crate::{Error, Settings};

/// Clients for everything outside the process. None is connected yet.
#[derive(Clone)]
pub struct Network {
    /// The control plane.
    pub control_plane: Channel,
    /// ClickHouse, without address and user.
    pub clickhouse: clickhouse::Client,
    /// The store of offloaded fields.
    pub blobs: Connector,
    /// Customers' buckets.
    pub destinations: Connector,
}

impl std::fmt::Debug for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Network").finish_non_exhaustive()
    }
}

impl Network {
    /// The machine's network.
    pub fn new(settings: &Settings) -> Result<Self, Error> {
        Ok(Self {
            control_plane: settings.tls.channel(&settings.control_plane)?,
            clickhouse: clickhouse::Client::default(),
            // The operator's own store may be private.
            blobs: Connector::new(EndpointPolicy::unrestricted()),
            destinations: Connector::new(settings.endpoints.policy()),
        })
    }
}
