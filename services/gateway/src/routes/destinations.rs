//! Operations 3, 4, 8, 9.

use axum::extract::State;
use tracelift_proto::v1;

use crate::{
    answer::{Answer, BulkExportDestination, many, one},
    body::JsonBody,
    caller::Caller,
    control_plane::ControlPlane,
    path::PathIds,
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
    let credentials = Some(request::new_credentials(&body)?);
    let request = v1::UpdateDestinationCredentialsRequest { id, credentials };
    one(plane.destinations().update_destination_credentials(caller.call(request)).await?.into_inner().destination)
}
