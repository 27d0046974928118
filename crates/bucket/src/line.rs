//! Timeouts for slow connections: a request is sent in small pieces and aborted when no data has
//! moved for a while, however long it takes in total.
//!
//! This sits between the SDK and its connections, after checksums and signatures are computed, so
//! the bytes on the wire do not change. The SDK's own stalled-stream protection is off, because it
//! gives each stream a fixed second.

use std::{
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use aws_smithy_runtime_api::{
    box_error::BoxError,
    client::{
        http::{
            HttpClient as _, HttpConnector, HttpConnectorFuture, SharedHttpClient,
            SharedHttpConnector, http_client_fn,
        },
        orchestrator::HttpRequest,
        result::ConnectorError,
    },
    shared::IntoShared as _,
};
use aws_smithy_types::body::SdkBody;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep, sleep_until};

/// Maximum size of a piece, in bytes.
const PIECE: usize = 64 << 10;
/// Longest allowance for data in buffers, whatever its size. Below 600 s, after which a task
/// without progress loses its lease.
const LONGEST_EMPTYING: Duration = Duration::from_secs(480);

/// The inactivity timeout of requests, and a gauge of data in flight.
#[derive(Debug, Clone)]
pub struct Line {
    /// Longest time without data moving.
    pub silence: Duration,
    /// Slowest throughput that is tolerated, in bytes per second. Data already handed over may sit
    /// in buffers of the kernel and of proxies, and take that long to arrive without any sign of
    /// progress.
    pub slowest: u64,
    /// Bytes handed over for requests that have no response yet.
    pub under_way: Arc<AtomicU64>,
}

/// Wraps a client so that inactive requests are aborted.
pub(crate) fn with_silence_bounded(client: SharedHttpClient, line: Line) -> SharedHttpClient {
    http_client_fn(move |settings, components| {
        let connector = client.http_connector(settings, components);
        Patient { connector, line: line.clone() }.into_shared()
    })
}

#[derive(Debug)]
struct Patient {
    connector: SharedHttpConnector,
    line: Line,
}

impl HttpConnector for Patient {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let sending = Arc::new(Sending::new(self.line.clone()));
        let request = request.map(|body| {
            SdkBody::from_body_1_x(Pieces { body, rest: Bytes::new(), sending: sending.clone() })
        });
        let (answer, silence) = (self.connector.call(request), self.line.silence);
        HttpConnectorFuture::new(async move {
            let answer = tokio::select! {
                answer = answer => answer?,
                () = sending.silent() => return Err(ConnectorError::timeout(Box::new(Silent(silence)))),
            };
            Ok(answer.map(|body| {
                SdkBody::from_body_1_x(Heard { body, silence, until: Box::pin(sleep(silence)) })
            }))
        })
    }
}

/// Why a request was aborted.
#[derive(Debug, thiserror::Error)]
#[error("nothing moved for {} s", .0.as_secs_f64())]
struct Silent(Duration);

/// A request being sent.
#[derive(Debug)]
struct Sending {
    line: Line,
    handed_over: AtomicU64,
    moved_at: Mutex<Instant>,
}

impl Sending {
    fn new(line: Line) -> Self {
        Self { line, handed_over: AtomicU64::new(0), moved_at: Mutex::new(Instant::now()) }
    }

    fn moved(&self, bytes: usize) {
        self.handed_over.fetch_add(bytes as u64, Relaxed);
        self.line.under_way.fetch_add(bytes as u64, Relaxed);
        *self.moved_at.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// When the request counts as inactive; never moves backwards.
    fn deadline(&self) -> Instant {
        let moved_at = *self.moved_at.lock().unwrap_or_else(PoisonError::into_inner);
        let emptying = Duration::from_secs_f64(
            self.handed_over.load(Relaxed) as f64 / self.line.slowest.max(1) as f64,
        );
        moved_at + self.line.silence + emptying.min(LONGEST_EMPTYING)
    }

    /// Returns once the request has been inactive for too long.
    async fn silent(&self) {
        loop {
            let deadline = self.deadline();
            if Instant::now() >= deadline {
                return;
            }
            sleep_until(deadline).await;
        }
    }
}

impl Drop for Sending {
    /// The request has been answered or aborted, so its bytes are no longer in flight.
    fn drop(&mut self) {
        self.line.under_way.fetch_sub(self.handed_over.load(Relaxed), Relaxed);
    }
}

/// A request body in small pieces, each recorded as it is handed over.
struct Pieces {
    body: SdkBody,
    rest: Bytes,
    sending: Arc<Sending>,
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if self.rest.is_empty() {
            match ready!(Pin::new(&mut self.body).poll_frame(context))
                .transpose()?
                .map(Frame::into_data)
            {
                Some(Ok(bytes)) => self.rest = bytes,
                Some(Err(other)) => return Poll::Ready(Some(Ok(other))),
                None => return Poll::Ready(None),
            }
        }
        let size = self.rest.len().min(PIECE);
        let piece = self.rest.split_to(size);
        self.sending.moved(size);
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (inner, rest) = (Body::size_hint(&self.body), self.rest.len() as u64);
        let mut hint = SizeHint::new();
        hint.set_lower(inner.lower() + rest);
        if let Some(upper) = inner.upper() {
            hint.set_upper(upper + rest);
        }
        hint
    }
}

/// A response body that fails when no more data arrives.
struct Heard {
    body: SdkBody,
    silence: Duration,
    until: Pin<Box<Sleep>>,
}

impl Body for Heard {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) {
            let until = Instant::now() + self.silence;
            self.until.as_mut().reset(until);
            return Poll::Ready(frame);
        }
        ready!(self.until.as_mut().poll(context));
        Poll::Ready(Some(Err(Silent(self.silence).into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        Body::size_hint(&self.body)
    }
}

#[cfg(test)]
mod tests;
