//! Binds ports before anything else starts, so that a port in use gives a clear error, not a
//! half-started process.

use std::{io, net::SocketAddr};

use tokio::net::TcpListener;

/// A port could not be bound.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {source}{}", if source.kind() == io::ErrorKind::AddrInUse { "; stop what uses that port or choose another" } else { "" })]
pub struct ListenError {
    /// The requested address.
    pub address: SocketAddr,
    /// The system's error.
    pub source: io::Error,
}

/// Binds a TCP port; port 0 picks a free one.
pub async fn bind(address: SocketAddr) -> Result<TcpListener, ListenError> {
    TcpListener::bind(address).await.map_err(|source| ListenError { address, source })
}
