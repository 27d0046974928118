//! An exporter written by hand: says exactly what the test wants, and hears message by message.

use prost_types::Timestamp;
use tonic::Status;
use tracelift_proto::{
    fleet::v1::{
        self, assignment::Kind, connect_request::Message as ExporterMessage,
        connect_response::Message as Answer, fleet_service_client::FleetServiceClient,
        get_destination_access_response::Identity, report::Event,
    },
    v1::Credentials,
};
use tracelift_test_grpc::{
    Authorised, Bearer,
    fleet::{self, FleetSession},
};

use crate::plane::{FLEET, Plane, soon};

pub(crate) struct Exporter {
    session: FleetSession,
    pub(crate) welcome: v1::Welcome,
}

pub(crate) fn hello(name: &str, tasks: u32) -> v1::Hello {
    fleet::hello(name, "first", tasks)
}

fn client(plane: &Plane) -> FleetServiceClient<Authorised> {
    FleetServiceClient::with_interceptor(plane.caller(&[]).channel, Bearer::new(FLEET))
}

/// Opens the stream with that first message; what the control plane answers before its first
/// message.
pub(crate) async fn open(
    plane: &Plane,
    first: Option<ExporterMessage>,
) -> Result<FleetSession, Status> {
    soon(FleetSession::open(client(plane), first)).await
}

impl Exporter {
    pub(crate) async fn connect(plane: &Plane, name: &str, tasks: u32) -> Self {
        Self::connect_as(plane, hello(name, tasks)).await
    }

    pub(crate) async fn connect_as(plane: &Plane, hello: v1::Hello) -> Self {
        let connected = soon(FleetSession::connect(client(plane), hello)).await;
        let (session, welcome) = connected.unwrap();
        Self { session, welcome }
    }

    pub(crate) async fn say(&self, said: ExporterMessage) {
        self.send(Some(said)).await;
    }

    pub(crate) async fn send(&self, message: Option<ExporterMessage>) {
        self.session.say(message).await.unwrap();
    }

    /// The next message. Cleaning up and counting are taken and left undone.
    pub(crate) async fn hear(&mut self) -> Answer {
        loop {
            match soon(self.session.hear()).await {
                Ok(Some(Answer::Assignment(v1::Assignment {
                    kind: Some(Kind::CleanUp(_) | Kind::Reconcile(_)),
                    ..
                }))) => {}
                Ok(Some(answer)) => return answer,
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
    pub(crate) async fn leave(self) {
        soon(self.session.leave()).await.unwrap();
    }

    /// How the control plane ends the stream.
    pub(crate) async fn end(&mut self) -> Result<(), Status> {
        match soon(self.session.hear()).await {
            Ok(None) => Ok(()),
            Ok(Some(message)) => panic!("instead of the end came {message:?}"),
            Err(status) => Err(status),
        }
    }
}

/// The lease of an assignment, as heartbeats list it.
pub(crate) fn held(assignment: &v1::Assignment) -> v1::HeldLease {
    fleet::held(&assignment.task_id, assignment.fence)
}

/// Report `seq` of that event.
pub(crate) fn report(assignment: &v1::Assignment, seq: u64, event: Event) -> ExporterMessage {
    fleet::report(&assignment.task_id, assignment.fence, seq, event)
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
