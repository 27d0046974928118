//! The tower middleware stack: request id and tracing around all routes; a concurrency limit, load
//! shedding and a timeout around the API.
//!
//! Probes are exempt from the limit, so that a busy gateway is not considered dead. The body size
//! limit is in `body.rs`, where bodies are read.

use std::time::Duration;

use axum::{BoxError, Router, error_handling::HandleErrorLayer};
use http::StatusCode;
use tower::{
    ServiceBuilder,
    limit::GlobalConcurrencyLimitLayer,
    load_shed::{LoadShedLayer, error::Overloaded},
    timeout::{TimeoutLayer, error::Elapsed},
};
use tracelift_runtime::request::RequestLayer;

use crate::{control_plane::ControlPlane, error::ApiError};

/// Limits of one gateway.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Maximum number of concurrent requests.
    pub(crate) concurrency: usize,
    /// Time limit of one request, including its body.
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
    api.layer(bounded)
        .merge(probes)
        .method_not_allowed_fallback(|| async {
            ApiError::plain(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed")
        })
        .fallback(|| async { ApiError::plain(StatusCode::NOT_FOUND, "Not Found") })
        .layer(RequestLayer)
}

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
