//! Every path of the REST API. A handler decodes, calls once, and writes the answer.

pub(crate) mod destinations;
pub(crate) mod events;
pub(crate) mod exports;
pub(crate) mod limits;
mod probes;
pub(crate) mod runs;

use axum::{
    Router,
    routing::{get, post},
};

use crate::{control_plane::ControlPlane, openapi};

/// LangSmith's operations, and ours: `limits`, `events`, `retry`. Fixed segments win over ids.
pub(crate) fn api() -> Router<ControlPlane> {
    let bulk_exports = Router::new()
        .route("/", get(exports::list).post(exports::create))
        .route("/destinations", get(destinations::list).post(destinations::create))
        .route("/destinations/{destination_id}", get(destinations::get).patch(destinations::update).delete(destinations::delete))
        .route("/runs", get(runs::of_schedule))
        .route("/limits", get(limits::get))
        .route("/{bulk_export_id}", get(exports::get).patch(exports::cancel))
        .route("/{bulk_export_id}/runs", get(runs::list))
        .route("/{bulk_export_id}/events", get(events::follow))
        .route("/{bulk_export_id}/runs/{run_id}", get(runs::get))
        .route("/{bulk_export_id}/runs/{run_id}/retry", post(runs::retry));
    Router::new().nest("/api/v1/bulk-exports", bulk_exports).route("/api/v1/runs/query/validate", post(exports::validate_filter))
}

/// For whoever keeps the process running.
pub(crate) fn probes() -> Router<ControlPlane> {
    Router::new()
        .route("/openapi.json", get(openapi::json))
        .route("/docs", get(openapi::page))
        .route("/healthz", get(probes::alive))
        .route("/readyz", get(probes::ready))
}
