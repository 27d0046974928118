//! The line before the file: calls that come while the disk is busy with others are done together,
//! in one transaction and one write. Each stands in a savepoint of its own, so one that fails takes
//! nothing of another with it, and none is answered before all of them are durable.

use std::{
    any::Any,
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Mutex, MutexGuard, PoisonError},
};

use rusqlite::{Connection, TransactionBehavior};
use tokio::sync::oneshot;

use super::{SqliteEngine, SqliteTransaction};
use crate::store::{
    Change, StoreError,
    transaction::{Failure, Transaction},
};

/// Most calls in one transaction: the first of them waits until the last is done.
const TOGETHER: usize = 64;

/// A call in the line.
pub(super) trait Call: Send {
    /// Does it; whether what it wrote is to stay.
    fn run(&mut self, tx: &mut SqliteTransaction<'_>) -> bool;
    /// Tells what became of it, once that is durable; or why it is not.
    fn answer(self: Box<Self>, durable: Result<(), &StoreError>);
}

/// A call, and who waits for its answer.
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
        let _ = self.asker.send(outcome); // who asked may have gone
    }
}

fn died(panic: &(dyn Any + Send)) -> StoreError {
    let text = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied());
    StoreError::Unavailable(format!("the call panicked: {}", text.unwrap_or("without words")))
}

/// Calls that wait, and whether somebody is at it.
#[derive(Default)]
pub(super) struct Line(Mutex<(VecDeque<Box<dyn Call>>, bool)>);

impl Line {
    /// Waits in it. When nobody is at it, it is the caller who must [`serve`].
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

    /// Whether others wait; when none do, nobody is at it any more.
    fn goes_on(&self) -> bool {
        let mut line = self.locked();
        line.1 = !line.0.is_empty();
        line.1
    }

    fn locked(&self) -> MutexGuard<'_, (VecDeque<Box<dyn Call>>, bool)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Does what waits now, on a thread that may wait for the disk. What has come meanwhile is done on
/// another: whoever is at it has a call of its own to be answered.
pub(super) fn serve(store: SqliteEngine) {
    let turn = Turn(store);
    let store = &turn.0;
    let mut calls = store.line.next();
    {
        let mut connection = store.connection.lock().unwrap_or_else(PoisonError::into_inner);
        let done = together(&mut connection, &mut calls);
        // Told before the next transaction can begin, so that news comes in the order of commits.
        for change in done.as_ref().into_iter().flatten() {
            let _ = store.changes.send(change.clone()); // nobody listens: nobody is waiting
        }
        for call in calls {
            call.answer(done.as_ref().map(|_| ()));
        }
    }
}

/// Hands the line on when it is dropped, however its turn has ended.
struct Turn(SqliteEngine);

impl Drop for Turn {
    fn drop(&mut self) {
        if self.0.line.goes_on() {
            let store = self.0.clone();
            drop(tokio::task::spawn_blocking(move || serve(store))); // those who wait in the line wait for it
        }
    }
}

/// One transaction of several calls; what is to be told of those that stay.
fn together(
    connection: &mut Connection,
    calls: &mut [Box<dyn Call>],
) -> Result<Vec<Change>, StoreError> {
    let inner = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let (mut transaction, mut told) =
        (SqliteTransaction { inner, notifications: Vec::new() }, Vec::new());
    for call in calls {
        transaction.execute("SAVEPOINT call", &[])?;
        if call.run(&mut transaction) {
            told.append(&mut transaction.notifications);
        } else {
            transaction.notifications.clear();
            transaction.execute("ROLLBACK TO call", &[])?;
        }
        transaction.execute("RELEASE call", &[])?;
    }
    transaction.inner.commit()?;
    Ok(told)
}
