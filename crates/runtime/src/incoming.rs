//! Accepts connections: a bounded number at once, each with a deadline for a peer that takes no data.
//!
//! When the process runs out of file descriptors, accepting waits and says so, instead of failing
//! again and again.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures::{Stream, stream};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tokio_io_timeout::TimeoutStream;
use tonic::transport::server::{Connected, TcpConnectInfo};

/// How long to wait before accepting again after an error that the next connection would meet too.
const PAUSE: Duration = Duration::from_secs(1);

/// A listener with a bound on its connections.
#[derive(Debug)]
pub struct Incoming {
    listener: TcpListener,
    places: Arc<Semaphore>,
    stall: Duration,
}

impl Incoming {
    /// At most `connections` at once; further ones wait in the listener's backlog. A connection whose
    /// peer takes no data for `stall` fails.
    pub fn new(listener: TcpListener, connections: u32, stall: Duration) -> Self {
        let places = usize::try_from(connections).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS);
        Self { listener, places: Arc::new(Semaphore::new(places)), stall }
    }

    /// The next connection, and its peer.
    pub async fn accept(&self) -> (Connection, SocketAddr) {
        loop {
            let place = self.place().await;
            match self.listener.accept().await {
                Ok((socket, peer)) => {
                    // Small messages in both directions: without it, each may wait 40 ms for the
                    // other side's acknowledgement. A closed socket needs none.
                    let _ = socket.set_nodelay(true);
                    let mut socket = TimeoutStream::new(socket);
                    socket.set_write_timeout(Some(self.stall));
                    return (Connection { socket: Box::pin(socket), _place: place }, peer);
                }
                Err(error) if is_about_one(&error) => {}
                Err(error) => {
                    tracing::warn!(
                        %error,
                        "no connection can be accepted; raise the limit of open files (ulimit -n, LimitNOFILE) if it is reached"
                    );
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    async fn place(&self) -> OwnedSemaphorePermit {
        loop {
            if self.places.available_permits() == 0 {
                tracing::warn!("all connections are taken; further ones wait until one closes");
            }
            if let Ok(place) = self.places.clone().acquire_owned().await {
                return place;
            }
        }
    }

    /// All connections, one after the other, without an end.
    pub fn stream(self) -> impl Stream<Item = io::Result<Connection>> + Send {
        stream::unfold(self, |incoming| async move {
            let (connection, _) = incoming.accept().await;
            Some((Ok(connection), incoming))
        })
    }
}

/// Whether an error concerns the connection that was about to be accepted, and no other.
fn is_about_one(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    )
}

/// An accepted connection. It keeps its place until it is dropped.
#[derive(Debug)]
pub struct Connection {
    socket: Pin<Box<TimeoutStream<TcpStream>>>,
    _place: OwnedSemaphorePermit,
}

impl Connected for Connection {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.socket.get_ref().connect_info()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.socket.as_mut().poll_read(cx, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.socket.as_mut().poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.socket.as_mut().poll_write_vectored(cx, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket.as_mut().poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket.as_mut().poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    async fn listening(connections: u32, stall: Duration) -> (Incoming, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        (Incoming::new(listener, connections, stall), address)
    }

    #[tokio::test]
    async fn a_connection_beyond_the_bound_waits_until_one_closes() {
        let (incoming, address) = listening(1, Duration::from_secs(60)).await;
        let mut first = TcpStream::connect(address).await.unwrap();
        let (mut accepted, peer) = incoming.accept().await;
        assert_eq!(peer, first.local_addr().unwrap());
        first.write_all(b"x").await.unwrap();
        assert_eq!(accepted.read_u8().await.unwrap(), b'x');
        let second = TcpStream::connect(address).await.unwrap();
        assert!(incoming.accept().now_or_never().is_none());
        drop(accepted);
        assert_eq!(incoming.accept().await.1, second.local_addr().unwrap());
    }

    #[tokio::test]
    async fn a_peer_that_takes_nothing_loses_its_connection() {
        let (incoming, address) = listening(1, Duration::from_millis(50)).await;
        let _silent = TcpStream::connect(address).await.unwrap();
        let (mut accepted, _) = incoming.accept().await;
        let endless = async {
            loop {
                accepted.write_all(&[0; 64 << 10]).await?;
            }
        };
        let failed: io::Result<()> = endless.await;
        assert_eq!(failed.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }
}
