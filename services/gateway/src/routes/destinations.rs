//! Operations 3, 4, 8, 9, and deletion.

use axum::{extract::State, http::StatusCode};
use tracelift_proto::v1;

use crate::{
    answer::{Answer, BulkExportDestination, many, one},
    body::JsonBody,
    caller::Caller,
    control_plane::ControlPlane,
    path::PathIds,
    refusal::Refusal,
    request,
};

pub(crate) async fn list(State(plane): State<ControlPlane>, caller: Caller) -> Answer<Vec<BulkExportDestination>> {
    many(plane.destinations().list_destinations(caller.call(v1::ListDestinationsRequest {})).await?.into_inner().destinations)
}

pub(crate) async fn create(State(plane): State<ControlPlane>, caller: Caller, JsonBody(body): JsonBody) -> Answer<BulkExportDestination> {
    let request = request::create_destination(&body)?;
    one(plane.destinations().create_destination(caller.call(request)).await?.into_inner().destination)
}

pub(crate) async fn get(State(plane): State<ControlPlane>, caller: Caller, PathIds([id]): PathIds<1>) -> Answer<BulkExportDestination> {
    one(plane.destinations().get_destination(caller.call(v1::GetDestinationRequest { id })).await?.into_inner().destination)
}

pub(crate) async fn update(
    State(plane): State<ControlPlane>,
    caller: Caller,
    PathIds([id]): PathIds<1>,
    JsonBody(body): JsonBody,
) -> Answer<BulkExportDestination> {
    let request = request::new_identity(id, &body)?;
    one(plane.destinations().update_destination_credentials(caller.call(request)).await?.into_inner().destination)
}

pub(crate) async fn delete(State(plane): State<ControlPlane>, caller: Caller, PathIds([id]): PathIds<1>) -> Result<StatusCode, Refusal> {
    let deleted = plane.destinations().delete_destination(caller.call(v1::DeleteDestinationRequest { id })).await;
    deleted.map_err(Refusal::of_state)?;
    Ok(StatusCode::NO_CONTENT)
}
