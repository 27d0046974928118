//! Messages as JSON responses: objects of the REST API, or arrays of them.

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, header::CONTENT_TYPE};
use serde::Serialize;

pub(crate) use tracelift_rest_api::{
    AuditLogs, BulkExport, BulkExportDestination, BulkExportRun, FilterValidation, Limits,
};

use crate::error::ApiError;

/// What a handler returns.
pub(crate) type ApiResult<T> = Result<Json<T>, ApiError>;

/// A value as a JSON response.
#[derive(Debug)]
pub(crate) struct Json<T>(pub(crate) T);

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        match serde_json::to_vec(&self.0) {
            Ok(text) => ([(CONTENT_TYPE, HeaderValue::from_static("application/json"))], text)
                .into_response(),
            Err(error) => ApiError::internal(&error).into_response(),
        }
    }
}

/// A response with the one object of an operation.
pub(crate) fn one<M, T: From<M>>(message: Option<M>) -> ApiResult<T> {
    let message =
        message.ok_or_else(|| ApiError::internal(&"the control plane's answer is empty"))?;
    Ok(Json(message.into()))
}

/// A response with a bare array.
pub(crate) fn many<M, T: From<M>>(messages: Vec<M>) -> ApiResult<Vec<T>> {
    Ok(Json(messages.into_iter().map(T::from).collect()))
}
