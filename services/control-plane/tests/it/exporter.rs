//! An exporter written by hand: says exactly what the test wants, and hears message by message.

use prost_types::Timestamp;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};
use tracelift_proto::{
    PROTOCOL,
    fleet::v1::{
        self, assignment::Kind, connect_request::Message as ExporterMessage,
        connect_response::Message as Answer, get_destination_access_response::Identity,
        report::Event,
    },
    v1::Credentials,
};

use crate::plane::{Plane, soon};

pub(crate) struct Exporter {
    say: mpsc::Sender<v1::ConnectRequest>,
    hear: Streaming<v1::ConnectResponse>,
    pub(crate) welcome: v1::Welcome,
}

pub(crate) fn hello(name: &str, tasks: u32) -> v1::Hello {
    v1::Hello {
        exporter_id: name.to_owned(),
        incarnation: "first".to_owned(),
        protocol_min: *PROTOCOL.start(),
        protocol_max: *PROTOCOL.end(),
        capacity: Some(v1::Capacity { tasks }),
        held: Vec::new(),
    }
}

/// Opens the stream with that first message; what the control plane answers before its first
/// message.
pub(crate) async fn open(
    plane: &Plane,
    first: Option<ExporterMessage>,
) -> Result<(mpsc::Sender<v1::ConnectRequest>, Streaming<v1::ConnectResponse>), Status> {
    let (say, said) = mpsc::channel(256);
    say.send(v1::ConnectRequest { message: first }).await.unwrap();
    let hear = soon(plane.fleet().fleet().connect(ReceiverStream::new(said))).await?.into_inner();
    Ok((say, hear))
}

impl Exporter {
    pub(crate) async fn connect(plane: &Plane, name: &str, tasks: u32) -> Self {
        Self::connect_as(plane, hello(name, tasks)).await
    }

    pub(crate) async fn connect_as(plane: &Plane, hello: v1::Hello) -> Self {
        let (say, mut hear) = open(plane, Some(ExporterMessage::Hello(hello))).await.unwrap();
        match soon(hear.message()).await.unwrap().and_then(|answer| answer.message) {
            Some(Answer::Welcome(welcome)) => Self { say, hear, welcome },
            other => panic!("instead of a welcome came {other:?}"),
        }
    }

    pub(crate) async fn say(&self, said: ExporterMessage) {
        self.send(Some(said)).await;
    }

    pub(crate) async fn send(&self, message: Option<ExporterMessage>) {
        self.say.send(v1::ConnectRequest { message }).await.unwrap();
    }

    /// The next message. Cleaning up and counting are taken and left undone.
    pub(crate) async fn hear(&mut self) -> Answer {
        loop {
            match soon(self.hear.message()).await {
                Ok(Some(v1::ConnectResponse {
                    message:
                        Some(Answer::Assignment(v1::Assignment {
                            kind: Some(Kind::CleanUp(_) | Kind::Reconcile(_)),
                            ..
                        })),
                })) => {}
                Ok(Some(v1::ConnectResponse { message: Some(answer) })) => return answer,
                other => panic!("instead of a message came {other:?}"),
            }
        }
    }

    pub(crate) async fn assignment(&mut self) -> v1::Assignment {
        match self.hear().await {
            Answer::Assignment(assignment) => assignment,
            other => panic!("instead of an assignment came {other:?}"),
        }
    }

    /// Says a report and hears that it is stored.
    pub(crate) async fn report(&mut self, seq: u64, said: ExporterMessage) {
        self.say(said).await;
        assert_eq!(self.hear().await, Answer::Ack(v1::Ack { seq }));
    }

    /// Goes away, and waits until its session has ended: one that still lives would be given the
    /// next run.
    pub(crate) async fn leave(mut self) {
        drop(self.say);
        while soon(self.hear.message()).await.unwrap().is_some() {}
    }

    /// How the control plane ends the stream.
    pub(crate) async fn end(&mut self) -> Result<(), Status> {
        match soon(self.hear.message()).await {
            Ok(None) => Ok(()),
            Ok(Some(message)) => panic!("instead of the end came {message:?}"),
            Err(status) => Err(status),
        }
    }
}

/// The lease of an assignment, as heartbeats list it.
pub(crate) fn held(assignment: &v1::Assignment) -> v1::HeldLease {
    v1::HeldLease { task_id: assignment.task_id.clone(), fence: assignment.fence }
}

/// Report `seq` of that event.
pub(crate) fn report(assignment: &v1::Assignment, seq: u64, event: Event) -> ExporterMessage {
    ExporterMessage::Report(v1::Report {
        task_id: assignment.task_id.clone(),
        fence: assignment.fence,
        seq,
        event: Some(event),
    })
}

/// A file of 10 rows.
pub(crate) fn file(assignment: &v1::Assignment, number: u32) -> v1::File {
    let time = Some(Timestamp { seconds: 1_704_067_200, nanos: 0 });
    v1::File {
        number,
        key: format!("root/data-{number:05}.parquet"),
        rows: 10,
        bytes: 100,
        etag: "e".into(),
        sha256: "0a".repeat(32),
        min_start_time: time,
        max_start_time: time,
        cursor: Some(v1::Cursor { start_time: time, id: assignment.export_id.clone() }),
        left_out: Some(v1::LeftOut::default()),
        ..v1::File::default()
    }
}

/// Report `seq` that a file of 10 rows is complete.
pub(crate) fn file_done(assignment: &v1::Assignment, seq: u64, number: u32) -> ExporterMessage {
    report(assignment, seq, Event::FileDone(file(assignment, number)))
}

pub(crate) fn finished(assignment: &v1::Assignment, seq: u64, files: u32) -> ExporterMessage {
    let rows = u64::from(files) * 10;
    report(assignment, seq, Event::Finished(v1::Finished { files, rows, ..Default::default() }))
}

pub(crate) fn published(assignment: &v1::Assignment, seq: u64) -> ExporterMessage {
    report(assignment, seq, Event::Published(v1::Published {}))
}

pub(crate) fn failed(
    assignment: &v1::Assignment,
    seq: u64,
    class: v1::FailureClass,
) -> ExporterMessage {
    let failure = v1::Failure {
        step: v1::Step::Read.into(),
        class: class.into(),
        detail: "no route to host".into(),
    };
    report(assignment, seq, Event::Failed(failure))
}

/// The keys that an exporter was given.
pub(crate) fn keys(access: v1::GetDestinationAccessResponse) -> Credentials {
    match access.identity {
        Some(Identity::Credentials(keys)) => keys,
        other => panic!("instead of keys came {other:?}"),
    }
}
