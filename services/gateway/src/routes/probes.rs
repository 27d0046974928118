//! Liveness and readiness.

use axum::extract::State;
use http::StatusCode;
use serde::Serialize;

use crate::{
    control_plane::ControlPlane,
    error::ApiError,
    response::{ApiResult, Json},
};

#[derive(Debug, Serialize)]
pub(crate) struct Health {
    status: &'static str,
}

/// Liveness: the process responds.
pub(crate) async fn alive() -> Json<Health> {
    Json(Health { status: "ok" })
}

/// Readiness: the control plane is ready, so requests can be served.
pub(crate) async fn ready(State(plane): State<ControlPlane>) -> ApiResult<Health> {
    match plane.ready().await {
        Ok(()) => Ok(Json(Health { status: "ok" })),
        Err(status) => {
            tracing::warn!(code = ?status.code(), "not ready");
            Err(ApiError::plain(
                StatusCode::SERVICE_UNAVAILABLE,
                "The control plane cannot be reached",
            ))
        }
    }
}
