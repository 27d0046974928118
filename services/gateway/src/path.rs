//! The ids in a path, in order.

use axum::extract::{FromRequestParts, RawPathParams};
use http::request::Parts;
use uuid::Uuid;

use crate::{
    control_plane::ControlPlane,
    error::ApiError,
    json_reader::parse_uuid,
    validation::{Loc, ValidationErrors},
};

/// The `N` ids of a path, in the form the control plane uses. An invalid id is reported under the
/// name it has in the route.
#[derive(Debug)]
pub(crate) struct PathIds<const N: usize>(pub(crate) [String; N]);

impl<const N: usize> FromRequestParts<ControlPlane> for PathIds<N> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, plane: &ControlPlane) -> Result<Self, ApiError> {
        let params = RawPathParams::from_request_parts(parts, plane)
            .await
            .map_err(|error| ApiError::plain(error.status(), "Not Found"))?;
        let mut wrong = ValidationErrors::default();
        let mut id = |(name, text): (&str, &str)| match parse_uuid(text) {
            Ok(id) => Some(id),
            Err(fault) => {
                wrong.add(Loc::root("path").then(name), fault);
                None
            }
        };
        let ids: Vec<_> =
            params.iter().filter_map(&mut id).map(|id: Uuid| id.to_string()).collect();
        let ids = ids.try_into().ok();
        Ok(Self(wrong.finish(ids)?))
    }
}
