//! Reads request bodies up to a size limit and parses them as JSON. Errors have FastAPI's format.
//!
//! A body is received before its request takes one of the places for calls, so that clients that do
//! not finish their bodies hold none. What they hold is memory, which has a bound of its own, and a
//! deadline.

use std::{sync::Arc, time::Duration};

use axum::{
    body::Body,
    extract::{FromRequest, Request, State},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use bytes::BytesMut;
use http::StatusCode;
use http_body_util::BodyExt as _;
use serde_json::Value;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{
    error::ApiError,
    validation::{FieldError, Loc, ValidationErrors},
};

/// The maximum size of a body.
const LIMIT: usize = 1 << 20;
/// How many more bytes are read and discarded, so that a client that reads the response only after
/// it has sent its whole body still gets it.
const DRAINED: usize = 16 << 20;

/// Longest time for a body to arrive.
const DEADLINE: Duration = Duration::from_secs(15);
/// Bytes of all bodies together.
const ROOM: usize = 256 << 20;
/// Bytes of room that a body takes at a time.
const STEP: usize = 64 << 10;

/// Room for the bodies of requests in progress.
#[derive(Debug, Clone)]
pub(crate) struct BodyRoom(Arc<Semaphore>);

impl BodyRoom {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Semaphore::new(ROOM / STEP)))
    }
}

/// Receives the body of a request before the request goes on.
pub(crate) async fn receive(
    State(room): State<BodyRoom>,
    request: Request,
    next: Next,
) -> Response {
    let (parts, body) = request.into_parts();
    let late = || {
        let detail = format!("The request's body did not arrive within {} s", DEADLINE.as_secs());
        ApiError::plain(StatusCode::REQUEST_TIMEOUT, detail)
    };
    let read = tokio::time::timeout(DEADLINE, read(body, &room)).await;
    match read.unwrap_or_else(|_| Err(late())) {
        // Room is taken as long as the request is in progress.
        Ok((bytes, _room)) => {
            next.run(Request::from_parts(parts, Body::from(bytes.freeze()))).await
        }
        Err(error) => error.into_response(),
    }
}

/// A body parsed as JSON.
#[derive(Debug)]
pub(crate) struct JsonBody(pub(crate) Value);

impl<S: Send + Sync> FromRequest<S> for JsonBody {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        let bytes = request.into_body().collect().await.map_err(|_| cut_short())?.to_bytes();
        Ok(Self(parse(&bytes)?))
    }
}

fn cut_short() -> ApiError {
    ApiError::plain(StatusCode::BAD_REQUEST, "The request's body ended early")
}

async fn read(
    mut body: Body,
    room: &BodyRoom,
) -> Result<(BytesMut, Vec<OwnedSemaphorePermit>), ApiError> {
    let (mut kept, mut seen, mut taken) = (BytesMut::new(), 0, Vec::new());
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| cut_short())?.into_data() else { continue };
        seen += data.len();
        if seen <= LIMIT {
            while taken.len() * STEP < seen {
                taken.push(room.0.clone().try_acquire_owned().map_err(|_| no_room())?);
            }
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
    (seen <= LIMIT).then_some((kept, taken)).ok_or_else(too_large)
}

fn no_room() -> ApiError {
    let detail = "Too many large requests at once; try again in a moment";
    ApiError::retry(StatusCode::SERVICE_UNAVAILABLE, detail, 1)
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
