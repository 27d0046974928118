//! A destination: a customer's bucket, validated field by field. Credentials are never held here,
//! only the names of their fields.

use std::collections::BTreeMap;

use crate::{
    Invalid, InvalidKind,
    id::{DestinationId, TenantId},
    invalid::Faults,
    layout,
    time::Timestamp,
};

/// A stored destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destination {
    /// Destination id.
    pub id: DestinationId,
    /// The tenant that owns it.
    pub tenant: TenantId,
    /// Name shown to people.
    pub display_name: DisplayName,
    /// The bucket and how to reach it.
    pub bucket: Bucket,
    /// How Tracelift authenticates with the bucket.
    pub identity: Identity,
    /// Names of the stored credential fields, e.g. `access_key_id`.
    pub credentials_keys: Vec<String>,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it or its credentials last changed.
    pub updated_at: Timestamp,
}

/// A name that matches `^[a-zA-Z0-9\-_ ']+$`, at most 255 characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DisplayName(String);

impl DisplayName {
    /// Parses a name; a violation is an error on `field`.
    pub fn parse(field: &str, text: &str) -> Result<Self, Invalid> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_ '".contains(&b);
        match text.len() {
            0 => Err(Invalid::new(field, "must not be empty").of_kind(InvalidKind::TooShort)),
            1..=255 if text.bytes().all(plain) => Ok(Self(text.to_owned())),
            1..=255 => Err(Invalid::new(
                field,
                r"must match ^[a-zA-Z0-9\-_ ']+$: letters, digits, space, - _ '",
            )
            .of_kind(InvalidKind::Pattern)),
            _ => Err(Invalid::new(field, "must have at most 255 characters")
                .of_kind(InvalidKind::TooLong)),
        }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Where a bucket is and how to talk to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bucket {
    /// Bucket name, 3 to 63 characters.
    pub name: String,
    /// Prefix of all keys, without leading or trailing slash; may be empty.
    pub prefix: String,
    /// Required for AWS.
    pub region: Option<String>,
    /// Required for any store except AWS.
    pub endpoint_url: Option<String>,
    /// False if the endpoint's host name already starts with the bucket name.
    pub include_bucket_in_prefix: bool,
    /// How requests address the bucket.
    pub addressing: Addressing,
    /// Extra parameters of every write.
    pub write_options: WriteOptions,
    /// Client settings.
    pub client: ClientOptions,
    /// Optional features of the store, as its check found them.
    pub features: StoreFeatures,
}

/// Features that not every S3-compatible store supports. Requests omit what the store does not
/// support.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreFeatures {
    /// Checksum headers: `x-amz-checksum-…`.
    pub checksums: bool,
    /// Conditional writes: `If-None-Match`.
    pub conditional_writes: bool,
    /// The object size when completing a multipart upload: `x-amz-mp-object-size`.
    pub object_size: bool,
}

impl Default for StoreFeatures {
    /// Every feature, until the store rejects one.
    fn default() -> Self {
        Self { checksums: true, conditional_writes: true, object_size: true }
    }
}

impl StoreFeatures {
    /// The features that both support.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            checksums: self.checksums && other.checksums,
            conditional_writes: self.conditional_writes && other.conditional_writes,
            object_size: self.object_size && other.object_size,
        }
    }

    /// Number of supported features.
    pub fn count(self) -> u32 {
        u32::from(self.checksums) + u32::from(self.conditional_writes) + u32::from(self.object_size)
    }
}

/// How Tracelift authenticates with a bucket.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Identity {
    /// Access keys supplied by the bucket's owner; stored sealed.
    #[default]
    Keys,
    /// A role in the owner's AWS account that trusts this installation.
    Role(RoleArn),
    /// The ambient credentials of this installation.
    Environment,
}

impl Identity {
    /// The stored form: `keys`, `environment`, or the role's ARN.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Keys => "keys",
            Self::Role(arn) => arn.as_str(),
            Self::Environment => "environment",
        }
    }

    /// Parses the stored form; anything else is an error on `field`.
    pub fn parse(field: &str, text: &str) -> Result<Self, Invalid> {
        match text {
            "keys" => Ok(Self::Keys),
            "environment" => Ok(Self::Environment),
            arn => RoleArn::parse(field, arn).map(Self::Role),
        }
    }
}

/// The ARN of an IAM role: `arn:aws:iam::123456789012:role/path/name`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoleArn(String);

impl RoleArn {
    /// Parses an ARN of at most 2048 bytes; anything else is an error on `field`.
    pub fn parse(field: &str, text: &str) -> Result<Self, Invalid> {
        let word = |text: &str, marks: &[u8]| {
            text.bytes().all(|b| b.is_ascii_alphanumeric() || marks.contains(&b))
        };
        let fits = |text: &str| {
            let mut parts = text.splitn(6, ':');
            let mut part = || parts.next().unwrap_or_default();
            let (arn, partition, service, region, account, role) =
                (part(), part(), part(), part(), part(), part());
            let account = account.len() == 12 && account.bytes().all(|b| b.is_ascii_digit());
            let name = role
                .strip_prefix("role/")
                .is_some_and(|name| !name.is_empty() && word(name, b"+=,.@-_/"));
            arn == "arn"
                && partition.starts_with("aws")
                && word(partition, b"-")
                && service == "iam"
                && region.is_empty()
                && account
                && name
        };
        if text.len() <= 2048 && fits(text) {
            return Ok(Self(text.to_owned()));
        }
        Err(Invalid::new(
            field,
            "must be the ARN of an IAM role, such as arn:aws:iam::123456789012:role/exports",
        ))
    }

    /// The ARN as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Client settings, named as in `config_kwargs_s3`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ClientOptions {
    /// Send requests to AWS's edge locations.
    pub use_accelerate_endpoint: bool,
    /// Whether to sign the body of writes; unset means yes.
    pub payload_signing_enabled: Option<bool>,
    /// Host name of us-east-1; unset means regional.
    pub us_east_1_regional_endpoint: Option<UsEast1>,
}

/// Host name of AWS's region us-east-1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UsEast1 {
    /// `s3.us-east-1.amazonaws.com`, the default.
    Regional,
    /// `s3.amazonaws.com`
    Legacy,
}

impl UsEast1 {
    /// The string used by the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Regional => "regional",
            Self::Legacy => "legacy",
        }
    }

    /// Parses the API's string; anything else is an error on `field`.
    pub fn parse(field: &str, word: &str) -> Result<Self, Invalid> {
        let known = [Self::Regional, Self::Legacy].into_iter().find(|host| host.as_str() == word);
        known.ok_or_else(|| Invalid::not_one_of(field, &["regional", "legacy"]))
    }
}

/// How requests address the bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Addressing {
    /// Path style for a custom endpoint, virtual-hosted style for AWS.
    #[default]
    Auto,
    /// Virtual-hosted style: `bucket.host/key`.
    Virtual,
    /// Path style: `host/bucket/key`.
    Path,
}

impl Addressing {
    /// The string used by the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Virtual => "virtual",
            Self::Path => "path",
        }
    }

    /// Parses the API's string; anything else is an error on `field`.
    pub fn parse(field: &str, word: &str) -> Result<Self, Invalid> {
        [Self::Auto, Self::Virtual, Self::Path]
            .into_iter()
            .find(|style| style.as_str() == word)
            .ok_or_else(|| Invalid::not_one_of(field, &["auto", "virtual", "path"]))
    }
}

/// Parameter names accepted in `s3_additional_kwargs`.
pub const WRITE_OPTIONS: [&str; 7] = [
    "ServerSideEncryption",
    "SSEKMSKeyId",
    "ExpectedBucketOwner",
    "StorageClass",
    "Tagging",
    "ACL",
    "RequestPayer",
];

/// Allowed values of the parameters with a fixed set of them: canned ACLs and request payers.
const WORDS: [(&str, &[&str]); 2] = [
    (
        "ACL",
        &[
            "private",
            "public-read",
            "public-read-write",
            "authenticated-read",
            "aws-exec-read",
            "bucket-owner-read",
            "bucket-owner-full-control",
        ],
    ),
    ("RequestPayer", &["requester"]),
];

/// Extra parameters of every write, by their S3 names.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct WriteOptions(BTreeMap<String, String>);

impl WriteOptions {
    /// Parses parameters from [`WRITE_OPTIONS`], each with a value of 1 to 2048 characters on one
    /// line. Every violation is an error on `<field>.<name>`.
    pub fn parse(
        field: &str,
        options: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, Vec<Invalid>> {
        let mut faults = Faults::default();
        let mut known = BTreeMap::new();
        for (name, value) in options {
            let at = format!("{field}.{name}");
            if !WRITE_OPTIONS.contains(&name.as_str()) {
                let message =
                    format!("is not supported; supported are {}", WRITE_OPTIONS.join(", "));
                faults.push(Invalid::new(at, message).of_kind(InvalidKind::Unsupported));
            } else if value.is_empty() || value.len() > 2048 || value.chars().any(char::is_control)
            {
                faults.push(Invalid::new(at, "must have 1 to 2048 characters on one line"));
            } else if let Some((_, words)) = WORDS
                .iter()
                .find(|(known, words)| *known == name && !words.contains(&value.as_str()))
            {
                faults.push(Invalid::not_one_of(at, words));
            } else {
                known.insert(name, value);
            }
        }
        faults.finish(Some(Self(known)))
    }

    /// The value of a parameter.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// All parameters with their values.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

/// A bucket as a caller describes it, not yet validated.
#[derive(Debug, Clone, Default)]
#[allow(missing_docs, reason = "the fields of Bucket, unchecked; empty means not given")]
pub struct BucketInput {
    pub bucket_name: String,
    pub prefix: String,
    pub region: String,
    pub endpoint_url: String,
    pub include_bucket_in_prefix: Option<bool>,
    pub addressing: Addressing,
    pub write_options: Vec<(String, String)>,
    pub client: ClientOptions,
}

impl BucketInput {
    /// Validates a new bucket, or returns every invalid field. Beyond [`check`](Self::check), the
    /// prefix must leave room for keys, and a bucket name in the endpoint's path is removed. Stored
    /// buckets must stay valid, so they are not held to this.
    pub fn check_new(mut self) -> Result<Bucket, Vec<Invalid>> {
        let mut faults = Faults::default();
        if faults.take(room_for_keys(&self.prefix)).is_none() {
            self.prefix.clear(); // report it only once
        }
        faults.take(self.read_path());
        let bucket = faults.take_all("", self.check());
        faults.finish(bucket)
    }

    /// `https://host/<bucket>` loses the bucket; `https://host/storage/v1/s3` is a store's root and
    /// is kept.
    fn read_path(&mut self) -> Result<(), Invalid> {
        let (begin, path) = split_path(&self.endpoint_url);
        match path.rsplit_once('/') {
            _ if path.is_empty() => Ok(()),
            None if path != self.bucket_name => {
                let message = format!(
                    "must not have the path /{path}: give scheme and host, and the bucket's name as bucket_name; a path is for stores that \
                     begin below one, such as /storage/v1/s3"
                );
                Err(Invalid::new("endpoint_url", message))
            }
            Some((_, last)) if last != self.bucket_name => Ok(()),
            cut => {
                let base = cut.map_or(String::new(), |(base, _)| format!("/{base}"));
                self.endpoint_url = format!("{begin}{base}");
                // The caller said that the endpoint contains the bucket, meaning the path just
                // removed.
                self.include_bucket_in_prefix = self
                    .include_bucket_in_prefix
                    .filter(|_| host_starts_with(&self.endpoint_url, &self.bucket_name));
                Ok(())
            }
        }
    }

    /// Validates the bucket, or returns every invalid field.
    pub fn check(self) -> Result<Bucket, Vec<Invalid>> {
        let mut faults = Faults::default();
        let name = faults.take(bucket_name(&self.bucket_name));
        let prefix = faults.take(prefix(&self.prefix));
        let region = faults.take(region(&self.region));
        let endpoint_url = faults.take(endpoint_url(&self.endpoint_url));
        let write_options =
            faults.take_all("", WriteOptions::parse("s3_additional_kwargs", self.write_options));
        if self.region.is_empty() && self.endpoint_url.is_empty() {
            faults.push(Invalid::new(
                "region",
                "is needed for AWS; for another S3-compatible store give endpoint_url",
            ));
        }
        let include_bucket_in_prefix = self.include_bucket_in_prefix.unwrap_or(true);
        if !include_bucket_in_prefix && !host_starts_with(&self.endpoint_url, &self.bucket_name) {
            let message =
                "may be false only when the host of endpoint_url begins with the bucket's name";
            faults.push(Invalid::new("include_bucket_in_prefix", message));
        }
        if self.client.use_accelerate_endpoint
            && (!self.endpoint_url.is_empty() || self.bucket_name.contains('.'))
        {
            let message = "is AWS's only: it goes with neither an endpoint_url nor a bucket whose name has a dot";
            faults.push(Invalid::new("config_kwargs_s3.use_accelerate_endpoint", message));
        }
        if self.client.use_accelerate_endpoint && self.addressing == Addressing::Path {
            faults.push(Invalid::new(
                "config_kwargs_s3.addressing_style",
                "cannot be path together with use_accelerate_endpoint",
            ));
        }
        let bucket = (|| {
            Some(Bucket {
                name: name?,
                prefix: prefix?,
                region: region?,
                endpoint_url: endpoint_url?,
                include_bucket_in_prefix,
                addressing: self.addressing,
                write_options: write_options?,
                client: self.client,
                features: StoreFeatures::default(),
            })
        })();
        faults.finish(bucket)
    }
}

fn bucket_name(text: &str) -> Result<String, Invalid> {
    let fault = |kind, message: &str| Err(Invalid::new("bucket_name", message).of_kind(kind));
    let plain = |b: u8| b.is_ascii_alphanumeric() || b".-_".contains(&b);
    match text.len() {
        0 => fault(InvalidKind::TooShort, "must not be empty"),
        3..=63 if text.bytes().all(plain) && !text.contains("..") => Ok(text.to_owned()),
        3..=63 => fault(InvalidKind::Value, "must hold letters, digits, dots and hyphens only"),
        1..=2 => fault(InvalidKind::TooShort, "must have at least 3 characters"),
        _ => fault(InvalidKind::TooLong, "must have at most 63 characters"),
    }
}

fn prefix(text: &str) -> Result<String, Invalid> {
    let fault = |message: &str| Err(Invalid::new("prefix", message));
    let trimmed = text.trim_matches('/');
    if text.len() > 2048 {
        fault("must have at most 2048 characters").map_err(too_long)
    } else if text.chars().any(char::is_control) {
        fault("must not hold control characters")
    } else if trimmed.split('/').any(|segment| {
        segment == "." || segment == ".." || (segment.is_empty() && !trimmed.is_empty())
    }) {
        fault("must not hold empty, . or .. segments")
    } else {
        Ok(trimmed.to_owned())
    }
}

/// Whether every key of an export fits below the prefix.
fn room_for_keys(prefix: &str) -> Result<(), Invalid> {
    let (bytes, most) = (prefix.trim_matches('/').len(), layout::longest_prefix());
    if bytes <= most {
        return Ok(());
    }
    let message = format!(
        "must have at most {most} bytes, or the keys of exports are longer than S3 takes; it has {bytes}"
    );
    Err(too_long(Invalid::new("prefix", message)))
}

fn too_long(fault: Invalid) -> Invalid {
    fault.of_kind(InvalidKind::TooLong)
}

/// Splits an endpoint into scheme and host, and the path without surrounding slashes.
fn split_path(endpoint: &str) -> (&str, &str) {
    let host = endpoint.find("://").map_or(0, |at| at + 3);
    let at = endpoint[host..].find('/').map_or(endpoint.len(), |at| host + at);
    let (begin, path) = endpoint.split_at(at);
    (begin, path.trim_matches('/'))
}

fn region(text: &str) -> Result<Option<String>, Invalid> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_".contains(&b);
    match text.len() {
        0 => Ok(None),
        1..=64 if text.bytes().all(plain) => Ok(Some(text.to_owned())),
        _ => Err(Invalid::new("region", "must be a region's name, such as us-east-1")),
    }
}

fn endpoint_url(text: &str) -> Result<Option<String>, Invalid> {
    let fault = |message: &str| Err(Invalid::new("endpoint_url", message));
    if text.is_empty() {
        return Ok(None);
    }
    if text.len() > 2048 {
        return fault("must have at most 2048 characters").map_err(too_long);
    }
    let Some(rest) = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")) else {
        return fault("must begin with https:// or http://");
    };
    let host = rest.trim_end_matches('/');
    if host.is_empty()
        || host.contains(['@', '?', '#', ' ', '\\'])
        || text.chars().any(char::is_control)
    {
        return fault("must be a scheme and a host, without user, query or fragment");
    }
    Ok(Some(text.trim_end_matches('/').to_owned()))
}

fn host_starts_with(endpoint: &str, bucket: &str) -> bool {
    endpoint.split_once("://").is_some_and(|(_, host)| {
        host.strip_prefix(bucket).is_some_and(|rest| rest.starts_with('.'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input() -> BucketInput {
        BucketInput {
            bucket_name: "traces".into(),
            region: "us-east-1".into(),
            ..BucketInput::default()
        }
    }

    #[test]
    fn every_wrong_field_is_named_at_once() {
        let wrong = BucketInput {
            bucket_name: "a".into(),
            prefix: "x/../y".into(),
            endpoint_url: "ftp://host".into(),
            write_options: vec![("Colour".into(), "red".into())],
            ..input()
        };
        let fields: Vec<_> =
            wrong.check().unwrap_err().into_iter().map(|fault| fault.field).collect();
        assert_eq!(
            fields,
            ["bucket_name", "prefix", "endpoint_url", "s3_additional_kwargs.Colour"]
        );
    }

    #[test]
    fn slashes_around_a_prefix_do_not_matter() {
        let prefix = |text: &str| {
            BucketInput { prefix: text.into(), ..input() }.check().map(|bucket| bucket.prefix)
        };
        assert_eq!(prefix("/root/traces/"), Ok("root/traces".to_owned()));
        assert_eq!(prefix("/"), Ok(String::new()));
    }

    #[test]
    fn a_prefix_of_a_new_bucket_leaves_room_for_keys_and_is_measured_in_bytes() {
        let faults = |prefix: String| {
            BucketInput { prefix, ..input() }
                .check_new()
                .map(drop)
                .map_err(|faults| faults[0].to_string())
        };
        assert_eq!(faults(format!("/{}/", "p".repeat(791))), Ok(()));
        let refused = |bytes| {
            format!(
                "prefix: must have at most 791 bytes, or the keys of exports are longer than S3 takes; it has {bytes}"
            )
        };
        assert_eq!(faults("p".repeat(792)), Err(refused(792)));
        assert_eq!(faults("日".repeat(290)), Err(refused(870)));
        assert!(
            BucketInput { prefix: "p".repeat(2000), ..input() }.check().is_ok(),
            "a bucket that is known already stays"
        );
    }

    #[test]
    fn a_bucket_in_the_endpoints_path_is_understood() {
        let endpoint = |url: &str, inside: Option<bool>| {
            let input = BucketInput {
                endpoint_url: url.into(),
                include_bucket_in_prefix: inside,
                ..input()
            };
            input
                .check_new()
                .map(|bucket| (bucket.endpoint_url.unwrap(), bucket.include_bucket_in_prefix))
        };
        let store = |url: &str| Ok((url.to_owned(), true));
        for url in [
            "https://s3.example.com",
            "https://s3.example.com/",
            "https://s3.example.com/traces",
            "https://s3.example.com/traces/",
        ] {
            assert_eq!(endpoint(url, None), store("https://s3.example.com"), "{url}");
        }
        assert_eq!(
            endpoint("https://s3.example.com/traces", Some(false)),
            store("https://s3.example.com")
        );
        assert_eq!(endpoint("http://[::1]:9000/traces", None), store("http://[::1]:9000"));
        assert_eq!(
            endpoint("https://s3.example.com/a/b/traces", None),
            store("https://s3.example.com/a/b")
        );
        assert_eq!(
            endpoint("https://x.supabase.co/storage/v1/s3", None),
            store("https://x.supabase.co/storage/v1/s3")
        );
        let faults = endpoint("https://s3.example.com/other", None).unwrap_err();
        assert_eq!(faults.len(), 1);
        assert!(
            faults[0]
                .to_string()
                .starts_with("endpoint_url: must not have the path /other: give scheme and host"),
            "{}",
            faults[0]
        );
    }

    #[test]
    fn options_with_few_words_take_no_other() {
        let options = |name: &str, value: &str| {
            let write_options = vec![(name.to_owned(), value.to_owned())];
            BucketInput { write_options, ..input() }
                .check()
                .map(drop)
                .map_err(|faults| faults[0].to_string())
        };
        assert_eq!(options("ACL", "bucket-owner-full-control"), Ok(()));
        assert_eq!(options("RequestPayer", "requester"), Ok(()));
        assert_eq!(
            options("RequestPayer", "me"),
            Err("s3_additional_kwargs.RequestPayer: must be one of requester".to_owned())
        );
        assert!(
            options("ACL", "public")
                .unwrap_err()
                .starts_with("s3_additional_kwargs.ACL: must be one of private, public-read, ")
        );
    }

    #[test]
    fn a_bucket_needs_a_region_or_an_endpoint() {
        let faults = BucketInput { region: String::new(), ..input() }.check().unwrap_err();
        assert_eq!(faults[0].field, "region");
    }

    #[test]
    fn acceleration_is_for_aws() {
        let fields = |input: BucketInput| -> Vec<_> {
            input.check().unwrap_err().into_iter().map(|fault| fault.field).collect()
        };
        let client = ClientOptions { use_accelerate_endpoint: true, ..ClientOptions::default() };
        let fast = || BucketInput { client: client.clone(), ..input() };
        assert!(fast().check().is_ok());
        let at = "config_kwargs_s3.use_accelerate_endpoint";
        assert_eq!(
            fields(BucketInput { endpoint_url: "https://store.example.com".into(), ..fast() }),
            [at]
        );
        assert_eq!(fields(BucketInput { bucket_name: "my.traces".into(), ..fast() }), [at]);
        assert_eq!(
            fields(BucketInput { addressing: Addressing::Path, ..fast() }),
            ["config_kwargs_s3.addressing_style"]
        );
    }

    #[test]
    fn an_identity_is_read_back_as_it_was_written() {
        for text in [
            "keys",
            "environment",
            "arn:aws:iam::123456789012:role/exports",
            "arn:aws-us-gov:iam::123456789012:role/a/b_c",
        ] {
            assert_eq!(Identity::parse("identity", text).unwrap().as_str(), text);
        }
        for wrong in [
            "",
            "arn:aws:iam::123456789012:user/me",
            "arn:aws:iam::1234:role/x",
            "arn:aws:iam::123456789012:role/",
            "arn:aws:iam::123456789012:role/x y",
            "arn:aws:iam:eu-west-1:123456789012:role/x",
            "arn:gcp:iam::123456789012:role/x",
        ] {
            assert_eq!(
                RoleArn::parse("aws_role_arn", wrong).unwrap_err().field,
                "aws_role_arn",
                "{wrong}"
            );
        }
    }

    #[test]
    fn display_names_follow_the_pattern() {
        assert!(DisplayName::parse("display_name", "My S3 Destination - it's_1").is_ok());
        for wrong in ["", "a/b", "ümlaut", &"x".repeat(256)] {
            assert!(DisplayName::parse("display_name", wrong).is_err(), "{wrong}");
        }
    }
}
