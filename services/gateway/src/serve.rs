//! Serves HTTP/1.1: every connection has a deadline for each request's head, and for taking its
//! response.

use std::time::Duration;

use axum::Router;
use futures::StreamExt as _;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
    service::TowerToHyperService,
};
use tokio_util::sync::CancellationToken;
use tracelift_runtime::{incoming::Incoming, tasks, tls::Acceptor};

/// Longest head of a request, in bytes: names, values and the path.
const MAX_HEAD_BYTES: usize = 64 << 10;

/// Serves until `stopping`, then waits for the requests in progress. A connection whose next request
/// has no complete head within `head` is closed; the time counts from the end of the response before
/// it, so it also bounds how long a connection may be idle.
pub(crate) async fn serve(
    incoming: Incoming,
    tls: Option<Acceptor>,
    service: Router,
    head: Duration,
    stopping: CancellationToken,
) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(head).max_buf_size(MAX_HEAD_BYTES);
    let connections = GracefulShutdown::new();
    let mut incoming = Box::pin(incoming.stream(tls));
    while let Some(Some(Ok(socket))) = stopping.run_until_cancelled(incoming.next()).await {
        let service = TowerToHyperService::new(service.clone());
        let connection = connections.watch(http.serve_connection(TokioIo::new(socket), service));
        tasks::detached("connection", async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection ended early");
            }
        });
    }
    drop(incoming);
    connections.shutdown().await;
}
