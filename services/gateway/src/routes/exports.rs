//! Operations 1, 2, 6, 7, and whether a filter is valid.

use axum::extract::State;
use tracelift_proto::v1;

use crate::{
    answer::{Answer, BulkExport, FilterValidation, many, one},
    body::JsonBody,
    caller::Caller,
    control_plane::ControlPlane,
    path::PathIds,
    query::Query,
    request,
};

pub(crate) async fn list(State(plane): State<ControlPlane>, caller: Caller, query: Query) -> Answer<Vec<BulkExport>> {
    let page = query.page()?;
    let request = v1::ListExportsRequest { limit: page.limit.unwrap_or(100), offset: page.offset };
    many(plane.exports().list_exports(caller.call(request)).await?.into_inner().exports)
}

pub(crate) async fn create(State(plane): State<ControlPlane>, caller: Caller, JsonBody(body): JsonBody) -> Answer<BulkExport> {
    let request = request::create_export(&body)?;
    one(plane.exports().create_export(caller.call(request)).await?.into_inner().export)
}

pub(crate) async fn get(State(plane): State<ControlPlane>, caller: Caller, PathIds([id]): PathIds<1>) -> Answer<BulkExport> {
    one(plane.exports().get_export(caller.call(v1::GetExportRequest { id })).await?.into_inner().export)
}

pub(crate) async fn cancel(
    State(plane): State<ControlPlane>,
    caller: Caller,
    PathIds([id]): PathIds<1>,
    JsonBody(body): JsonBody,
) -> Answer<BulkExport> {
    request::cancellation(&body)?;
    one(plane.exports().cancel_export(caller.call(v1::CancelExportRequest { id })).await?.into_inner().export)
}

pub(crate) async fn validate_filter(
    State(plane): State<ControlPlane>,
    caller: Caller,
    JsonBody(body): JsonBody,
) -> Answer<FilterValidation> {
    let request = request::validate_filter(&body)?;
    one(Some(plane.exports().validate_filter(caller.call(request)).await?.into_inner()))
}
