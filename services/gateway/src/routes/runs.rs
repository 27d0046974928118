//! Operations 5, 10, 11, and runs asked for anew.

use axum::extract::State;
use tracelift_proto::v1;

use crate::{
    answer::{Answer, BulkExportRun, many, one},
    caller::Caller,
    control_plane::ControlPlane,
    fields::WrongFields,
    openapi::{
        Refused,
        given::{ExportId, Page, RunId, Source},
    },
    path::PathIds,
    query::Query,
    refusal::Refusal,
};

/// All of them without a limit, which the control plane writes as 0.
const ALL: u32 = 0;

#[utoipa::path(get, path = "/api/v1/bulk-exports/{bulk_export_id}/runs", operation_id = "list_runs", tag = "runs", summary = "Runs of an export, oldest partition first; all of them without a limit", params(ExportId, Page), responses((status = 200, body = Vec<BulkExportRun>), Refused))]
pub(crate) async fn list(
    State(plane): State<ControlPlane>,
    caller: Caller,
    PathIds([export_id]): PathIds<1>,
    query: Query,
) -> Answer<Vec<BulkExportRun>> {
    let page = query.page()?;
    let request = v1::ListRunsRequest { export_id, limit: page.limit.unwrap_or(ALL), offset: page.offset };
    many(plane.exports().list_runs(caller.call(request)).await?.into_inner().runs)
}

#[utoipa::path(get, path = "/api/v1/bulk-exports/{bulk_export_id}/runs/{run_id}", operation_id = "get_run", tag = "runs", summary = "One run", params(ExportId, RunId), responses((status = 200, body = BulkExportRun), Refused))]
pub(crate) async fn get(
    State(plane): State<ControlPlane>,
    caller: Caller,
    PathIds([export_id, run_id]): PathIds<2>,
) -> Answer<BulkExportRun> {
    one(plane.exports().get_run(caller.call(v1::GetRunRequest { export_id, run_id })).await?.into_inner().run)
}

#[utoipa::path(post, path = "/api/v1/bulk-exports/{bulk_export_id}/runs/{run_id}/retry", operation_id = "retry_run", tag = "runs", summary = "Let a run that Failed or TimedOut go on behind its complete files", params(ExportId, RunId), responses((status = 200, body = BulkExportRun), Refused))]
pub(crate) async fn retry(
    State(plane): State<ControlPlane>,
    caller: Caller,
    PathIds([export_id, run_id]): PathIds<2>,
) -> Answer<BulkExportRun> {
    let retried = plane.exports().retry_run(caller.call(v1::RetryRunRequest { export_id, run_id })).await;
    one(retried.map_err(Refusal::of_state)?.into_inner().run)
}

#[utoipa::path(get, path = "/api/v1/bulk-exports/runs", operation_id = "list_schedule_runs", tag = "runs", summary = "Runs of everything that a schedule spawned", params(Source, Page), responses((status = 200, body = Vec<BulkExportRun>), Refused))]
pub(crate) async fn of_schedule(State(plane): State<ControlPlane>, caller: Caller, query: Query) -> Answer<Vec<BulkExportRun>> {
    let request = schedule_runs(query)?;
    many(plane.exports().list_schedule_runs(caller.call(request)).await?.into_inner().runs)
}

fn schedule_runs(mut query: Query) -> Result<v1::ListScheduleRunsRequest, WrongFields> {
    let source = query.id("source_bulk_export_id");
    let page = query.page()?;
    let source_export_id = source.map(|id| id.to_string()).unwrap_or_default();
    Ok(v1::ListScheduleRunsRequest { source_export_id, limit: page.limit.unwrap_or(ALL), offset: page.offset })
}
