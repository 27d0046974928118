//! One exporter's session: gives it runs, hears its reports, tells it what to stop.
//!
//! A session keeps no state that matters: leases, fences and files are the store's. Losing it loses nothing.

mod assignment;
mod desk;

use std::{collections::HashMap, sync::Arc, time::Duration};

use tokio::sync::{
    broadcast::{self, error::RecvError},
    mpsc,
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};
use tracelift_core::{
    Invalid,
    failure::{Failure, FailureClass, Step},
    file::{File, FileIntent},
    id::{ExporterId, RunId},
    limit::AtOnce,
    plan::{Experiment, MAX_PARTITIONS},
    run::{Event, Fence, IllegalEvent, Lease, Run},
    time::Timestamp,
};
use tracelift_proto::{
    fleet::v1::{self, connect_request::Message as Said, connect_response::Message as Answer},
    status::invalid,
    under,
};
use uuid::Uuid;

use assignment::{assignment, publish};
pub(crate) use desk::Desk;

use crate::store::{Change, Heard, ReportError, Reported, Store, Verdict};

/// The operator's settings about leases.
#[derive(Debug, Clone, Copy)]
pub struct LeaseTerms {
    /// How often an exporter says that it is alive, in seconds.
    pub heartbeat_seconds: u32,
    /// How long a lease lasts without that, in seconds.
    pub lease_seconds: u32,
    /// How long a run may take to get on, in seconds.
    pub progress_seconds: u32,
    /// How often a run is tried again.
    pub max_retries: u32,
}

/// One exporter, connected.
pub(crate) struct Session {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) desk: Arc<Desk>,
    pub(crate) terms: LeaseTerms,
    pub(crate) limits: AtOnce,
    pub(crate) exporter: ExporterId,
    pub(crate) incarnation: String,
    /// How many runs it wants to hold at once.
    pub(crate) capacity: u32,
    /// Whether it may have a free slot, so that it waits for work.
    pub(crate) room: bool,
    /// When progress was stored that need not be stored again yet, by run.
    pub(crate) progressed: HashMap<RunId, Instant>,
    pub(crate) outbox: mpsc::Sender<Result<v1::ConnectResponse, Status>>,
}

/// When an exporter should come back after its control plane stopped.
const RECONNECT_SECONDS: i64 = 1;

/// Why a session ends.
enum End {
    /// The exporter is gone, or was told to go.
    Gone,
    /// It said something that makes no sense, or the store is away.
    Refused(Status),
}

impl From<Invalid> for End {
    fn from(fault: Invalid) -> Self {
        Self::Refused(invalid([fault]))
    }
}

impl From<crate::store::StoreError> for End {
    fn from(error: crate::store::StoreError) -> Self {
        Self::Refused(crate::api::unavailable(error))
    }
}

impl Session {
    pub(crate) async fn run(
        mut self,
        hello: v1::Hello,
        protocol: u32,
        mut incoming: Streaming<v1::ConnectRequest>,
        stopping: CancellationToken,
    ) {
        tracing::info!(capacity = self.capacity, held = hello.held.len(), "exporter connected");
        let session = Uuid::new_v4();
        let superseded = superseded(self.desk.news(&self.exporter), session);
        let end = tokio::select! {
            end = self.serve(session, hello, protocol, &mut incoming, stopping) => end,
            () = superseded => Err(End::Refused(Status::aborted("the exporter has connected anew"))),
        };
        match end {
            Ok(()) | Err(End::Gone) => tracing::info!("exporter disconnected"),
            Err(End::Refused(status)) => {
                tracing::warn!(code = ?status.code(), reason = status.message(), "exporter's session ended");
                let _ = self.outbox.try_send(Err(status)); // it may be gone already
            }
        }
    }

    async fn serve(
        &mut self,
        session: Uuid,
        hello: v1::Hello,
        protocol: u32,
        incoming: &mut Streaming<v1::ConnectRequest>,
        stopping: CancellationToken,
    ) -> Result<(), End> {
        let (desk, mut news) = (self.desk.clone(), self.desk.news(&self.exporter));
        let held = held(&hello.held)?;
        let now = self.store.now().await?;
        let verdicts = self.store.hello(session, self.lease(now), held, self.terms.max_retries, now).await?;
        self.send(Answer::Welcome(v1::Welcome {
            session: session.to_string(),
            protocol,
            heartbeat_interval: Some(seconds(self.terms.heartbeat_seconds)),
            lease_time: Some(seconds(self.terms.lease_seconds)),
            verdicts: with_verdicts(hello.held, verdicts),
        }))
        .await?;
        self.assign().await?;
        loop {
            tokio::select! {
                said = incoming.message() => match said {
                    Ok(Some(v1::ConnectRequest { message: Some(said) })) => self.hear(said).await?,
                    Ok(Some(_)) => return Err(End::Refused(Status::invalid_argument("a message without content"))),
                    Ok(None) | Err(_) => return Err(End::Gone),
                },
                change = news.recv() => match change {
                    Ok(Change::Stopped { run, fence, .. }) => {
                        self.cancel(run, fence).await?;
                        self.assign().await?;
                    }
                    Ok(Change::Missed) | Err(RecvError::Lagged(_)) => self.look().await?,
                    Ok(_) => {}
                    Err(RecvError::Closed) => return Err(End::Gone),
                },
                () = desk.turn(), if self.room => self.assign().await?,
                () = stopping.cancelled() => {
                    let reconnect_after = Some(prost_types::Duration { seconds: RECONNECT_SECONDS, nanos: 0 });
                    return self.send(Answer::Drain(v1::Drain { reconnect_after })).await;
                }
            }
        }
    }

    fn lease(&self, now: Timestamp) -> Lease {
        Lease {
            exporter: self.exporter.clone(),
            incarnation: self.incarnation.clone(),
            until: now.plus_seconds(i64::from(self.terms.lease_seconds)),
            progressed_at: now,
            patience: self.terms.progress_seconds,
        }
    }

    async fn send(&self, answer: Answer) -> Result<(), End> {
        self.outbox.send(Ok(v1::ConnectResponse { message: Some(answer) })).await.map_err(|_| End::Gone)
    }

    /// Fills the exporter's free slots. What is sent was committed before. Where there was enough to fill them all, there
    /// may be more for others.
    async fn assign(&mut self) -> Result<(), End> {
        let now = self.store.now().await?;
        let given = self.store.claim(self.lease(now), self.capacity, self.limits, now).await?;
        let turn = std::mem::replace(&mut self.room, given.room); // with room it may have been its turn
        if !given.room && (turn || !given.runs.is_empty()) {
            self.desk.next();
        }
        for claimed in given.runs {
            tracing::info!(run = %claimed.run.id, export = %claimed.run.export, fence = claimed.run.fence.0, "run assigned");
            self.send(Answer::Assignment(assignment(claimed))).await?;
        }
        Ok(())
    }

    async fn cancel(&self, run: RunId, fence: Fence) -> Result<(), End> {
        self.send(Answer::Cancel(v1::Cancel { run_id: run.to_string(), fence: fence.0 })).await
    }

    /// After news was lost: whatever it may have been. What is older than a lease, a heartbeat was told meanwhile.
    async fn look(&mut self) -> Result<(), End> {
        let since = self.store.now().await?.plus_seconds(-i64::from(self.terms.lease_seconds));
        for (run, fence) in self.store.stopped(self.exporter.clone(), since).await? {
            self.cancel(run, fence).await?;
        }
        self.assign().await
    }

    async fn hear(&mut self, said: Said) -> Result<(), End> {
        match said {
            Said::Hello(_) => Err(End::Refused(Status::failed_precondition("hello was said already"))),
            Said::Heartbeat(heartbeat) => self.heartbeat(heartbeat).await,
            Said::Accepted(accepted) => {
                tracing::debug!(run = accepted.run_id, "run accepted");
                Ok(())
            }
            Said::Declined(declined) => {
                tracing::info!(run = declined.run_id, reason = declined.reason, "run declined");
                self.report(under(&declined.run_id, declined.fence)?, Event::Declined, None).await
            }
            Said::Progress(progress) => self.progress(progress).await,
            Said::FileIntent(intent) => {
                let event = Event::FileIntent(FileIntent::try_from(&intent)?);
                self.report(under(&intent.run_id, intent.fence)?, event, Some(intent.seq)).await
            }
            Said::FileDone(done) => {
                let file = done.file.as_ref().ok_or_else(|| Invalid::new("file", "is required"))?;
                plausible("file", [file.rows, file.bytes, file.hydrated_objects, file.hydration_misses])?;
                file.oversized.values().try_for_each(|count| plausible("file.oversized", [*count]))?;
                let event = Event::FileDone(File::try_from(file)?);
                self.report(under(&done.run_id, done.fence)?, event, Some(done.seq)).await
            }
            Said::RunFinished(finished) => self.finished(finished).await,
            Said::RunPublished(published) => {
                self.report(under(&published.run_id, published.fence)?, Event::Published, Some(published.seq)).await
            }
            Said::RunFailed(failed) => {
                let failure = failed.failure.as_ref().ok_or_else(|| Invalid::new("failure", "is required"))?;
                let failure = Failure::try_from(failure)?;
                tracing::warn!(run = failed.run_id, %failure, "run failed");
                let event = Event::Failed { failure, max_retries: self.terms.max_retries };
                self.report(under(&failed.run_id, failed.fence)?, event, Some(failed.seq)).await
            }
            Said::CleanedUp(cleaned) => {
                let adopted = cleaned.adopted.as_ref().map(File::try_from).transpose()?.map(Box::new);
                self.report(under(&cleaned.run_id, cleaned.fence)?, Event::CleanedUp { adopted }, Some(cleaned.seq)).await
            }
            Said::ExperimentsFound(found) => {
                let event = Event::ExperimentsFound(experiments(&found.experiments)?);
                self.report(under(&found.run_id, found.fence)?, event, Some(found.seq)).await
            }
            Said::Counted(counted) => {
                plausible("rows", [counted.rows])?;
                let about = under(&counted.run_id, counted.fence)?;
                match self.heard(about, Event::Counted { rows: counted.rows }, Some(counted.seq)).await? {
                    Some(run) => {
                        self.compare(&run).await?;
                        self.assign().await
                    }
                    None => Ok(()),
                }
            }
            Said::HandedBack(back) => self.report(under(&back.run_id, back.fence)?, Event::HandedBack, Some(back.seq)).await,
        }
    }

    async fn heartbeat(&mut self, heartbeat: v1::Heartbeat) -> Result<(), End> {
        if let Some(capacity) = heartbeat.capacity {
            self.capacity = capacity.runs;
        }
        let now = self.store.now().await?;
        let verdicts = self.store.heartbeat(self.lease(now), held(&heartbeat.held)?, now).await?;
        self.send(Answer::HeartbeatReply(v1::HeartbeatReply { verdicts: with_verdicts(heartbeat.held, verdicts) })).await?;
        // A slot is free too when its lease has lapsed, or when the exporter can do more than before.
        if self.room { Ok(()) } else { self.assign().await }
    }

    async fn progress(&mut self, progress: v1::Progress) -> Result<(), End> {
        let (run, fence) = under(&progress.run_id, progress.fence)?;
        // Never so rarely that a run would seem to stand still.
        let interval = self.desk.progress_interval().min(Duration::from_secs(u64::from(self.terms.progress_seconds / 3)));
        self.progressed.retain(|_, at| at.elapsed() < interval);
        if self.progressed.contains_key(&run) {
            return Ok(()); // the next one says this too
        }
        self.progressed.insert(run, Instant::now());
        match self.store.progress(run, fence, reported(progress)?, self.store.now().await?).await? {
            Heard::Yes(_) => Ok(()),
            Heard::Stale => self.refuse(run, fence).await,
        }
    }

    /// All files are done: past the commit point, or a fault of ours when the rows do not add up.
    async fn finished(&mut self, finished: v1::RunFinished) -> Result<(), End> {
        let (run, fence) = under(&finished.run_id, finished.fence)?;
        let event = Event::Finished { files: finished.files, rows: finished.rows };
        match self.store.report(run, fence, event, self.store.now().await?).await {
            Ok(Heard::Yes(done)) => {
                let files = self.store.files(run).await?;
                self.send(Answer::Ack(v1::Ack { seq: finished.seq })).await?;
                self.send(Answer::Publish(publish(&done, &files))).await
            }
            Ok(Heard::Stale) => self.refuse(run, fence).await,
            Err(ReportError::Illegal(error @ IllegalEvent::Totals { .. })) => {
                tracing::error!(%run, %error, "rows do not add up");
                let failure = Failure { step: Step::Publish, class: FailureClass::Internal, detail: error.to_string() };
                let event = Event::Failed { failure, max_retries: self.terms.max_retries };
                self.report((run, fence), event, Some(finished.seq)).await?;
                self.refuse(run, fence).await
            }
            Err(ReportError::Illegal(error)) => Err(out_of_order(&error)),
            Err(ReportError::Store(error)) => Err(error.into()),
        }
    }

    /// Stores a report. A run that has ended with it makes room for the next one.
    async fn report(&mut self, about: (RunId, Fence), event: Event, seq: Option<u64>) -> Result<(), End> {
        let calmly = matches!(event, Event::Failed { .. } | Event::Declined);
        match self.heard(about, event, seq).await? {
            Some(run) if run.lease().is_some() => Ok(()),
            // One that cannot do its runs, or has no room, does not get the next ones faster than others.
            Some(_) if calmly => {
                self.room = true;
                Ok(())
            }
            Some(_) => self.assign().await,
            None => Ok(()),
        }
    }

    /// The run after a report, once it is stored and acknowledged; `None` when it is somebody else's now.
    async fn heard(&self, (run, fence): (RunId, Fence), event: Event, seq: Option<u64>) -> Result<Option<Run>, End> {
        match self.store.report(run, fence, event, self.store.now().await?).await {
            Ok(Heard::Yes(run)) => {
                if let Some(seq) = seq {
                    self.send(Answer::Ack(v1::Ack { seq })).await?;
                }
                Ok(Some(*run))
            }
            Ok(Heard::Stale) => self.refuse(run, fence).await.map(|()| None),
            Err(ReportError::Illegal(error)) => Err(out_of_order(&error)),
            Err(ReportError::Store(error)) => Err(error.into()),
        }
    }

    /// Shows what arrived late, or is gone, after an export was completed and counted.
    async fn compare(&self, run: &Run) -> Result<(), End> {
        let Some(view) = self.store.export(run.tenant, run.export).await? else { return Ok(()) };
        let (exported, now) = (view.rows, view.reconciled.map_or(view.rows, |(rows, _)| rows));
        metrics::counter!("tracelift_exports_reconciled_total").increment(1);
        metrics::counter!("tracelift_late_rows_total").increment(now.saturating_sub(exported));
        metrics::counter!("tracelift_vanished_rows_total").increment(exported.saturating_sub(now));
        if exported == now {
            tracing::debug!(export = %run.export, rows = now, "the trace store holds what was exported");
        } else {
            tracing::warn!(export = %run.export, exported, in_source = now, "the trace store does not hold what was exported any more");
        }
        Ok(())
    }

    async fn refuse(&self, run: RunId, fence: Fence) -> Result<(), End> {
        tracing::info!(%run, fence = fence.0, "stale report");
        self.send(Answer::Revoked(v1::Revoked { run_id: run.to_string(), fence: fence.0 })).await
    }
}

/// Waits until the exporter has connected anew, here or at another replica: a stream that nobody noticed breaking must
/// not go on claiming runs. What is told before this session's own hello is of sessions before it.
async fn superseded(mut news: broadcast::Receiver<Change>, session: Uuid) {
    let mut said_hello = false;
    loop {
        match news.recv().await {
            Ok(Change::Connected { session: which, .. }) => match which == session {
                true => said_hello = true,
                false if said_hello => return,
                false => {}
            },
            Ok(Change::Missed) | Err(RecvError::Lagged(_)) => said_hello = true, // its own hello may be among what was lost
            Ok(_) => {}
            Err(RecvError::Closed) => return std::future::pending().await,
        }
    }
}

fn out_of_order(error: &IllegalEvent) -> End {
    End::Refused(Status::failed_precondition(error.to_string()))
}

fn seconds(seconds: u32) -> prost_types::Duration {
    prost_types::Duration { seconds: i64::from(seconds), nanos: 0 }
}

fn held(leases: &[v1::HeldLease]) -> Result<Vec<(RunId, Fence)>, Invalid> {
    leases.iter().map(|lease| under(&lease.run_id, lease.fence)).collect()
}

fn with_verdicts(held: Vec<v1::HeldLease>, verdicts: Vec<Verdict>) -> Vec<v1::LeaseVerdict> {
    let word = |verdict| match verdict {
        Verdict::Keep => v1::Verdict::Keep,
        Verdict::Cancel => v1::Verdict::Cancel,
        Verdict::Revoked => v1::Verdict::Revoked,
    };
    let pairs = held.into_iter().zip(verdicts);
    pairs.map(|(lease, verdict)| v1::LeaseVerdict { run_id: lease.run_id, fence: lease.fence, verdict: word(verdict).into() }).collect()
}

/// More than one run can have of anything: sums over many runs stay within 63 bits.
const MOST: u64 = 1 << 50;

fn plausible<const N: usize>(field: &str, counts: [u64; N]) -> Result<(), Invalid> {
    if counts.into_iter().all(|count| count <= MOST) { Ok(()) } else { Err(Invalid::new(field, "must not count more than 2^50")) }
}

/// What was found; one more than an export may have stands for all that are too many.
fn experiments(found: &[v1::Experiment]) -> Result<Vec<Experiment>, Invalid> {
    if found.len() > MAX_PARTITIONS + 1 {
        return Err(Invalid::new("experiments", format!("must name at most {}", MAX_PARTITIONS + 1)));
    }
    found.iter().map(Experiment::try_from).collect()
}

fn reported(progress: v1::Progress) -> Result<Reported, Invalid> {
    let said = progress.progress.unwrap_or_default();
    let spent = said.stage_seconds.unwrap_or_default();
    let stage_seconds = [spent.read, spent.hydrate, spent.encode, spent.upload];
    plausible("progress", [said.rows, said.bytes, said.rows_estimate.unwrap_or_default(), said.hydrated_objects, said.hydration_misses])?;
    if !stage_seconds.iter().all(|seconds| seconds.is_finite()) {
        return Err(Invalid::new("progress.stage_seconds", "must be finite numbers")); // JSON has no others
    }
    Ok(Reported {
        stage: progress.stage.chars().take(64).collect(),
        rows: said.rows,
        bytes: said.bytes,
        files: said.files,
        rows_estimate: said.rows_estimate,
        hydrated_objects: said.hydrated_objects,
        hydration_misses: said.hydration_misses,
        stage_seconds,
    })
}
