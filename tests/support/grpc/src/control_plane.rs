//! A control plane that returns fixed responses, or one error, and records its requests.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard},
};

use tokio::{
    net::TcpListener,
    sync::{Notify, mpsc},
};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Status, metadata::MetadataMap, transport::Server};
use tracelift_proto::v1::{
    self, admin_service_server::AdminServiceServer,
    destination_service_server::DestinationServiceServer,
    export_service_server::ExportServiceServer,
};
use tracelift_runtime::tasks::{self, Owned};

use crate::answers::runs;

/// An item of a watch stream.
pub type Change = Result<v1::WatchExportResponse, Status>;

/// The sending end of a watch stream.
pub type Watch = mpsc::Sender<Change>;

/// Capacity of a watch stream.
const CHANGES: usize = 16;

#[derive(Default)]
struct Memory {
    refusal: Option<Status>,
    asked: Vec<String>,
    metadata: MetadataMap,
    credentials: Option<v1::Credentials>,
    hang: bool,
    ended: bool,
    tampered: bool,
    pages: bool,
    files: u32,
    planned: VecDeque<Planned>,
    watch: Option<Watch>,
    held: Vec<Watch>,
}

/// A watch stream prepared by a test.
struct Planned {
    changes: Vec<Change>,
    open: bool,
}

/// The fake, shared by its server and the test.
#[derive(Clone, Default)]
pub struct FakeControlPlane {
    memory: Arc<Mutex<Memory>>,
    /// Notified when a call arrives.
    pub entered: Arc<Notify>,
    watched: Arc<Notify>,
}

/// Controls for tests.
impl FakeControlPlane {
    /// Serves on a free port until the guard is dropped.
    pub async fn serve(&self) -> (SocketAddr, Owned<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = Server::builder()
            .add_service(ExportServiceServer::new(self.clone()))
            .add_service(DestinationServiceServer::new(self.clone()))
            .add_service(AdminServiceServer::new(self.clone()))
            .serve_with_incoming(TcpListenerStream::new(listener));
        (address, Owned(tasks::start("fake", async move { server.await.unwrap() })))
    }

    /// From now on, every call fails with this status.
    pub fn refuse(&self, status: Status) {
        self.memory().refusal = Some(status);
    }

    /// From now on, no call gets a response.
    pub fn hang(&self) {
        self.memory().hang = true;
    }

    /// From now on, runs are returned in two pages, unless the limit is two.
    pub fn page(&self) {
        self.memory().pages = true;
    }

    /// From now on, the first run has more files than its response lists.
    pub fn many_files(&self) {
        self.memory().files = 2;
    }

    /// From now on, the export has ended.
    pub fn end(&self) {
        self.memory().ended = true;
    }

    /// From now on, records of the audit log are not what their hashes were made of.
    pub fn tamper(&self) {
        self.memory().tampered = true;
    }

    /// Prepares the changes of the next watch; if `open`, its stream does not end by itself.
    pub fn plan_watch(&self, changes: Vec<Change>, open: bool) {
        self.memory().planned.push_back(Planned { changes, open });
    }

    /// Waits for a watch that was not prepared, and returns its sending end.
    pub async fn watch(&self) -> Watch {
        self.watched.notified().await;
        self.memory().watch.take().unwrap()
    }
}

/// Recorded requests.
impl FakeControlPlane {
    /// The requests received, in `Debug` format.
    pub fn asked(&self) -> Vec<String> {
        self.memory().asked.clone()
    }

    /// A metadata value of the last call.
    pub fn metadata(&self, name: &str) -> Option<String> {
        self.memory().metadata.get(name).map(|value| value.to_str().unwrap().to_owned())
    }

    /// The credentials of the last destination, which `Debug` does not show.
    pub fn credentials(&self) -> Option<v1::Credentials> {
        self.memory().credentials.clone()
    }
}

/// Used by the services.
impl FakeControlPlane {
    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap()
    }

    pub(crate) async fn hear<T: std::fmt::Debug>(&self, request: Request<T>) -> Result<(), Status> {
        let hang = {
            let mut memory = self.memory();
            memory.metadata = request.metadata().clone();
            memory.asked.push(format!("{:?}", request.get_ref()));
            if let Some(status) = &memory.refusal {
                return Err(status.clone());
            }
            memory.hang
        };
        self.entered.notify_one();
        if hang {
            std::future::pending::<()>().await;
        }
        Ok(())
    }

    pub(crate) fn keep(&self, credentials: Option<v1::Credentials>) {
        self.memory().credentials = credentials;
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.memory().ended
    }

    pub(crate) fn is_tampered(&self) -> bool {
        self.memory().tampered
    }

    pub(crate) fn has_pages(&self) -> bool {
        self.memory().pages
    }

    pub(crate) fn runs(&self) -> Vec<v1::ExportRun> {
        let (mut runs, files) = (runs(), self.memory().files);
        if let Some(result) = runs[0].result.as_mut().filter(|_| files > 0) {
            result.files = files;
        }
        runs
    }

    pub(crate) fn begin_watch(&self) -> mpsc::Receiver<Change> {
        let (sender, receiver) = mpsc::channel(CHANGES);
        let mut memory = self.memory();
        match memory.planned.pop_front() {
            Some(Planned { changes, open }) => {
                for change in changes {
                    sender.try_send(change).unwrap();
                }
                if open {
                    memory.held.push(sender);
                }
            }
            None => {
                memory.watch = Some(sender);
                self.watched.notify_one();
            }
        }
        receiver
    }
}
