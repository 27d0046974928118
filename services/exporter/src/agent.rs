//! The agent: one stream to the control plane, the jobs it gave, and their reports.
//!
//! Losing the stream stops no job. Reports wait, the agent connects again with jitter, and a job
//! whose lease could have lapsed meanwhile is stopped before it can do harm.

mod assignment;

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{Instant, Interval, MissedTickBehavior, interval_at, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};
use tracelift_core::{failure::Failure, id::RunId};
use tracelift_proto::{
    PROTOCOL,
    fleet::v1::{self, connect_request::Message as Said, connect_response::Message as Told},
    under,
};
use tracelift_runtime::tasks;
use tracing::Instrument as _;

use crate::{
    access::FleetClient,
    destination::chance,
    job::{Halt, Job, Workshop},
    lease::{Lease, Stop, Trust},
    meter::Meter,
    report::{Outgoing, Stored},
};

/// What the agent is told at its start.
pub(crate) struct Agent {
    pub(crate) client: FleetClient,
    pub(crate) exporter: String,
    pub(crate) incarnation: String,
    pub(crate) capacity: u32,
    pub(crate) drain_time: Duration,
    pub(crate) workshop: Workshop,
    pub(crate) reports: mpsc::Receiver<Outgoing>,
    pub(crate) work: Work,
}

/// What is under way.
#[derive(Default)]
pub(crate) struct Work {
    jobs: HashMap<RunId, (Lease, Arc<Meter>)>,
    tasks: JoinSet<(Lease, Result<(), Halt>)>,
    /// Reports that are not stored yet, by number.
    pending: BTreeMap<u64, (Lease, Said, Option<tokio::sync::oneshot::Sender<Stored>>)>,
    last_seq: u64,
    trust: Arc<Trust>,
}

/// Shortest and longest bound of the wait before connecting again; the wait itself is anywhere
/// below it.
const RECONNECT: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));
/// How long the control plane may take for its welcome, or to take in what is said.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often progress is reported.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);
/// Messages that wait to be sent.
const OUTBOX: usize = 64;

/// Why a session ended.
enum End {
    /// The stream broke, or the control plane refused.
    Lost(Status),
    /// The control plane stops; come back then.
    Drained(Duration),
    /// Everything is handed back.
    Stopped,
}

impl From<Status> for End {
    fn from(status: Status) -> Self {
        Self::Lost(status)
    }
}

impl Agent {
    /// Works until `stopping`, then finishes the files in hand and gives the runs back, within the
    /// drain time.
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
        self.work.stop_all(Stop::Revoked);
        self.work.tasks.shutdown().await;
    }

    async fn keep_connected(&mut self, stopping: &CancellationToken) {
        let mut failures = 0u32;
        loop {
            let connected = Instant::now();
            let wait = match self.session(stopping).await {
                End::Stopped => return,
                End::Drained(after) => after,
                End::Lost(status) => {
                    tracing::warn!(code = ?status.code(), reason = status.message(), "the control plane is lost; connecting again");
                    failures = if connected.elapsed() > RECONNECT.1 {
                        0
                    } else {
                        failures.saturating_add(1)
                    };
                    jitter(RECONNECT.0.saturating_mul(1 << failures.min(8)).min(RECONNECT.1))
                }
            };
            if stopping.is_cancelled() && self.work.is_idle() {
                return;
            }
            self.work.fence();
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = stopping.cancelled(), if !stopping.is_cancelled() => self.work.stop_all(Stop::Drained),
            }
        }
    }

    async fn session(&mut self, stopping: &CancellationToken) -> End {
        match self.serve(stopping).await {
            Ok(never) => match never {},
            Err(end) => end,
        }
    }

    async fn serve(
        &mut self,
        stopping: &CancellationToken,
    ) -> Result<std::convert::Infallible, End> {
        let said_hello = Instant::now();
        let mut draining = stopping.is_cancelled();
        let (outbox, mut told) = self.connect(draining).await?;
        let welcome = match timeout(PATIENCE, told.message())
            .await
            .map_err(|_| Status::deadline_exceeded("no welcome"))??
        {
            Some(v1::ConnectResponse { message: Some(Told::Welcome(welcome)) }) => welcome,
            _ => {
                return Err(End::Lost(Status::unavailable(
                    "the control plane did not say welcome",
                )));
            }
        };
        let (beat, lease_time) = terms(&welcome);
        let trusted = lease_time.mul_f64(TRUSTED_SHARE);
        tracing::info!(protocol = welcome.protocol, ?lease_time, "connected to the control plane");
        self.work.judge(&welcome.verdicts, said_hello + trusted);
        for (seq, (_, said, _)) in &self.work.pending {
            send(&outbox, numbered(said.clone(), *seq)).await?;
        }
        let (mut beats, mut ticks) = (spread(beat), spread(PROGRESS_INTERVAL));
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // When each heartbeat was sent that has no answer yet: a lease holds from then on, not from
        // a later one. And whether it said that no more runs are wanted: once that is
        // answered, none is on its way.
        let mut unanswered = VecDeque::new();
        let mut given_no_more = draining; // hello said so
        loop {
            if given_no_more && self.work.is_idle() {
                return Err(End::Stopped);
            }
            tokio::select! {
                message = told.message() => match message? {
                    Some(v1::ConnectResponse { message: Some(Told::HeartbeatReply(reply)) }) => {
                        let (sent, wanted_no_more) = unanswered.pop_front().unwrap_or((said_hello, false));
                        self.work.judge(&reply.verdicts, sent + trusted);
                        given_no_more |= wanted_no_more;
                    }
                    Some(v1::ConnectResponse { message: Some(message) }) => self.hear(message, draining, &outbox).await?,
                    Some(_) => {}
                    None => return Err(End::Lost(Status::unavailable("the control plane closed the stream"))),
                },
                Some(report) = self.reports.recv() => {
                    let said = self.work.enqueue(report.lease, report.said, Some(report.answer));
                    send(&outbox, said).await?;
                }
                Some(done) = self.work.tasks.join_next() => {
                    if let Some(said) = self.work.finished(done) {
                        send(&outbox, said).await?;
                    }
                }
                _ = beats.tick() => {
                    unanswered.push_back((Instant::now(), draining));
                    send(&outbox, self.heartbeat(draining)).await?;
                }
                _ = ticks.tick() => {
                    self.work.fence();
                    for said in self.work.progress() {
                        send(&outbox, said).await?;
                    }
                }
                () = stopping.cancelled(), if !draining => {
                    draining = true;
                    self.work.stop_all(Stop::Drained);
                    unanswered.push_back((Instant::now(), draining));
                    send(&outbox, self.heartbeat(draining)).await?;
                }
            }
        }
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
            capacity: Some(v1::Capacity { runs: if draining { 0 } else { self.capacity } }),
            held: self.work.held(),
        };
        send(&outbox, Said::Hello(hello)).await?;
        let connecting = self.client.connect(ReceiverStream::new(messages));
        let told = timeout(PATIENCE, connecting)
            .await
            .map_err(|_| Status::deadline_exceeded("no connection"))??;
        Ok((outbox, told.into_inner()))
    }

    fn heartbeat(&self, draining: bool) -> Said {
        let capacity = Some(v1::Capacity { runs: if draining { 0 } else { self.capacity } });
        Said::Heartbeat(v1::Heartbeat { held: self.work.held(), capacity })
    }

    async fn hear(
        &mut self,
        told: Told,
        draining: bool,
        outbox: &mpsc::Sender<v1::ConnectRequest>,
    ) -> Result<(), End> {
        match told {
            Told::Assignment(assignment) => send(outbox, self.begin(&assignment, draining)).await?,
            Told::Ack(ack) => self.work.stored_up_to(ack.seq),
            Told::Publish(publish) => self.work.frozen(publish),
            Told::Cancel(cancel) => self.work.stop(&cancel.run_id, cancel.fence, Stop::Cancelled),
            Told::Revoked(revoked) => self.work.stop(&revoked.run_id, revoked.fence, Stop::Revoked),
            Told::Drain(drain) => {
                let after = drain
                    .reconnect_after
                    .and_then(|after| Duration::try_from(after).ok())
                    .unwrap_or(RECONNECT.1);
                return Err(End::Drained(after + jitter(RECONNECT.0)));
            }
            Told::Welcome(_) | Told::HeartbeatReply(_) => {
                return Err(End::Lost(Status::unavailable(
                    "the control plane said something out of turn",
                )));
            }
        }
        Ok(())
    }

    /// Starts the job of an assignment, declines it, or hands it back: it may have been on its way
    /// when the exporter was told to stop.
    fn begin(&mut self, assignment: &v1::Assignment, draining: bool) -> Said {
        let decline = |reason: String| {
            tracing::warn!(run = assignment.run_id, reason, "assignment declined");
            Said::Declined(v1::Declined {
                run_id: assignment.run_id.clone(),
                fence: assignment.fence,
                reason,
            })
        };
        let (lease, spec, task, before) = match assignment::read(assignment, &self.work.trust) {
            Ok(read) => read,
            Err(fault) => return decline(format!("the assignment cannot be read: {fault}")),
        };
        let accepted =
            Said::Accepted(v1::Accepted { run_id: lease.run.to_string(), fence: lease.fence.0 });
        if let Some((older, _)) = self.work.jobs.get(&lease.run) {
            if older.fence >= lease.fence {
                return accepted; // it came twice
            }
            older.stop(Stop::Revoked);
        } else if self.work.jobs.len() >= usize::try_from(self.capacity).unwrap_or(usize::MAX) {
            return decline("no memory is left for another run".to_owned());
        }
        if draining {
            return self.work.hand_back(lease);
        }
        tracing::info!(run = %lease.run, export = %lease.export, fence = lease.fence.0, attempt = assignment.attempt, "run taken");
        let span = tracing::info_span!("run", run = %lease.run, export = %lease.export, fence = lease.fence.0);
        let meter = Arc::new(Meter::starting_at(before));
        let job = Job {
            workshop: self.workshop.clone(),
            lease: lease.clone(),
            spec,
            meter: meter.clone(),
        };
        self.work.jobs.insert(lease.run, (lease.clone(), meter));
        let work = async move {
            let done = job.run(task).await;
            (lease, done)
        };
        tasks::start_in(&mut self.work.tasks, "job", work.instrument(span));
        accepted
    }
}

impl Work {
    fn is_idle(&self) -> bool {
        self.jobs.is_empty() && self.pending.is_empty()
    }

    /// Every lease that is in use, or that a report still speaks for.
    fn held(&self) -> Vec<v1::HeldLease> {
        let pending = self.pending.values().map(|(lease, ..)| lease);
        let leases: BTreeMap<_, _> = self
            .jobs
            .values()
            .map(|(lease, _)| lease)
            .chain(pending)
            .map(|lease| (lease.run, lease.fence))
            .collect();
        leases
            .into_iter()
            .map(|(run, fence)| v1::HeldLease { run_id: run.to_string(), fence: fence.0 })
            .collect()
    }

    fn enqueue(
        &mut self,
        lease: Lease,
        said: Said,
        answer: Option<tokio::sync::oneshot::Sender<Stored>>,
    ) -> Said {
        self.last_seq += 1;
        self.pending.insert(self.last_seq, (lease, said.clone(), answer));
        numbered(said, self.last_seq)
    }

    /// Every report up to `seq` is stored. A finished run still waits for its file list.
    fn stored_up_to(&mut self, seq: u64) {
        let stored: Vec<_> = self.pending.range(..=seq).map(|(seq, _)| *seq).collect();
        for seq in stored {
            if let Some((_, Said::RunFinished(_), _)) = self.pending.get(&seq) {
                continue;
            }
            if let Some((_, _, Some(answer))) = self.pending.remove(&seq) {
                let _ = answer.send(Stored::Done); // its job may have stopped
            }
        }
    }

    fn frozen(&mut self, publish: v1::Publish) {
        let Ok((run, fence)) = under(&publish.run_id, publish.fence) else { return };
        let waiting = self.pending.iter().find(|(_, (lease, said, _))| {
            lease.run == run && lease.fence == fence && matches!(said, Said::RunFinished(_))
        });
        let Some(seq) = waiting.map(|(seq, _)| *seq) else { return };
        if let Some((_, _, Some(answer))) = self.pending.remove(&seq) {
            let _ = answer.send(Stored::Frozen(publish)); // its job may have stopped
        }
    }

    fn judge(&mut self, verdicts: &[v1::LeaseVerdict], kept_until: Instant) {
        for verdict in verdicts {
            match v1::Verdict::try_from(verdict.verdict) {
                Ok(v1::Verdict::Keep) => {}
                Ok(v1::Verdict::Cancel) => {
                    self.stop(&verdict.run_id, verdict.fence, Stop::Cancelled)
                }
                Ok(v1::Verdict::Revoked | v1::Verdict::Unspecified) | Err(_) => {
                    self.stop(&verdict.run_id, verdict.fence, Stop::Revoked)
                }
            }
        }
        self.trust.extend(kept_until); // last: until here a job of a lost lease is held off by the old one
    }

    fn stop(&mut self, run_id: &str, fence: u64, why: Stop) {
        let Ok((run, fence)) = under(run_id, fence) else { return };
        if let Some((lease, _)) = self.jobs.get(&run)
            && lease.fence == fence
            && lease.stopped().is_none()
        {
            tracing::info!(%run, fence = fence.0, ?why, "run stopped");
            lease.stop(why);
        }
        let about = |lease: &Lease| lease.run == run && lease.fence == fence;
        // A file that exists is reported even when its run was cancelled; everything else is of no
        // more use.
        self.pending.retain(|_, (lease, said, _)| {
            !about(lease) || (why == Stop::Cancelled && matches!(said, Said::FileDone(_)))
        });
    }

    fn stop_all(&self, why: Stop) {
        for (lease, _) in self.jobs.values() {
            lease.stop(why);
        }
    }

    /// Stops every job when its lease could lapse soon: another exporter may have it then.
    fn fence(&mut self) {
        if self.trust.is_over() && !self.jobs.is_empty() {
            tracing::warn!(
                jobs = self.jobs.len(),
                "no word from the control plane: the leases could lapse, the jobs are stopped"
            );
            self.stop_all(Stop::Revoked);
        }
    }

    fn progress(&self) -> Vec<Said> {
        let running = self.jobs.values().filter(|(lease, _)| lease.stopped().is_none());
        let said = running.map(|(lease, meter)| {
            Said::Progress(v1::Progress {
                run_id: lease.run.to_string(),
                fence: lease.fence.0,
                stage: meter.stage().to_owned(),
                progress: Some(meter.progress()),
            })
        });
        said.collect()
    }

    fn hand_back(&mut self, lease: Lease) -> Said {
        tracing::info!(run = %lease.run, "run handed back");
        let said = Said::HandedBack(v1::HandedBack {
            run_id: lease.run.to_string(),
            fence: lease.fence.0,
            seq: 0,
        });
        self.enqueue(lease, said, None)
    }

    /// What is to be said of a job that has ended.
    fn finished(
        &mut self,
        done: Result<(Lease, Result<(), Halt>), tokio::task::JoinError>,
    ) -> Option<Said> {
        let (lease, outcome) = match done {
            Ok(done) => done,
            Err(panic) => {
                tracing::error!(%panic, "a job died; its lease will lapse");
                return None;
            }
        };
        if self.jobs.get(&lease.run).is_some_and(|(held, _)| held.fence == lease.fence) {
            self.jobs.remove(&lease.run);
        }
        let said = match outcome {
            Ok(()) => {
                tracing::info!(run = %lease.run, "run done");
                return None;
            }
            Err(Halt::Failed(failure)) => failed(&lease, &failure),
            Err(Halt::Stopped(Stop::Drained)) => return Some(self.hand_back(lease)),
            Err(Halt::Stopped(Stop::Cancelled | Stop::Revoked)) => return None,
        };
        Some(self.enqueue(lease, said, None))
    }
}

/// The part of a lease's time for which a job goes on without a word from the control plane.
const TRUSTED_SHARE: f64 = 0.75;

fn failed(lease: &Lease, failure: &Failure) -> Said {
    tracing::warn!(run = %lease.run, %failure, "run failed");
    let failure = Some(failure.into());
    Said::RunFailed(v1::RunFailed {
        run_id: lease.run.to_string(),
        fence: lease.fence.0,
        seq: 0,
        failure,
    })
}

fn numbered(mut said: Said, number: u64) -> Said {
    let seq = match &mut said {
        Said::FileIntent(report) => &mut report.seq,
        Said::FileDone(report) => &mut report.seq,
        Said::RunFinished(report) => &mut report.seq,
        Said::RunPublished(report) => &mut report.seq,
        Said::RunFailed(report) => &mut report.seq,
        Said::HandedBack(report) => &mut report.seq,
        Said::CleanedUp(report) => &mut report.seq,
        Said::ExperimentsFound(report) => &mut report.seq,
        Said::Counted(report) => &mut report.seq,
        Said::Hello(_)
        | Said::Heartbeat(_)
        | Said::Accepted(_)
        | Said::Declined(_)
        | Said::Progress(_) => return said,
    };
    *seq = number;
    said
}

async fn send(outbox: &mpsc::Sender<v1::ConnectRequest>, said: Said) -> Result<(), Status> {
    let message = v1::ConnectRequest { message: Some(said) };
    let sent = timeout(PATIENCE, outbox.send(message)).await;
    sent.map_err(|_| Status::unavailable("the control plane takes nothing in"))?
        .map_err(|_| Status::unavailable("the stream is closed"))
}

/// (heartbeat interval, lease time)
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

/// Every so often, from anywhere within the first time on: exporters that connect at once, as when
/// their control plane has started anew, must not speak all at once ever after.
fn spread(period: Duration) -> Interval {
    interval_at(Instant::now() + jitter(period), period)
}

/// Anywhere between nothing and `most`.
fn jitter(most: Duration) -> Duration {
    most.mul_f64(chance())
}
