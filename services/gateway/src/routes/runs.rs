//! Handlers to list, get and retry runs.

use axum::extract::State;
use tonic::Response;
use tracelift_proto::{pages, v1};

use crate::{
    caller::Caller,
    control_plane::ControlPlane,
    error::ApiError,
    openapi::{
        Refused,
        request_schema::{ExportId, Page, Source, TaskId},
    },
    path::PathIds,
    query::Query,
    response::{ApiResult, BulkExportRun, many, one},
    validation::ValidationErrors,
};

/// No limit: all items, encoded as 0 in control plane requests.
const ALL: u32 = 0;

/// Completes the file lists of runs: if a run has very many files, the control plane returns only
/// the first ones.
async fn whole(
    plane: &ControlPlane,
    caller: &Caller,
    mut runs: Vec<v1::ExportRun>,
) -> Result<Vec<v1::ExportRun>, ApiError> {
    for run in &mut runs {
        let Some(result) = run
            .result
            .as_mut()
            .filter(|result| result.files as usize > result.exported_files.len())
        else {
            continue;
        };
        let request = v1::ListRunFilesRequest {
            export_id: run.export_id.clone(),
            run_id: run.id.clone(),
            ..Default::default()
        };
        result.exported_files = pages::follow(ALL, |_, page_token| {
            let (mut exports, request) = (
                plane.exports(),
                caller.call(v1::ListRunFilesRequest { page_token, ..request.clone() }),
            );
            async move { exports.list_run_files(request).await.map(Response::into_inner) }
        })
        .await?;
    }
    Ok(runs)
}

async fn whole_one(
    plane: &ControlPlane,
    caller: &Caller,
    run: Option<v1::ExportRun>,
) -> ApiResult<BulkExportRun> {
    one(whole(plane, caller, run.into_iter().collect()).await?.pop())
}

#[utoipa::path(get, path = "/api/v1/bulk-exports/{bulk_export_id}/runs", operation_id = "list_runs", tag = "runs", summary = "Runs of an export, oldest partition first; all of them without a limit", params(ExportId, Page), responses((status = 200, body = Vec<BulkExportRun>), Refused))]
pub(crate) async fn list(
    State(plane): State<ControlPlane>,
    caller: Caller,
    PathIds([export_id]): PathIds<1>,
    query: Query,
) -> ApiResult<Vec<BulkExportRun>> {
    let page = query.page()?;
    let request = v1::ListRunsRequest { export_id, offset: page.offset, ..Default::default() };
    let runs = pages::follow(page.limit.unwrap_or(ALL), |limit, page_token| {
        let (mut exports, request) = (
            plane.exports(),
            caller.call(v1::ListRunsRequest { limit, page_token, ..request.clone() }),
        );
        async move { exports.list_runs(request).await.map(Response::into_inner) }
    });
    many(whole(&plane, &caller, runs.await?).await?)
}

#[utoipa::path(get, path = "/api/v1/bulk-exports/{bulk_export_id}/runs/{run_id}", operation_id = "get_run", tag = "runs", summary = "One run", params(ExportId, TaskId), responses((status = 200, body = BulkExportRun), Refused))]
pub(crate) async fn get(
    State(plane): State<ControlPlane>,
    caller: Caller,
    PathIds([export_id, run_id]): PathIds<2>,
) -> ApiResult<BulkExportRun> {
    let found = plane
        .exports()
        .get_run(caller.call(v1::GetRunRequest { export_id, run_id }))
        .await?
        .into_inner()
        .run;
    whole_one(&plane, &caller, found).await
}

#[utoipa::path(post, path = "/api/v1/bulk-exports/{bulk_export_id}/runs/{run_id}/retry", operation_id = "retry_run", tag = "runs", summary = "Let a run that Failed or TimedOut go on behind its complete files", params(ExportId, TaskId), responses((status = 200, body = BulkExportRun), Refused))]
pub(crate) async fn retry(
    State(plane): State<ControlPlane>,
    caller: Caller,
    PathIds([export_id, run_id]): PathIds<2>,
) -> ApiResult<BulkExportRun> {
    let retried =
        plane.exports().retry_run(caller.call(v1::RetryRunRequest { export_id, run_id })).await;
    whole_one(&plane, &caller, retried.map_err(ApiError::of_state)?.into_inner().run).await
}

#[utoipa::path(get, path = "/api/v1/bulk-exports/runs", operation_id = "list_schedule_runs", tag = "runs", summary = "Runs of everything that a schedule spawned", params(Source, Page), responses((status = 200, body = Vec<BulkExportRun>), Refused))]
pub(crate) async fn of_schedule(
    State(plane): State<ControlPlane>,
    caller: Caller,
    query: Query,
) -> ApiResult<Vec<BulkExportRun>> {
    let request = schedule_runs(query)?;
    let runs = pages::follow(request.limit, |limit, page_token| {
        let request =
            caller.call(v1::ListScheduleRunsRequest { limit, page_token, ..request.clone() });
        let mut exports = plane.exports();
        async move { exports.list_schedule_runs(request).await.map(Response::into_inner) }
    });
    many(whole(&plane, &caller, runs.await?).await?)
}

fn schedule_runs(mut query: Query) -> Result<v1::ListScheduleRunsRequest, ValidationErrors> {
    let source = query.id("source_bulk_export_id");
    let page = query.page()?;
    let source_export_id = source.map(|id| id.to_string()).unwrap_or_default();
    Ok(v1::ListScheduleRunsRequest {
        source_export_id,
        limit: page.limit.unwrap_or(ALL),
        offset: page.offset,
        page_token: String::new(),
    })
}
