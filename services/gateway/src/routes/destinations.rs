//! Handlers to list, create, get, update and delete destinations.

use axum::{
    extract::State,
    http::{HeaderMap, StatusCode},
};
use tonic::Response;
use tracelift_proto::{pages, v1};

use crate::{
    body::JsonBody,
    caller::Caller,
    control_plane::ControlPlane,
    error::ApiError,
    openapi::{
        Refused,
        request_schema::{
            BulkExportDestinationCreate, BulkExportDestinationUpdate, DestinationId, Idempotency,
        },
    },
    path::PathIds,
    request,
    response::{ApiResult, BulkExportDestination, many, one},
};

#[utoipa::path(get, path = "/api/v1/bulk-exports/destinations", operation_id = "list_destinations", tag = "destinations", summary = "Destinations, newest first", responses((status = 200, body = Vec<BulkExportDestination>), Refused))]
pub(crate) async fn list(
    State(plane): State<ControlPlane>,
    caller: Caller,
) -> ApiResult<Vec<BulkExportDestination>> {
    let all = pages::follow(0, |limit, page_token| {
        let (mut destinations, request) =
            (plane.destinations(), caller.call(v1::ListDestinationsRequest { limit, page_token }));
        async move { destinations.list_destinations(request).await.map(Response::into_inner) }
    });
    many(all.await?)
}

#[utoipa::path(post, path = "/api/v1/bulk-exports/destinations", operation_id = "create_destination", tag = "destinations", summary = "Check a bucket by writing to it, and save it", params(Idempotency), request_body = BulkExportDestinationCreate, responses((status = 200, body = BulkExportDestination), Refused))]
pub(crate) async fn create(
    State(plane): State<ControlPlane>,
    caller: Caller,
    headers: HeaderMap,
    JsonBody(body): JsonBody,
) -> ApiResult<BulkExportDestination> {
    let idempotency_key = request::idempotency_key(&headers)?;
    let request =
        v1::CreateDestinationRequest { idempotency_key, ..request::create_destination(&body)? };
    one(plane
        .destinations()
        .create_destination(caller.call(request))
        .await?
        .into_inner()
        .destination)
}

#[utoipa::path(get, path = "/api/v1/bulk-exports/destinations/{destination_id}", operation_id = "get_destination", tag = "destinations", summary = "One destination", params(DestinationId), responses((status = 200, body = BulkExportDestination), Refused))]
pub(crate) async fn get(
    State(plane): State<ControlPlane>,
    caller: Caller,
    PathIds([id]): PathIds<1>,
) -> ApiResult<BulkExportDestination> {
    one(plane
        .destinations()
        .get_destination(caller.call(v1::GetDestinationRequest { id }))
        .await?
        .into_inner()
        .destination)
}

#[utoipa::path(patch, path = "/api/v1/bulk-exports/destinations/{destination_id}", operation_id = "update_destination", tag = "destinations", summary = "Replace the credentials or the role, once the bucket was checked with the new ones", params(DestinationId), request_body = BulkExportDestinationUpdate, responses((status = 200, body = BulkExportDestination), Refused))]
pub(crate) async fn update(
    State(plane): State<ControlPlane>,
    caller: Caller,
    PathIds([id]): PathIds<1>,
    JsonBody(body): JsonBody,
) -> ApiResult<BulkExportDestination> {
    let request = request::new_identity(id, &body)?;
    one(plane
        .destinations()
        .update_destination_credentials(caller.call(request))
        .await?
        .into_inner()
        .destination)
}

#[utoipa::path(delete, path = "/api/v1/bulk-exports/destinations/{destination_id}", operation_id = "delete_destination", tag = "destinations", summary = "Forget a destination that nothing uses", params(DestinationId), responses((status = 204), Refused))]
pub(crate) async fn delete(
    State(plane): State<ControlPlane>,
    caller: Caller,
    PathIds([id]): PathIds<1>,
) -> Result<StatusCode, ApiError> {
    let deleted = plane
        .destinations()
        .delete_destination(caller.call(v1::DeleteDestinationRequest { id }))
        .await;
    deleted.map_err(ApiError::of_state)?;
    Ok(StatusCode::NO_CONTENT)
}
