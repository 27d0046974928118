//! One exporter's session: assigns tasks to the exporter, handles its reports and cancels what it
//! must stop.
//!
//! A session holds no durable state: leases, fences and files belong to the store, so losing a
//! session loses nothing.

mod assignment;
mod dispatcher;
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
    id::{ExporterId, TaskId},
    task::{Fence, Lease, Verdict},
    time::Timestamp,
};
use tracelift_proto::{
    fleet::v1::{self, connect_response::Message as ControlMessage},
    status::invalid,
};
use uuid::Uuid;

use assignment::assignment;
pub(crate) use dispatcher::{Dispatcher, assign_batch};

use crate::store::{Change, ClaimRequest, Holder, Store};

/// The operator's lease settings.
#[derive(Debug, Clone, Copy)]
pub struct LeaseTerms {
    /// Seconds between an exporter's heartbeats.
    pub heartbeat_seconds: u32,
    /// How long a lease lasts without a heartbeat, in seconds.
    pub lease_seconds: u32,
    /// How long a task may go without progress, in seconds.
    pub progress_seconds: u32,
    /// How often a task is retried.
    pub max_retries: u32,
    /// How late rows may arrive after the end of a window, in seconds.
    pub grace_seconds: u32,
}

/// A connected exporter.
pub(crate) struct Session {
    pub(crate) store: Arc<Store>,
    pub(crate) dispatcher: Arc<Dispatcher>,
    pub(crate) terms: LeaseTerms,
    pub(crate) exporter: ExporterId,
    pub(crate) incarnation: String,
    /// How many tasks it can hold at once.
    pub(crate) capacity: u32,
    /// Whether it may have a free slot and therefore waits for work.
    pub(crate) room: bool,
    /// When progress is next due to be stored, by task.
    pub(crate) progress_due: HashMap<TaskId, Instant>,
    pub(crate) outbox: mpsc::Sender<Result<v1::ConnectResponse, Status>>,
}

/// Most tasks that an exporter may hold, whatever it says.
pub(crate) const MAX_CAPACITY: u32 = 64;

/// How long an exporter waits to reconnect after its control plane stopped.
const RECONNECT_SECONDS: i64 = 1;

/// Why a session ends.
enum SessionEnd {
    /// The exporter disconnected, or was told to.
    Gone,
    /// It sent an invalid message, or the store is unavailable.
    Refused(Status),
}

impl From<Invalid> for SessionEnd {
    fn from(fault: Invalid) -> Self {
        Self::Refused(invalid([fault]))
    }
}

impl From<crate::store::StoreError> for SessionEnd {
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
        let superseded = superseded(self.dispatcher.notifications(&self.exporter), session);
        let end = tokio::select! {
            end = self.serve(session, hello, protocol, &mut incoming, stopping) => end,
            () = superseded => Err(SessionEnd::Refused(Status::aborted("the exporter has connected anew"))),
        };
        match end {
            Ok(()) | Err(SessionEnd::Gone) => tracing::info!("exporter disconnected"),
            Err(SessionEnd::Refused(status)) => {
                tracing::warn!(code = ?status.code(), reason = status.message(), "exporter's session ended");
                let _ = self.outbox.try_send(Err(status)); // it may have disconnected already
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
    ) -> Result<(), SessionEnd> {
        let (dispatcher, mut notifications) =
            (self.dispatcher.clone(), self.dispatcher.notifications(&self.exporter));
        let held = held(&hello.held)?;
        let now = self.store.now().await?;
        let verdicts = self
            .store
            .hello(session, self.lease(now), held.clone(), self.terms.max_retries, now)
            .await?;
        self.send(ControlMessage::Welcome(v1::Welcome {
            session: session.to_string(),
            protocol,
            heartbeat_interval: Some(seconds(self.terms.heartbeat_seconds)),
            lease_time: Some(seconds(self.terms.lease_seconds)),
            verdicts: with_verdicts(&held, verdicts),
        }))
        .await?;
        self.assign().await?;
        loop {
            tokio::select! {
                said = incoming.message() => match said {
                    Ok(Some(v1::ConnectRequest { message: Some(said) })) => self.handle(said).await?,
                    Ok(Some(_)) => return Err(SessionEnd::Refused(Status::invalid_argument("a message without content"))),
                    Ok(None) | Err(_) => return Err(SessionEnd::Gone),
                },
                change = notifications.recv() => match change {
                    Ok(Change::Stopped { task, fence, .. }) => {
                        self.cancel(task, fence).await?;
                        self.assign().await?;
                    }
                    Ok(Change::Missed) | Err(RecvError::Lagged(_)) => self.resync().await?,
                    Ok(_) => {}
                    Err(RecvError::Closed) => return Err(SessionEnd::Gone),
                },
                () = dispatcher.wait_for_work(), if self.room => self.assign().await?,
                () = stopping.cancelled() => {
                    let reconnect_after = Some(prost_types::Duration { seconds: RECONNECT_SECONDS, nanos: 0 });
                    return self.send(ControlMessage::Drain(v1::Drain { reconnect_after })).await;
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
            asked_back: None,
        }
    }

    /// The process of the exporter.
    fn holder(&self) -> Holder {
        Holder { exporter: self.exporter.clone(), incarnation: self.incarnation.clone() }
    }

    async fn send(&self, answer: ControlMessage) -> Result<(), SessionEnd> {
        self.outbox
            .send(Ok(v1::ConnectResponse { message: Some(answer) }))
            .await
            .map_err(|_| SessionEnd::Gone)
    }

    /// Fills the exporter's free slots. Assignments are committed before they are sent. If there
    /// was enough work to fill every slot, there may be more for other sessions.
    async fn assign(&mut self) -> Result<(), SessionEnd> {
        let now = self.store.now().await?;
        let grant = self
            .dispatcher
            .claim(ClaimRequest { lease: self.lease(now), capacity: self.capacity })
            .await?;
        // A session with room may be the one that was woken.
        let wait_for_work = std::mem::replace(&mut self.room, grant.room);
        if !grant.room && (wait_for_work || !grant.tasks.is_empty()) {
            self.dispatcher.wake_one();
        }
        for claimed in grant.tasks {
            let task = claimed.task.id;
            let Some(assignment) = assignment(claimed) else {
                // It holds its slot until its lease lapses, and fails after its attempts.
                tracing::warn!(%task, "a clean-up has no partition to clean up after");
                continue;
            };
            let (task, export, fence) = (assignment.task, assignment.export, assignment.fence.0);
            tracing::info!(%task, %export, fence, "task assigned");
            self.send(ControlMessage::Assignment((&assignment).into())).await?;
        }
        Ok(())
    }

    async fn cancel(&self, task: TaskId, fence: Fence) -> Result<(), SessionEnd> {
        self.send(ControlMessage::Cancel((task, fence).into())).await
    }

    /// Catches up after notifications were lost. Stops older than one lease time are left out:
    /// heartbeat verdicts have reported them by now.
    async fn resync(&mut self) -> Result<(), SessionEnd> {
        let since = self.store.now().await?.plus_seconds(-i64::from(self.terms.lease_seconds));
        for (task, fence) in self.store.stopped(self.exporter.clone(), since).await? {
            self.cancel(task, fence).await?;
        }
        self.assign().await
    }
}

/// Waits until the exporter has reconnected, here or at another replica: a broken stream that
/// nobody noticed must not go on claiming tasks. `Connected` notifications that arrive before this
/// session's own belong to earlier sessions.
async fn superseded(mut notifications: broadcast::Receiver<Change>, session: Uuid) {
    let mut said_hello = false;
    loop {
        match notifications.recv().await {
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

fn held(leases: &[v1::HeldLease]) -> Result<Vec<(TaskId, Fence)>, Invalid> {
    leases.iter().map(TryInto::try_into).collect()
}

fn with_verdicts(held: &[(TaskId, Fence)], verdicts: Vec<Verdict>) -> Vec<v1::LeaseVerdict> {
    let pairs = held.iter().zip(verdicts);
    pairs.map(|((task, fence), verdict)| (*task, *fence, verdict).into()).collect()
}
