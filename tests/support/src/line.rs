//! A TCP proxy between two programs that modifies or truncates the traffic.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tracelift_runtime::tasks::{self, Owned};

/// What the proxy does to the traffic.
#[derive(Debug, Clone, Default)]
pub struct Habit {
    /// In requests that contain the first text, the second is replaced by the third, which must not
    /// be longer.
    pub replace: Option<(&'static str, &'static str, &'static str)>,
    /// A response is truncated after this many bytes, and its connection closed.
    pub cut_after: Option<u64>,
}

/// A proxy in front of one server.
pub struct Line {
    address: SocketAddr,
    cuts: Arc<AtomicU64>,
    _serving: Owned<()>,
}

impl Line {
    /// Starts a proxy in front of the server at `url`.
    pub async fn to(url: &str, habit: Habit) -> Self {
        let upstream: SocketAddr = url.trim_start_matches("http://").parse().expect("an address");
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let (address, cuts) =
            (listener.local_addr().expect("an address"), Arc::new(AtomicU64::new(0)));
        let counted = cuts.clone();
        let serving = Owned(tasks::start("line", async move {
            let mut connections = JoinSet::new();
            while let Ok((socket, _)) = listener.accept().await {
                let (habit, cuts) = (habit.clone(), counted.clone());
                tasks::start_in(&mut connections, "connection", async move {
                    let _ = carry(socket, upstream, &habit, &cuts).await;
                });
            }
        }));
        Self { address, cuts, _serving: serving }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// How many connections were cut.
    pub fn cuts(&self) -> u64 {
        self.cuts.load(SeqCst)
    }
}

async fn carry(
    mut client: TcpStream,
    upstream: SocketAddr,
    habit: &Habit,
    cuts: &AtomicU64,
) -> std::io::Result<()> {
    let mut server = TcpStream::connect(upstream).await?;
    let (mut asked, mut answered) = (vec![0; 1 << 20], vec![0; 16 << 10]);
    let mut sent = 0;
    loop {
        tokio::select! {
            read = client.read(&mut asked) => {
                let read = read?;
                if read == 0 {
                    return Ok(());
                }
                server.write_all(&changed(&asked[..read], habit)).await?;
                sent = 0;
            }
            read = server.read(&mut answered) => {
                let read = read?;
                if read == 0 {
                    return Ok(());
                }
                client.write_all(&answered[..read]).await?;
                sent += read as u64;
                if habit.cut_after.is_some_and(|most| sent > most) {
                    cuts.fetch_add(1, SeqCst);
                    return Ok(());
                }
            }
        }
    }
}

fn changed(request: &[u8], habit: &Habit) -> Vec<u8> {
    let text = String::from_utf8_lossy(request);
    match habit.replace {
        Some((where_, from, to)) if text.contains(where_) => {
            text.replace(from, &format!("{to:<0$}", from.len())).into_bytes()
        }
        _ => request.to_vec(),
    }
}
