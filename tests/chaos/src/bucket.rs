//! The bucket as a customer sees it: through the S3 API only.

use std::time::Duration;

use aws_sdk_s3::{
    Client,
    config::{BehaviorVersion, Credentials, Region, retry::RetryConfig, timeout::TimeoutConfig},
    primitives::ByteStream,
};
use bytes::Bytes;
use tokio::time::sleep;
use tracelift_test_support::{
    s3::{ACCESS_KEY_ID, SECRET_ACCESS_KEY},
    world::DESTINATION_BUCKET,
};

pub(crate) struct Bucket {
    s3: Client,
}

/// An object with its metadata in the store.
pub(crate) struct Object {
    pub(crate) content: Bytes,
    pub(crate) etag: String,
}

impl Bucket {
    pub(crate) fn new(url: &str) -> Self {
        let config = aws_sdk_s3::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .credentials_provider(Credentials::new(
                ACCESS_KEY_ID,
                SECRET_ACCESS_KEY,
                None,
                None,
                "chaos",
            ))
            .region(Region::new("us-east-1"))
            .endpoint_url(url)
            .force_path_style(true)
            .retry_config(RetryConfig::standard().with_max_attempts(5))
            .timeout_config(
                TimeoutConfig::builder().operation_attempt_timeout(Duration::from_secs(20)).build(),
            )
            .http_client(aws_smithy_http_client::Builder::new().build_http());
        Self { s3: Client::from_conf(config.build()) }
    }

    /// Creates buckets, once the server responds.
    pub(crate) async fn create(&self, names: &[&str]) {
        for name in names {
            while self.s3.head_bucket().bucket(*name).send().await.is_err() {
                let _ = self.s3.create_bucket().bucket(*name).send().await; // the server may still be starting
                sleep(Duration::from_millis(50)).await;
            }
        }
    }

    pub(crate) async fn put(&self, bucket: &str, key: String, content: Vec<u8>) {
        let put = self
            .s3
            .put_object()
            .bucket(bucket)
            .key(&key)
            .body(ByteStream::from(content))
            .send()
            .await;
        put.unwrap_or_else(|error| panic!("{key} cannot be put: {error:?}"));
    }

    /// Every key with a prefix.
    pub(crate) async fn keys(&self, prefix: &str) -> Vec<String> {
        let mut pages = self
            .s3
            .list_objects_v2()
            .bucket(DESTINATION_BUCKET)
            .prefix(prefix)
            .into_paginator()
            .send();
        let mut keys = Vec::new();
        while let Some(page) = pages.next().await {
            let page = page.unwrap_or_else(|error| panic!("{prefix} cannot be listed: {error:?}"));
            keys.extend(
                page.contents.unwrap_or_default().into_iter().filter_map(|object| object.key),
            );
        }
        keys
    }

    pub(crate) async fn get(&self, key: &str) -> Object {
        let found = self.s3.get_object().bucket(DESTINATION_BUCKET).key(key).send().await;
        let found = found.unwrap_or_else(|error| panic!("{key} cannot be read: {error:?}"));
        let head = self
            .s3
            .head_object()
            .bucket(DESTINATION_BUCKET)
            .key(key)
            .send()
            .await
            .expect("it was just there");
        let etag = head.e_tag().unwrap_or_default().trim_matches('"').to_owned();
        let content = found
            .body
            .collect()
            .await
            .unwrap_or_else(|error| panic!("{key} cannot be read: {error:?}"));
        Object { content: content.into_bytes(), etag }
    }

    /// Open uploads at keys with this prefix.
    pub(crate) async fn open_uploads(&self, prefix: &str) -> Vec<String> {
        let open =
            self.s3.list_multipart_uploads().bucket(DESTINATION_BUCKET).prefix(prefix).send().await;
        let open = open
            .unwrap_or_else(|error| panic!("the uploads at {prefix} cannot be listed: {error:?}"));
        open.uploads()
            .iter()
            .map(|upload| {
                format!(
                    "{} ({})",
                    upload.key().unwrap_or_default(),
                    upload.upload_id().unwrap_or_default()
                )
            })
            .collect()
    }
}
