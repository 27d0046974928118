//! Every path of the REST API. A handler parses the request, makes one call and returns the
//! response.

pub(crate) mod audit;
pub(crate) mod destinations;
pub(crate) mod events;
pub(crate) mod exports;
pub(crate) mod limits;
mod probes;
pub(crate) mod runs;

use axum::{
    Router,
    routing::{MethodRouter, get, post},
};

use crate::{control_plane::ControlPlane, openapi};

/// LangSmith's operations plus our own: `limits`, `events`, `retry`. Literal segments take
/// precedence over ids.
pub(crate) fn api() -> Router<ControlPlane> {
    served([
        ("/api/v1/bulk-exports", get(exports::list).post(exports::create)),
        ("/api/v1/bulk-exports/destinations", get(destinations::list).post(destinations::create)),
        (
            "/api/v1/bulk-exports/destinations/{destination_id}",
            get(destinations::get).patch(destinations::update).delete(destinations::delete),
        ),
        ("/api/v1/bulk-exports/runs", get(runs::of_schedule)),
        ("/api/v1/bulk-exports/limits", get(limits::get)),
        ("/api/v1/bulk-exports/{bulk_export_id}", get(exports::get).patch(exports::cancel)),
        ("/api/v1/bulk-exports/{bulk_export_id}/runs", get(runs::list)),
        ("/api/v1/bulk-exports/{bulk_export_id}/events", get(events::follow)),
        ("/api/v1/bulk-exports/{bulk_export_id}/runs/{run_id}", get(runs::get)),
        ("/api/v1/bulk-exports/{bulk_export_id}/runs/{run_id}/retry", post(runs::retry)),
        ("/api/v1/audit-logs", get(audit::list)),
        ("/api/v1/runs/query/validate", post(exports::validate_filter)),
    ])
}

/// Routes for probes and documentation.
pub(crate) fn probes() -> Router<ControlPlane> {
    served([
        ("/openapi.json", get(openapi::json)),
        ("/docs", get(openapi::page)),
        ("/healthz", get(probes::alive)),
        ("/readyz", get(probes::ready)),
    ])
}

/// Registers each path with and without a trailing slash. FastAPI redirects one to the other, and
/// not every client resends the body after a redirect.
fn served<const N: usize>(paths: [(&str, MethodRouter<ControlPlane>); N]) -> Router<ControlPlane> {
    paths.into_iter().fold(Router::new(), |router, (path, methods)| {
        router.route(path, methods.clone()).route(&format!("{path}/"), methods)
    })
}
