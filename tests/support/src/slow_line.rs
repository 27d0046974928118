//! A slow network to a store: a TCP proxy that limits the upload rate of each connection.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    task::JoinSet,
};
use tracelift_runtime::tasks::{self, Owned};

/// Writes per second.
const TURNS: u32 = 20;
/// The proxy's socket buffer. It is small, because a slow line would seem fast until its buffers
/// are full.
const BUFFER: u32 = 32 << 10;

/// The proxy, which stops when dropped.
pub struct SlowLine {
    pub url: String,
    _proxy: Owned<()>,
}

impl SlowLine {
    /// Starts a proxy in front of the store at `upstream`; responses are not slowed down.
    pub async fn to(upstream: SocketAddr, bytes_a_second: u32) -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_recv_buffer_size(BUFFER).expect("a small buffer");
        socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).expect("a port");
        let listener = socket.listen(64).expect("a listener");
        let address = listener.local_addr().expect("an address");
        let proxy = tasks::start("slow line", async move {
            let mut connections = JoinSet::new();
            while let Ok((near, _)) = listener.accept().await {
                tasks::start_in(&mut connections, "connection", async move {
                    let _ = carry(near, upstream, bytes_a_second).await; // whoever ends it is done with it
                });
                while connections.try_join_next().is_some() {}
            }
        });
        Self { url: format!("http://{address}"), _proxy: Owned(proxy) }
    }
}

async fn carry(near: TcpStream, upstream: SocketAddr, bytes_a_second: u32) -> std::io::Result<()> {
    let far = TcpStream::connect(upstream).await?;
    far.set_nodelay(true)?;
    let ((mut said, mut heard), (mut answers, mut asks)) = (near.into_split(), far.into_split());
    let slowly = async {
        let mut turn = vec![0; usize::try_from(bytes_a_second / TURNS).unwrap_or(1)];
        loop {
            let size = said.read(&mut turn).await?;
            if size == 0 {
                return asks.shutdown().await;
            }
            asks.write_all(&turn[..size]).await?;
            tokio::time::sleep(Duration::from_secs_f64(size as f64 / f64::from(bytes_a_second)))
                .await;
        }
    };
    let quickly = async { tokio::io::copy(&mut answers, &mut heard).await };
    tokio::select! {
        ended = slowly => ended,
        ended = quickly => ended.map(drop),
    }
}
