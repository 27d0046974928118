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
use rustls::pki_types::CertificateDer;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
};
use tokio_io_timeout::TimeoutStream;
use tokio_rustls::server::TlsStream;
use tonic::transport::server::{Connected, TcpConnectInfo};

use crate::{tasks, tls::Acceptor};

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

    /// All connections, without an end. With TLS, those whose handshake succeeds, in that order: a slow
    /// handshake holds up no other. Dropping the stream closes the port.
    pub fn stream(self, tls: Option<Acceptor>) -> impl Stream<Item = io::Result<MaybeTls>> + Send {
        let accepting =
            Accepting { incoming: self, tls: tls.map(Arc::new), handshakes: JoinSet::new() };
        stream::unfold(accepting, |mut accepting| async move {
            Some((Ok(accepting.next().await), accepting))
        })
    }
}

/// A listener, and the handshakes of its connections.
struct Accepting {
    incoming: Incoming,
    tls: Option<Arc<Acceptor>>,
    handshakes: JoinSet<Option<MaybeTls>>,
}

impl Accepting {
    async fn next(&mut self) -> MaybeTls {
        loop {
            tokio::select! {
                (connection, peer) = self.incoming.accept() => {
                    let Some(tls) = self.tls.clone() else { return MaybeTls::Plain(connection) };
                    tasks::start_in(&mut self.handshakes, "handshake", async move {
                        let done = tls.accept(connection).await;
                        let failed = |error| tracing::debug!(%error, %peer, "a TLS handshake failed");
                        done.map_err(failed).ok().map(|stream| MaybeTls::Tls(Box::new(stream)))
                    });
                }
                Some(done) = self.handshakes.join_next() => {
                    if let Ok(Some(connection)) = done {
                        return connection;
                    }
                }
            }
        }
    }
}

/// A connection with or without TLS.
#[derive(Debug)]
pub enum MaybeTls {
    /// Without.
    Plain(Connection),
    /// With.
    Tls(Box<TlsStream<Connection>>),
}

/// Who is at the other end of a connection: an extension of every request.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Its address.
    pub address: TcpConnectInfo,
    /// The certificates that it has presented and that were verified, its own first.
    pub certificates: Arc<[CertificateDer<'static>]>,
}

impl Connected for MaybeTls {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        match self {
            Self::Plain(connection) => {
                Peer { address: connection.connect_info(), certificates: Arc::default() }
            }
            Self::Tls(stream) => {
                let (connection, session) = stream.get_ref();
                let certificates = session.peer_certificates().unwrap_or_default();
                Peer { address: connection.connect_info(), certificates: certificates.into() }
            }
        }
    }
}

macro_rules! either {
    ($self:ident, $io:ident => $call:expr) => {
        match $self.get_mut() {
            MaybeTls::Plain(connection) => {
                let $io = Pin::new(connection);
                $call
            }
            MaybeTls::Tls(stream) => {
                let $io = Pin::new(stream.as_mut());
                $call
            }
        }
    };
}

impl AsyncRead for MaybeTls {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        either!(self, io => io.poll_read(cx, buffer))
    }
}

impl AsyncWrite for MaybeTls {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        either!(self, io => io.poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        either!(self, io => io.poll_write_vectored(cx, buffers))
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(connection) => connection.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, io => io.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, io => io.poll_shutdown(cx))
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
