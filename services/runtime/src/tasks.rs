//! Tasks have a name, a span, and somebody who waits for them.

use std::future::Future;

use tokio::task::{JoinHandle, JoinSet};
use tracing::{Instrument as _, Span};

/// A task whose handle the caller awaits or aborts; runs in the caller's span.
#[allow(clippy::disallowed_methods, reason = "the one place where tasks begin")]
pub fn start<T: Send + 'static>(name: &'static str, work: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
    tokio::spawn(work.instrument(tracing::debug_span!(parent: Span::current(), "task", name)))
}

/// A task of a set, in the caller's span.
pub fn start_in<T: Send + 'static>(set: &mut JoinSet<T>, name: &'static str, work: impl Future<Output = T> + Send + 'static) {
    set.spawn(work.instrument(tracing::debug_span!(parent: Span::current(), "task", name)));
}

/// A task that lives as long as the process and that nobody waits for; only for things that hold no state.
pub fn detached(name: &'static str, work: impl Future<Output = ()> + Send + 'static) {
    drop(start(name, work));
}

/// A task that ends with its owner: dropping this aborts it.
#[derive(Debug)]
pub struct Owned<T>(pub JoinHandle<T>);

impl<T> Drop for Owned<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}
