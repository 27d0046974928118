//! The tower middleware stack: request id, tracing and headers around all routes; the body, a
//! concurrency limit, load shedding and a timeout around the API.
//!
//! Probes are exempt from the limit, so that a busy gateway is not considered dead. The body size
//! limit is in `body.rs`, where bodies are read.

use std::time::Duration;

use axum::{BoxError, Router, error_handling::HandleErrorLayer};
use http::{
    HeaderValue, StatusCode,
    header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS},
};
use tower::{
    ServiceBuilder,
    limit::GlobalConcurrencyLimitLayer,
    load_shed::{LoadShedLayer, error::Overloaded},
    timeout::{TimeoutLayer, error::Elapsed},
    util::MapResponseLayer,
};
use tracelift_runtime::request::RequestLayer;

use crate::{
    body::{self, BodyRoom},
    control_plane::ControlPlane,
    error::ApiError,
};

/// Limits of one gateway.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Maximum number of concurrent requests.
    pub(crate) concurrency: usize,
    /// Time limit of one request, from when its body has arrived.
    pub(crate) timeout: Duration,
}

/// Wraps the routes in the middleware.
pub(crate) fn around(
    api: Router<ControlPlane>,
    probes: Router<ControlPlane>,
    limits: Limits,
) -> Router<ControlPlane> {
    let bounded = ServiceBuilder::new()
        .layer(HandleErrorLayer::new(refuse))
        .layer(LoadShedLayer::new())
        .layer(GlobalConcurrencyLimitLayer::new(limits.concurrency))
        .layer(TimeoutLayer::new(limits.timeout));
    let receive = axum::middleware::from_fn_with_state(BodyRoom::new(), body::receive);
    api.layer(bounded)
        .layer(receive)
        .merge(probes)
        .method_not_allowed_fallback(|| async {
            ApiError::plain(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed")
        })
        .fallback(|| async { ApiError::plain(StatusCode::NOT_FOUND, "Not Found") })
        .layer(MapResponseLayer::new(with_headers))
        .layer(RequestLayer)
}

/// Keeps shared caches from storing what an API key gave access to, and browsers from guessing types
/// or running anything.
fn with_headers<B>(mut response: http::Response<B>) -> http::Response<B> {
    let headers = response.headers_mut();
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.entry(CONTENT_SECURITY_POLICY).or_insert(HeaderValue::from_static(NOTHING));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}

/// The pages of the gateway load nothing; `/docs` has its styles within.
const NOTHING: &str = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'";

async fn refuse(error: BoxError) -> ApiError {
    if error.is::<Elapsed>() {
        ApiError::deadline()
    } else if error.is::<Overloaded>() {
        ApiError::retry(
            StatusCode::SERVICE_UNAVAILABLE,
            "Too many requests at once; try again in a moment",
            1,
        )
    } else {
        ApiError::internal(&error)
    }
}
