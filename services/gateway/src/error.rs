//! Error responses: `{"detail": …}` with a status, from the gateway's own checks or from the
//! control plane.
//!
//! This is the only mapping of gRPC codes to HTTP statuses.

use std::{error::Error, fmt::Display, time::Duration};

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header::RETRY_AFTER};
use serde::Serialize;
use tonic::{Code, Status, TimeoutExpired};
use tonic_types::StatusExt as _;
use tracelift_proto::status::violations;

use crate::{
    response::Json,
    validation::{FieldError, Loc, ValidationErrors},
};

/// Seconds to wait if the control plane does not specify any.
const RETRY_SECONDS: u64 = 1;

/// An error response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ApiError {
    status: StatusCode,
    detail: Detail,
    retry_after: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
enum Detail {
    Text(String),
    Fields(ValidationErrors),
}

#[derive(Serialize)]
struct Body {
    detail: Detail,
}

impl ApiError {
    pub(crate) fn plain(status: StatusCode, detail: impl Into<String>) -> Self {
        Self { status, detail: Detail::Text(detail.into()), retry_after: None }
    }

    /// A retry of the same request may succeed after `seconds`.
    pub(crate) fn retry(status: StatusCode, detail: impl Into<String>, seconds: u64) -> Self {
        Self { retry_after: Some(seconds), ..Self::plain(status, detail) }
    }

    pub(crate) fn deadline() -> Self {
        Self::plain(
            StatusCode::GATEWAY_TIMEOUT,
            "The request took too long; it may still take effect",
        )
    }

    /// Logs the cause, which is never returned to the caller.
    pub(crate) fn internal(cause: &impl Display) -> Self {
        tracing::error!(%cause, "cannot answer");
        Self::plain(StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error")
    }

    /// Maps the status of a call that depends on the state of a resource: 409 if the state does not
    /// allow the call.
    pub(crate) fn of_state(status: Status) -> Self {
        let error = Self::from(status.clone());
        if status.code() == Code::FailedPrecondition {
            Self { status: StatusCode::CONFLICT, ..error }
        } else {
            error
        }
    }

    /// The response body, for errors that occur after the response has started.
    pub(crate) fn text(self) -> String {
        serde_json::to_string(&Body { detail: self.detail }).unwrap_or_default()
    }

    fn unreachable(status: &Status) -> Self {
        let cause = innermost(status)
            .map_or_else(|| status.message().to_owned(), |source| source.to_string());
        tracing::warn!(code = ?status.code(), cause, "the control plane cannot be reached");
        Self::retry(
            StatusCode::SERVICE_UNAVAILABLE,
            "The control plane cannot be reached; try again in a moment",
            RETRY_SECONDS,
        )
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(Body { detail: self.detail })).into_response();
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

impl From<ValidationErrors> for ApiError {
    fn from(errors: ValidationErrors) -> Self {
        Self {
            status: StatusCode::UNPROCESSABLE_ENTITY,
            detail: Detail::Fields(errors),
            retry_after: None,
        }
    }
}

/// The HTTP status of each gRPC code.
fn http_status(code: Code) -> StatusCode {
    match code {
        Code::InvalidArgument => StatusCode::UNPROCESSABLE_ENTITY,
        Code::FailedPrecondition => StatusCode::BAD_REQUEST,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::AlreadyExists | Code::Aborted => StatusCode::CONFLICT,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        // A tonic server returns Cancelled when the deadline it was given has passed.
        Code::DeadlineExceeded | Code::Cancelled => StatusCode::GATEWAY_TIMEOUT,
        Code::Ok
        | Code::Unknown
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::Internal
        | Code::DataLoss => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

impl From<Status> for ApiError {
    fn from(status: Status) -> Self {
        // A status with a source was created by the client: no response arrived.
        if let Some(source) = innermost(&status) {
            return if source.is::<TimeoutExpired>() {
                Self::deadline()
            } else {
                Self::unreachable(&status)
            };
        }
        if is_too_large(&status) {
            tracing::error!(code = ?status.code(), cause = status.message(), "a message is too large");
            let detail = format!(
                "A message of the control plane is too large, and will be again; the operator must look: {}",
                status.message()
            );
            return Self::plain(StatusCode::INTERNAL_SERVER_ERROR, detail);
        }
        match http_status(status.code()) {
            StatusCode::UNPROCESSABLE_ENTITY => wrong_fields(&status).into(),
            StatusCode::GATEWAY_TIMEOUT => Self::deadline(),
            StatusCode::INTERNAL_SERVER_ERROR => {
                Self::internal(&format_args!("{:?}: {}", status.code(), status.message()))
            }
            http @ (StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) => {
                Self::retry(http, status.message(), retry_seconds(&status))
            }
            http => Self::plain(http, status.message()),
        }
    }
}

/// Whether a message exceeded a size limit, which a retry cannot fix. An exhausted quota carries
/// retry info instead.
fn is_too_large(status: &Status) -> bool {
    match status.code() {
        Code::OutOfRange => true,
        Code::ResourceExhausted => status.get_details_retry_info().is_none(),
        _ => false,
    }
}

fn wrong_fields(status: &Status) -> ValidationErrors {
    match violations(status) {
        faults if faults.is_empty() => ValidationErrors::one(
            Loc::root("body"),
            FieldError::new("value_error", status.message().to_owned()),
        ),
        faults => ValidationErrors::from_violations(faults),
    }
}

fn retry_seconds(status: &Status) -> u64 {
    let delay = status
        .get_details_retry_info()
        .and_then(|info| info.retry_delay)
        .unwrap_or(Duration::from_secs(RETRY_SECONDS));
    (delay.as_secs() + u64::from(delay.subsec_nanos() > 0)).max(1)
}

fn innermost(status: &Status) -> Option<&(dyn Error + 'static)> {
    let mut innermost = status.source()?;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    Some(innermost)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_grpc_code_has_its_http_status() {
        let codes = (0..=16).map(Code::from);
        let table: Vec<_> =
            codes.map(|code| format!("{code:?} {}", http_status(code).as_u16())).collect();
        insta::assert_snapshot!(table.join("\n"));
    }

    #[test]
    fn retry_after_is_what_the_control_plane_says_in_whole_seconds() {
        let error = ApiError::from(tracelift_proto::status::retry_later("too busy", 7));
        assert_eq!(error, ApiError::retry(StatusCode::SERVICE_UNAVAILABLE, "too busy", 7));
        let error = ApiError::from(tracelift_proto::status::overloaded("a limit", 0));
        assert_eq!(error, ApiError::retry(StatusCode::TOO_MANY_REQUESTS, "a limit", 1));
    }

    #[test]
    fn what_cannot_get_smaller_by_waiting_is_not_told_to_wait() {
        // What tonic returns, and what grpc-go, grpc-java and proxies return for the same error.
        for status in [
            Status::out_of_range("found 70000000 bytes"),
            Status::resource_exhausted("found 70000000 bytes"),
        ] {
            let error = ApiError::from(status);
            assert_eq!(
                (error.status, error.retry_after),
                (StatusCode::INTERNAL_SERVER_ERROR, None)
            );
            assert!(error.text().contains("too large, and will be again"));
        }
    }

    #[test]
    fn the_cause_of_an_internal_error_is_not_told() {
        let error = ApiError::from(Status::internal("disk full at /var/lib/x"));
        assert_eq!(
            error,
            ApiError::plain(StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error")
        );
    }
}
