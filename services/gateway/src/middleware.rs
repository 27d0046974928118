//! The one tower stack: request id and trace around everything; a limit, load shed and a deadline
//! around the API.
//!
//! The probes stand outside the limit, so that a busy gateway is not taken for a dead one. The
//! body's limit is in `body.rs`, where bodies are read.

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

/// What one gateway takes on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Requests at once.
    pub(crate) concurrency: usize,
    /// For one request, its body included.
    pub(crate) timeout: Duration,
}

/// The routes with everything around them.
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
