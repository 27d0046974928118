//! The S3 client of one bucket: addressing, credentials, timeouts, and the extra arguments of every write.

use std::time::Duration;

use aws_sdk_s3::{
    config::{BehaviorVersion, Credentials, Region, SharedHttpClient, retry::RetryConfig, timeout::TimeoutConfig},
    error::{ProvideErrorMetadata, SdkError},
    types::{ServerSideEncryption, StorageClass},
};
use aws_smithy_http_client::{Builder, tls};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use secrecy::{ExposeSecret as _, SecretString};
use tracelift_core::destination::{Addressing, Bucket};

use crate::{
    BucketError, EndpointPolicy, Fault,
    endpoint::{GuardedResolver, Refused},
};

/// Keys of a bucket; prints nothing.
#[derive(Clone)]
pub struct Keys {
    /// Not secret by itself, yet never printed.
    pub access_key_id: String,
    /// The secret.
    pub secret_access_key: SecretString,
    /// For keys that expire.
    pub session_token: Option<SecretString>,
}

impl PartialEq for Keys {
    fn eq(&self, other: &Self) -> bool {
        let token = |keys: &Self| keys.session_token.as_ref().map(|token| token.expose_secret().to_owned());
        self.access_key_id == other.access_key_id
            && self.secret_access_key.expose_secret() == other.secret_access_key.expose_secret()
            && token(self) == token(other)
    }
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Keys { [redacted] }")
    }
}

/// Makes clients that share one connection pool and one rule about endpoints.
#[derive(Debug, Clone)]
pub struct Connector {
    http: SharedHttpClient,
    policy: EndpointPolicy,
}

/// Longest wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

impl Connector {
    /// A pool whose connections follow `policy`.
    pub fn new(policy: EndpointPolicy) -> Self {
        let tls = tls::Provider::Rustls(tls::rustls_provider::CryptoMode::Ring);
        Self { http: Builder::new().tls_provider(tls).build_with_resolver(GuardedResolver(policy)), policy }
    }

    /// The same over a network of the caller's. Only addresses that stand in an endpoint are judged then, not names.
    pub fn over(http: SharedHttpClient, policy: EndpointPolicy) -> Self {
        Self { http, policy }
    }

    /// A client of `bucket`. `attempt_timeout` bounds one request, `attempts` is how often a transient fault is tried.
    pub fn client(&self, bucket: &Bucket, keys: &Keys, attempt_timeout: Duration, attempts: u32) -> Result<Client, BucketError> {
        let endpoint = bucket.endpoint_url.as_deref().map(|url| self.endpoint(bucket, url)).transpose()?;
        let path_style = match bucket.addressing {
            Addressing::Path => true,
            Addressing::Virtual => false,
            Addressing::Auto => endpoint.is_some() && bucket.include_bucket_in_prefix,
        };
        let token = keys.session_token.as_ref().map(|token| token.expose_secret().to_owned());
        let credentials = Credentials::new(&keys.access_key_id, keys.secret_access_key.expose_secret(), token, None, "destination");
        let timeouts = TimeoutConfig::builder().connect_timeout(CONNECT_TIMEOUT).operation_attempt_timeout(attempt_timeout).build();
        let mut config = aws_sdk_s3::Config::builder()
            .behavior_version(BehaviorVersion::v2026_01_12())
            .http_client(self.http.clone())
            .credentials_provider(credentials)
            .region(Region::new(bucket.region.clone().unwrap_or_else(|| "us-east-1".to_owned())))
            .retry_config(RetryConfig::standard().with_max_attempts(attempts))
            .timeout_config(timeouts)
            .force_path_style(path_style);
        if let Some(url) = endpoint {
            config = config.endpoint_url(url);
        }
        Ok(Client { s3: aws_sdk_s3::Client::from_conf(config.build()), bucket: bucket.clone(), key_id: keys.access_key_id.clone() })
    }

    fn endpoint(&self, bucket: &Bucket, url: &str) -> Result<String, BucketError> {
        self.policy.admits(url).map_err(|refused: Refused| BucketError {
            fault: Fault::InvalidEndpoint,
            call: "the endpoint check",
            words: refused.to_string(),
        })?;
        if bucket.include_bucket_in_prefix {
            return Ok(url.to_owned());
        }
        // The host already begins with the bucket: the SDK puts it there itself when asked for virtual addressing.
        Ok(url.replacen(&format!("://{}.", bucket.name), "://", 1))
    }
}

/// A client of one bucket.
#[derive(Debug, Clone)]
pub struct Client {
    /// The SDK's client.
    pub s3: aws_sdk_s3::Client,
    bucket: Bucket,
    key_id: String,
}

impl Client {
    /// The bucket.
    pub fn bucket(&self) -> &Bucket {
        &self.bucket
    }

    /// What a failed call means.
    pub fn judge<E>(&self, call: &'static str, error: &SdkError<E, HttpResponse>) -> BucketError
    where
        E: std::error::Error + ProvideErrorMetadata + 'static,
    {
        BucketError::of(call, error, &self.key_id)
    }
}

/// The extra arguments of every write, in the builders of the calls that begin one.
pub trait WriteArguments: Sized {
    /// With what the bucket's owner asked for.
    #[must_use]
    fn with_options_of(self, bucket: &Bucket) -> Self;
}

macro_rules! write_arguments {
    ($($builder:ty),*) => {$(
        impl WriteArguments for $builder {
            fn with_options_of(self, bucket: &Bucket) -> Self {
                let option = |name| bucket.write_options.get(name);
                self.set_server_side_encryption(option("ServerSideEncryption").map(ServerSideEncryption::from))
                    .set_ssekms_key_id(option("SSEKMSKeyId").map(str::to_owned))
                    .set_expected_bucket_owner(option("ExpectedBucketOwner").map(str::to_owned))
                    .set_storage_class(option("StorageClass").map(StorageClass::from))
                    .set_tagging(option("Tagging").map(str::to_owned))
            }
        }
    )*};
}

write_arguments!(
    aws_sdk_s3::operation::put_object::builders::PutObjectFluentBuilder,
    aws_sdk_s3::operation::create_multipart_upload::builders::CreateMultipartUploadFluentBuilder
);
