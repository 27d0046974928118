//! Handlers to list, create, get and cancel exports, and to validate filters.

use axum::extract::State;
use http::HeaderMap;
use tonic::{Code, Response};
use tracelift_core::export::ExportStatus;
use tracelift_proto::{pages, v1};

use crate::{
    body::JsonBody,
    caller::Caller,
    control_plane::ControlPlane,
    openapi::{
        Refused,
        request_schema::{
            BulkExportCreate, BulkExportUpdate, ExportId, FilterQuery, Idempotency, ListFilter,
            Page,
        },
    },
    path::PathIds,
    query::Query,
    request,
    response::{ApiResult, BulkExport, FilterValidation, many, one},
    validation::ValidationErrors,
};

#[utoipa::path(get, path = "/api/v1/bulk-exports", operation_id = "list_bulk_exports", tag = "exports", summary = "Exports, newest first", params(Page, ListFilter), responses((status = 200, body = Vec<BulkExport>), Refused))]
pub(crate) async fn list(
    State(plane): State<ControlPlane>,
    caller: Caller,
    query: Query,
) -> ApiResult<Vec<BulkExport>> {
    let request = wanted(query)?;
    let exports = pages::follow(request.limit, |limit, page_token| {
        let (mut exports, request) = (
            plane.exports(),
            caller.call(v1::ListExportsRequest { limit, page_token, ..request.clone() }),
        );
        async move { exports.list_exports(request).await.map(Response::into_inner) }
    });
    many(exports.await?)
}

fn wanted(mut query: Query) -> Result<v1::ListExportsRequest, ValidationErrors> {
    let statuses = query.enums("status", ExportStatus::parse);
    let destination_id = query.id_if_given("destination_id").unwrap_or_default();
    let session_id = query.id_if_given("session_id").unwrap_or_default();
    let page = query.page()?;
    let statuses =
        statuses.into_iter().map(|status| v1::ExportStatus::from(status).into()).collect();
    let (limit, offset, page_token) = (page.limit.unwrap_or(100), page.offset, String::new());
    Ok(v1::ListExportsRequest { limit, offset, statuses, destination_id, session_id, page_token })
}

#[utoipa::path(post, path = "/api/v1/bulk-exports", operation_id = "create_bulk_export", tag = "exports", summary = "Start an export, or a schedule of exports", params(Idempotency), request_body = BulkExportCreate, responses((status = 200, body = BulkExport), Refused))]
pub(crate) async fn create(
    State(plane): State<ControlPlane>,
    caller: Caller,
    headers: HeaderMap,
    JsonBody(body): JsonBody,
) -> ApiResult<BulkExport> {
    let idempotency_key = request::idempotency_key(&headers)?;
    let request = v1::CreateExportRequest { idempotency_key, ..request::create_export(&body)? };
    one(plane.exports().create_export(caller.call(request)).await?.into_inner().export)
}

#[utoipa::path(get, path = "/api/v1/bulk-exports/{bulk_export_id}", operation_id = "get_bulk_export", tag = "exports", summary = "One export", params(ExportId), responses((status = 200, body = BulkExport), Refused))]
pub(crate) async fn get(
    State(plane): State<ControlPlane>,
    caller: Caller,
    PathIds([id]): PathIds<1>,
) -> ApiResult<BulkExport> {
    one(plane
        .exports()
        .get_export(caller.call(v1::GetExportRequest { id }))
        .await?
        .into_inner()
        .export)
}

#[utoipa::path(patch, path = "/api/v1/bulk-exports/{bulk_export_id}", operation_id = "cancel_bulk_export", tag = "exports", summary = "Cancel an export, or a schedule", params(ExportId), request_body = BulkExportUpdate, responses((status = 200, body = BulkExport), Refused))]
pub(crate) async fn cancel(
    State(plane): State<ControlPlane>,
    caller: Caller,
    PathIds([id]): PathIds<1>,
    JsonBody(body): JsonBody,
) -> ApiResult<BulkExport> {
    request::cancellation(&body)?;
    match plane
        .exports()
        .cancel_export(caller.call(v1::CancelExportRequest { id: id.clone() }))
        .await
    {
        // The export has already ended with another status and stays that way. Clients cancel
        // whatever they no longer need, so return the export as it is.
        Err(status) if status.code() == Code::FailedPrecondition => one(plane
            .exports()
            .get_export(caller.call(v1::GetExportRequest { id }))
            .await?
            .into_inner()
            .export),
        cancelled => one(cancelled?.into_inner().export),
    }
}

#[utoipa::path(post, path = "/api/v1/runs/query/validate", operation_id = "validate_filter", tag = "exports", summary = "Whether a filter can be understood", request_body = FilterQuery, responses((status = 200, body = FilterValidation), Refused))]
pub(crate) async fn validate_filter(
    State(plane): State<ControlPlane>,
    caller: Caller,
    JsonBody(body): JsonBody,
) -> ApiResult<FilterValidation> {
    let request = request::validate_filter(&body)?;
    one(Some(plane.exports().validate_filter(caller.call(request)).await?.into_inner()))
}
