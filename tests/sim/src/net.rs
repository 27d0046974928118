//! The simulated network, in the forms that the services' libraries require: connections, HTTP for
//! an S3 client, a ClickHouse client, a gRPC channel, and listeners.
//!
//! Turmoil drops packets for good, where TCP would retransmit them and eventually give up the
//! connection. Every connection is therefore registered in [`Wires`]: after a partition, those that
//! may have lost packets are reset.

use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, Ipv4Addr},
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use aws_smithy_runtime_api::client::{
    http::{HttpConnector, HttpConnectorFuture, SharedHttpConnector},
    orchestrator::HttpRequest,
    result::ConnectorError,
};
use aws_smithy_types::body::SdkBody;
use futures::Stream;
use http::Uri;
use hyper_util::{
    client::legacy::{
        Client,
        connect::{Connected, Connection},
    },
    rt::{TokioExecutor, TokioIo},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::transport::Channel;
use tracelift_runtime::tls::endpoint;
use turmoil::net::{TcpListener, TcpStream};

type Pair = (IpAddr, IpAddr);

/// The open connections between each pair of hosts.
#[derive(Clone, Default)]
pub struct Wires(Arc<Mutex<BTreeMap<Pair, CancellationToken>>>);

impl Wires {
    fn of(&self, one: IpAddr, other: IpAddr) -> CancellationToken {
        let mut wires = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        wires.entry((one.min(other), one.max(other))).or_default().clone()
    }

    /// Resets every connection between two hosts, as TCP does when its packets stay unacknowledged
    /// for too long.
    pub fn reset(&self, one: IpAddr, other: IpAddr) {
        let cut = self
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&(one.min(other), one.max(other)));
        if let Some(cut) = cut {
            cut.cancel();
        }
    }
}

/// One end of a connection.
pub struct Socket {
    stream: TcpStream,
    reset: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl Socket {
    fn new(stream: TcpStream, wires: &Wires) -> io::Result<Self> {
        let reset = wires.of(stream.local_addr()?.ip(), stream.peer_addr()?.ip());
        Ok(Self { stream, reset: Box::pin(reset.cancelled_owned()) })
    }

    fn unless_reset<T>(
        &mut self,
        cx: &mut Context<'_>,
        work: impl FnOnce(Pin<&mut TcpStream>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if self.reset.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        work(Pin::new(&mut self.stream), cx)
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.unless_reset(cx, |stream, cx| stream.poll_read(cx, buf))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.unless_reset(cx, |stream, cx| stream.poll_write(cx, data))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.unless_reset(cx, |stream, cx| stream.poll_flush(cx))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.unless_reset(cx, |stream, cx| stream.poll_shutdown(cx))
    }
}

impl Connection for Socket {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl tonic::transport::server::Connected for Socket {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

/// The network as used by the hosts' clients.
#[derive(Clone)]
pub struct Network {
    /// Every open connection.
    pub wires: Wires,
}

/// Connection timeout, the same as the services use with real sockets.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

impl Network {
    fn connector(
        &self,
    ) -> impl tower::Service<
        Uri,
        Response = TokioIo<Socket>,
        Error = io::Error,
        Future: Send + Unpin,
    > + Clone
    + Send
    + Sync
    + 'static {
        let wires = self.wires.clone();
        tower::service_fn(move |uri: Uri| {
            let wires = wires.clone();
            Box::pin(async move {
                let address =
                    (uri.host().unwrap_or_default().to_owned(), uri.port_u16().unwrap_or(80));
                let connected =
                    tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await;
                let stream = connected.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
                Socket::new(stream, &wires).map(TokioIo::new)
            })
        })
    }

    /// The HTTP connector for the AWS SDK.
    pub fn http(&self) -> SharedHttpConnector {
        let client = Client::builder(TokioExecutor::new()).build(self.connector());
        SharedHttpConnector::new(Http(Box::new(move |request| {
            let client = client.clone();
            HttpConnectorFuture::new(async move {
                let request = request
                    .try_into_http1x()
                    .map_err(|error| ConnectorError::user(error.into()))?;
                let answer = client
                    .request(request)
                    .await
                    .map_err(|error| ConnectorError::io(error.into()))?;
                let answer = answer.map(SdkBody::from_body_1_x);
                answer.try_into().map_err(|error: aws_smithy_runtime_api::http::HttpError| {
                    ConnectorError::user(error.into())
                })
            })
        })))
    }

    /// The exporter's ClickHouse client.
    pub fn clickhouse(&self) -> clickhouse::Client {
        clickhouse::Client::with_http_client(
            Client::builder(TokioExecutor::new()).build(self.connector()),
        )
    }

    /// A gRPC channel with the services' settings.
    pub fn channel(&self, url: &str) -> Channel {
        endpoint(url).expect("an address").connect_with_connector_lazy(self.connector())
    }

    /// Listens for connections on `port` of this host.
    pub async fn listen(
        &self,
        port: u16,
    ) -> io::Result<impl Stream<Item = io::Result<Socket>> + Send + use<>> {
        let listener = TcpListener::bind((IpAddr::V4(Ipv4Addr::UNSPECIFIED), port)).await?;
        let wires = self.wires.clone();
        Ok(futures::stream::unfold((listener, wires), |(listener, wires)| async move {
            let accepted =
                listener.accept().await.and_then(|(stream, _)| Socket::new(stream, &wires));
            Some((accepted, (listener, wires)))
        }))
    }
}

struct Http(Box<dyn Fn(HttpRequest) -> HttpConnectorFuture + Send + Sync>);

impl std::fmt::Debug for Http {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Http")
    }
}

impl HttpConnector for Http {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        (self.0)(request)
    }
}
