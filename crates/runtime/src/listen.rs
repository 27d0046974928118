//! Ports are taken here, before anything else starts, so that a taken one is a clear error and not
//! a half-started process.

use std::{io, net::SocketAddr};

use tokio::net::TcpListener;

/// Why a port could not be had.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {source}{}", if source.kind() == io::ErrorKind::AddrInUse { "; stop what uses that port or choose another" } else { "" })]
pub struct ListenError {
    /// The address that was asked for.
    pub address: SocketAddr,
    /// What the system says.
    pub source: io::Error,
}

/// Takes a port; port 0 takes a free one.
pub async fn bind(address: SocketAddr) -> Result<TcpListener, ListenError> {
    TcpListener::bind(address).await.map_err(|source| ListenError { address, source })
}
