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

/// The process answers.
pub(crate) async fn alive() -> Json<Health> {
    Json(Health { status: "ok" })
}

/// Requests can be answered, because the control plane can.
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
