//! Tasks have a name, a span, and somebody who waits for them.

use std::{
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
};

use tokio::{
    runtime::{Handle, RuntimeFlavor},
    task::{JoinHandle, JoinSet},
};
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

/// Work that died instead of giving a value.
#[derive(Debug, thiserror::Error)]
#[error("it panicked: {0}")]
pub struct Died(String);

/// Work for the CPU or the disk, which must not hold up the reactor: on a thread of its own where the runtime has
/// several, else where it stands. So a runtime of one thread, as in the simulation, does everything in a fixed order.
pub async fn off_reactor<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Died> {
    let threads = Handle::try_current().is_ok_and(|runtime| runtime.runtime_flavor() != RuntimeFlavor::CurrentThread);
    if threads {
        return tokio::task::spawn_blocking(work).await.map_err(|error| Died(error.to_string()));
    }
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| Died(words(panic.as_ref())))
}

fn words(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("without words").to_owned()
}

/// A task that ends with its owner: dropping this aborts it.
#[derive(Debug)]
pub struct Owned<T>(pub JoinHandle<T>);

impl<T> Drop for Owned<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[tokio::test]
    async fn a_runtime_of_one_thread_does_the_work_where_it_stands() {
        let here = thread::current().id();
        assert_eq!(off_reactor(|| thread::current().id()).await.unwrap(), here);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_runtime_of_several_threads_keeps_its_reactor_free() {
        let reactor = start("reactor", async {
            let here = thread::current().id();
            off_reactor(|| thread::current().id()).await.unwrap() != here
        });
        assert!(reactor.await.unwrap());
    }

    #[tokio::test]
    async fn work_that_panics_is_an_error() {
        let died = off_reactor(|| panic!("row {}", 7)).await;
        assert_eq!(died.unwrap_err().to_string(), "it panicked: row 7");
    }
}
