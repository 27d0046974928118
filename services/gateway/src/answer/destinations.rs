//! `BulkExportDestination`: names of credential fields, never their values.

use std::collections::BTreeMap;

use serde::Serialize;
use tracelift_core::destination::Addressing;
use tracelift_proto::v1;

use super::{text, time};

/// A customer's bucket.
#[derive(Debug, Serialize)]
pub(crate) struct BulkExportDestination {
    id: String,
    tenant_id: String,
    destination_type: &'static str,
    display_name: String,
    config: Config,
    credentials_keys: Vec<String>,
    created_at: Option<String>,
    updated_at: Option<String>,
}

#[derive(Debug, Serialize)]
struct Config {
    bucket_name: String,
    prefix: String,
    region: Option<String>,
    endpoint_url: Option<String>,
    include_bucket_in_prefix: bool,
    s3_additional_kwargs: Option<BTreeMap<String, String>>,
    config_kwargs_s3: Option<ClientConfig>,
    aws_role_arn: Option<String>,
}

#[derive(Debug, Serialize)]
struct ClientConfig {
    addressing_style: &'static str,
}

impl From<v1::Destination> for BulkExportDestination {
    fn from(destination: v1::Destination) -> Self {
        Self {
            id: destination.id,
            tenant_id: destination.tenant_id,
            destination_type: "s3",
            display_name: destination.display_name,
            config: destination.config.unwrap_or_default().into(),
            credentials_keys: destination.credentials_keys,
            created_at: time(destination.created_at.as_ref()),
            updated_at: time(destination.updated_at.as_ref()),
        }
    }
}

impl From<v1::BucketConfig> for Config {
    fn from(config: v1::BucketConfig) -> Self {
        let addressing_style = match config.addressing_style() {
            v1::AddressingStyle::Unspecified | v1::AddressingStyle::Auto => None,
            v1::AddressingStyle::Virtual => Some(Addressing::Virtual.as_str()),
            v1::AddressingStyle::Path => Some(Addressing::Path.as_str()),
        };
        Self {
            bucket_name: config.bucket_name,
            prefix: config.prefix,
            region: text(config.region),
            endpoint_url: text(config.endpoint_url),
            include_bucket_in_prefix: config.include_bucket_in_prefix.unwrap_or(true),
            s3_additional_kwargs: Some(config.s3_additional_kwargs.into_iter().collect())
                .filter(|options: &BTreeMap<_, _>| !options.is_empty()),
            config_kwargs_s3: addressing_style.map(|addressing_style| ClientConfig { addressing_style }),
            aws_role_arn: None,
        }
    }
}
