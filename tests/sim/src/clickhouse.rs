//! A ClickHouse that supports the exporter's queries only, over the simulated network.

mod answer;

use std::{convert::Infallible, io, sync::Arc};

use bytes::Bytes;
use futures::{Stream, StreamExt as _, stream};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::{Frame, Incoming};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto::Builder,
};
use tokio::task::JoinSet;
use tracelift_runtime::tasks;

use crate::{
    data::Data,
    faults::{FaultInjector, FaultKind},
    net::Network,
};
use answer::Question;

/// Its port.
pub const PORT: u16 = 8123;

type Body = UnsyncBoxBody<Bytes, io::Error>;

/// Serves the rows until the host crashes.
pub async fn serve(network: Network, data: Arc<Data>, faults: FaultInjector) -> turmoil::Result {
    let mut incoming = Box::pin(network.listen(PORT).await?);
    let mut connections = JoinSet::new();
    while let Some(Ok(socket)) = incoming.next().await {
        let (data, faults) = (data.clone(), faults.clone());
        let service = hyper::service::service_fn(move |request| {
            answer(request, data.clone(), faults.clone())
        });
        tasks::start_in(&mut connections, "connection", async move {
            let _ = Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(socket), service)
                .await;
        });
        while connections.try_join_next().is_some() {}
    }
    Ok(())
}

/// Chunk size of a response: small, so that a cut can be anywhere.
const CHUNK: usize = 4096;

async fn answer(
    request: Request<Incoming>,
    data: Arc<Data>,
    faults: FaultInjector,
) -> Result<Response<Body>, Infallible> {
    let (head, body) = request.into_parts();
    let Ok(body) = body.collect().await else {
        return Ok(refused(StatusCode::BAD_REQUEST, "the request was cut"));
    };
    let question = Question::read(head.uri.query().unwrap_or_default(), &body.to_bytes());
    faults.delay().await;
    let fault = faults.throw(
        question.name(),
        &[FaultKind::Refused, FaultKind::Throttled, FaultKind::Cut, FaultKind::Broken],
    );
    match fault {
        FaultKind::Refused => {
            return Ok(refused(
                StatusCode::INTERNAL_SERVER_ERROR,
                "Code: 210. DB::NetException: as the seed wants it (NETWORK_ERROR)",
            ));
        }
        FaultKind::Throttled => {
            return Ok(refused(
                StatusCode::INTERNAL_SERVER_ERROR,
                "Code: 202. DB::Exception: Too many simultaneous queries (TOO_MANY_SIMULTANEOUS_QUERIES)",
            ));
        }
        _ => {}
    }
    let whole = question.answer(&data);
    let pieces = chunks(whole, fault);
    let paced = stream::iter(pieces).then(move |piece| {
        let faults = faults.clone();
        async move {
            faults.delay().await;
            piece
        }
    });
    Ok(Response::new(UnsyncBoxBody::new(StreamBody::new(frames(paced)))))
}

fn frames(
    pieces: impl Stream<Item = io::Result<Bytes>>,
) -> impl Stream<Item = io::Result<Frame<Bytes>>> {
    pieces.map(|piece| piece.map(Frame::data))
}

/// Splits the response into chunks and ends it according to the fault.
fn chunks(whole: Bytes, fault: FaultKind) -> Vec<io::Result<Bytes>> {
    let end = if matches!(fault, FaultKind::Cut | FaultKind::Broken) {
        whole.len() / 2
    } else {
        whole.len()
    };
    let mut pieces: Vec<io::Result<Bytes>> =
        whole[..end].chunks(CHUNK).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
    match fault {
        FaultKind::Cut => pieces.push(Err(io::ErrorKind::ConnectionReset.into())),
        // As in older versions: an error message in the middle of the data, followed by a regular
        // end.
        FaultKind::Broken => pieces.push(Ok(Bytes::from_static(b"Code: 241. DB::Exception: Memory limit exceeded: as the seed wants it. (MEMORY_LIMIT_EXCEEDED) (version 25.8.1.1 (official build))\n"))),
        _ => {}
    }
    pieces
}

fn refused(status: StatusCode, words: &'static str) -> Response<Body> {
    let body = Full::new(Bytes::from_static(words.as_bytes())).map_err(|never| match never {});
    let mut answer = Response::new(UnsyncBoxBody::new(body));
    *answer.status_mut() = status;
    answer
}
