//! The outermost layer of every server. It gives each request an id, a trace, a span with both, and
//! one log line.
//!
//! The id is the caller's `x-request-id` if that is well-formed (see [`RequestContext`]), else a
//! new one; the response repeats it. The trace is the caller's W3C `traceparent`, or a new one.
//! Header values, bodies and query strings are never logged.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Instant,
};

use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use tower::{Layer, Service};
use tracing::Instrument as _;
use uuid::Uuid;

use crate::incoming::Peer;

/// Header with a request's id.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Header with the trace that a request belongs to.
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// A request's id and trace, stored in its extensions for downstream calls.
#[derive(Debug, Clone)]
pub struct RequestContext {
    /// 1 to 128 ASCII letters, digits and `-_.:/`.
    pub request_id: HeaderValue,
    /// `00-<32 hex>-<16 hex>-<2 hex>`; the span id is this process's own.
    pub traceparent: HeaderValue,
}

impl RequestContext {
    fn of(headers: &HeaderMap) -> Self {
        let request_id = headers.get(REQUEST_ID).filter(|value| is_plain(value)).cloned();
        let trace_id = headers
            .get(TRACEPARENT)
            .and_then(trace_id)
            .map_or_else(|| hex(Uuid::new_v4()), str::to_owned);
        let span_id = &hex(Uuid::new_v4())[..16];
        Self {
            request_id: request_id.unwrap_or_else(|| plain(&hex(Uuid::new_v4()))),
            traceparent: plain(&format!("00-{trace_id}-{span_id}-01")),
        }
    }

    fn trace_id(&self) -> &str {
        self.traceparent.to_str().ok().and_then(|text| text.get(3..35)).unwrap_or_default()
    }

    /// Sets both headers on a downstream call.
    pub fn propagate(&self, headers: &mut HeaderMap) {
        headers.insert(REQUEST_ID, self.request_id.clone());
        headers.insert(TRACEPARENT, self.traceparent.clone());
    }
}

fn is_plain(value: &HeaderValue) -> bool {
    (1..=128).contains(&value.len())
        && value.as_bytes().iter().all(|b| b.is_ascii_alphanumeric() || b"-_.:/".contains(b))
}

fn plain(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static("none"))
}

fn hex(id: Uuid) -> String {
    id.as_simple().to_string()
}

fn trace_id(value: &HeaderValue) -> Option<&str> {
    let mut fields = value.to_str().ok()?.split('-');
    let (version, trace, span) = (fields.next()?, fields.next()?, fields.next()?);
    let lower_hex =
        |text: &str| text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    let fits = version.len() == 2
        && trace.len() == 32
        && span.len() == 16
        && lower_hex(trace)
        && lower_hex(span);
    (fits && trace.bytes().any(|b| b != b'0')).then_some(trace)
}

/// Wraps a service in [`RequestTrace`].
#[derive(Debug, Clone, Copy, Default)]
pub struct RequestLayer;

impl<S> Layer<S> for RequestLayer {
    type Service = RequestTrace<S>;

    fn layer(&self, inner: S) -> Self::Service {
        RequestTrace { inner }
    }
}

/// Gives each request its context, span and log line.
#[derive(Debug, Clone)]
pub struct RequestTrace<S> {
    inner: S,
}

impl<S, B, R> Service<Request<B>> for RequestTrace<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    S::Future: Send + 'static,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<R>, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let context = RequestContext::of(request.headers());
        if let Some(peer) = request.extensions().get::<Peer>().map(|peer| peer.address.clone()) {
            request.extensions_mut().insert(peer); // where tonic looks for it
        }
        let span = tracing::info_span!(
            "request",
            method = %request.method(),
            path = request.uri().path(),
            request_id = context.request_id.to_str().unwrap_or_default(),
            trace_id = context.trace_id(),
        );
        let request_id = context.request_id.clone();
        request.extensions_mut().insert(context);
        let started = Instant::now();
        let answer = self.inner.call(request);
        let work = async move {
            let mut answer = answer.await?;
            answer.headers_mut().insert(REQUEST_ID, request_id);
            let grpc = answer
                .headers()
                .get("grpc-status")
                .and_then(|status| status.to_str().ok())
                .unwrap_or_default();
            let micros = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
            tracing::info!(status = answer.status().as_u16(), grpc, micros, "answered");
            Ok(answer)
        };
        Box::pin(work.instrument(span))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context(headers: &[(HeaderName, &'static str)]) -> RequestContext {
        RequestContext::of(
            &headers
                .iter()
                .map(|(name, value)| (name.clone(), HeaderValue::from_static(value)))
                .collect(),
        )
    }

    #[test]
    fn a_callers_id_and_trace_are_kept() {
        let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let kept = context(&[(REQUEST_ID, "order-17"), (TRACEPARENT, trace)]);
        assert_eq!(kept.request_id, "order-17");
        assert_eq!(kept.trace_id(), "4bf92f3577b34da6a3ce929d0e0e4736");
    }

    #[test]
    fn hostile_ids_and_traces_are_replaced() {
        let replaced = context(&[(REQUEST_ID, "a b\tc"), (TRACEPARENT, "00-zz-1-01")]);
        assert_eq!(replaced.request_id.len(), 32);
        assert_eq!(replaced.trace_id().len(), 32);
    }
}
