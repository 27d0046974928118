//! A bucket that answers every request as the test wants, over real HTTP.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto::Builder,
};
use tokio::{net::TcpListener, task::JoinSet};
use tracelift_runtime::tasks::{self, Owned};

/// Status and body.
pub(crate) type Answer = (u16, &'static str);

pub(crate) struct Bucket {
    pub(crate) address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
    _task: Owned<()>,
}

impl Bucket {
    /// Answers each request by its line, such as `PUT /bucket/key?x-id=PutObject`.
    pub(crate) async fn answering(answer: fn(&str) -> Answer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::<Mutex<Vec<String>>>::default();
        let lines = asked.clone();
        let task = tasks::start("bucket", async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let lines = lines.clone();
                let service = service_fn(move |request| respond(request, answer, lines.clone()));
                tasks::start_in(&mut connections, "connection", async move {
                    let _ = Builder::new(TokioExecutor::new())
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        Self { address, asked, _task: Owned(task) }
    }

    /// A bucket that takes everything, whatever the condition.
    pub(crate) async fn good() -> Self {
        Self::answering(takes_everything).await
    }

    /// The requests so far, without the probe's random name.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

/// How a bucket answers that takes everything.
pub(crate) fn takes_everything(line: &str) -> Answer {
    match line.split(' ').next() {
        Some("POST") if line.contains("uploadId=") => {
            (200, "<CompleteMultipartUploadResult><Key>k</Key></CompleteMultipartUploadResult>")
        }
        Some("POST") => (200, UPLOAD),
        _ => (200, ""),
    }
}

const UPLOAD: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<InitiateMultipartUploadResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">
<Bucket>traces</Bucket><Key>k</Key><UploadId>up1</UploadId></InitiateMultipartUploadResult>"#;

async fn respond(
    request: Request<Incoming>,
    answer: fn(&str) -> Answer,
    asked: Arc<Mutex<Vec<String>>>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let line = format!("{} {}", request.method(), request.uri());
    let _ = request.into_body().collect().await;
    let (status, body) = answer(&line);
    asked.lock().unwrap().push(line);
    Ok(Response::builder()
        .status(status)
        .body(Full::new(Bytes::from_static(body.as_bytes())))
        .unwrap())
}
