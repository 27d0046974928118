//! The bare loop of the benchmark: objects named on the standard input (`key size` a line) are
//! written, or read and thrown away, many at a time. Prints how many, how many bytes, and the
//! seconds.

use std::{
    io::{BufRead as _, stdin},
    process::ExitCode,
    time::{Duration, Instant},
};

use aws_sdk_s3::{
    config::{BehaviorVersion, Credentials, Region},
    primitives::ByteStream,
};
use clap::{Parser, ValueEnum};
use futures::{TryStreamExt as _, stream};
use secrecy::{ExposeSecret as _, SecretString};
use tracelift_bucket::{Connector, EndpointPolicy, Keys};
use tracelift_core::destination::BucketInput;
use tracelift_runtime::clock::{Clock as _, SystemClock};

/// What to do with the objects
#[derive(Debug, Clone, Copy, ValueEnum)]
enum What {
    /// Write them: JSON of that size
    Load,
    /// Read them with the exporter's own light client
    Get,
    /// Read them with the AWS SDK
    GetSdk,
}

/// A bare loop of requests to an S3 server; keys come from S3_ACCESS_KEY_ID and
/// S3_SECRET_ACCESS_KEY
#[derive(Debug, Parser)]
struct Options {
    what: What,
    #[arg(long)]
    endpoint: String,
    #[arg(long)]
    bucket: String,
    #[arg(long)]
    region: String,
    /// Requests at a time
    #[arg(long, default_value_t = 64)]
    in_flight: usize,
}

type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

#[tokio::main]
async fn main() -> ExitCode {
    match run(&Options::parse()).await {
        Ok(said) => {
            println!("{said}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(options: &Options) -> Outcome<serde_json::Value> {
    let objects = objects()?;
    let (endpoint_url, bucket_name, region) =
        (options.endpoint.clone(), options.bucket.clone(), options.region.clone());
    let input = BucketInput { endpoint_url, bucket_name, region, ..BucketInput::default() };
    let bucket = input.check().map_err(|faults| format!("{faults:?}"))?;
    let keys = Keys {
        access_key_id: std::env::var("S3_ACCESS_KEY_ID")?,
        secret_access_key: SecretString::from(std::env::var("S3_SECRET_ACCESS_KEY")?),
        session_token: None,
    };
    let (connector, timeout) =
        (Connector::new(EndpointPolicy::unrestricted()), Duration::from_secs(60));
    let s3 = sdk(options, &keys);
    let reader = connector.reader(&bucket, &keys, timeout, 3, || SystemClock.now()).await?;
    let began = Instant::now();
    let calls = stream::iter(objects.iter().map(Ok::<_, Box<dyn std::error::Error + Send + Sync>>));
    let done = calls.map_ok(|(key, size)| {
        let (s3, reader, bucket) = (&s3, &reader, &bucket.name);
        async move {
            match options.what {
                What::Load => {
                    s3.put_object()
                        .bucket(bucket)
                        .key(key)
                        .body(ByteStream::from(json(*size)))
                        .send()
                        .await?;
                    Ok(*size)
                }
                What::Get => Ok(reader.get(key).await?.bytes(timeout).await?.len()),
                What::GetSdk => Ok(s3
                    .get_object()
                    .bucket(bucket)
                    .key(key)
                    .send()
                    .await?
                    .body
                    .collect()
                    .await?
                    .into_bytes()
                    .len()),
            }
        }
    });
    let bytes: usize = done
        .try_buffer_unordered(options.in_flight)
        .try_fold(0, async |sum, size| Ok(sum + size))
        .await?;
    let expected: usize = objects.iter().map(|(_, size)| size).sum();
    if bytes != expected {
        return Err(format!("{bytes} bytes instead of {expected}").into());
    }
    Ok(
        serde_json::json!({ "objects": objects.len(), "bytes": bytes, "wall_s": began.elapsed().as_secs_f64() }),
    )
}

/// The SDK's own client, as anybody would make it.
fn sdk(options: &Options, keys: &Keys) -> aws_sdk_s3::Client {
    let secret = keys.secret_access_key.expose_secret();
    let keys = Credentials::new(&keys.access_key_id, secret, None, None, "bench");
    let config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .credentials_provider(keys)
        .region(Region::new(options.region.clone()))
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .endpoint_url(&options.endpoint)
        .force_path_style(true);
    aws_sdk_s3::Client::from_conf(config.build())
}

fn objects() -> Outcome<Vec<(String, usize)>> {
    stdin()
        .lock()
        .lines()
        .map(|line| {
            let line = line?;
            let (key, size) = line.split_once(' ').ok_or("a line must be `key size`")?;
            Ok((key.to_owned(), size.parse()?))
        })
        .collect()
}

/// JSON of that many bytes, which compresses about as text does.
fn json(size: usize) -> Vec<u8> {
    let mut state = size as u64 + 0x9e37_79b9_7f4a_7c15;
    let mut text = b"{\"text\":\"".to_vec();
    while text.len() + 2 < size {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let word = format!("{:x} ", (state >> 33) % 2000 * 7919);
        text.extend_from_slice(&word.as_bytes()[..word.len().min(size - 2 - text.len())]);
    }
    text.extend_from_slice(b"\"}");
    text
}
