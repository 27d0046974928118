//! Handler for the audit log of a workspace.

use axum::extract::State;
use tracelift_proto::{time_to, v1};

use crate::{
    caller::Caller,
    control_plane::ControlPlane,
    openapi::{Refused, request_schema::AuditQuery},
    query::Query,
    response::{ApiResult, AuditLogs, Json},
    validation::ValidationErrors,
};

/// Records in one response unless the caller asks for another number.
const DEFAULT_LIMIT: u32 = 100;

#[utoipa::path(get, path = "/api/v1/audit-logs", operation_id = "get_audit_logs", tag = "audit", summary = "Records of the audit log, newest first; needs a key with the admin permission", params(AuditQuery), responses((status = 200, body = AuditLogs), Refused))]
pub(crate) async fn list(
    State(plane): State<ControlPlane>,
    caller: Caller,
    query: Query,
) -> ApiResult<AuditLogs> {
    let request = wanted(query)?;
    let page = plane.administration().list_audit_records(caller.call(request)).await?;
    Ok(Json(page.into_inner().into()))
}

fn wanted(mut query: Query) -> Result<v1::ListAuditRecordsRequest, ValidationErrors> {
    let start_time = query.time_if_given("start_time").map(time_to);
    let end_time = query.time_if_given("end_time").map(time_to);
    let tenant_id = query.id_if_given("workspace_id").unwrap_or_default();
    let actions = query.all("operations");
    let page_token = query.all("cursor").pop().unwrap_or_default();
    let limit = query.page()?.limit.unwrap_or(DEFAULT_LIMIT);
    Ok(v1::ListAuditRecordsRequest { tenant_id, start_time, end_time, actions, limit, page_token })
}
