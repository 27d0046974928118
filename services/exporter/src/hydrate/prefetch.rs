//! A stream that continues while its consumer waits for something else: objects arrive while the
//! encoder is busy.

use std::collections::VecDeque;

use futures::{Stream, StreamExt as _, stream::Fuse};

/// Items received ahead of the consumer, in order, and the stream they come from.
pub(super) struct Prefetch<S: Stream> {
    stream: Fuse<S>,
    come: VecDeque<S::Item>,
    /// Maximum number of items received ahead.
    most: usize,
}

impl<S: Stream + Unpin> Prefetch<S> {
    pub(super) fn of(stream: S, most: usize) -> Self {
        Self { stream: stream.fuse(), come: VecDeque::new(), most }
    }

    /// The next item; `None` at the end.
    pub(super) async fn next(&mut self) -> Option<S::Item> {
        match self.come.pop_front() {
            Some(item) => Some(item),
            None => self.stream.next().await,
        }
    }

    /// Waits for `other`, receiving items meanwhile, up to the maximum.
    pub(super) async fn meanwhile<T>(&mut self, other: impl Future<Output = T>) -> T {
        let mut other = std::pin::pin!(other);
        loop {
            tokio::select! {
                biased;
                outcome = &mut other => return outcome,
                Some(item) = self.stream.next(), if self.come.len() < self.most => self.come.push_back(item),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::{FutureExt as _, stream};
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn items_come_in_order_whether_ahead_or_not_and_no_more_ahead_than_may() {
        let mut taken = 0;
        let mut prefetch = Prefetch::of(stream::iter(0..5).inspect(|_| taken += 1), 2);
        let (done, other) = oneshot::channel();
        let mut waiting = Box::pin(prefetch.meanwhile(other));
        assert!((&mut waiting).now_or_never().is_none());
        done.send("done").unwrap();
        assert_eq!(waiting.await, Ok("done"));
        assert_eq!(prefetch.come.len(), 2);
        let mut items = Vec::new();
        while let Some(item) = prefetch.next().await {
            items.push(item);
        }
        assert_eq!(items, [0, 1, 2, 3, 4]);
        drop(prefetch);
        assert_eq!(taken, 5);
    }

    #[tokio::test]
    async fn a_stream_that_ends_meanwhile_does_not_end_the_wait() {
        let mut prefetch = Prefetch::of(stream::iter(["last"]), 8);
        let (done, other) = oneshot::channel();
        let mut waiting = Box::pin(prefetch.meanwhile(other));
        assert!((&mut waiting).now_or_never().is_none());
        done.send(1).unwrap();
        assert_eq!(waiting.await, Ok(1));
        assert_eq!((prefetch.next().await, prefetch.next().await), (Some("last"), None));
    }
}
