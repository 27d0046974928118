//! The tests' own S3 server at the wire: the rest of the tests stands on it.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs, reason = "tests")]

mod keys;
mod lists;
mod restarts;

use aws_sdk_s3::{
    Client,
    config::{BehaviorVersion, Credentials, Region, retry::RetryConfig},
};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tracelift_test_support::s3::{ACCESS_KEY_ID, S3Server, SECRET_ACCESS_KEY};

/// A server on this folder, with a bucket named "bucket".
async fn served(dir: &TempDir) -> (S3Server, Client) {
    let server =
        S3Server::start(dir.path(), TcpListener::bind("127.0.0.1:0").await.unwrap()).unwrap();
    server.create_bucket("bucket");
    let config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .credentials_provider(Credentials::new(
            ACCESS_KEY_ID,
            SECRET_ACCESS_KEY,
            None,
            None,
            "test",
        ))
        .region(Region::new("us-east-1"))
        .endpoint_url(server.url())
        .force_path_style(true)
        .retry_config(RetryConfig::disabled())
        .http_client(aws_smithy_http_client::Builder::new().build_http());
    (server, Client::from_conf(config.build()))
}
