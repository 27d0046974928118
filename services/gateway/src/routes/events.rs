//! An export as server-sent events: its current state, then every change, until it has ended.
//!
//! An error before the stream starts is an ordinary error response; a later one is a final event
//! `refusal`, because EventSource uses `error` for its own lost connections. Event numbers continue
//! from the last one that a reconnecting client received; what it missed is covered by the next
//! event. A client that reconnects to an export that has ended gets 204, which tells an EventSource
//! to stop reconnecting.
//!
//! The control plane's stream is read whether or not the client reads its own: of the changes that a
//! slow client has not taken yet, only the newest is kept. A client that takes nothing at all loses
//! its connection ([`tracelift_runtime::incoming`]).

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
use tokio::sync::watch;
use tonic::{Status, Streaming};
use tracelift_core::export::ExportStatus;
use tracelift_proto::v1;
use tracelift_runtime::{
    shares::Full,
    tasks::{self, Owned},
};

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
/// Seconds to wait before asking for an event stream again.
const BUSY_SECONDS: u64 = 5;
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
    let place = plane.event_streams.take(caller.fingerprint()).map_err(full)?;
    let changes = plane
        .watches()
        .watch_export(caller.watch(v1::WatchExportRequest { id }))
        .await?
        .into_inner();
    let seen = seen.and_then(|id| id.to_str().ok()?.parse().ok()).unwrap_or(0u64);
    let events = events(newest(changes), seen).inspect(move |_| {
        let _ = &place; // is held as long as the stream
    });
    let events = events.take_until(plane.stopping.clone().cancelled_owned());
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

fn full(full: Full) -> ApiError {
    let (status, detail) = match full {
        Full::Share => (
            StatusCode::TOO_MANY_REQUESTS,
            "This API key follows as many exports as it may; end one of the event streams",
        ),
        Full::All => (
            StatusCode::SERVICE_UNAVAILABLE,
            "Too many event streams at once; try again in a moment, or ask for the export instead",
        ),
    };
    ApiError::retry(status, detail, BUSY_SECONDS)
}

/// The changes of a watch, of which a slow reader gets the newest only. Ends with the watch. Dropping
/// the stream ends the watch.
fn newest(
    mut changes: Streaming<v1::WatchExportResponse>,
) -> impl Stream<Item = Result<v1::WatchExportResponse, Status>> + Send {
    let (newest, state) = watch::channel(None);
    let reading = tasks::start("watch", async move {
        while let Some(change) = changes.message().await.transpose() {
            newest.send_replace(Some(change));
        }
    });
    stream::unfold((state, Owned(reading)), |(mut state, reading)| async move {
        state.changed().await.ok()?;
        let change = state.borrow_and_update().clone()?;
        Some((change, (state, reading)))
    })
}

/// Ends with the changes, or after an error. A client that disconnects drops the stream.
fn events(
    changes: impl Stream<Item = Result<v1::WatchExportResponse, Status>> + Send,
    seen: u64,
) -> impl Stream<Item = Result<Event, Infallible>> + Send {
    changes.zip(stream::iter(seen.saturating_add(1)..)).map(|(change, number)| {
        let event = match change {
            Ok(change) => shown(change),
            Err(status) => refused(ApiError::from(status)),
        };
        Ok(event.id(number.to_string()).retry(RETRY))
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
