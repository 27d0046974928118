//! The desk: hears the store's news once for all sessions of this control plane, and passes on to
//! each exporter's what concerns it.
//!
//! Work is called out to one session with a free slot, and by it to the next one, until a session
//! finds no more: of a thousand that wait only as many ask the store as there are runs to give out,
//! and one more. Sessions that ask at the same moment are given runs by one transaction. It keeps
//! nothing that matters: a call that is lost is made again with the next tick.

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
use tracelift_core::{id::ExporterId, limit::AtOnce, run::Event, time::Timestamp};

use crate::store::{Ask, Change, Claimed, Given, Store, StoreError};

/// Work is called out after that long even when nobody told of any: retries become due, news can be
/// lost.
const SWEEP: Duration = Duration::from_secs(1);
/// News of its own that a slow session may fall behind by, before it misses some: more than an
/// exporter holds runs.
const NEWS: usize = 256;

/// Exporters whose progress is stored each time that they say it, once a second.
const PROGRESS: usize = 200;

/// Most exporters that are given runs by one transaction.
const ASKS: usize = 32;
/// Shortest time from one of these transactions to the next: whoever asks meanwhile is in the next
/// one, for looking who waits costs the store as much for one exporter as for many.
const PAUSE: Duration = Duration::from_millis(10);

/// Where sessions hear of what concerns them, and ask for runs.
#[derive(Debug)]
pub(crate) struct Desk {
    sessions: Mutex<BTreeMap<ExporterId, broadcast::Sender<Change>>>,
    work: Notify,
    asks: mpsc::UnboundedSender<Asked>,
}

/// Those who wait for runs, in the order in which they came.
pub(crate) type Line = mpsc::UnboundedReceiver<Asked>;

/// An exporter that asks for runs, and where it is answered.
#[derive(Debug)]
pub(crate) struct Asked {
    ask: Ask,
    answer: oneshot::Sender<Result<Given, StoreError>>,
}

impl Desk {
    /// A desk and the line before it.
    pub(crate) fn new() -> (Self, Line) {
        let (asks, line) = mpsc::unbounded_channel(); // one of each session at most
        (Self { sessions: Mutex::default(), work: Notify::default(), asks }, line)
    }

    /// Runs for an exporter that may have room; none from a desk that closes.
    pub(crate) async fn ask(&self, ask: Ask) -> Result<Given, StoreError> {
        let (answer, given) = oneshot::channel();
        let _ = self.asks.send(Asked { ask, answer }); // closed: the answer says so too
        given.await.unwrap_or(Ok(Given { runs: Vec::new(), room: true }))
    }

    /// What is told to this exporter, from now on.
    pub(crate) fn news(&self, exporter: &ExporterId) -> broadcast::Receiver<Change> {
        self.sessions()
            .entry(exporter.clone())
            .or_insert_with(|| broadcast::channel(NEWS).0)
            .subscribe()
    }

    /// How long a run's progress stands before it is stored again, so that a large fleet's does not
    /// keep the store from giving out work: as often as it is said in a fleet of up to
    /// [`PROGRESS`], every so many seconds in one that many times larger.
    pub(crate) fn progress_interval(&self) -> Duration {
        Duration::from_secs((self.sessions().len() / PROGRESS) as u64)
    }

    /// Waits until there may be work and it is this one's turn. Giving up the wait gives the turn
    /// to the next.
    pub(crate) async fn turn(&self) {
        self.work.notified().await;
    }

    /// There may be work: it is the turn of whoever waits longest.
    pub(crate) fn next(&self) {
        self.work.notify_one();
    }

    /// Passes news on until `stopping`, or until there is none any more.
    pub(crate) async fn pass_on(
        &self,
        mut news: broadcast::Receiver<Change>,
        stopping: CancellationToken,
    ) {
        let mut sweep = tokio::time::interval(SWEEP);
        loop {
            tokio::select! {
                change = news.recv() => match change {
                    Ok(Change::Work) => self.next(),
                    Ok(change @ (Change::Stopped { .. } | Change::Connected { .. })) => self.tell(change),
                    Ok(Change::Export(_)) => {}
                    Ok(Change::Missed) | Err(RecvError::Lagged(_)) => self.tell_all(&Change::Missed),
                    Err(RecvError::Closed) => return,
                },
                _ = sweep.tick() => {
                    self.sessions().retain(|_, session| session.receiver_count() > 0);
                    self.next();
                }
                () = stopping.cancelled() => return,
            }
        }
    }

    fn tell(&self, change: Change) {
        let (Change::Stopped { exporter, .. } | Change::Connected { exporter, .. }) = &change
        else {
            return;
        };
        if let Some(session) = self.sessions().get(exporter) {
            let _ = session.send(change); // it may have gone: nobody is waiting
        }
    }

    fn tell_all(&self, change: &Change) {
        for session in self.sessions().values() {
            let _ = session.send(change.clone()); // it may have gone: nobody is waiting
        }
    }

    fn sessions(&self) -> MutexGuard<'_, BTreeMap<ExporterId, broadcast::Sender<Change>>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Gives runs to those in line until `stopping`.
pub(crate) async fn give_out(
    store: Arc<dyn Store>,
    mut line: Line,
    limits: AtOnce,
    stopping: CancellationToken,
) {
    let (mut asked, mut turns) = (Vec::new(), tokio::time::interval(PAUSE));
    turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while stopping
        .run_until_cancelled(line.recv_many(&mut asked, ASKS))
        .await
        .is_some_and(|came| came > 0)
    {
        turns.tick().await;
        while asked.len() < ASKS
            && let Ok(more) = line.try_recv()
        {
            asked.push(more);
        }
        asked.retain(|asked| !asked.answer.is_closed()); // its session has ended
        let (asks, answers): (Vec<_>, Vec<_>) =
            asked.drain(..).map(|Asked { ask, answer }| (ask, answer)).unzip();
        let Some(now) = asks.iter().map(|ask| ask.lease.progressed_at).max() else { continue };
        match store.claim(asks, limits, now).await {
            Ok(given) => deliver(&*store, answers, given, now).await,
            Err(error) => {
                answers.into_iter().for_each(|answer| drop(answer.send(Err(error.clone()))))
            }
        }
    }
}

/// Answers with what was given. What was given to a session that has ended meanwhile goes back at
/// once: its exporter may have connected anew before, and would be thought to hold what it never
/// heard of until the lease lapses.
async fn deliver(
    store: &dyn Store,
    answers: Vec<oneshot::Sender<Result<Given, StoreError>>>,
    given: Vec<Given>,
    now: Timestamp,
) {
    for (answer, given) in answers.into_iter().zip(given) {
        let Err(Ok(undelivered)) = answer.send(Ok(given)) else { continue };
        for Claimed { run, .. } in undelivered.runs {
            if let Err(error) = store.report(run.id, run.fence, Event::HandedBack, 0, now).await {
                tracing::warn!(run = %run.id, %error, "a run that nobody could be told of is held until its lease lapses");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use futures::FutureExt as _;
    use tracelift_core::{
        id::{ExportId, RunId},
        run::Fence,
    };
    use tracelift_runtime::tasks::{self, Owned};
    use uuid::Uuid;

    use super::*;
    use crate::store::conformance;

    fn exporter(name: &str) -> ExporterId {
        ExporterId::parse("", name).unwrap()
    }

    fn stopped(name: &str) -> Change {
        Change::Stopped { run: RunId(Uuid::nil()), fence: Fence(1), exporter: exporter(name) }
    }

    #[tokio::test]
    async fn an_exporter_hears_what_concerns_it_and_nothing_else() {
        let (desk, (store, news)) = (Arc::new(Desk::new().0), broadcast::channel(8));
        let (mut a, mut b) = (desk.news(&exporter("a")), desk.news(&exporter("b")));
        let at_work = desk.clone();
        let _open = Owned(tasks::start("desk", async move {
            at_work.pass_on(news, CancellationToken::new()).await
        }));
        for change in [
            stopped("b"),
            Change::Export(ExportId(Uuid::nil())),
            Change::Work,
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
        let desk = Desk::new().0;
        let (mut first, mut second) = (Box::pin(desk.turn()), Box::pin(desk.turn()));
        assert_eq!(((&mut first).now_or_never(), (&mut second).now_or_never()), (None, None));
        desk.next();
        assert_eq!((&mut second).now_or_never(), None);
        drop(first);
        assert_eq!((&mut second).now_or_never(), Some(()));
    }

    #[tokio::test]
    async fn who_asks_is_answered_and_a_desk_that_closes_has_nothing() {
        let ((desk, line), stopping) = (Desk::new(), CancellationToken::new());
        let store = Arc::new(crate::store::sqlite::SqliteStore::in_memory().unwrap());
        let mine = conformance::owner(&*store, 1).await;
        conformance::export(&*store, mine, 1, 3).await;
        let ask = |name| desk.ask(Ask { lease: conformance::lease(name, 1), capacity: 2 });
        assert!(ask("gone").now_or_never().is_none()); // it asks, and ends before it is answered
        let at_work = give_out(store.clone(), line, AtOnce::default(), stopping.clone());
        let asked = async {
            let (a, b) = tokio::join!(ask("a"), ask("b"));
            stopping.cancel();
            (a.unwrap(), b.unwrap())
        };
        let ((a, b), ()) = tokio::join!(asked, at_work);
        assert_eq!(((a.runs.len(), a.room), (b.runs.len(), b.room)), ((2, false), (1, true)));
        let closed = ask("c").await.unwrap();
        assert_eq!((closed.runs.len(), closed.room), (0, true));
    }

    #[tokio::test]
    async fn what_was_given_to_a_session_that_has_ended_goes_back_at_once() {
        let store = crate::store::sqlite::SqliteStore::in_memory().unwrap();
        let mine = conformance::owner(&store, 1).await;
        conformance::export(&store, mine, 1, 3).await;
        let asks =
            ["gone", "here"].map(|name| Ask { lease: conformance::lease(name, 1), capacity: 2 });
        let given = store.claim(asks.into(), AtOnce::default(), conformance::at(1)).await.unwrap();
        let lost: BTreeSet<_> = given[0].runs.iter().map(|claimed| claimed.run.id).collect();
        let ((gone, _), (here, heard)) = (oneshot::channel(), oneshot::channel());
        deliver(&store, vec![gone, here], given, conformance::at(1)).await;
        assert_eq!(heard.await.unwrap().unwrap().runs.len(), 1);
        let again = conformance::claim(&store, "other", 3, 1).await;
        assert_eq!(again.iter().map(|claimed| claimed.run.id).collect::<BTreeSet<_>>(), lost);
        assert!(
            again.iter().all(|claimed| claimed.run.errors.is_empty() && claimed.run.attempt == 0)
        );
    }

    #[tokio::test]
    async fn work_that_nobody_told_of_is_looked_for_again_and_again() {
        let (desk, (_store, news)) = (Arc::new(Desk::new().0), broadcast::channel::<Change>(8));
        let at_work = desk.clone();
        let _open = Owned(tasks::start("desk", async move {
            at_work.pass_on(news, CancellationToken::new()).await
        }));
        desk.turn().await;
        desk.turn().await; // would never come
    }
}
