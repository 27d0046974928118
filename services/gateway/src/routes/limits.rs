//! Handler for the limits and current usage of a workspace.

use axum::extract::State;
use tracelift_proto::v1;

use crate::{
    caller::Caller,
    control_plane::ControlPlane,
    openapi::Refused,
    response::{ApiResult, Limits, one},
};

#[utoipa::path(get, path = "/api/v1/bulk-exports/limits", operation_id = "get_limits", tag = "exports", summary = "Every limit and what the workspace uses of it", responses((status = 200, body = Limits), Refused))]
pub(crate) async fn get(State(plane): State<ControlPlane>, caller: Caller) -> ApiResult<Limits> {
    one(plane.exports().get_limits(caller.call(v1::GetLimitsRequest {})).await?.into_inner().limits)
}
