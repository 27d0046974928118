//! The agent: one stream to the control plane, the jobs it assigned, and their reports.
//!
//! Losing the stream stops no job. Reports wait while the agent reconnects with jitter, and a job
//! whose lease could lapse meanwhile is stopped before it can do harm.

mod in_flight;

use std::{collections::VecDeque, sync::Arc, time::Duration};

use tokio::{
    sync::mpsc,
    time::{Instant, Interval, MissedTickBehavior, interval_at, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};
use tracelift_core::{
    Invalid,
    assignment::{Assigned, Assignment, Frozen},
    file::Totals,
};
use tracelift_proto::{
    PROTOCOL,
    fleet::v1::{
        self, connect_request::Message as ExporterMessage,
        connect_response::Message as ControlMessage,
    },
};

pub(crate) use in_flight::InFlight;

use crate::{
    access::FleetClient,
    destination::chance,
    job::{Job, JobContext},
    lease::{Lease, StopReason},
    meter::Meter,
    report::Outgoing,
};

/// The agent's dependencies and settings.
pub(crate) struct Agent {
    pub(crate) client: FleetClient,
    pub(crate) exporter: String,
    pub(crate) incarnation: String,
    pub(crate) capacity: u32,
    pub(crate) drain_time: Duration,
    pub(crate) context: JobContext,
    pub(crate) reports: mpsc::Receiver<Outgoing>,
    pub(crate) in_flight: InFlight,
}

/// Smallest and largest upper bound of the reconnect delay; the delay itself is random below the
/// bound.
const RECONNECT: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));
/// Timeout for the control plane to send its welcome, or to accept a message.
const PATIENCE: Duration = Duration::from_secs(10);
/// Interval between progress messages.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);
/// Capacity of the queue of outgoing messages.
const OUTBOX: usize = 64;

/// Why a session ended.
enum SessionEnd {
    /// The stream broke, or the control plane refused the connection.
    Lost(Status),
    /// The control plane is shutting down; reconnect after this delay.
    Drained(Duration),
    /// All tasks have been handed back.
    Stopped,
}

impl From<Status> for SessionEnd {
    fn from(status: Status) -> Self {
        Self::Lost(status)
    }
}

impl Agent {
    /// Runs until `stopping` is cancelled, then finishes the files in progress and hands the tasks
    /// back, within the drain time.
    pub(crate) async fn run(mut self, stopping: CancellationToken) {
        let out_of_time = {
            let (stopping, drain_time) = (stopping.clone(), self.drain_time);
            async move {
                stopping.cancelled().await;
                tokio::time::sleep(drain_time).await;
            }
        };
        tokio::select! {
            () = self.keep_connected(&stopping) => {}
            () = out_of_time => tracing::warn!("the files in hand could not be finished in time; their leases will lapse"),
        }
        self.in_flight.shut_down().await;
    }

    async fn keep_connected(&mut self, stopping: &CancellationToken) {
        let mut failures = 0u32;
        loop {
            let connected = Instant::now();
            let wait = match self.session(stopping).await {
                SessionEnd::Stopped => return,
                SessionEnd::Drained(after) => after,
                SessionEnd::Lost(status) => {
                    tracing::warn!(code = ?status.code(), reason = status.message(), "the control plane is lost; connecting again");
                    failures = if connected.elapsed() > RECONNECT.1 {
                        0
                    } else {
                        failures.saturating_add(1)
                    };
                    jitter(RECONNECT.0.saturating_mul(1 << failures.min(8)).min(RECONNECT.1))
                }
            };
            if stopping.is_cancelled() && self.is_idle() {
                return;
            }
            self.in_flight.stop_when_leases_could_lapse();
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = stopping.cancelled(), if !stopping.is_cancelled() => self.in_flight.stop_all(StopReason::Drained),
            }
        }
    }

    async fn session(&mut self, stopping: &CancellationToken) -> SessionEnd {
        match self.serve(stopping).await {
            Ok(never) => match never {},
            Err(end) => end,
        }
    }

    async fn serve(
        &mut self,
        stopping: &CancellationToken,
    ) -> Result<std::convert::Infallible, SessionEnd> {
        let said_hello = Instant::now();
        let mut draining = stopping.is_cancelled();
        let (outbox, mut told) = self.connect(draining).await?;
        let welcome = match timeout(PATIENCE, told.message())
            .await
            .map_err(|_| Status::deadline_exceeded("no welcome"))??
        {
            Some(v1::ConnectResponse { message: Some(ControlMessage::Welcome(welcome)) }) => {
                welcome
            }
            _ => {
                return Err(SessionEnd::Lost(Status::unavailable(
                    "the control plane did not say welcome",
                )));
            }
        };
        let (beat, lease_time) = terms(&welcome);
        let trusted = lease_time.mul_f64(TRUSTED_SHARE);
        tracing::info!(protocol = welcome.protocol, ?lease_time, "connected to the control plane");
        self.in_flight.obey(&welcome.verdicts, said_hello + trusted);
        for report in self.in_flight.unacknowledged() {
            send(&outbox, ExporterMessage::Report(report)).await?;
        }
        let (mut beats, mut ticks) = (spread(beat), spread(PROGRESS_INTERVAL));
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // For each heartbeat without a reply: when it was sent, because the lease is valid from
        // then and no later; and whether it declined further tasks, because after its reply no
        // assignment is in flight.
        let mut unanswered = VecDeque::new();
        let mut given_no_more = draining; // hello said so
        loop {
            if given_no_more && self.is_idle() {
                return Err(SessionEnd::Stopped);
            }
            tokio::select! {
                message = told.message() => match message? {
                    Some(v1::ConnectResponse { message: Some(ControlMessage::HeartbeatReply(reply)) }) => {
                        let (sent, wanted_no_more) = unanswered.pop_front().unwrap_or((said_hello, false));
                        self.in_flight.obey(&reply.verdicts, sent + trusted);
                        given_no_more |= wanted_no_more;
                    }
                    Some(v1::ConnectResponse { message: Some(message) }) => self.handle(message, draining, &outbox).await?,
                    Some(_) => {}
                    None => return Err(SessionEnd::Lost(Status::unavailable("the control plane closed the stream"))),
                },
                Some(report) = self.reports.recv() => {
                    let report = self.in_flight.outgoing(report);
                    send(&outbox, ExporterMessage::Report(report)).await?;
                }
                report = self.in_flight.next_outcome() => {
                    if let Some(report) = report {
                        send(&outbox, ExporterMessage::Report(report)).await?;
                    }
                }
                _ = beats.tick() => {
                    unanswered.push_back((Instant::now(), draining));
                    send(&outbox, self.heartbeat(draining)).await?;
                }
                _ = ticks.tick() => {
                    self.in_flight.stop_when_leases_could_lapse();
                    for progress in self.in_flight.progress() {
                        send(&outbox, ExporterMessage::Progress(progress)).await?;
                    }
                }
                () = stopping.cancelled(), if !draining => {
                    draining = true;
                    self.in_flight.stop_all(StopReason::Drained);
                    unanswered.push_back((Instant::now(), draining));
                    send(&outbox, self.heartbeat(draining)).await?;
                }
            }
        }
    }

    /// Whether no job works and no report waits, neither to be stored nor to be numbered: a job hands
    /// its last report in and ends in the same moment, and its end may be seen first.
    fn is_idle(&self) -> bool {
        self.in_flight.is_idle() && self.reports.is_empty()
    }

    async fn connect(
        &mut self,
        draining: bool,
    ) -> Result<(mpsc::Sender<v1::ConnectRequest>, Streaming<v1::ConnectResponse>), Status> {
        let (outbox, messages) = mpsc::channel(OUTBOX);
        let hello = v1::Hello {
            exporter_id: self.exporter.clone(),
            incarnation: self.incarnation.clone(),
            protocol_min: *PROTOCOL.start(),
            protocol_max: *PROTOCOL.end(),
            capacity: Some(v1::Capacity { tasks: if draining { 0 } else { self.capacity } }),
            held: self.in_flight.held(),
        };
        send(&outbox, ExporterMessage::Hello(hello)).await?;
        let connecting = self.client.connect(ReceiverStream::new(messages));
        let told = timeout(PATIENCE, connecting)
            .await
            .map_err(|_| Status::deadline_exceeded("no connection"))??;
        Ok((outbox, told.into_inner()))
    }

    fn heartbeat(&self, draining: bool) -> ExporterMessage {
        let capacity = Some(v1::Capacity { tasks: if draining { 0 } else { self.capacity } });
        ExporterMessage::Heartbeat(v1::Heartbeat { held: self.in_flight.held(), capacity })
    }

    async fn handle(
        &mut self,
        message: ControlMessage,
        draining: bool,
        outbox: &mpsc::Sender<v1::ConnectRequest>,
    ) -> Result<(), SessionEnd> {
        match message {
            ControlMessage::Assignment(assignment) => {
                send(outbox, self.begin(&assignment, draining)).await?;
            }
            ControlMessage::Ack(ack) => self.in_flight.stored_up_to(ack.seq),
            ControlMessage::Publish(publish) => {
                let (task, fence) = (&publish).try_into().map_err(unreadable)?;
                let files =
                    publish.files.as_ref().ok_or_else(|| Invalid::new("files", "is required"));
                let frozen = files.and_then(Frozen::try_from).map_err(unreadable)?;
                self.in_flight.frozen(task, fence, frozen);
            }
            ControlMessage::Cancel(cancel) => {
                let (task, fence) = (&cancel).try_into().map_err(unreadable)?;
                self.in_flight.stop(task, fence, StopReason::Cancelled);
            }
            ControlMessage::Revoked(revoked) => {
                let (task, fence) = (&revoked).try_into().map_err(unreadable)?;
                self.in_flight.stop(task, fence, StopReason::Revoked);
            }
            ControlMessage::Drain(drain) => {
                let after = drain
                    .reconnect_after
                    .and_then(|after| Duration::try_from(after).ok())
                    .unwrap_or(RECONNECT.1);
                return Err(SessionEnd::Drained(after + jitter(RECONNECT.0)));
            }
            ControlMessage::Welcome(_) | ControlMessage::HeartbeatReply(_) => {
                return Err(SessionEnd::Lost(Status::unavailable(
                    "the control plane said something out of turn",
                )));
            }
        }
        Ok(())
    }

    /// Starts the job of an assignment, declines it, or hands it back if it was in flight when the
    /// exporter was told to stop.
    fn begin(&mut self, message: &v1::Assignment, draining: bool) -> ExporterMessage {
        let decline = |reason: String| {
            tracing::warn!(task = message.task_id, reason, "assignment declined");
            let (task_id, fence) = (message.task_id.clone(), message.fence);
            ExporterMessage::Declined(v1::Declined { task_id, fence, reason })
        };
        let assignment = match Assignment::try_from(message) {
            Ok(assignment) => assignment,
            Err(fault) => return decline(format!("the assignment cannot be read: {fault}")),
        };
        let lease = Lease::of(&assignment, self.in_flight.guard());
        let accepted = ExporterMessage::Accepted((lease.task, lease.fence).into());
        if let Some(older) = self.in_flight.lease(lease.task) {
            if older.fence >= lease.fence {
                return accepted; // a duplicate
            }
            older.stop(StopReason::Revoked);
        } else if self.in_flight.jobs() >= usize::try_from(self.capacity).unwrap_or(usize::MAX) {
            return decline("this exporter has no free slot".to_owned());
        }
        if draining {
            return ExporterMessage::Report(self.in_flight.hand_back(lease));
        }
        let Assignment { task, export, fence, attempt, spec, work, .. } = assignment;
        tracing::info!(%task, %export, fence = fence.0, attempt, "task taken");
        let meter = Arc::new(Meter::starting_at(before(&work)));
        let context = self.context.clone();
        let job = Job { context, lease: lease.clone(), spec, meter: meter.clone() };
        self.in_flight.start(lease, meter, async move { job.run(work).await });
        accepted
    }
}

/// Totals of earlier attempts.
fn before(work: &Assigned) -> Totals {
    match work {
        Assigned::Partition(resume) => resume.before,
        Assigned::Publish(frozen) => Totals::of(&frozen.files),
        _ => Totals::default(),
    }
}

/// Share of the lease time for which jobs continue without hearing from the control plane.
const TRUSTED_SHARE: f64 = 0.75;

/// An invalid message ends the session; the next one starts from the true state.
fn unreadable(fault: Invalid) -> SessionEnd {
    SessionEnd::Lost(Status::invalid_argument(format!("the control plane's message: {fault}")))
}

async fn send(
    outbox: &mpsc::Sender<v1::ConnectRequest>,
    said: ExporterMessage,
) -> Result<(), Status> {
    let message = v1::ConnectRequest { message: Some(said) };
    let sent = timeout(PATIENCE, outbox.send(message)).await;
    sent.map_err(|_| Status::unavailable("the control plane takes nothing in"))?
        .map_err(|_| Status::unavailable("the stream is closed"))
}

/// Heartbeat interval and lease time, with defaults.
fn terms(welcome: &v1::Welcome) -> (Duration, Duration) {
    let read = |duration: Option<prost_types::Duration>, default| {
        duration
            .and_then(|duration| Duration::try_from(duration).ok())
            .filter(|duration| !duration.is_zero())
            .unwrap_or(default)
    };
    (
        read(welcome.heartbeat_interval, Duration::from_secs(5)),
        read(welcome.lease_time, Duration::from_secs(30)),
    )
}

/// Ticks every `period` with a random first delay, so that exporters that connect at the same
/// moment, as after a restart of the control plane, do not stay in step.
fn spread(period: Duration) -> Interval {
    interval_at(Instant::now() + jitter(period), period)
}

/// A random duration of at most `most`.
fn jitter(most: Duration) -> Duration {
    most.mul_f64(chance())
}
