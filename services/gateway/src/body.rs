//! Reads request bodies up to a size limit and parses them as JSON. Errors have FastAPI's format.

use axum::{
    body::Body,
    extract::{FromRequest, Request},
};
use bytes::BytesMut;
use http::StatusCode;
use http_body_util::BodyExt as _;
use serde_json::Value;

use crate::{
    error::ApiError,
    validation::{FieldError, Loc, ValidationErrors},
};

/// The maximum size of a body.
const LIMIT: usize = 1 << 20;
/// How many more bytes are read and discarded, so that a client that reads the response only after
/// it has sent its whole body still gets it.
const DRAINED: usize = 16 << 20;

/// A body parsed as JSON.
#[derive(Debug)]
pub(crate) struct JsonBody(pub(crate) Value);

impl<S: Send + Sync> FromRequest<S> for JsonBody {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        let bytes = read(request.into_body()).await?;
        Ok(Self(parse(&bytes)?))
    }
}

async fn read(mut body: Body) -> Result<BytesMut, ApiError> {
    let (mut kept, mut seen) = (BytesMut::new(), 0);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| {
            ApiError::plain(StatusCode::BAD_REQUEST, "The request's body ended early")
        })?;
        let Ok(data) = frame.into_data() else { continue };
        seen += data.len();
        if seen <= LIMIT {
            kept.extend_from_slice(&data);
        } else if seen > LIMIT + DRAINED {
            break;
        }
    }
    let too_large = || {
        ApiError::plain(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("The request's body is larger than {LIMIT} bytes"),
        )
    };
    (seen <= LIMIT).then_some(kept).ok_or_else(too_large)
}

fn parse(bytes: &[u8]) -> Result<Value, ValidationErrors> {
    let body = Loc::root("body");
    if bytes.is_empty() {
        return Err(ValidationErrors::one(body, FieldError::missing()));
    }
    serde_json::from_slice(bytes).map_err(|error| {
        let wrong = FieldError::new("json_invalid", format!("JSON decode error: {error}"));
        ValidationErrors::one(body.index(character(bytes, &error)), wrong)
    })
}

/// The number of characters before the position of the error.
fn character(bytes: &[u8], error: &serde_json::Error) -> usize {
    let lines_before = bytes.split_inclusive(|b| *b == b'\n').take(error.line().saturating_sub(1));
    let line_start: usize = lines_before.map(<[u8]>::len).sum();
    let offset =
        if error.is_eof() { bytes.len() } else { line_start + error.column().saturating_sub(1) };
    let before = bytes.iter().take(offset);
    before.filter(|b| **b & 0b1100_0000 != 0b1000_0000).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(text: &str) -> usize {
        character(text.as_bytes(), &serde_json::from_str::<Value>(text).unwrap_err())
    }

    #[test]
    fn the_place_of_a_mistake_is_counted_in_characters() {
        assert_eq!(place("{"), 1);
        assert_eq!(place("nope"), 1);
        assert_eq!(place("{\"a\": 1,}"), 8);
        assert_eq!(place("{\n\"ä\": 1,\n}"), 10);
    }
}
