//! `BulkExportDestination`: names of credential fields, never their values.

use std::collections::BTreeMap;

use serde::Serialize;
use tracelift_core::destination::Addressing;
use tracelift_proto::v1;
use utoipa::ToSchema;

use crate::{enums, text, time};

/// A customer's bucket.
#[derive(Debug, Serialize, ToSchema)]
pub struct BulkExportDestination {
    #[schema(format = Uuid)]
    id: String,
    #[schema(format = Uuid)]
    tenant_id: String,
    #[schema(schema_with = enums::destination_type)]
    destination_type: &'static str,
    display_name: String,
    config: BucketConfig,
    credentials_keys: Vec<String>,
    #[schema(format = DateTime)]
    created_at: Option<String>,
    #[schema(format = DateTime)]
    updated_at: Option<String>,
    /// What the store knows, as its check has shown (beyond the original).
    store_features: Option<StoreFeatures>,
}

/// What a store knows of that not every store does; requests go without what it does not know.
#[derive(Debug, Serialize, ToSchema)]
struct StoreFeatures {
    /// Checksums beside the content.
    checksums: bool,
    /// Writes on the condition that nothing stands at the key.
    conditional_writes: bool,
    /// The size of the whole object when an upload is completed.
    object_size: bool,
}

#[derive(Debug, Serialize, ToSchema)]
struct BucketConfig {
    bucket_name: String,
    prefix: String,
    region: Option<String>,
    endpoint_url: Option<String>,
    include_bucket_in_prefix: bool,
    s3_additional_kwargs: Option<BTreeMap<String, String>>,
    config_kwargs_s3: Option<ClientConfig>,
    aws_role_arn: Option<String>,
}

#[derive(Debug, Default, PartialEq, Serialize, ToSchema)]
struct ClientConfig {
    #[schema(schema_with = enums::addressing_style)]
    addressing_style: Option<&'static str>,
    use_accelerate_endpoint: Option<bool>,
    payload_signing_enabled: Option<bool>,
    us_east_1_regional_endpoint: Option<String>,
}

impl From<v1::Destination> for BulkExportDestination {
    fn from(destination: v1::Destination) -> Self {
        let config = BucketConfig::of(
            destination.config.unwrap_or_default(),
            text(destination.aws_role_arn),
        );
        Self {
            id: destination.id,
            tenant_id: destination.tenant_id,
            destination_type: "s3",
            display_name: destination.display_name,
            config,
            credentials_keys: destination.credentials_keys,
            created_at: time(destination.created_at.as_ref()),
            updated_at: time(destination.updated_at.as_ref()),
            store_features: destination.features.map(StoreFeatures::from),
        }
    }
}

impl From<v1::StoreFeatures> for StoreFeatures {
    fn from(
        v1::StoreFeatures { checksums, conditional_writes, object_size }: v1::StoreFeatures,
    ) -> Self {
        Self { checksums, conditional_writes, object_size }
    }
}

impl BucketConfig {
    fn of(config: v1::BucketConfig, aws_role_arn: Option<String>) -> Self {
        let addressing_style = match config.addressing_style() {
            v1::AddressingStyle::Unspecified | v1::AddressingStyle::Auto => None,
            v1::AddressingStyle::Virtual => Some(Addressing::Virtual.as_str()),
            v1::AddressingStyle::Path => Some(Addressing::Path.as_str()),
        };
        let client = ClientConfig {
            addressing_style,
            use_accelerate_endpoint: Some(config.use_accelerate_endpoint)
                .filter(|accelerated| *accelerated),
            payload_signing_enabled: config.payload_signing_enabled,
            us_east_1_regional_endpoint: text(config.us_east_1_regional_endpoint),
        };
        Self {
            bucket_name: config.bucket_name,
            prefix: config.prefix,
            region: text(config.region),
            endpoint_url: text(config.endpoint_url),
            include_bucket_in_prefix: config.include_bucket_in_prefix.unwrap_or(true),
            s3_additional_kwargs: Some(config.s3_additional_kwargs.into_iter().collect())
                .filter(|options: &BTreeMap<_, _>| !options.is_empty()),
            config_kwargs_s3: Some(client).filter(|client| *client != ClientConfig::default()),
            aws_role_arn,
        }
    }
}
