//! A reader against generated responses.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use aws_smithy_runtime_api::{
    client::http::{HttpConnector, HttpConnectorFuture},
    shared::IntoShared as _,
};
use futures::{StreamExt as _, stream};
use secrecy::SecretString;
use tracelift_core::destination::BucketInput;

use super::*;
use crate::{EndpointPolicy, answers::answers};

const SILENCE: Duration = Duration::from_secs(60);

/// A reader whose attempts get these responses in turn; the last one repeats.
async fn reader(endpoint: &str, said: Vec<http::Response<SdkBody>>) -> (Reader, Arc<AtomicU32>) {
    let (count, said) = (Arc::new(AtomicU32::new(0)), std::sync::Mutex::new(said));
    let asked = count.clone();
    let connector = answers(move |_| {
        asked.fetch_add(1, Ordering::Relaxed);
        let mut said = said.lock().unwrap();
        if said.len() > 1 { said.remove(0) } else { said.pop().unwrap_or_else(|| answer(500, "")) }
    });
    (reader_over(connector, endpoint, 3).await, count)
}

async fn reader_over(network: SharedHttpConnector, endpoint: &str, attempts: u32) -> Reader {
    let bucket = BucketInput {
        bucket_name: "traces".into(),
        endpoint_url: endpoint.into(),
        region: "eu-west-1".into(),
        ..BucketInput::default()
    };
    let keys = Keys {
        access_key_id: "AKIDVISIBLE".into(),
        secret_access_key: SecretString::from("s"),
        session_token: None,
    };
    let connector = Connector::over(network, EndpointPolicy::unrestricted());
    connector
        .reader(&bucket.check().unwrap(), &keys, Duration::from_secs(5), attempts, || {
            Timestamp::EPOCH
        })
        .await
        .unwrap()
}

fn answer(status: u16, body: &'static str) -> http::Response<SdkBody> {
    http::Response::builder()
        .status(status)
        .header("content-length", body.len())
        .body(SdkBody::from(body))
        .unwrap()
}

#[tokio::test]
async fn where_an_object_is_follows_the_buckets_address() {
    let mut found = Vec::new();
    for endpoint in ["", "https://minio.example.com:9000", "https://storage.googleapis.com"] {
        let (reader, _) = reader(endpoint, Vec::new()).await;
        found.push(format!("{}{}", reader.origin, reader.folder));
    }
    let expected = [
        "https://traces.s3.eu-west-1.amazonaws.com/",
        "https://minio.example.com:9000/traces/",
        "https://storage.googleapis.com/traces/",
    ];
    assert_eq!(found, expected);
}

#[tokio::test]
async fn an_object_comes_with_its_size_and_encoding() {
    let mut said = answer(200, "content");
    said.headers_mut().insert("content-encoding", "gzip".parse().unwrap());
    let (reader, _) = reader("http://store.example.com", vec![said]).await;
    let object = reader.get("k").await.unwrap();
    assert_eq!((object.size, object.encoding.as_deref()), (Some(7), Some("gzip")));
    assert_eq!(object.bytes(SILENCE).await.unwrap(), b"content");
}

#[tokio::test(start_paused = true)]
async fn a_transient_fault_is_tried_again_and_any_other_told() {
    let slow = || {
        answer(
            503,
            "<Error><Code>SlowDown</Code><Message>Reduce your request rate.</Message></Error>",
        )
    };
    let (reader_, asked) =
        reader("http://store.example.com", vec![slow(), answer(500, ""), answer(200, "x")]).await;
    assert_eq!(reader_.get("k").await.unwrap().bytes(SILENCE).await.unwrap(), b"x");
    assert_eq!(asked.load(Ordering::Relaxed), 3);

    let (reader_, asked) =
        reader("http://store.example.com", vec![slow(), slow(), slow(), answer(200, "too late")])
            .await;
    let error = reader_.get("k").await.unwrap_err();
    assert_eq!(
        (error.fault, error.words.as_str()),
        (Fault::Throttled, "503 SlowDown: Reduce your request rate.")
    );
    assert_eq!(asked.load(Ordering::Relaxed), 3);

    let gone = answer(
        404,
        "<Error><Code>NoSuchKey</Code><Message>AKIDVISIBLE asked in vain</Message></Error>",
    );
    let (reader_, asked) = reader("http://store.example.com", vec![gone]).await;
    let error = reader_.get("k").await.unwrap_err();
    assert_eq!(
        (error.fault, error.words.as_str()),
        (Fault::NoSuchKey, "404 NoSuchKey: [access key id] asked in vain")
    );
    assert_eq!(asked.load(Ordering::Relaxed), 1);
}

/// A store that accepts a limited number of concurrent requests, each for a tenth of a second, and
/// throttles the rest.
#[derive(Clone, Debug, Default)]
struct Narrow {
    at_once: u32,
    under_way: Arc<AtomicU32>,
    refused: Arc<AtomicU32>,
}

impl HttpConnector for Narrow {
    fn call(
        &self,
        _: aws_smithy_runtime_api::client::orchestrator::HttpRequest,
    ) -> HttpConnectorFuture {
        let store = self.clone();
        HttpConnectorFuture::new(async move {
            let fits = store.under_way.fetch_add(1, Ordering::Relaxed) < store.at_once;
            tokio::time::sleep(Duration::from_millis(if fits { 100 } else { 10 })).await;
            store.under_way.fetch_sub(1, Ordering::Relaxed);
            let answer = if fits {
                answer(200, "x")
            } else {
                store.refused.fetch_add(1, Ordering::Relaxed);
                answer(
                    503,
                    "<Error><Code>SlowDown</Code><Message>Reduce your request rate.</Message></Error>",
                )
            };
            Ok(HttpResponse::try_from(answer).unwrap())
        })
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_asks_to_slow_down_is_asked_less_at_once_and_every_object_comes() {
    let store = Narrow { at_once: 8, ..Narrow::default() };
    let reader = reader_over(store.clone().into_shared(), "http://store.example.com", 5).await;
    let objects = stream::iter(0..1000).map(|_| reader.get("k")).buffered(64);
    assert!(objects.all(async |object| object.is_ok()).await);
    // The first wave's, plus those that keep probing how many the store accepts.
    let refused = store.refused.load(Ordering::Relaxed);
    assert!((56..=200).contains(&refused), "{refused}");
}

#[tokio::test(start_paused = true)]
async fn a_body_may_take_long_but_not_fall_silent() {
    let (mut store, body) =
        http_body_util::channel::Channel::<bytes::Bytes, std::io::Error>::new(1);
    let object = Object { size: None, encoding: None, body: SdkBody::from_body_1_x(body).into() };
    let slowly = async move {
        for _ in 0..10 {
            tokio::time::sleep(SILENCE - Duration::from_secs(1)).await;
            store.send_data("part ".into()).await.unwrap();
        }
        store
    };
    let began = tokio::time::Instant::now();
    let (_store, told) = tokio::join!(slowly, object.bytes(SILENCE));
    assert_eq!(told.unwrap_err(), "nothing more came within 60 s");
    assert_eq!(began.elapsed().as_secs(), 10 * 59 + 60);
}

#[tokio::test(start_paused = true)]
async fn a_body_in_parts_is_whole_and_one_that_breaks_off_is_told() {
    for breaks in [false, true] {
        let (mut store, body) =
            http_body_util::channel::Channel::<bytes::Bytes, std::io::Error>::new(8);
        let object =
            Object { size: Some(10), encoding: None, body: SdkBody::from_body_1_x(body).into() };
        store.send_data("part ".into()).await.unwrap();
        store.send_data("part ".into()).await.unwrap();
        if breaks {
            store.abort(std::io::Error::other("connection reset"))
        } else {
            drop(store)
        }
        let told = object.bytes(SILENCE).await;
        assert_eq!(
            told.as_deref().map_err(|words| words.contains("reset")),
            if breaks { Err(true) } else { Ok(&b"part part "[..]) }
        );
    }
}
