//! An export as server-sent events: its current state, then every change, until it has ended.
//!
//! An error before the stream starts is an ordinary error response; a later one is a final event
//! `refusal`, because EventSource uses `error` for its own lost connections. Event numbers continue
//! from the last one that a reconnecting client received; what it missed is covered by the next
//! event. A client that reconnects to an export that has ended gets 204, which tells an EventSource
//! to stop reconnecting.

use std::{convert::Infallible, time::Duration};

use axum::{
    extract::State,
    response::{
        IntoResponse as _, Response,
        sse::{Event, KeepAlive, Sse},
    },
};
use futures::{Stream, StreamExt as _, stream};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use tonic::Streaming;
use tracelift_core::export::ExportStatus;
use tracelift_proto::v1;

use crate::{
    caller::Caller,
    control_plane::ControlPlane,
    error::ApiError,
    openapi::{
        Refused,
        request_schema::{ExportId, LastEvent},
    },
    path::PathIds,
    response::BulkExport,
};

/// How long a client waits before it reconnects.
const RETRY: Duration = Duration::from_secs(2);
/// Send a comment if nothing else was sent for this long: proxies close idle connections.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

const LAST_EVENT: HeaderName = HeaderName::from_static("last-event-id");
/// Tells nginx not to buffer events.
const BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

#[utoipa::path(get, path = "/api/v1/bulk-exports/{bulk_export_id}/events", operation_id = "follow_bulk_export", tag = "exports", summary = "An export as server-sent events, until it has ended", params(ExportId, LastEvent), responses((status = 200, content_type = "text/event-stream", body = String), (status = 204, description = "It has ended, and the client that asks was told of it before"), Refused))]
pub(crate) async fn follow(
    State(plane): State<ControlPlane>,
    caller: Caller,
    PathIds([id]): PathIds<1>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let seen = headers.get(LAST_EVENT);
    if seen.is_some() && has_ended(&plane, &caller, &id).await? {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let changes = plane
        .exports()
        .watch_export(caller.watch(v1::WatchExportRequest { id }))
        .await?
        .into_inner();
    let seen = seen.and_then(|id| id.to_str().ok()?.parse().ok()).unwrap_or(0u64);
    let events = events(changes, seen).take_until(plane.stopping.clone().cancelled_owned());
    let sse = Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE));
    Ok(([(BUFFERING, HeaderValue::from_static("no"))], sse).into_response())
}

async fn has_ended(plane: &ControlPlane, caller: &Caller, id: &str) -> Result<bool, ApiError> {
    let found = plane
        .exports()
        .get_export(caller.call(v1::GetExportRequest { id: id.to_owned() }))
        .await?
        .into_inner();
    Ok(found.export.and_then(|export| export.status().known()).is_some_and(ExportStatus::ended))
}

/// Ends with the changes, or after an error. A client that disconnects drops the stream, which ends
/// the watch.
fn events(
    changes: Streaming<v1::WatchExportResponse>,
    seen: u64,
) -> impl Stream<Item = Result<Event, Infallible>> + Send {
    stream::unfold((Some(changes), seen), |(changes, seen)| async move {
        let mut changes = changes?;
        let number = seen.saturating_add(1);
        let (event, rest) = match changes.message().await {
            Ok(Some(change)) => (shown(change), Some(changes)),
            Ok(None) => return None,
            Err(status) => (refused(ApiError::from(status)), None),
        };
        let event = event.id(number.to_string()).retry(RETRY);
        Some((Ok(event), (rest, number)))
    })
}

fn shown(change: v1::WatchExportResponse) -> Event {
    match serde_json::to_string(&BulkExport::from(change.export.unwrap_or_default())) {
        Ok(text) => Event::default().event("export").data(text),
        Err(error) => refused(ApiError::internal(&error)),
    }
}

fn refused(error: ApiError) -> Event {
    Event::default().event("refusal").data(error.text())
}
