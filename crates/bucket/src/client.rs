//! The S3 client of a bucket: addressing, credentials and timeouts.

use std::{sync::Arc, time::Duration};

use aws_config::{SdkConfig, identity::IdentityCache, sts::AssumeRoleProvider};
use aws_sdk_s3::{
    config::{
        BehaviorVersion, Credentials, Region, RequestChecksumCalculation,
        SharedCredentialsProvider, SharedHttpClient, StalledStreamProtectionConfig,
        retry::RetryConfig, timeout::TimeoutConfig,
    },
    error::{ProvideErrorMetadata, SdkError},
};
use aws_smithy_async::rt::sleep::TokioSleep;
use aws_smithy_http_client::{Builder, Connector as HttpPool, tls};
use aws_smithy_runtime_api::client::{
    http::{HttpConnectorSettings, SharedHttpConnector, http_client_fn},
    orchestrator::HttpResponse,
};
use secrecy::{ExposeSecret as _, SecretString};
use tracelift_core::destination::{Addressing, Bucket, RoleArn, StoreFeatures, UsEast1};

use crate::{
    BucketError, EndpointPolicy, ObjectStore,
    bounded::with_bounded_answers,
    endpoint::{Guard, GuardedResolver, Names, with_guard},
    line::{Line, with_silence_bounded},
    secrets::Sent,
};

/// Access keys of a bucket. `Debug` prints nothing.
#[derive(Clone)]
pub struct Keys {
    /// Not secret by itself, but never printed either.
    pub access_key_id: String,
    /// The secret key.
    pub secret_access_key: SecretString,
    /// `None` for long-lived keys.
    pub session_token: Option<SecretString>,
}

impl PartialEq for Keys {
    fn eq(&self, other: &Self) -> bool {
        let token =
            |keys: &Self| keys.session_token.as_ref().map(|token| token.expose_secret().to_owned());
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

/// How a client authenticates with a bucket.
#[derive(Debug, Clone, PartialEq)]
pub enum Grant {
    /// Access keys supplied by the bucket's owner.
    Keys(Keys),
    /// A role of the bucket's owner, assumed with this process's ambient credentials: web identity,
    /// instance profile, environment variables, ….
    Role {
        /// The role.
        arn: RoleArn,
        /// The external id that the role's trust policy must require, so that no other customer can
        /// make us assume the role.
        external_id: String,
    },
    /// This process's ambient credentials.
    Environment,
}

/// Creates clients that share a connection pool and an endpoint policy.
#[derive(Debug, Clone)]
pub struct Connector {
    http: SharedHttpClient,
    policy: EndpointPolicy,
    /// The pool shared by all readers.
    pub(crate) reading: SharedHttpConnector,
    /// For obtaining ambient credentials. Not restricted by the policy, because they may come from
    /// an address on this machine or network.
    identity: SharedHttpClient,
}

/// Timeout for establishing a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Temporary credentials of a role are renewed this long before they expire.
const REFRESH_BEFORE: Duration = Duration::from_secs(120);

/// How long to wait for a request.
pub(crate) enum Wait {
    /// At most this long in total.
    Whole(Duration),
    /// As long as data keeps moving.
    WhileItMoves(Line),
}

impl Connector {
    /// A connector whose connections obey `policy`.
    pub fn new(policy: EndpointPolicy) -> Self {
        let tls = tls::Provider::Rustls(tls::rustls_provider::CryptoMode::Ring);
        let resolver = |policy: &EndpointPolicy, names: &Names, port| {
            let (policy, names) = (policy.clone(), names.clone());
            GuardedResolver { policy, port, names }
        };
        let pool = |policy: &EndpointPolicy, names: &Names| {
            with_bounded_answers(with_guard(policy, |port| {
                let pool = Builder::new().tls_provider(tls.clone());
                pool.build_with_resolver(resolver(policy, names, port))
            }))
        };
        let names = Names::system();
        let settings = HttpConnectorSettings::builder().connect_timeout(CONNECT_TIMEOUT).build();
        let reading = Guard::around(&policy, |port| {
            let pool = HttpPool::builder()
                .connector_settings(settings.clone())
                .sleep_impl(TokioSleep::new())
                .enable_tcp_nodelay(true)
                .tls_provider(tls.clone());
            SharedHttpConnector::new(pool.build_with_resolver(resolver(&policy, &names, port)))
        });
        // Lookups of customers' names do not hold up those that credentials need.
        let identity = pool(&EndpointPolicy::unrestricted(), &Names::system());
        Self { http: pool(&policy, &names), policy, reading, identity }
    }

    /// A connector that uses the caller's network. The policy then applies only to the URLs of
    /// requests, because no names are resolved here.
    pub fn over(connector: SharedHttpConnector, policy: EndpointPolicy) -> Self {
        let client = |connector: SharedHttpConnector| {
            with_bounded_answers(http_client_fn(move |_, _| connector.clone()))
        };
        let reading = Guard::around(&policy, |_| connector.clone());
        Self { identity: client(connector), http: client(reading.clone()), policy, reading }
    }

    /// Opens `bucket` with `grant`. `attempt_timeout` bounds each attempt; transient errors are
    /// retried up to `attempts` attempts in total.
    pub async fn store(
        &self,
        bucket: &Bucket,
        grant: &Grant,
        attempt_timeout: Duration,
        attempts: u32,
    ) -> Result<Arc<dyn ObjectStore>, BucketError> {
        let wait = Wait::Whole(attempt_timeout);
        Ok(Arc::new(self.client(bucket, grant, wait, attempts).await?))
    }

    /// Like [`store`](Self::store), but with requests that may take any time as long as data keeps
    /// moving.
    pub async fn patient_store(
        &self,
        bucket: &Bucket,
        grant: &Grant,
        line: Line,
        attempts: u32,
    ) -> Result<Arc<dyn ObjectStore>, BucketError> {
        let wait = Wait::WhileItMoves(line);
        Ok(Arc::new(self.client(bucket, grant, wait, attempts).await?))
    }

    pub(crate) async fn client(
        &self,
        bucket: &Bucket,
        grant: &Grant,
        wait: Wait,
        attempts: u32,
    ) -> Result<Client, BucketError> {
        let endpoint = self.endpoint(bucket)?;
        let path_style = match bucket.addressing {
            Addressing::Path => true,
            Addressing::Virtual => false,
            Addressing::Auto => bucket.endpoint_url.is_some() && bucket.include_bucket_in_prefix,
        };
        let region = Region::new(bucket.region.clone().unwrap_or_else(|| "us-east-1".to_owned()));
        let timeouts = TimeoutConfig::builder().connect_timeout(CONNECT_TIMEOUT);
        let mut config =
            aws_sdk_s3::Config::builder().behavior_version(BehaviorVersion::v2026_01_12());
        let timeouts = match wait {
            Wait::Whole(longest) => {
                config.set_http_client(Some(self.http.clone()));
                timeouts.operation_attempt_timeout(longest).build()
            }
            Wait::WhileItMoves(line) => {
                config
                    .set_stalled_stream_protection(Some(StalledStreamProtectionConfig::disabled()));
                config.set_http_client(Some(with_silence_bounded(self.http.clone(), line)));
                timeouts.build()
            }
        };
        config = config
            .identity_cache(IdentityCache::lazy().buffer_time(REFRESH_BEFORE).build())
            .region(region.clone())
            .retry_config(RetryConfig::standard().with_max_attempts(attempts))
            .timeout_config(timeouts)
            .accelerate(bucket.client.use_accelerate_endpoint)
            .force_path_style(path_style);
        if !bucket.features.checksums {
            config = config.request_checksum_calculation(RequestChecksumCalculation::WhenRequired);
        }
        let sent = Sent::default();
        let credentials = self.credentials(grant, &region).await;
        config.set_credentials_provider(credentials.map(|provider| sent.noting(provider)));
        if let Some(url) = endpoint {
            config = config.endpoint_url(url);
        }
        Ok(Client {
            s3: aws_sdk_s3::Client::from_conf(config.build()),
            bucket: bucket.clone(),
            sent,
        })
    }

    /// Static keys, or a provider that obtains and renews temporary ones as needed.
    async fn credentials(
        &self,
        grant: &Grant,
        region: &Region,
    ) -> Option<SharedCredentialsProvider> {
        match grant {
            Grant::Keys(keys) => {
                let token =
                    keys.session_token.as_ref().map(|token| token.expose_secret().to_owned());
                let secret = keys.secret_access_key.expose_secret();
                let keys =
                    Credentials::new(&keys.access_key_id, secret, token, None, "destination");
                Some(SharedCredentialsProvider::new(keys))
            }
            Grant::Role { arn, external_id } => {
                let role = AssumeRoleProvider::builder(arn.as_str())
                    .session_name("tracelift")
                    .external_id(external_id);
                Some(SharedCredentialsProvider::new(
                    role.configure(&self.own(region).await).build().await,
                ))
            }
            Grant::Environment => self.own(region).await.credentials_provider(),
        }
    }

    /// The configuration that yields this process's ambient credentials.
    async fn own(&self, region: &Region) -> SdkConfig {
        let own = aws_config::defaults(BehaviorVersion::v2026_01_12())
            .http_client(self.identity.clone())
            .region(region.clone());
        own.load().await
    }

    /// The endpoint to use; `None` leaves the choice to the SDK.
    fn endpoint(&self, bucket: &Bucket) -> Result<Option<String>, BucketError> {
        let Some(url) = &bucket.endpoint_url else {
            let legacy = bucket.client.us_east_1_regional_endpoint == Some(UsEast1::Legacy)
                && bucket.region.as_deref() == Some("us-east-1");
            return Ok((legacy && !bucket.client.use_accelerate_endpoint)
                .then(|| "https://s3.amazonaws.com".to_owned()));
        };
        self.policy.admits(url).map_err(|refused| BucketError::refused(&refused))?;
        if bucket.include_bucket_in_prefix {
            return Ok(Some(below(url)));
        }
        // The host name already starts with the bucket, which the SDK adds itself with virtual
        // addressing.
        Ok(Some(below(&url.replacen(&format!("://{}.", bucket.name), "://", 1))))
    }
}

/// An endpoint with a path needs a trailing slash, because the SDK appends to it directly.
fn below(url: &str) -> String {
    let has_path = url.split_once("://").is_some_and(|(_, rest)| rest.contains('/'));
    if has_path { format!("{url}/") } else { url.to_owned() }
}

/// An S3 client of one bucket, for AWS and S3-compatible stores.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    pub(crate) s3: aws_sdk_s3::Client,
    bucket: Bucket,
    sent: Sent,
}

impl Client {
    /// The bucket's settings.
    pub(crate) fn bucket(&self) -> &Bucket {
        &self.bucket
    }

    /// The same client for a store that supports only `features`.
    #[must_use]
    pub(crate) fn knowing(&self, features: StoreFeatures) -> Self {
        let checksums = if features.checksums {
            RequestChecksumCalculation::WhenSupported
        } else {
            RequestChecksumCalculation::WhenRequired
        };
        let config = self.s3.config().to_builder().request_checksum_calculation(checksums).build();
        let bucket = Bucket { features, ..self.bucket.clone() };
        Self { s3: aws_sdk_s3::Client::from_conf(config), bucket, sent: self.sent.clone() }
    }

    /// Converts the SDK's error of a failed call.
    pub(crate) fn judge<E>(
        &self,
        call: &'static str,
        error: &SdkError<E, HttpResponse>,
    ) -> BucketError
    where
        E: std::error::Error + ProvideErrorMetadata + 'static,
    {
        BucketError::of(call, error, &self.sent)
    }
}

#[cfg(test)]
mod tests;
