//! Operations 5, 10, 11, and runs asked for anew.

use axum::extract::State;
use tracelift_proto::v1;

use crate::{
    answer::{Answer, BulkExportRun, many, one},
    caller::Caller,
    control_plane::ControlPlane,
    fields::WrongFields,
    path::PathIds,
    query::Query,
    refusal::Refusal,
};

/// All of them without a limit, which the control plane writes as 0.
const ALL: u32 = 0;

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

pub(crate) async fn get(
    State(plane): State<ControlPlane>,
    caller: Caller,
    PathIds([export_id, run_id]): PathIds<2>,
) -> Answer<BulkExportRun> {
    one(plane.exports().get_run(caller.call(v1::GetRunRequest { export_id, run_id })).await?.into_inner().run)
}

pub(crate) async fn retry(
    State(plane): State<ControlPlane>,
    caller: Caller,
    PathIds([export_id, run_id]): PathIds<2>,
) -> Answer<BulkExportRun> {
    let retried = plane.exports().retry_run(caller.call(v1::RetryRunRequest { export_id, run_id })).await;
    one(retried.map_err(Refusal::of_state)?.into_inner().run)
}

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
