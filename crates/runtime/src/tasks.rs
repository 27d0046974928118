//! Spawns asynchronous tasks with a name and a span. Somebody waits for each of them.

use std::{
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::LazyLock,
};

use rayon::{
    ThreadPool, ThreadPoolBuilder,
    iter::{IndexedParallelIterator as _, IntoParallelIterator as _, ParallelIterator as _},
};
use tokio::{
    runtime::{Handle, RuntimeFlavor},
    sync::oneshot,
    task::{JoinHandle, JoinSet},
};
use tracing::{Instrument as _, Span};

/// Spawns a task in the caller's span. The caller awaits or aborts the handle.
#[allow(clippy::disallowed_methods, reason = "the one place where tasks begin")]
pub fn start<T: Send + 'static>(
    name: &'static str,
    work: impl Future<Output = T> + Send + 'static,
) -> JoinHandle<T> {
    tokio::spawn(work.instrument(tracing::debug_span!(parent: Span::current(), "task", name)))
}

/// Spawns a task in a set, in the caller's span.
pub fn start_in<T: Send + 'static>(
    set: &mut JoinSet<T>,
    name: &'static str,
    work: impl Future<Output = T> + Send + 'static,
) {
    set.spawn(work.instrument(tracing::debug_span!(parent: Span::current(), "task", name)));
}

/// Spawns a task that lives as long as the process and that nobody waits for. Only for tasks
/// without state.
pub fn detached(name: &'static str, work: impl Future<Output = ()> + Send + 'static) {
    drop(start(name, work));
}

/// The work panicked instead of returning a value.
#[derive(Debug, thiserror::Error)]
#[error("it panicked: {0}")]
pub struct TaskPanicked(String);

/// Runs blocking work (disk, locks) off the reactor: on another thread if the runtime has several,
/// else in place. A single-threaded runtime, as in the simulation, thereby does everything in a
/// fixed order.
pub async fn off_reactor<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, TaskPanicked> {
    if several_threads() {
        return tokio::task::spawn_blocking(work)
            .await
            .map_err(|error| TaskPanicked(error.to_string()));
    }
    caught(work)
}

/// One thread per processor, for the life of the process. More would not help, and allocators that
/// keep memory per thread would keep more of it.
static PROCESSORS: LazyLock<Option<ThreadPool>> = LazyLock::new(|| {
    ThreadPoolBuilder::new().thread_name(|index| format!("processor-{index}")).build().ok()
});

/// Runs CPU-bound work off the reactor on a fixed pool of threads, else like [`off_reactor`].
pub async fn compute<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, TaskPanicked> {
    let Some(processors) = PROCESSORS.as_ref().filter(|_| several_threads()) else {
        return off_reactor(work).await;
    };
    let (done, outcome) = oneshot::channel();
    processors.spawn(move || drop(done.send(caught(work))));
    outcome.await.unwrap_or_else(|_| Err(TaskPanicked("its thread ended".to_owned())))
}

/// Maps each item, in parallel within [`compute`] and sequentially otherwise. Results keep the
/// order of the items; the first error stops the rest.
pub fn side_by_side<T: Send, U: Send, E: Send>(
    items: Vec<T>,
    work: impl Fn(T) -> Result<U, E> + Sync + Send,
) -> Result<Vec<U>, E> {
    if rayon::current_thread_index().is_some() {
        return items.into_par_iter().with_max_len(1).map(work).collect();
    }
    items.into_iter().map(work).collect()
}

fn several_threads() -> bool {
    Handle::try_current()
        .is_ok_and(|runtime| runtime.runtime_flavor() != RuntimeFlavor::CurrentThread)
}

fn caught<T>(work: impl FnOnce() -> T) -> Result<T, TaskPanicked> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| TaskPanicked(words(panic.as_ref())))
}

fn words(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("without words").to_owned()
}

/// A task owned by its handle: dropping this aborts it.
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

    #[tokio::test(flavor = "multi_thread")]
    async fn work_for_the_processor_is_done_on_its_threads_and_may_panic() {
        let name = || thread::current().name().map(str::to_owned);
        assert!(compute(name).await.unwrap().unwrap().starts_with("processor-"));
        let died = compute(|| panic!("row {}", 7)).await;
        assert_eq!(died.unwrap_err().to_string(), "it panicked: row 7");
    }

    #[tokio::test]
    async fn a_runtime_of_one_thread_computes_where_it_stands() {
        let here = thread::current().id();
        assert_eq!(compute(|| thread::current().id()).await.unwrap(), here);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn outcomes_of_work_side_by_side_are_in_order_and_an_error_is_told() {
        let squares = || side_by_side((0..100).collect(), |n| Ok::<_, ()>(n * n));
        assert_eq!(compute(squares).await.unwrap(), squares());
        let odd = |n: u32| if n.is_multiple_of(2) { Ok(n) } else { Err("odd") };
        assert_eq!(compute(move || side_by_side(vec![2, 3, 4], odd)).await.unwrap(), Err("odd"));
    }
}
