//! destinations.proto: destinations, bucket settings and credentials.

use tracelift_core::{
    Invalid, InvalidKind,
    destination::{
        Addressing, Bucket, BucketInput, ClientOptions, Destination, Identity, StoreFeatures,
        UsEast1,
    },
    invalid::Faults,
};

use super::time_to;
use crate::v1;

impl From<&Destination> for v1::Destination {
    fn from(destination: &Destination) -> Self {
        Self {
            id: destination.id.to_string(),
            tenant_id: destination.tenant.to_string(),
            display_name: destination.display_name.as_str().to_owned(),
            config: Some((&destination.bucket).into()),
            credentials_keys: destination.credentials_keys.clone(),
            created_at: Some(time_to(destination.created_at)),
            updated_at: Some(time_to(destination.updated_at)),
            features: Some(destination.bucket.features.into()),
            aws_role_arn: match &destination.identity {
                Identity::Role(arn) => arn.as_str().to_owned(),
                Identity::Keys | Identity::Environment => String::new(),
            },
        }
    }
}

impl From<StoreFeatures> for v1::StoreFeatures {
    fn from(StoreFeatures { checksums, conditional_writes, object_size }: StoreFeatures) -> Self {
        Self { checksums, conditional_writes, object_size }
    }
}

impl From<v1::StoreFeatures> for StoreFeatures {
    fn from(
        v1::StoreFeatures { checksums, conditional_writes, object_size }: v1::StoreFeatures,
    ) -> Self {
        Self { checksums, conditional_writes, object_size }
    }
}

impl From<&Bucket> for v1::BucketConfig {
    fn from(bucket: &Bucket) -> Self {
        Self {
            bucket_name: bucket.name.clone(),
            prefix: bucket.prefix.clone(),
            region: bucket.region.clone().unwrap_or_default(),
            endpoint_url: bucket.endpoint_url.clone().unwrap_or_default(),
            include_bucket_in_prefix: Some(bucket.include_bucket_in_prefix),
            addressing_style: v1::AddressingStyle::from(bucket.addressing).into(),
            s3_additional_kwargs: bucket
                .write_options
                .iter()
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
            use_accelerate_endpoint: bucket.client.use_accelerate_endpoint,
            payload_signing_enabled: bucket.client.payload_signing_enabled,
            us_east_1_regional_endpoint: bucket
                .client
                .us_east_1_regional_endpoint
                .map(UsEast1::as_str)
                .unwrap_or_default()
                .to_owned(),
        }
    }
}

impl From<Addressing> for v1::AddressingStyle {
    fn from(style: Addressing) -> Self {
        match style {
            Addressing::Auto => Self::Auto,
            Addressing::Virtual => Self::Virtual,
            Addressing::Path => Self::Path,
        }
    }
}

impl TryFrom<v1::BucketConfig> for Bucket {
    type Error = Vec<Invalid>;

    fn try_from(config: v1::BucketConfig) -> Result<Self, Self::Error> {
        BucketInput::try_from(config)?.check()
    }
}

impl TryFrom<v1::BucketConfig> for BucketInput {
    type Error = Vec<Invalid>;

    fn try_from(config: v1::BucketConfig) -> Result<Self, Self::Error> {
        let addressing = match v1::AddressingStyle::try_from(config.addressing_style) {
            Ok(v1::AddressingStyle::Unspecified | v1::AddressingStyle::Auto) => Addressing::Auto,
            Ok(v1::AddressingStyle::Virtual) => Addressing::Virtual,
            Ok(v1::AddressingStyle::Path) => Addressing::Path,
            Err(_) => {
                return Err(vec![Invalid::new(
                    "addressing_style",
                    "is not a known addressing style",
                )]);
            }
        };
        let us_east_1_regional_endpoint = match config.us_east_1_regional_endpoint.as_str() {
            "" => None,
            word => Some(
                UsEast1::parse("us_east_1_regional_endpoint", word).map_err(|fault| vec![fault])?,
            ),
        };
        let mut write_options: Vec<_> = config.s3_additional_kwargs.into_iter().collect();
        write_options.sort_unstable();
        Ok(Self {
            bucket_name: config.bucket_name,
            prefix: config.prefix,
            region: config.region,
            endpoint_url: config.endpoint_url,
            include_bucket_in_prefix: config.include_bucket_in_prefix,
            addressing,
            write_options,
            client: ClientOptions {
                use_accelerate_endpoint: config.use_accelerate_endpoint,
                payload_signing_enabled: config.payload_signing_enabled,
                us_east_1_regional_endpoint,
            },
        })
    }
}

/// Validated credentials in transit. Never printed or cloned.
pub struct BucketSecrets {
    /// 1 to 255 characters.
    pub access_key_id: String,
    /// 1 to 2048 characters.
    pub secret_access_key: String,
    /// `None` for long-lived keys.
    pub session_token: Option<String>,
}

impl std::fmt::Debug for BucketSecrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("BucketSecrets { [redacted] }")
    }
}

impl TryFrom<v1::Credentials> for BucketSecrets {
    type Error = Vec<Invalid>;

    fn try_from(credentials: v1::Credentials) -> Result<Self, Self::Error> {
        let mut faults = Faults::default();
        faults.take(length("access_key_id", &credentials.access_key_id, 1, 255));
        faults.take(length("secret_access_key", &credentials.secret_access_key, 1, 2048));
        faults.take(length("session_token", &credentials.session_token, 0, 2048));
        faults.finish(Some(Self {
            access_key_id: credentials.access_key_id,
            secret_access_key: credentials.secret_access_key,
            session_token: Some(credentials.session_token).filter(|token| !token.is_empty()),
        }))
    }
}

fn length(field: &str, text: &str, least: usize, most: usize) -> Result<(), Invalid> {
    let characters = text.chars().count();
    if characters < least {
        Err(Invalid::new(field, "must not be empty").of_kind(InvalidKind::TooShort))
    } else if characters > most {
        Err(Invalid::new(field, format!("must have at most {most} characters"))
            .of_kind(InvalidKind::TooLong))
    } else if text.chars().any(|c| c.is_control() || c.is_whitespace()) {
        Err(Invalid::new(field, "must not hold spaces or control characters"))
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_wrong_credential_is_named_and_no_value_is_repeated() {
        let wrong = v1::Credentials {
            access_key_id: String::new(),
            secret_access_key: "x".repeat(2049),
            session_token: "with space".into(),
        };
        let faults = BucketSecrets::try_from(wrong).unwrap_err();
        let text: Vec<_> = faults.iter().map(ToString::to_string).collect();
        assert_eq!(
            text,
            [
                "access_key_id: must not be empty",
                "secret_access_key: must have at most 2048 characters",
                "session_token: must not hold spaces or control characters",
            ]
        );
    }
}
