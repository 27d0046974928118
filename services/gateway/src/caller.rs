//! The caller of a request: the headers that the control plane authenticates with, forwarded as
//! metadata. Their values are never logged.

use std::{
    hash::{BuildHasher as _, RandomState},
    sync::LazyLock,
};

use axum::extract::FromRequestParts;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header::AUTHORIZATION, request::Parts};
use tonic::{Request, metadata::MetadataMap};
use tracelift_core::id::TenantId;
use tracelift_runtime::request::RequestContext;

use crate::{
    control_plane::ControlPlane,
    error::ApiError,
    validation::{FieldError, Loc, ValidationErrors},
};

const API_KEY: HeaderName = HeaderName::from_static("x-api-key");
const TENANT: HeaderName = HeaderName::from_static("x-tenant-id");

/// Sent with every call made for one request.
#[derive(Clone)]
pub(crate) struct Caller {
    headers: HeaderMap,
    deadline: std::time::Duration,
}

impl Caller {
    /// A number that tells API keys apart, for shares: random anew in each process.
    pub(crate) fn fingerprint(&self) -> u64 {
        static RANDOM: LazyLock<RandomState> = LazyLock::new(RandomState::new);
        let values = [API_KEY, AUTHORIZATION].map(|name| self.headers.get(name));
        RANDOM.hash_one(values.map(|value| value.map(HeaderValue::as_bytes)))
    }

    /// A call on behalf of this caller.
    pub(crate) fn call<T>(&self, message: T) -> Request<T> {
        let mut request = self.watch(message);
        request.set_timeout(self.deadline);
        request
    }

    /// The same without a deadline, for streams.
    pub(crate) fn watch<T>(&self, message: T) -> Request<T> {
        Request::from_parts(
            MetadataMap::from_headers(self.headers.clone()),
            Default::default(),
            message,
        )
    }
}

impl FromRequestParts<ControlPlane> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, plane: &ControlPlane) -> Result<Self, ApiError> {
        let present = |name: HeaderName| {
            parts
                .headers
                .get(&name)
                .filter(|value| !value.is_empty())
                .map(|value| (name, value.clone()))
        };
        let mut headers: HeaderMap =
            [present(API_KEY), present(AUTHORIZATION)].into_iter().flatten().collect();
        if headers.is_empty() {
            return Err(ApiError::plain(
                StatusCode::UNAUTHORIZED,
                "No API key: send it in the X-API-Key header",
            ));
        }
        headers.values_mut().for_each(|value| value.set_sensitive(true));
        if let Some((name, value)) = present(TENANT) {
            headers.insert(name, tenant(&value)?);
        }
        if let Some(context) = parts.extensions.get::<RequestContext>() {
            context.propagate(&mut headers);
        }
        Ok(Self { headers, deadline: plane.deadline })
    }
}

fn tenant(value: &HeaderValue) -> Result<HeaderValue, ValidationErrors> {
    let loc = || Loc::root("header").then("X-Tenant-Id");
    let id = TenantId::parse("x-tenant-id", value.to_str().unwrap_or_default());
    let id = id.map_err(|fault| ValidationErrors::one(loc(), FieldError::rule(fault)))?;
    HeaderValue::from_str(&id.to_string())
        .map_err(|_| ValidationErrors::one(loc(), FieldError::missing()))
}
