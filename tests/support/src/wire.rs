//! A proxy between an exporter and its control plane that drops, duplicates or holds the next
//! message of a kind in either direction.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

use futures::Stream;
use tokio::{
    net::TcpListener,
    sync::{Semaphore, mpsc, watch},
    task::JoinSet,
};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{
    Request, Response, Status, Streaming,
    transport::{Channel, Endpoint, Server},
};
use tracelift_proto::fleet::v1::{
    self, connect_request::Message as Up, connect_response::Message as Down,
    fleet_service_client::FleetServiceClient, fleet_service_server::FleetService,
    fleet_service_server::FleetServiceServer, report::Event,
};
use tracelift_runtime::tasks::{self, Owned};

/// What happens to a message.
#[derive(Debug, Clone)]
pub enum Fate {
    /// It is lost and the stream breaks: a stream either delivers in order or not at all.
    Lost,
    /// It is delivered, and the stream breaks before any reply.
    LastOne,
    /// It is delivered twice.
    Repeated,
    /// It is delivered once the gate is opened.
    Held(Arc<Gate>),
}

/// Where a message is held.
#[derive(Debug)]
pub struct Gate {
    arrived: Semaphore,
    open: Semaphore,
}

impl Gate {
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::new(Self { arrived: Semaphore::new(0), open: Semaphore::new(0) })
    }

    /// Waits until the message has arrived.
    pub async fn reached(&self) {
        self.arrived.acquire().await.expect("open").forget();
    }

    /// Lets the message through.
    pub fn open(&self) {
        self.open.add_permits(1);
    }
}

/// Which message, and what happens to it. A rule applies once.
#[derive(Debug, Clone)]
struct Rule {
    kind: &'static str,
    fate: Fate,
}

/// The proxy, which stops when dropped.
pub struct Wire {
    pub url: String,
    rules: Arc<watch::Sender<Vec<Rule>>>,
    _server: Owned<()>,
}

impl Wire {
    /// Starts a proxy between exporters that connect to its `url` and the control plane at
    /// `upstream`.
    pub async fn to(upstream: &str) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let address: SocketAddr = listener.local_addr().expect("an address");
        let rules = Arc::new(watch::Sender::new(Vec::new()));
        let channel =
            Endpoint::from_shared(upstream.to_owned()).expect("an address").connect_lazy();
        let proxy = FleetServiceServer::new(Proxy { channel, rules: rules.clone() });
        let server = tasks::start("wire", async move {
            Server::builder()
                .add_service(proxy)
                .serve_with_incoming(TcpListenerStream::new(listener))
                .await
                .expect("it serves");
        });
        Self { url: format!("http://{address}"), rules, _server: Owned(server) }
    }

    /// Sets the fate of the next message of this kind. Kinds are the names of message fields, e.g.
    /// `file_done`.
    pub fn next(&self, kind: &'static str, fate: Fate) {
        self.rules.send_modify(|rules| rules.push(Rule { kind, fate }));
    }

    /// Whether every rule has been applied.
    pub fn is_quiet(&self) -> bool {
        self.rules.borrow().is_empty()
    }

    /// Waits until every rule has been applied.
    pub async fn quiet(&self) {
        self.rules.subscribe().wait_for(Vec::is_empty).await.expect("the wire is there");
    }
}

struct Proxy {
    channel: Channel,
    rules: Arc<watch::Sender<Vec<Rule>>>,
}

type Answers = std::pin::Pin<Box<dyn Stream<Item = Result<v1::ConnectResponse, Status>> + Send>>;

#[tonic::async_trait]
impl FleetService for Proxy {
    type ConnectStream = Answers;

    async fn connect(
        &self,
        request: Request<Streaming<v1::ConnectRequest>>,
    ) -> Result<Response<Answers>, Status> {
        let (metadata, _, mut said) = request.into_parts();
        let (up, messages) = mpsc::channel(1);
        let (down, answers) = mpsc::channel(1);
        let mut client = FleetServiceClient::new(self.channel.clone());
        let (rules, other_rules) = (self.rules.clone(), self.rules.clone());
        // Both directions run in one task: when either ends, the stream is broken for both sides.
        tasks::detached("wire's stream", async move {
            let mut pumps = JoinSet::new();
            tasks::start_in(&mut pumps, "up", async move {
                while let Ok(Some(message)) = said.message().await {
                    if pass(&rules, &up, message.message.as_ref().map_or("", kind_up), message)
                        .await
                        .is_none()
                    {
                        return;
                    }
                }
            });
            let mut request = Request::new(ReceiverStream::new(messages));
            *request.metadata_mut() = metadata;
            tasks::start_in(&mut pumps, "down", async move {
                let mut told = match client.connect(request).await {
                    Ok(told) => told.into_inner(),
                    Err(status) => return drop(down.send(Err(status)).await),
                };
                loop {
                    match told.message().await {
                        Ok(Some(message)) => {
                            let kind = message.message.as_ref().map_or("", kind_down);
                            if pass(&other_rules, &down, kind, Ok(message)).await.is_none() {
                                return;
                            }
                        }
                        Ok(None) => return,
                        Err(status) => return drop(down.send(Err(status)).await),
                    }
                }
            });
            pumps.join_next().await;
            pumps.shutdown().await;
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(answers))))
    }

    async fn get_destination_access(
        &self,
        request: Request<v1::GetDestinationAccessRequest>,
    ) -> Result<Response<v1::GetDestinationAccessResponse>, Status> {
        FleetServiceClient::new(self.channel.clone()).get_destination_access(request).await
    }
}

/// Forwards a message according to its rule; `None` if the stream breaks here.
async fn pass<T: Clone>(
    rules: &watch::Sender<Vec<Rule>>,
    to: &mpsc::Sender<T>,
    kind: &str,
    message: T,
) -> Option<()> {
    let mut rule = None;
    rules.send_if_modified(|rules| {
        rule = rules.iter().position(|rule| rule.kind == kind).map(|at| rules.remove(at));
        rule.is_some()
    });
    match rule.map(|rule| rule.fate) {
        Some(Fate::Lost) => return None,
        Some(Fate::LastOne) => {
            let _ = to.send(message).await; // a side that is gone has already broken the stream
            return None;
        }
        Some(Fate::Repeated) => to.send(message.clone()).await.ok()?,
        Some(Fate::Held(gate)) => {
            gate.arrived.add_permits(1);
            gate.open.acquire().await.ok()?.forget();
        }
        None => {}
    }
    to.send(message).await.ok()
}

fn kind_up(message: &Up) -> &'static str {
    match message {
        Up::Hello(_) => "hello",
        Up::Heartbeat(_) => "heartbeat",
        Up::Accepted(_) => "accepted",
        Up::Declined(_) => "declined",
        Up::Progress(_) => "progress",
        Up::Report(report) => report.event.as_ref().map_or("report", |event| match event {
            Event::FileIntent(_) => "file_intent",
            Event::FileDone(_) => "file_done",
            Event::Finished(_) => "finished",
            Event::Published(_) => "published",
            Event::Failed(_) => "failed",
            Event::HandedBack(_) => "handed_back",
            Event::CleanedUp(_) => "cleaned_up",
            Event::ExperimentsFound(_) => "experiments_found",
            Event::Counted(_) => "counted",
        }),
    }
}

fn kind_down(message: &Down) -> &'static str {
    match message {
        Down::Welcome(_) => "welcome",
        Down::HeartbeatReply(_) => "heartbeat_reply",
        Down::Assignment(_) => "assignment",
        Down::Ack(_) => "ack",
        Down::Cancel(_) => "cancel",
        Down::Revoked(_) => "revoked",
        Down::Drain(_) => "drain",
        Down::Publish(_) => "publish",
    }
}
