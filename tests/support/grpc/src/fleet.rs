//! An exporter's side of the fleet protocol, spoken by hand: says exactly what its user wants, and
//! hears message by message.

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};
use tracelift_proto::{
    PROTOCOL,
    fleet::v1::{
        self, connect_request::Message as Said, connect_response::Message as Heard,
        fleet_service_client::FleetServiceClient, report::Event,
    },
};

use crate::Authorised;

/// A stream to a control plane.
pub struct FleetSession {
    say: mpsc::Sender<v1::ConnectRequest>,
    hear: Streaming<v1::ConnectResponse>,
}

/// As in the real exporter: messages that wait to be sent.
const OUTBOX: usize = 64;

impl FleetSession {
    /// Opens the stream with this first message; what the control plane answers before its own
    /// first message.
    pub async fn open(
        mut client: FleetServiceClient<Authorised>,
        first: Option<Said>,
    ) -> Result<Self, Status> {
        let (say, said) = mpsc::channel(OUTBOX);
        say.try_send(v1::ConnectRequest { message: first }).expect("room for the first message");
        let hear = client.connect(ReceiverStream::new(said)).await?.into_inner();
        Ok(Self { say, hear })
    }

    /// Opens the stream with a hello, and hears the welcome.
    pub async fn connect(
        client: FleetServiceClient<Authorised>,
        hello: v1::Hello,
    ) -> Result<(Self, v1::Welcome), Status> {
        let mut session = Self::open(client, Some(Said::Hello(hello))).await?;
        match session.hear().await? {
            Some(Heard::Welcome(welcome)) => Ok((session, welcome)),
            other => Err(Status::internal(format!("instead of a welcome came {other:?}"))),
        }
    }

    /// Sends a message. One without content is for tests only.
    pub async fn say(&self, message: impl Into<Option<Said>>) -> Result<(), Status> {
        let request = v1::ConnectRequest { message: message.into() };
        self.say.send(request).await.map_err(|_| Status::unavailable("the stream has ended"))
    }

    /// The next message; `None` once the control plane has ended the stream.
    pub async fn hear(&mut self) -> Result<Option<Heard>, Status> {
        match self.hear.message().await? {
            Some(answer) => answer
                .message
                .map(Some)
                .ok_or_else(|| Status::internal("a message without content")),
            None => Ok(None),
        }
    }

    /// Ends the stream, and returns what the control plane says until it has ended it too.
    pub async fn leave(self) -> Result<Vec<Heard>, Status> {
        let Self { say, mut hear } = self;
        drop(say);
        let mut heard = Vec::new();
        while let Some(answer) = hear.message().await? {
            heard.extend(answer.message);
        }
        Ok(heard)
    }
}

/// The hello of an exporter with room for that many tasks, which holds none yet.
pub fn hello(name: &str, incarnation: &str, tasks: u32) -> v1::Hello {
    v1::Hello {
        exporter_id: name.to_owned(),
        incarnation: incarnation.to_owned(),
        protocol_min: *PROTOCOL.start(),
        protocol_max: *PROTOCOL.end(),
        capacity: Some(v1::Capacity { tasks }),
        held: Vec::new(),
    }
}

/// The lease of a task, as heartbeats list it.
pub fn held(task_id: &str, fence: u64) -> v1::HeldLease {
    v1::HeldLease { task_id: task_id.to_owned(), fence }
}

/// Report `seq` of that event.
pub fn report(task_id: &str, fence: u64, seq: u64, event: Event) -> Said {
    Said::Report(v1::Report { task_id: task_id.to_owned(), fence, seq, event: Some(event) })
}
