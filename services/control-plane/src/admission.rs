//! Limits the calls in progress: one more is rejected at once, with the time after which to retry.
//! Nobody waits in a queue that only grows.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http::{Request, Response};
use tokio::sync::Semaphore;
use tonic::body::Body;
use tower::{Layer, Service};
use tracelift_proto::status::overloaded;

/// Seconds after which a rejected caller should retry.
pub(crate) const RETRY_SECONDS: u64 = 1;

/// Wraps a service in [`Admission`].
#[derive(Debug, Clone)]
pub(crate) struct AdmissionLayer(Arc<Semaphore>);

impl AdmissionLayer {
    /// Admits `most` calls at a time. A stream counts until its response begins.
    pub(crate) fn new(most: usize) -> Self {
        Self(Arc::new(Semaphore::new(most.min(Semaphore::MAX_PERMITS))))
    }
}

impl<S> Layer<S> for AdmissionLayer {
    type Service = Admission<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Admission { inner, room: self.0.clone() }
    }
}

/// Admits calls while there is room.
#[derive(Debug, Clone)]
pub(crate) struct Admission<S> {
    inner: S,
    room: Arc<Semaphore>,
}

impl<S, B> Service<Request<B>> for Admission<S>
where
    S: Service<Request<B>, Response = Response<Body>>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let Ok(place) = self.room.clone().try_acquire_owned() else {
            metrics::counter!("tracelift_calls_refused_total").increment(1);
            let refusal = overloaded(
                "the control plane has too many calls under way; try again shortly",
                RETRY_SECONDS,
            );
            return Box::pin(async move { Ok(refusal.into_http()) });
        };
        let answer = self.inner.call(request);
        Box::pin(async move {
            let answer = answer.await;
            drop(place);
            answer
        })
    }
}
