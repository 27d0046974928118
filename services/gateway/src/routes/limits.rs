//! What the workspace may have, and has.

use axum::extract::State;
use tracelift_proto::v1;

use crate::{
    answer::{Answer, Limits, one},
    caller::Caller,
    control_plane::ControlPlane,
};

pub(crate) async fn get(State(plane): State<ControlPlane>, caller: Caller) -> Answer<Limits> {
    one(plane.exports().get_limits(caller.call(v1::GetLimitsRequest {})).await?.into_inner().limits)
}
