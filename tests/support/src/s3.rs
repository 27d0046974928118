//! An S3 server on a folder, with fault injection and a list of open uploads.
//!
//! It takes every key that S3 takes, and everything it has acknowledged is there again after a
//! kill.

mod faults;
mod journal;
mod layout;
mod list;
mod served;
mod stored;
mod uploads;

use std::{
    io,
    net::SocketAddr,
    path::Path,
    sync::{Arc, Mutex},
};

use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto::Builder,
};
use s3s::{
    S3Result,
    auth::{S3Auth, SecretKey},
    s3_error,
    service::{S3Service, S3ServiceBuilder},
};
use tokio::{net::TcpListener, task::JoinHandle};
use tracelift_runtime::tasks;

pub use faults::{Faults, Gate, Operation};
use layout::Layout;
use served::Served;
use uploads::Uploads;

pub const ACCESS_KEY_ID: &str = "tracelift-dev-access-key";
pub const SECRET_ACCESS_KEY: &str = "tracelift-dev-secret-key";

/// A running server.
pub struct S3Server {
    pub address: SocketAddr,
    pub faults: Arc<Faults>,
    uploads: Arc<Uploads>,
    layout: Layout,
    keys: Arc<Keys>,
    task: Mutex<JoinHandle<()>>,
}

impl S3Server {
    /// Serves the folder on a listener.
    pub fn start(root: &Path, listener: TcpListener) -> io::Result<Self> {
        std::fs::create_dir_all(root)?;
        let address = listener.local_addr()?;
        let (faults, layout) = (Arc::new(Faults::default()), Layout::new(root));
        let uploads = Arc::new(Uploads::new(&layout)?);
        let served = Served {
            layout: layout.clone(),
            faults: faults.clone(),
            uploads: Arc::clone(&uploads),
        };
        let mut builder = S3ServiceBuilder::new(served);
        let keys = Arc::new(Keys(Mutex::new(vec![ACCESS_KEY_ID.to_owned()])));
        builder.set_auth(KnownKeys(keys.clone()));
        let task = tasks::start("s3", serve(listener, builder.build()));
        Ok(Self { address, faults, uploads, layout, keys, task: Mutex::new(task) })
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Accepts another access key id, with the same secret.
    pub fn add_key(&self, access_key_id: &str) {
        self.keys.0.lock().expect("not poisoned").push(access_key_id.to_owned());
    }

    pub fn create_bucket(&self, name: &str) {
        std::fs::create_dir_all(self.layout.bucket(name)).expect("a bucket");
    }

    /// Writes an object directly, without going through HTTP.
    pub fn put(&self, bucket: &str, key: &str, content: &[u8]) {
        let path = self.layout.object(bucket, key);
        std::fs::create_dir_all(path.parent().expect("a key has a folder")).expect("a folder");
        std::fs::write(path, content).expect("an object");
    }

    pub fn delete(&self, bucket: &str, key: &str) {
        std::fs::remove_file(self.layout.object(bucket, key)).expect("an object to delete");
    }

    pub fn get(&self, bucket: &str, key: &str) -> Option<Vec<u8>> {
        std::fs::read(self.layout.object(bucket, key)).ok()
    }

    /// Every key of a bucket, sorted.
    pub fn keys(&self, bucket: &str) -> Vec<String> {
        self.layout.keys(bucket, "").into_iter().collect()
    }

    /// The (key, upload id) of every upload that was neither completed nor aborted.
    pub fn open_uploads(&self) -> Vec<(String, String)> {
        self.uploads.open()
    }

    /// Stops accepting connections.
    pub fn stop(&self) {
        self.task.lock().expect("not poisoned").abort();
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        self.stop();
    }
}

async fn serve(listener: TcpListener, service: S3Service) {
    let mut connections = tokio::task::JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((socket, _)) = accepted else { continue };
                let _ = socket.set_nodelay(true);
                let service = service.clone();
                tasks::start_in(&mut connections, "connection", async move {
                    let _ = Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(socket), service).await;
                });
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Access key ids, all with the same secret; any other is rejected with AWS's error.
struct Keys(Mutex<Vec<String>>);

struct KnownKeys(Arc<Keys>);

#[async_trait::async_trait]
impl S3Auth for KnownKeys {
    async fn get_secret_key(&self, access_key: &str) -> S3Result<SecretKey> {
        if self.0.0.lock().expect("not poisoned").iter().any(|known| known == access_key) {
            return Ok(SECRET_ACCESS_KEY.into());
        }
        Err(s3_error!(
            InvalidAccessKeyId,
            "The AWS Access Key Id you provided does not exist in our records."
        ))
    }
}
