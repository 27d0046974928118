//! One exporter's session: gives it runs, hears its reports, tells it what to stop.
//!
//! A session keeps no state that matters: leases, fences and files are the store's. Losing it loses
//! nothing.

mod assignment;
mod desk;
mod reports;

use std::{collections::HashMap, sync::Arc};

use tokio::sync::{
    broadcast::{self, error::RecvError},
    mpsc,
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};
use tracelift_core::{
    Invalid,
    id::{ExporterId, RunId},
    run::{Fence, Lease},
    time::Timestamp,
};
use tracelift_proto::{
    fleet::v1::{self, connect_response::Message as Answer},
    status::invalid,
    under,
};
use uuid::Uuid;

use assignment::assignment;
pub(crate) use desk::{Desk, give_out};

use crate::store::{Ask, Change, Store, Verdict};

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
    /// How long rows may come late, after the end of a window, in seconds.
    pub grace_seconds: u32,
}

/// One exporter, connected.
pub(crate) struct Session {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) desk: Arc<Desk>,
    pub(crate) terms: LeaseTerms,
    pub(crate) exporter: ExporterId,
    pub(crate) incarnation: String,
    /// How many runs it wants to hold at once.
    pub(crate) capacity: u32,
    /// Whether it may have a free slot, so that it waits for work.
    pub(crate) room: bool,
    /// When progress is to be stored next, by run.
    pub(crate) progress_due: HashMap<RunId, Instant>,
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
        let verdicts =
            self.store.hello(session, self.lease(now), held, self.terms.max_retries, now).await?;
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
        self.outbox
            .send(Ok(v1::ConnectResponse { message: Some(answer) }))
            .await
            .map_err(|_| End::Gone)
    }

    /// Fills the exporter's free slots. What is sent was committed before. Where there was enough
    /// to fill them all, there may be more for others.
    async fn assign(&mut self) -> Result<(), End> {
        let now = self.store.now().await?;
        let given = self.desk.ask(Ask { lease: self.lease(now), capacity: self.capacity }).await?;
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

    /// After news was lost: whatever it may have been. What is older than a lease, a heartbeat was
    /// told meanwhile.
    async fn look(&mut self) -> Result<(), End> {
        let since = self.store.now().await?.plus_seconds(-i64::from(self.terms.lease_seconds));
        for (run, fence) in self.store.stopped(self.exporter.clone(), since).await? {
            self.cancel(run, fence).await?;
        }
        self.assign().await
    }
}

/// Waits until the exporter has connected anew, here or at another replica: a stream that nobody
/// noticed breaking must not go on claiming runs. What is told before this session's own hello is
/// of sessions before it.
async fn superseded(mut news: broadcast::Receiver<Change>, session: Uuid) {
    let mut said_hello = false;
    loop {
        match news.recv().await {
            Ok(Change::Connected { session: which, .. }) => match which == session {
                true => said_hello = true,
                false if said_hello => return,
                false => {}
            },
            Ok(Change::Missed) | Err(RecvError::Lagged(_)) => said_hello = true, /* its own hello may be among what was lost */
            Ok(_) => {}
            Err(RecvError::Closed) => return std::future::pending().await,
        }
    }
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
    pairs
        .map(|(lease, verdict)| v1::LeaseVerdict {
            run_id: lease.run_id,
            fence: lease.fence,
            verdict: word(verdict).into(),
        })
        .collect()
}
