//! The queue of calls to the file: calls that arrive while the disk is busy are run together, in
//! one transaction and one write. Each has a savepoint of its own, so a failing call undoes nothing
//! of the others, and none is answered before all of them are durable.

use std::{
    any::Any,
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Mutex, MutexGuard, PoisonError},
};

use rusqlite::{Connection, TransactionBehavior};
use tokio::sync::oneshot;
use tracelift_core::audit::Chained;

use super::{SqliteEngine, SqliteTransaction};
use crate::store::{
    Change, StoreError, stream,
    transaction::{Failure, Transaction},
};

/// Most calls in one transaction: the first of them waits until the last one is done.
const TOGETHER: usize = 64;

/// A queued call.
pub(super) trait Call: Send {
    /// Runs the call; returns whether to keep what it wrote.
    fn run(&mut self, tx: &mut SqliteTransaction<'_>) -> bool;
    /// Answers with the outcome once it is durable, or with the reason why it is not.
    fn answer(self: Box<Self>, durable: Result<(), &StoreError>);
}

/// A call, and the channel for its answer.
pub(super) struct Asked<W, T, E> {
    pub(super) work: W,
    pub(super) outcome: Option<Result<T, E>>,
    pub(super) asker: oneshot::Sender<Result<T, E>>,
}

impl<W, T, E> Call for Asked<W, T, E>
where
    W: Fn(&mut dyn Transaction) -> Result<T, E> + Send,
    T: Send,
    E: Failure,
{
    fn run(&mut self, tx: &mut SqliteTransaction<'_>) -> bool {
        if self.asker.is_closed() {
            return false; // nobody waits for it any more
        }
        let done = catch_unwind(AssertUnwindSafe(|| (self.work)(tx)));
        let outcome = done.unwrap_or_else(|panic| Err(died(panic.as_ref()).into()));
        self.outcome.insert(outcome).is_ok()
    }

    fn answer(self: Box<Self>, durable: Result<(), &StoreError>) {
        let outcome = match (durable, self.outcome) {
            (Ok(()), Some(outcome)) | (Err(_), Some(outcome @ Err(_))) => outcome,
            (Ok(()), None) => {
                Err(StoreError::Unavailable("the call was passed over".to_owned()).into())
            }
            (Err(fault), _) => Err(StoreError::Unavailable(fault.to_string()).into()),
        };
        let _ = self.asker.send(outcome); // the caller may have gone
    }
}

fn died(panic: &(dyn Any + Send)) -> StoreError {
    let text = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied());
    StoreError::Unavailable(format!("the call panicked: {}", text.unwrap_or("without words")))
}

/// Queued calls, and whether they are being served.
#[derive(Default)]
pub(super) struct Line(Mutex<(VecDeque<Box<dyn Call>>, bool)>);

impl Line {
    /// Queues a call. Returns whether nobody is serving the queue, so that the caller must
    /// [`serve`] it.
    pub(super) fn join(&self, call: Box<dyn Call>) -> bool {
        let mut line = self.locked();
        line.0.push_back(call);
        !std::mem::replace(&mut line.1, true)
    }

    fn next(&self) -> Vec<Box<dyn Call>> {
        let mut line = self.locked();
        let most = line.0.len().min(TOGETHER);
        line.0.drain(..most).collect()
    }

    /// Whether calls are queued; if none are, the queue is no longer being served.
    fn goes_on(&self) -> bool {
        let mut line = self.locked();
        line.1 = !line.0.is_empty();
        line.1
    }

    fn locked(&self) -> MutexGuard<'_, (VecDeque<Box<dyn Call>>, bool)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs the calls queued now, on a thread that may block on the disk. Calls that arrive in the
/// meantime run on another thread, because the caller that serves the queue waits for its own
/// answer.
pub(super) fn serve(store: SqliteEngine) {
    let turn = Turn(store);
    let store = &turn.0;
    let mut calls = store.line.next();
    {
        let mut connection = store.connection.lock().unwrap_or_else(PoisonError::into_inner);
        let done = together(&mut connection, &mut calls);
        // Published before the next transaction can begin, so that notifications keep commit order.
        if let Ok((told, records)) = &done {
            records.iter().for_each(stream::write);
            for change in told {
                let _ = store.changes.send(change.clone()); // no receivers: fine
            }
        }
        for call in calls {
            call.answer(done.as_ref().map(|_| ()));
        }
    }
}

/// Hands the queue on when dropped, however its turn ended.
struct Turn(SqliteEngine);

impl Drop for Turn {
    fn drop(&mut self) {
        if self.0.line.goes_on() {
            let store = self.0.clone();
            drop(tokio::task::spawn_blocking(move || serve(store))); // queued callers wait for it
        }
    }
}

/// Runs several calls in one transaction; returns the notifications of those that are kept, and
/// their records in the audit log.
fn together(
    connection: &mut Connection,
    calls: &mut [Box<dyn Call>],
) -> Result<(Vec<Change>, Vec<Chained>), StoreError> {
    let inner = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut transaction =
        SqliteTransaction { inner, notifications: Vec::new(), records: Vec::new() };
    let (mut told, mut records) = (Vec::new(), Vec::new());
    for call in calls {
        transaction.execute("SAVEPOINT call", &[])?;
        if call.run(&mut transaction) {
            told.append(&mut transaction.notifications);
            records.append(&mut transaction.records);
        } else {
            transaction.notifications.clear();
            transaction.records.clear();
            transaction.execute("ROLLBACK TO call", &[])?;
        }
        transaction.execute("RELEASE call", &[])?;
    }
    transaction.inner.commit()?;
    Ok((told, records))
}
