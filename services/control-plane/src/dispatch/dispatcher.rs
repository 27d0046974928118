//! The dispatcher: receives the store's notifications once for all sessions of this control plane,
//! and routes to each exporter those that concern it.
//!
//! New work wakes one session with a free slot, and that session wakes the next, until one finds no
//! more: of a thousand waiting sessions, only as many query the store as there are tasks to claim,
//! plus one. Claims made at the same time share a transaction. The dispatcher keeps no durable
//! state: a wake-up that is lost is repeated at the next tick.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::{
    Notify,
    broadcast::{self, error::RecvError},
    mpsc, oneshot,
};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tracelift_core::{id::ExporterId, limit::AtOnce, task::Event, time::Timestamp};

use crate::store::{Change, ClaimGrant, ClaimRequest, Claimed, Store, StoreError};

/// A session is woken this often even without a notification: retries become due, and notifications
/// can be lost.
const SWEEP: Duration = Duration::from_secs(1);
/// How many of its own notifications a slow session may fall behind by before it misses some: more
/// than the tasks that an exporter holds.
const NOTIFICATIONS: usize = 256;

/// Up to this many exporters, every progress report is stored, once a second.
const PROGRESS: usize = 200;

/// Most exporters served by one claim transaction.
const ASKS: usize = 32;
/// Shortest interval between claim transactions. Claims that arrive in between join the next one,
/// because finding queued tasks costs the store as much for one exporter as for many.
const PAUSE: Duration = Duration::from_millis(10);

/// Where sessions receive their notifications and claim tasks.
#[derive(Debug)]
pub(crate) struct Dispatcher {
    sessions: Mutex<BTreeMap<ExporterId, broadcast::Sender<Change>>>,
    work: Notify,
    claims: mpsc::UnboundedSender<PendingClaim>,
}

/// Pending claims, in order of arrival.
pub(crate) type ClaimQueue = mpsc::UnboundedReceiver<PendingClaim>;

/// An exporter's claim, and the channel for its answer.
#[derive(Debug)]
pub(crate) struct PendingClaim {
    claim: ClaimRequest,
    answer: oneshot::Sender<Result<ClaimGrant, StoreError>>,
}

impl Dispatcher {
    /// A dispatcher and its queue of claims.
    pub(crate) fn new() -> (Self, ClaimQueue) {
        let (claims, queue) = mpsc::unbounded_channel(); // holds at most one claim per session
        (Self { sessions: Mutex::default(), work: Notify::default(), claims }, queue)
    }

    /// Claims tasks for an exporter that may have room; none once the dispatcher is closing.
    pub(crate) async fn claim(&self, claim: ClaimRequest) -> Result<ClaimGrant, StoreError> {
        let (answer, grant) = oneshot::channel();
        let _ = self.claims.send(PendingClaim { claim, answer }); // if closed, so is `grant`
        grant.await.unwrap_or(Ok(ClaimGrant { tasks: Vec::new(), room: true }))
    }

    /// The notifications for this exporter, from now on.
    pub(crate) fn notifications(&self, exporter: &ExporterId) -> broadcast::Receiver<Change> {
        self.sessions()
            .entry(exporter.clone())
            .or_insert_with(|| broadcast::channel(NOTIFICATIONS).0)
            .subscribe()
    }

    /// Shortest interval at which a task's progress is stored, so that a large fleet's reports do
    /// not delay claims: zero for fewer than [`PROGRESS`] exporters, then one second for every
    /// [`PROGRESS`] of them.
    pub(crate) fn progress_interval(&self) -> Duration {
        Duration::from_secs((self.sessions().len() / PROGRESS) as u64)
    }

    /// Waits until there may be work and this session is woken. Dropping the wait passes the
    /// wake-up on to the next session.
    pub(crate) async fn wait_for_work(&self) {
        self.work.notified().await;
    }

    /// There may be work: wakes the session that has waited longest.
    pub(crate) fn wake_one(&self) {
        self.work.notify_one();
    }

    /// Routes notifications until `stopping`, or until the store's channel closes.
    pub(crate) async fn route_changes(
        &self,
        mut notifications: broadcast::Receiver<Change>,
        stopping: CancellationToken,
    ) {
        let mut sweep = tokio::time::interval(SWEEP);
        loop {
            tokio::select! {
                change = notifications.recv() => match change {
                    Ok(Change::TasksQueued) => self.wake_one(),
                    Ok(change @ (Change::Stopped { .. } | Change::Connected { .. })) => self.notify(change),
                    Ok(Change::Export(_) | Change::KeyRevoked(_) | Change::Tenant(_)) => {}
                    Ok(Change::Missed) | Err(RecvError::Lagged(_)) => self.notify_all(&Change::Missed),
                    Err(RecvError::Closed) => return,
                },
                _ = sweep.tick() => {
                    self.sessions().retain(|_, session| session.receiver_count() > 0);
                    self.wake_one();
                }
                () = stopping.cancelled() => return,
            }
        }
    }

    fn notify(&self, change: Change) {
        let (Change::Stopped { exporter, .. } | Change::Connected { exporter, .. }) = &change
        else {
            return;
        };
        if let Some(session) = self.sessions().get(exporter) {
            let _ = session.send(change); // no session, nobody waiting
        }
    }

    fn notify_all(&self, change: &Change) {
        for session in self.sessions().values() {
            let _ = session.send(change.clone()); // no session, nobody waiting
        }
    }

    fn sessions(&self) -> MutexGuard<'_, BTreeMap<ExporterId, broadcast::Sender<Change>>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Answers queued claims, a batch per transaction, until `stopping`.
pub(crate) async fn assign_batch(
    store: Arc<Store>,
    mut queue: ClaimQueue,
    limits: AtOnce,
    stopping: CancellationToken,
) {
    let (mut pending, mut turns) = (Vec::new(), tokio::time::interval(PAUSE));
    turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while stopping
        .run_until_cancelled(queue.recv_many(&mut pending, ASKS))
        .await
        .is_some_and(|count| count > 0)
    {
        turns.tick().await;
        while pending.len() < ASKS
            && let Ok(more) = queue.try_recv()
        {
            pending.push(more);
        }
        pending.retain(|pending| !pending.answer.is_closed()); // the session has ended
        let (claims, answers): (Vec<_>, Vec<_>) =
            pending.drain(..).map(|PendingClaim { claim, answer }| (claim, answer)).unzip();
        let Some(now) = claims.iter().map(|claim| claim.lease.progressed_at).max() else {
            continue;
        };
        match store.claim(claims, limits, now).await {
            Ok(grant) => deliver(&store, answers, grant, now).await,
            Err(error) => {
                answers.into_iter().for_each(|answer| drop(answer.send(Err(error.clone()))))
            }
        }
    }
}

/// Delivers the grants. Tasks granted to a session that has ended in the meantime are handed back
/// at once: its exporter may already have reconnected, and would otherwise be taken to hold tasks
/// that it never received until their leases lapse.
async fn deliver(
    store: &Store,
    answers: Vec<oneshot::Sender<Result<ClaimGrant, StoreError>>>,
    grant: Vec<ClaimGrant>,
    now: Timestamp,
) {
    for (answer, grant) in answers.into_iter().zip(grant) {
        let Err(Ok(undelivered)) = answer.send(Ok(grant)) else { continue };
        for Claimed { task, .. } in undelivered.tasks {
            if let Err(error) =
                store.report(None, task.id, task.fence, Event::HandedBack, 0, now).await
            {
                tracing::warn!(task = %task.id, %error, "a run that nobody could be told of is held until its lease lapses");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use futures::FutureExt as _;
    use tracelift_core::{
        id::{ExportId, TaskId},
        task::Fence,
    };
    use tracelift_runtime::tasks::{self, Owned};
    use uuid::Uuid;

    use super::*;
    use crate::store::conformance;

    fn exporter(name: &str) -> ExporterId {
        ExporterId::parse("", name).unwrap()
    }

    fn stopped(name: &str) -> Change {
        Change::Stopped { task: TaskId(Uuid::nil()), fence: Fence(1), exporter: exporter(name) }
    }

    #[tokio::test]
    async fn an_exporter_hears_what_concerns_it_and_nothing_else() {
        let (dispatcher, (store, notifications)) =
            (Arc::new(Dispatcher::new().0), broadcast::channel(8));
        let (mut a, mut b) =
            (dispatcher.notifications(&exporter("a")), dispatcher.notifications(&exporter("b")));
        let at_work = dispatcher.clone();
        let _open = Owned(tasks::start("dispatcher", async move {
            at_work.route_changes(notifications, CancellationToken::new()).await
        }));
        for change in [
            stopped("b"),
            Change::Export(ExportId(Uuid::nil())),
            Change::TasksQueued,
            stopped("a"),
            Change::Missed,
        ] {
            store.send(change).unwrap();
        }
        assert_eq!(
            (a.recv().await.unwrap(), a.recv().await.unwrap()),
            (stopped("a"), Change::Missed)
        );
        assert_eq!(
            (b.recv().await.unwrap(), b.recv().await.unwrap()),
            (stopped("b"), Change::Missed)
        );
    }

    #[tokio::test]
    async fn one_session_at_a_time_is_called_and_whoever_gives_up_calls_the_next() {
        let dispatcher = Dispatcher::new().0;
        let (mut first, mut second) =
            (Box::pin(dispatcher.wait_for_work()), Box::pin(dispatcher.wait_for_work()));
        assert_eq!(((&mut first).now_or_never(), (&mut second).now_or_never()), (None, None));
        dispatcher.wake_one();
        assert_eq!((&mut second).now_or_never(), None);
        drop(first);
        assert_eq!((&mut second).now_or_never(), Some(()));
    }

    #[tokio::test]
    async fn who_asks_is_answered_and_a_desk_that_closes_has_nothing() {
        let ((dispatcher, queue), stopping) = (Dispatcher::new(), CancellationToken::new());
        let store = Arc::new(Store::in_memory().unwrap());
        let mine = conformance::owner(&store, 1).await;
        conformance::export(&store, mine, 1, 3).await;
        let claim = |name| {
            dispatcher.claim(ClaimRequest { lease: conformance::lease(name, 1), capacity: 2 })
        };
        assert!(claim("gone").now_or_never().is_none()); // it asks, and ends before it is answered
        let at_work = assign_batch(store.clone(), queue, AtOnce::default(), stopping.clone());
        let pending = async {
            let (a, b) = tokio::join!(claim("a"), claim("b"));
            stopping.cancel();
            (a.unwrap(), b.unwrap())
        };
        let ((a, b), ()) = tokio::join!(pending, at_work);
        assert_eq!(((a.tasks.len(), a.room), (b.tasks.len(), b.room)), ((2, false), (1, true)));
        let closed = claim("c").await.unwrap();
        assert_eq!((closed.tasks.len(), closed.room), (0, true));
    }

    #[tokio::test]
    async fn what_was_given_to_a_session_that_has_ended_goes_back_at_once() {
        let store = Store::in_memory().unwrap();
        let mine = conformance::owner(&store, 1).await;
        conformance::export(&store, mine, 1, 3).await;
        let claims = ["gone", "here"]
            .map(|name| ClaimRequest { lease: conformance::lease(name, 1), capacity: 2 });
        let grant =
            store.claim(claims.into(), AtOnce::default(), conformance::at(1)).await.unwrap();
        let lost: BTreeSet<_> = grant[0].tasks.iter().map(|claimed| claimed.task.id).collect();
        let ((gone, _), (here, applied)) = (oneshot::channel(), oneshot::channel());
        deliver(&store, vec![gone, here], grant, conformance::at(1)).await;
        assert_eq!(applied.await.unwrap().unwrap().tasks.len(), 1);
        let again = conformance::claim(&store, "other", 3, 1).await;
        assert_eq!(again.iter().map(|claimed| claimed.task.id).collect::<BTreeSet<_>>(), lost);
        assert!(
            again.iter().all(|claimed| claimed.task.errors.is_empty() && claimed.task.attempt == 0)
        );
    }

    #[tokio::test]
    async fn work_that_nobody_told_of_is_looked_for_again_and_again() {
        let (dispatcher, (_store, notifications)) =
            (Arc::new(Dispatcher::new().0), broadcast::channel::<Change>(8));
        let at_work = dispatcher.clone();
        let _open = Owned(tasks::start("dispatcher", async move {
            at_work.route_changes(notifications, CancellationToken::new()).await
        }));
        dispatcher.wait_for_work().await;
        dispatcher.wait_for_work().await; // would never come
    }
}
