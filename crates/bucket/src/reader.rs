//! A lightweight object reader: one signed GET per object, over its own connections.
//!
//! Offloaded fields are millions of small objects, and the SDK's client costs more per object than
//! the object itself (ADR 0021). Everything else (writes, checks, roles) goes through the SDK.

mod flow;
mod signature;

use std::{sync::Arc, time::Duration};

use aws_sdk_s3::{presigning::PresigningConfig, primitives::ByteStream};
use aws_smithy_runtime_api::{
    client::{
        http::{HttpConnector as _, SharedHttpConnector},
        orchestrator::HttpResponse,
        result::ConnectorError,
    },
    http::Request,
};
use aws_smithy_types::body::SdkBody;
use bytes::Bytes;
use tracelift_core::{destination::Bucket, time::Timestamp};

use crate::{
    BucketError, Connector, Fault, Grant, Keys, Sent, bounded::bounded, client::Wait, error::shown,
};
use flow::Flow;
use signature::Signer;

/// Operation name used in errors.
const CALL: &str = "GetObject";
/// Wait before the second attempt; doubles with each further attempt.
const FIRST_WAIT: Duration = Duration::from_millis(50);

/// Reads objects of one bucket with access keys. Clones share connections and the limit on
/// concurrent requests, which shrinks when the store throttles.
#[derive(Debug, Clone)]
pub struct Reader {
    connector: SharedHttpConnector,
    signer: Signer,
    bucket: String,
    /// Scheme and host.
    origin: String,
    /// The path in front of a key.
    folder: String,
    sent: Sent,
    timeout: Duration,
    attempts: u32,
    flow: Arc<Flow>,
}

/// An object whose body has not been read yet.
#[derive(Debug)]
pub struct Object {
    /// Size of the body in bytes, if the store sent it.
    pub size: Option<u64>,
    /// The Content-Encoding header.
    pub encoding: Option<String>,
    body: ByteStream,
}

impl Object {
    /// The next bytes of the body; `None` at its end; on failure, the reason for people. `silence`
    /// bounds the wait for these bytes, not for the whole body, which may be large.
    pub async fn next(&mut self, silence: Duration) -> Result<Option<Bytes>, String> {
        let silent = |_| format!("nothing more came within {} s", silence.as_secs());
        let next = tokio::time::timeout(silence, self.body.next()).await.map_err(silent)?;
        next.transpose().map_err(|error| root(&error).to_string())
    }

    /// Reads the whole body.
    pub async fn bytes(mut self, silence: Duration) -> Result<Vec<u8>, String> {
        let size = self.size.and_then(|size| usize::try_from(size).ok());
        let mut whole = Vec::with_capacity(size.unwrap_or_default());
        while let Some(next) = self.next(silence).await? {
            whole.extend_from_slice(&next);
        }
        Ok(whole)
    }
}

impl Connector {
    /// Creates a reader of `bucket`. `timeout` bounds each attempt until its response begins;
    /// transient errors are retried up to `attempts` attempts in total. `now` is the clock for
    /// signatures.
    pub async fn reader(
        &self,
        bucket: &Bucket,
        keys: &Keys,
        timeout: Duration,
        attempts: u32,
        now: fn() -> Timestamp,
    ) -> Result<Reader, BucketError> {
        // The SDK decides where the bucket is.
        let grant = Grant::Keys(keys.clone());
        let client = self.client(bucket, &grant, Wait::Whole(timeout), 1).await?;
        let presigning = PresigningConfig::expires_in(Duration::from_secs(60))
            .map_err(|error| invalid(&error.to_string()))?;
        let example =
            client.s3.get_object().bucket(&bucket.name).key("k").presigned(presigning).await;
        let example = example.map_err(|error| client.judge(CALL, &error))?;
        let address =
            url::Url::parse(example.uri()).map_err(|error| invalid(&error.to_string()))?;
        let host = &address[url::Position::BeforeHost..url::Position::AfterPort];
        let folder = address.path().strip_suffix('k').unwrap_or("/").to_owned();
        let region = bucket.region.as_deref().unwrap_or("us-east-1");
        let sent = Sent::default();
        sent.note(keys.clone());
        Ok(Reader {
            connector: self.reading.clone(),
            signer: Signer::new(keys, region, host, now),
            bucket: bucket.name.clone(),
            origin: format!("{}://{host}", address.scheme()),
            folder,
            sent,
            timeout,
            attempts,
            flow: Arc::default(),
        })
    }
}

impl Reader {
    /// The bucket's name.
    pub fn bucket(&self) -> &str {
        &self.bucket
    }

    /// Requests an object and returns once its body begins. Transient errors are retried.
    pub async fn get(&self, key: &str) -> Result<Object, BucketError> {
        let mut wait = FIRST_WAIT;
        for _ in 1..self.attempts {
            match self.attempt(key).await {
                Err(error) if matches!(error.fault, Fault::Throttled | Fault::Unavailable) => {
                    tokio::time::sleep(wait).await;
                    wait *= 2;
                }
                outcome => return outcome,
            }
        }
        self.attempt(key).await
    }

    async fn attempt(&self, key: &str) -> Result<Object, BucketError> {
        let path = format!("{}{}", self.folder, signature::encoded(key));
        let mut request = Request::new(SdkBody::empty());
        request
            .set_uri(format!("{}{path}", self.origin))
            .map_err(|error| invalid(&error.to_string()))?;
        self.signer.sign(&path, request.headers_mut());
        let answered = async {
            let answer =
                self.connector.call(request).await.map_err(|error| self.nothing(&error))?;
            if answer.status().is_success() { Ok(answer) } else { Err(self.refusal(answer).await) }
        };
        let late = |_| Err(unavailable(format!("nothing within {} s", self.timeout.as_secs())));
        let request = self.flow.enter().await;
        let answer = tokio::time::timeout(self.timeout, answered).await.unwrap_or_else(late);
        match &answer {
            Err(error) if error.fault == Fault::Throttled => request.refused(),
            Err(error) if error.fault == Fault::Unavailable => {}
            _ => request.taken(),
        }
        drop(request);
        let answer = answer?;
        let header = |name| answer.headers().get(name).map(str::to_owned);
        let size = header("content-length").and_then(|size| size.parse().ok());
        Ok(Object {
            size,
            encoding: header("content-encoding"),
            body: ByteStream::new(answer.into_body()),
        })
    }

    async fn refusal(&self, answer: HttpResponse) -> BucketError {
        let status = answer.status().as_u16();
        let body = ByteStream::new(bounded(answer.into_body()))
            .collect()
            .await
            .map(|body| body.into_bytes())
            .unwrap_or_default();
        let text = String::from_utf8_lossy(&body);
        BucketError::told_by(
            CALL,
            status,
            element(&text, "Code"),
            element(&text, "Message").unwrap_or_default(),
            &self.sent,
        )
    }

    fn nothing(&self, error: &ConnectorError) -> BucketError {
        unavailable(shown(format!("nothing ({})", root(error)), &self.sent))
    }
}

/// The root cause of an error.
fn root<'a>(error: &'a (dyn std::error::Error + 'static)) -> &'a (dyn std::error::Error + 'static) {
    std::iter::successors(Some(error), |error| error.source()).last().unwrap_or(error)
}

fn unavailable(words: String) -> BucketError {
    BucketError { fault: Fault::Unavailable, call: CALL, words, extra: None }
}

fn invalid(words: &str) -> BucketError {
    BucketError { fault: Fault::InvalidEndpoint, call: CALL, words: words.to_owned(), extra: None }
}

/// The text of an element in a store's error document. Assumes no attributes and no nested element
/// of that name.
fn element<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    rest.split_once(&format!("</{name}>")).map(|(inside, _)| inside)
}

#[cfg(test)]
mod tests;
