//! Limits the calls in progress: one more is rejected at once, with the time after which to retry.
//! Nobody waits in a queue that only grows.
//!
//! Requests are authenticated before they are admitted, so that places are taken in a name: a tenant
//! may hold a share of them and make so many calls a second, exporters and admins have places of
//! their own, and so have health checks and reflection, which need no key. A call whose request does
//! not arrive in time gives its place back.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http::{Request, Response};
use http_body::Frame;
use tokio::time::Sleep;
use tonic::{Status, body::Body};
use tower::{Layer, Service};
use tracelift_core::id::TenantId;
use tracelift_proto::status::overloaded;
use tracelift_runtime::shares::{Full, Place, Places, Rate};

use crate::auth::Caller;

/// Seconds after which a rejected caller should retry.
pub(crate) const RETRY_SECONDS: u64 = 1;
/// Places of health checks and reflection.
const OPEN_PLACES: usize = 64;
/// Longest time for the request of a call to arrive, from when its headers did.
const REQUEST_DEADLINE: Duration = Duration::from_secs(10);

/// How many calls to admit.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Terms {
    /// Calls in progress at once of all tenants together, and again of exporters and admins.
    pub(crate) calls: usize,
    /// How many of them one tenant may hold.
    pub(crate) calls_of_tenant: usize,
    /// Calls a second of one tenant; 0 is no limit.
    pub(crate) rate_of_tenant: u32,
}

/// Seconds' worth of calls that a tenant may make at once after a rest.
const BURST_SECONDS: u32 = 5;

/// In whose name a call is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Name {
    Tenant(TenantId),
    /// Exporters and admins.
    Operator,
    /// Health checks and reflection.
    Anybody,
}

impl Name {
    fn of<B>(request: &Request<B>) -> Self {
        if let Some(caller) = request.extensions().get::<Caller>() {
            return Self::Tenant(caller.actor.tenant);
        }
        if request.uri().path().starts_with("/grpc.") { Self::Anybody } else { Self::Operator }
    }
}

/// Wraps a service in [`Admission`].
#[derive(Debug, Clone)]
pub(crate) struct AdmissionLayer(Arc<Room>);

#[derive(Debug)]
struct Room {
    tenants: Places<TenantId>,
    operator: Places<()>,
    anybody: Places<()>,
    rate: Rate<TenantId>,
}

impl AdmissionLayer {
    /// Admits calls on these terms. A stream counts until its response begins.
    pub(crate) fn new(terms: Terms) -> Self {
        Self(Arc::new(Room {
            tenants: Places::new(terms.calls, terms.calls_of_tenant),
            operator: Places::new(terms.calls, terms.calls),
            anybody: Places::new(OPEN_PLACES, OPEN_PLACES),
            rate: Rate::new(
                terms.rate_of_tenant,
                terms.rate_of_tenant.saturating_mul(BURST_SECONDS),
            ),
        }))
    }
}

impl<S> Layer<S> for AdmissionLayer {
    type Service = Admission<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Admission { inner, room: self.0.clone() }
    }
}

/// A place among those of its kind.
#[derive(Debug)]
enum Taken {
    Tenant { _place: Place<TenantId> },
    Other { _place: Place<()> },
}

impl Room {
    fn admit(&self, name: Name) -> Result<Taken, Status> {
        let taken = match name {
            Name::Tenant(tenant) => {
                self.rate.count(tenant).map_err(too_fast)?;
                self.tenants.take(tenant).map(|place| Taken::Tenant { _place: place })
            }
            Name::Operator => self.operator.take(()).map(|place| Taken::Other { _place: place }),
            Name::Anybody => self.anybody.take(()).map(|place| Taken::Other { _place: place }),
        };
        taken.map_err(|full| {
            let text = match (full, name) {
                (Full::Share, Name::Tenant(_)) => {
                    "the workspace has as many calls under way as it may; try again shortly"
                }
                _ => "the control plane has too many calls under way; try again shortly",
            };
            overloaded(text, RETRY_SECONDS)
        })
    }
}

fn too_fast(wait: Duration) -> Status {
    let seconds = wait.as_secs() + 1;
    overloaded("the workspace makes more calls a second than it may; try again shortly", seconds)
}

/// Admits calls while there is room.
#[derive(Debug, Clone)]
pub(crate) struct Admission<S> {
    inner: S,
    room: Arc<Room>,
}

impl<S> Service<Request<Body>> for Admission<S>
where
    S: Service<Request<Body>, Response = Response<Body>>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let taken = match self.room.admit(Name::of(&request)) {
            Ok(taken) => taken,
            Err(refusal) => {
                metrics::counter!("tracelift_calls_refused_total").increment(1);
                return Box::pin(async move { Ok(refusal.into_http()) });
            }
        };
        let streams = is_stream(request.uri().path());
        let request =
            if streams { request } else { request.map(|body| Body::new(InTime::new(body))) };
        let answer = self.inner.call(request);
        Box::pin(async move {
            let answer = answer.await;
            drop(taken);
            answer
        })
    }
}

/// Whether the request of a call is a stream that may go on.
fn is_stream(path: &str) -> bool {
    path == "/tracelift.fleet.v1.FleetService/Connect" || path.ends_with("/ServerReflectionInfo")
}

/// The body of a request, which must arrive in time.
struct InTime {
    body: Body,
    deadline: Pin<Box<Sleep>>,
}

impl InTime {
    fn new(body: Body) -> Self {
        Self { body, deadline: Box::pin(tokio::time::sleep(REQUEST_DEADLINE)) }
    }
}

impl http_body::Body for InTime {
    type Data = bytes::Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Status>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            return Poll::Ready(frame);
        }
        self.deadline.as_mut().poll(cx).map(|()| {
            let text =
                format!("the request did not arrive within {} s", REQUEST_DEADLINE.as_secs());
            Some(Err(Status::deadline_exceeded(text)))
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
}
