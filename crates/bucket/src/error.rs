//! Classifies store errors. Providers report the same problem differently; this is the only module
//! that knows how.

use std::{error::Error, fmt};

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;

use tracelift_core::printable::printable;

use crate::{Sent, endpoint::Refused, extras::Extra};

/// What went wrong, in the terms of the public API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fault {
    /// The access key lacks permission for this bucket or operation.
    AccessDenied,
    /// The bucket does not exist or cannot be written.
    BucketNotValid,
    /// The access key id is unknown.
    UnknownKeyId,
    /// The endpoint is malformed, not permitted, or not S3-compatible.
    InvalidEndpoint,
    /// The addressing style does not fit the store.
    InvalidBucketName,
    /// The bucket is in another region.
    WrongRegion,
    /// The credentials have expired.
    ExpiredToken,
    /// The role cannot be assumed, or there are no ambient credentials to assume it with.
    NoIdentity,
    /// No such object.
    NoSuchKey,
    /// No such upload, or no longer.
    NoSuchUpload,
    /// A conditional write found an object at the key.
    Exists,
    /// The store does not support part of the request.
    NotImplemented,
    /// The clocks of the store and this machine differ too much.
    ClockSkewed,
    /// The store asked for a lower request rate.
    Throttled,
    /// The store did not respond, or failed internally.
    Unavailable,
    /// The store received something other than what was sent: truncated, altered, or with a part
    /// missing. A retry may succeed.
    Damaged,
    /// The store rejects a parameter of the write, such as encryption key, storage class, owner or
    /// checksum.
    Refused,
}

impl Fault {
    /// The first words of the message that callers see.
    pub fn text(self) -> &'static str {
        match self {
            Self::AccessDenied | Self::ExpiredToken | Self::NoIdentity => "Access denied",
            Self::BucketNotValid
            | Self::NoSuchKey
            | Self::NoSuchUpload
            | Self::Exists
            | Self::NotImplemented
            | Self::Damaged
            | Self::Refused
            | Self::WrongRegion => "Bucket is not valid",
            Self::UnknownKeyId => "Key ID you provided does not exist",
            Self::InvalidEndpoint | Self::ClockSkewed | Self::Throttled | Self::Unavailable => {
                "Invalid endpoint"
            }
            Self::InvalidBucketName => "InvalidBucketName",
        }
    }

    /// What the bucket's owner should do.
    pub fn advice(self) -> &'static str {
        match self {
            Self::AccessDenied => {
                "allow s3:PutObject on this bucket and prefix for the access key, and check the secret key"
            }
            Self::ExpiredToken => "give credentials that have not expired",
            Self::NoIdentity => {
                "let the role's trust policy name this service, with your workspace's id as external id, or give credentials"
            }
            Self::BucketNotValid | Self::NoSuchKey | Self::NoSuchUpload => {
                "create the bucket or correct its name"
            }
            Self::WrongRegion => "give the region that the bucket lies in",
            Self::UnknownKeyId => "check the access key id",
            Self::InvalidEndpoint => {
                "give the address of an S3-compatible store, or omit endpoint_url for AWS"
            }
            Self::Unavailable => "check endpoint_url and whether the store is up, and try again",
            Self::InvalidBucketName => "try config_kwargs_s3.addressing_style \"virtual\"",
            Self::ClockSkewed => "set the clock of this service's machine, or the store's",
            Self::Throttled => "try again later",
            Self::Exists => "remove the object that stands there, or export to another prefix",
            Self::Damaged => {
                "look for a proxy or a line between this service and the store that changes or cuts what is sent, and try again"
            }
            Self::NotImplemented => {
                "use a store that offers multipart uploads, and check s3_additional_kwargs"
            }
            Self::Refused => "check the bucket's settings and s3_additional_kwargs",
        }
    }
}

/// A failed request to a store. Contains no secret: the keys that were sent are removed from the
/// provider's message, which is reduced to 1000 printable characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BucketError {
    /// The classified cause.
    pub fault: Fault,
    /// Name of the operation, e.g. `PutObject`.
    pub call: &'static str,
    /// The provider's own message.
    pub words: String,
    /// The optional feature that the store may have rejected.
    pub extra: Option<Extra>,
}

impl Error for BucketError {}

impl BucketError {
    /// What happened and what to do, without [`Fault::text`].
    #[must_use]
    pub fn told(&self) -> String {
        format!("{} answered {}; {}", self.call, self.words, self.fault.advice())
    }
}

impl fmt::Display for BucketError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.fault.text(), self.told())
    }
}

/// Error codes and what they mean. The first matching row wins.
const CODES: &[(&str, Fault)] = &[
    ("NoSuchBucket", Fault::BucketNotValid),
    ("InvalidAccessKeyId", Fault::UnknownKeyId),
    ("InvalidSecurity", Fault::UnknownKeyId), // GCS
    ("InvalidClientTokenId", Fault::UnknownKeyId),
    ("SignatureDoesNotMatch", Fault::AccessDenied),
    ("AccessDenied", Fault::AccessDenied),
    ("Unauthorized", Fault::UnknownKeyId), // R2
    ("AllAccessDisabled", Fault::AccessDenied),
    ("UserProjectAccountProblem", Fault::AccessDenied), // GCS
    ("QuotaExceeded", Fault::Refused),                  // Ceph
    ("AccountProblem", Fault::AccessDenied),
    ("InvalidObjectState", Fault::AccessDenied),
    ("ExpiredToken", Fault::ExpiredToken),
    ("TokenRefreshRequired", Fault::ExpiredToken),
    ("InvalidToken", Fault::ExpiredToken),
    ("RequestExpired", Fault::ExpiredToken),
    ("AuthorizationHeaderMalformed", Fault::WrongRegion),
    ("PermanentRedirect", Fault::WrongRegion),
    ("IllegalLocationConstraintException", Fault::WrongRegion),
    ("InvalidRegionName", Fault::WrongRegion), // R2
    ("InvalidBucketName", Fault::InvalidBucketName),
    ("SecondLevelDomainForbidden", Fault::InvalidBucketName), // Alibaba
    ("PathStyleDomainForbidden", Fault::InvalidBucketName),   // Tencent
    ("UrlStyleNotAllowed", Fault::InvalidBucketName),
    ("VirtualHostDomainRequired", Fault::InvalidBucketName), // Huawei
    ("InvalidURI", Fault::InvalidBucketName),
    ("MethodNotAllowed", Fault::InvalidBucketName), // it took the bucket in the path for a key
    ("NoSuchKey", Fault::NoSuchKey),
    ("NotFound", Fault::NoSuchKey),
    ("NoSuchUpload", Fault::NoSuchUpload),
    ("PreconditionFailed", Fault::Exists),
    ("ConditionalRequestConflict", Fault::Unavailable), // another write of the key is in progress
    ("OperationAborted", Fault::Unavailable),
    ("RequestTimeTooSkewed", Fault::ClockSkewed),
    ("SlowDown", Fault::Throttled),
    ("SlowDownRead", Fault::Throttled),
    ("SlowDownWrite", Fault::Throttled),
    ("TooManyRequests", Fault::Throttled),
    ("RequestLimitExceeded", Fault::Throttled),
    ("ServiceUnavailable", Fault::Throttled),
    ("InternalError", Fault::Unavailable),
    ("RequestTimeout", Fault::Unavailable),
    ("ClientRequestTimeout", Fault::Unavailable), // Tencent
    ("BadDigest", Fault::Damaged),
    ("InvalidDigest", Fault::Damaged),
    ("IncompleteBody", Fault::Damaged),
    ("InvalidContentLength", Fault::Damaged), // Tencent
    ("InvalidPart", Fault::Damaged),
    ("InvalidPartOrder", Fault::Damaged),
    ("EntityTooSmall", Fault::Damaged), // our parts are never too small: bytes were lost
    ("KMS.DisabledException", Fault::Refused),
    ("KMS.NotFoundException", Fault::Refused),
    ("kms:KeyNotFound", Fault::Refused), // MinIO
    ("InvalidArgument", Fault::Refused),
    ("InvalidRequest", Fault::Refused),
    ("InvalidURI", Fault::Refused),
    ("KeyTooLongError", Fault::Refused),
    ("XMinioInvalidObjectName", Fault::Refused), // MinIO
    ("InvalidStorageClass", Fault::Refused),
    ("InvalidTag", Fault::Refused),
    ("NotImplemented", Fault::NotImplemented),
];

/// Classifies a response by error code, message and HTTP status.
pub(crate) fn judge(code: Option<&str>, message: &str, status: u16) -> Fault {
    // Garage sends this with AccessDenied, R2 with InvalidArgument.
    if message.contains("No such key:") || message.starts_with("Credential access key has length") {
        return Fault::UnknownKeyId;
    }
    if wants_virtual_hosts(message) {
        return Fault::InvalidBucketName;
    }
    let known = code.and_then(|code| CODES.iter().find(|(known, _)| *known == code));
    match (known, status) {
        (None | Some((_, Fault::Refused)), _)
            if tells_damage(code.unwrap_or_default(), message) =>
        {
            Fault::Damaged
        }
        (Some((_, fault)), _) => *fault,
        (None, 301 | 307 | 308) => Fault::WrongRegion,
        (None, 401 | 403) => Fault::AccessDenied,
        (None, 404) => Fault::NoSuchKey,
        (None, 408 | 425) => Fault::Unavailable,
        (None, 412) => Fault::Exists,
        (None, 429 | 503) => Fault::Throttled,
        (None, 500..=599) => Fault::Unavailable,
        (None, _) if code.is_some() => Fault::Refused,
        _ => Fault::InvalidEndpoint,
    }
}

/// Whether the store demands virtual-hosted addressing: "Please use virtual hosted style to
/// access", "the bucket must be addressed using its second level domain". A demand for path style
/// is worded differently.
fn wants_virtual_hosts(message: &str) -> bool {
    let message = message.to_lowercase().replace(['-', '_'], " ");
    let says = |words: &[&str]| words.iter().any(|words| message.contains(words));
    let wants_path = says(&[
        "use path",
        "path style instead",
        "virtual hosted style is not",
        "virtual host style is not",
    ]);
    let refuses = says(&[
        "not allowed",
        "forbidden",
        "not support",
        "unsupported",
        "disabled",
        "not enabled",
        "no longer",
    ]);
    let virtual_hosts = says(&["virtual host", "virtualhost", "second level domain"]);
    !wants_path && (virtual_hosts || refuses && says(&["path style", "pathstyle"]))
}

/// Whether the store reports that a checksum or length does not match what it received:
/// `XAmzContentSHA256Mismatch`, `XAmzContentChecksumMismatch`, or a message like "the provided
/// x-amz-mp-object-size does not match what was computed".
fn tells_damage(code: &str, message: &str) -> bool {
    let (code, message) = (code.to_lowercase(), message.to_lowercase());
    let measured = |text: &str| {
        ["checksum", "digest", "sha256", "sha1", "md5", "crc", "length", "size"]
            .iter()
            .any(|sum| text.contains(sum))
    };
    let differs = |text: &str| {
        ["mismatch", "not match", "n't match"].iter().any(|words| text.contains(words))
    };
    // A store that wants a different checksum algorithm will still want it after a retry.
    let other_kind = message.contains("checksum type") || message.contains("checksum algorithm");
    measured(&code) && differs(&code) || measured(&message) && differs(&message) && !other_kind
}

impl BucketError {
    /// Builds the error for a response with this status, code and message. What was `sent` is removed
    /// from the text.
    pub fn told_by(
        call: &'static str,
        status: u16,
        code: Option<&str>,
        message: &str,
        sent: &Sent,
    ) -> Self {
        let words = match code {
            Some(code) if message.is_empty() => format!("{status} {code}"),
            Some(code) => format!("{status} {code}: {message}"),
            None => format!("{status} without an S3 error code"),
        };
        let fault = judge(code, message, status);
        Self {
            fault,
            call,
            words: shown(words, sent),
            extra: Extra::of(fault, status, code, message),
        }
    }

    /// Builds the error for an endpoint that the policy does not admit.
    pub(crate) fn refused(refused: &Refused) -> Self {
        Self {
            fault: Fault::InvalidEndpoint,
            call: "the endpoint check",
            words: refused.to_string(),
            extra: None,
        }
    }

    /// Builds the error for `error`, returned by `call`. What was `sent` is removed from the
    /// text.
    pub(crate) fn of<E>(call: &'static str, error: &SdkError<E, HttpResponse>, sent: &Sent) -> Self
    where
        E: Error + ProvideErrorMetadata + 'static,
    {
        let shown = |words: String| shown(words, sent);
        if let Some(cause) = causes(error).find(|cause| cause.is::<CredentialsError>()) {
            return Self {
                fault: Fault::NoIdentity,
                call: "AssumeRole",
                words: shown(root(cause).unwrap_or_else(|| cause.to_string())),
                extra: None,
            };
        }
        if let Some(refused) = causes(error).find_map(|cause| cause.downcast_ref::<Refused>()) {
            return Self::refused(refused);
        }
        match error {
            SdkError::ServiceError(refusal) => {
                let status = refusal.raw().status().as_u16();
                let (code, message) =
                    (refusal.err().code(), refusal.err().message().unwrap_or_default());
                Self::told_by(call, status, code, message, sent)
            }
            SdkError::ResponseError(broken) => {
                let status = broken.raw().status().as_u16();
                let fault = if status >= 500 { Fault::Unavailable } else { Fault::InvalidEndpoint };
                Self {
                    fault,
                    call,
                    words: format!("{status} with a body that S3 does not send"),
                    extra: None,
                }
            }
            SdkError::ConstructionFailure(_) => Self {
                fault: Fault::InvalidEndpoint,
                call,
                words: shown(nothing(error)),
                extra: None,
            },
            other => {
                Self { fault: Fault::Unavailable, call, words: shown(nothing(other)), extra: None }
            }
        }
    }
}

/// Maximum characters kept of a provider's message, which is stored, shown to callers and logged.
const MAX_CHARACTERS: usize = 1000;

/// Makes a provider's message fit to show: without what was sent, bounded in length, on one line.
pub(crate) fn shown(words: String, sent: &Sent) -> String {
    let words = sent.cut(words);
    let cut = if words.chars().nth(MAX_CHARACTERS).is_some() { "…" } else { "" };
    printable(&words.chars().take(MAX_CHARACTERS).collect::<String>()) + cut
}

fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(error.source(), |&error| error.source())
}

/// Why there was no response.
fn nothing(error: &(dyn Error + 'static)) -> String {
    root(error).map_or_else(|| "nothing".to_owned(), |root| format!("nothing ({root})"))
}

/// The root cause of an error.
fn root(error: &(dyn Error + 'static)) -> Option<String> {
    causes(error).last().map(ToString::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Keys;

    #[test]
    fn providers_word_the_same_fault_differently() {
        let recorded = [
            (
                "AWS",
                Some("InvalidAccessKeyId"),
                "The AWS Access Key Id you provided does not exist in our records.",
                403,
            ),
            (
                "AWS",
                Some("SignatureDoesNotMatch"),
                "The request signature we calculated does not match",
                403,
            ),
            ("AWS", Some("NoSuchBucket"), "The specified bucket does not exist", 404),
            (
                "AWS",
                Some("PermanentRedirect"),
                "The bucket you are attempting to access must be addressed",
                301,
            ),
            ("AWS", Some("SlowDown"), "Please reduce your request rate.", 503),
            (
                "AWS",
                Some("RequestTimeTooSkewed"),
                "The difference between the request time and the current time is too large.",
                403,
            ),
            (
                "AWS",
                Some("PreconditionFailed"),
                "At least one of the pre-conditions you specified did not hold",
                412,
            ),
            (
                "Backblaze",
                Some("NotImplemented"),
                "A header you provided implies functionality that is not implemented.",
                501,
            ),
            (
                "GCS",
                Some("InvalidSecurity"),
                "The provided security credentials are not valid.",
                403,
            ),
            ("Garage", Some("AccessDenied"), "Forbidden: No such key: GK123", 403),
            ("Garage", Some("AccessDenied"), "No such key: GK123", 403),
            (
                "Garage",
                Some("AuthorizationHeaderMalformed"),
                "Authorization header malformed, unexpected scope",
                400,
            ),
            (
                "AWS",
                Some("BadDigest"),
                "The CRC32 you specified did not match the calculated checksum.",
                400,
            ),
            (
                "AWS",
                Some("XAmzContentSHA256Mismatch"),
                "The provided 'x-amz-content-sha256' header does not match what was computed.",
                400,
            ),
            (
                "AWS",
                Some("InvalidRequest"),
                "The provided 'x-amz-mp-object-size' header value 9 does not match what was computed: 8",
                400,
            ),
            (
                "AWS",
                Some("InvalidPart"),
                "One or more of the specified parts could not be found.",
                400,
            ),
            (
                "AWS",
                Some("EntityTooSmall"),
                "Your proposed upload is smaller than the minimum allowed size",
                400,
            ),
            (
                "AWS",
                Some("RequestTimeout"),
                "Your socket connection to the server was not read from or written to",
                400,
            ),
            (
                "MinIO",
                Some("XAmzContentChecksumMismatch"),
                "The provided 'x-amz-checksum' header does not match what was computed.",
                400,
            ),
            ("Ceph", Some("IncompleteBody"), "", 400),
            ("Garage", Some("InvalidDigest"), "Bad request: Invalid digest (sha256)", 400),
            (
                "Alibaba",
                Some("InvalidArgument"),
                "The crc64 you specified did not match what we received.",
                400,
            ),
            ("Tencent", Some("InvalidSHA1Digest"), "The SHA1 in the header does not match.", 400),
            ("nginx", None, "", 408),
            (
                "Alibaba",
                Some("SecondLevelDomainForbidden"),
                "Please use virtual hosted style to access.",
                403,
            ),
            ("Alibaba", Some("AccessDenied"), "Please use virtual hosted style to access.", 403),
            (
                "Tencent",
                Some("PathStyleDomainForbidden"),
                "The bucket you are attempting to access must be addressed using COS virtual-styled domain.",
                403,
            ),
            ("any", Some("UrlStyleNotAllowed"), "", 403),
            ("any", Some("InvalidRequest"), "Path-style addressing is not supported", 400),
            (
                "any",
                Some("InvalidRequest"),
                "Virtual-hosted-style is not supported, use path-style instead",
                400,
            ),
            ("any", None, "", 403),
            ("a web server", None, "", 405),
        ];
        let judged: Vec<_> = recorded
            .iter()
            .map(|(who, code, message, status)| {
                format!("{who} {code:?} {status}: {:?}", judge(*code, message, *status))
            })
            .collect();
        insta::assert_snapshot!(judged.join("\n"));
    }

    #[test]
    fn a_providers_words_are_shown_without_what_was_sent_not_endless_and_on_one_line() {
        let sent = Sent::default();
        sent.note(Keys {
            access_key_id: "AKIAKEY".to_owned(),
            secret_access_key: "secret-key".to_owned().into(),
            session_token: Some("session-token".to_owned().into()),
        });
        let words = |message: &str| {
            BucketError::told_by("PutObject", 403, Some("AccessDenied"), message, &sent).words
        };
        assert_eq!(
            words("secret-key or session-token\u{2028}\u{202e}?"),
            "403 AccessDenied: [secret access key] or [session token]  ?"
        );
        assert_eq!(
            words("no AKIAKEY\r\n\u{1b}[31mERROR all is lost"),
            "403 AccessDenied: no [access key id]   [31mERROR all is lost"
        );
        let endless = words(&"é".repeat(8 << 20));
        assert_eq!(
            (endless.chars().count(), endless.chars().last()),
            (MAX_CHARACTERS + 1, Some('…'))
        );
        let full = words(&"é".repeat(MAX_CHARACTERS - "403 AccessDenied: ".len()));
        assert_eq!((full.chars().count(), full.chars().last()), (MAX_CHARACTERS, Some('é')));
    }
}
