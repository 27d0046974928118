//! A bound on the bytes of fetched objects waiting for their turn, free of deadlocks.
//!
//! Many objects are fetched at a time but used in order. If each waited for room, later objects
//! could take all of it and the next one in order would wait forever. So that one never waits: the
//! bound is the limit plus one object.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

/// A number of bytes to share.
#[derive(Debug)]
pub(crate) struct Budget {
    limit: u64,
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    used: u64,
    /// Index of the object to be used next.
    next: u64,
}

impl Budget {
    pub(crate) fn new(limit: u64) -> Arc<Self> {
        Arc::new(Self { limit, state: Mutex::default(), changed: Notify::new() })
    }

    /// The turn of object number `index`, from 0.
    pub(crate) fn turn(self: &Arc<Self>, index: u64) -> Turn {
        Turn { budget: self.clone(), index, bytes: 0 }
    }

    fn try_take(&self, index: u64, bytes: u64) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = index <= state.next || state.used.saturating_add(bytes) <= self.limit;
        if fits {
            state.used += bytes;
        }
        fits
    }
}

/// One object's share. Dropping it frees the bytes and moves on to the next object.
#[derive(Debug)]
pub(crate) struct Turn {
    budget: Arc<Budget>,
    index: u64,
    bytes: u64,
}

impl Turn {
    /// Waits until this many bytes are free, or until the object is next.
    pub(crate) async fn wait_for(&mut self, bytes: u64) {
        loop {
            let changed = self.budget.changed.notified();
            if self.budget.try_take(self.index, bytes) {
                self.bytes += bytes;
                return;
            }
            changed.await;
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut state = self.budget.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.used = state.used.saturating_sub(self.bytes);
        state.next = state.next.max(self.index + 1);
        drop(state);
        self.budget.changed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use futures::{FutureExt as _, StreamExt as _, stream};

    use super::*;

    #[tokio::test]
    async fn the_next_object_never_waits() {
        let budget = Budget::new(10);
        let (mut first, mut second, mut third) = (budget.turn(0), budget.turn(1), budget.turn(2));
        second.wait_for(10).await;
        assert!(third.wait_for(1).now_or_never().is_none());
        first.wait_for(100).await;
        drop(first);
        drop(second);
        third.wait_for(1).await;
    }

    #[tokio::test]
    async fn objects_used_in_order_all_get_through() {
        let budget = Budget::new(7);
        let sizes = [3u64, 9, 1, 8, 8, 2, 7, 30, 1, 1, 1, 6];
        let fetched = stream::iter(sizes.into_iter().zip(0..)).map(|(size, index)| {
            let mut turn = budget.turn(index);
            async move {
                turn.wait_for(size).await;
                (size, turn)
            }
        });
        let used: Vec<_> = fetched.buffered(4).map(|(size, _turn)| size).collect().await;
        assert_eq!(used, sizes);
    }
}
