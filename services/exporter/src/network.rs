//! How an exporter reaches the others. A simulation hands in a network of its own.

use tonic::transport::Channel;
use tracelift_bucket::{Connector, EndpointPolicy};

use crate::{Error, Settings};

/// The ways out of the process; nothing is connected yet.
#[derive(Clone)]
pub struct Network {
    /// To the control plane.
    pub control_plane: Channel,
    /// To ClickHouse, without address or user.
    pub clickhouse: clickhouse::Client,
    /// To the store of the offloaded fields.
    pub blobs: Connector,
    /// To customers' buckets.
    pub destinations: Connector,
}

impl std::fmt::Debug for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Network").finish_non_exhaustive()
    }
}

impl Network {
    /// The machine's own.
    pub fn new(settings: &Settings) -> Result<Self, Error> {
        let destinations = if settings.allow_private_endpoints {
            EndpointPolicy::AllowPrivate
        } else {
            EndpointPolicy::PublicOnly
        };
        Ok(Self {
            control_plane: settings.tls.channel(&settings.control_plane)?,
            clickhouse: clickhouse::Client::default(),
            // The operator's own store may well be private.
            blobs: Connector::new(EndpointPolicy::AllowPrivate),
            destinations: Connector::new(destinations),
        })
    }
}
