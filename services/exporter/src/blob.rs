//! Fetches and decompresses offloaded objects. Their content is treated as if it were inline; an
//! object that cannot be fetched is a miss, not a failure.

mod key_prefix;
mod unpack;

use std::{
    borrow::Cow,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use secrecy::ExposeSecret as _;
use tokio::time::Instant;
use tracelift_bucket::{BucketError, Connector, Fault, Keys, Object, Reader};
use tracelift_core::{
    column::Column,
    destination::{Addressing, Bucket, ClientOptions, StoreFeatures, WriteOptions},
    failure::{Failure, FailureClass, Step},
    json,
};
use tracelift_runtime::{
    clock::{Clock as _, SystemClock},
    tasks,
};

pub use self::key_prefix::KeyPrefix;
pub(crate) use self::key_prefix::Owner;
use self::unpack::unpack;
use crate::{budget::Turn, pointer::Pointer, settings::Blobs};

/// The store of offloaded objects.
#[derive(Debug, Clone)]
pub(crate) struct BlobStore {
    objects: Reader,
    max_bytes: u64,
    prefixes: Vec<KeyPrefix>,
    /// When it last returned an object, or an error that concerns a single object.
    gave: Arc<Mutex<Option<Instant>>>,
}

/// Why a field stays null. The text goes into the manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Miss {
    NotFound,
    /// The store returns other objects, but not this one: it is archived, encrypted with a key we
    /// lack, or its key is invalid for this store. Holds the store's answer without its message.
    Refused(String),
    /// Access denied, possibly to every object.
    Denied(String),
    TooLarge,
    ForeignBucket,
    NotUnpackable,
    /// Unpacked, it would be more than a thousand times as large.
    Bomb,
    Pointer(&'static str),
}

impl Miss {
    pub(crate) fn reason(&self) -> String {
        match self {
            Self::NotFound => "the object does not exist".to_owned(),
            Self::Refused(answer) | Self::Denied(answer) => {
                format!("the store refused the object: {answer}")
            }
            Self::TooLarge => "the object is larger than the exporter's limit".to_owned(),
            Self::ForeignBucket => {
                "the pointer names a bucket that the exporter does not read".to_owned()
            }
            Self::NotUnpackable => "the object cannot be unpacked".to_owned(),
            Self::Bomb => "the object unpacks to more than a thousand times its size".to_owned(),
            Self::Pointer(reason) => (*reason).to_owned(),
        }
    }
}

/// Why an object has no content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum FetchError {
    Miss(Miss),
    Failure(Failure),
}

impl From<Miss> for FetchError {
    fn from(miss: Miss) -> Self {
        Self::Miss(miss)
    }
}

/// Timeout until an object's response begins.
const FETCH_TIMEOUT: Duration = Duration::from_secs(60);
/// Longest wait for more of a body: a silent store must not hold up a task.
const BODY_SILENCE: Duration = Duration::from_secs(60);
/// How long a store that returned an object counts as one that grants access.
const MEMORY: Duration = Duration::from_secs(600);
/// Attempts for transient errors within one attempt of the task.
const FETCH_ATTEMPTS: u32 = 5;

impl BlobStore {
    pub(crate) async fn new(settings: &Blobs, connector: &Connector) -> Result<Self, crate::Error> {
        let (id, secret_access_key) = settings.keys()?;
        let keys = Keys {
            access_key_id: id.expose_secret().to_owned(),
            secret_access_key,
            session_token: None,
        };
        let bucket = Bucket {
            name: settings.blob_bucket.clone(),
            prefix: String::new(),
            region: Some(settings.blob_region.clone()),
            endpoint_url: settings.blob_endpoint.clone(),
            include_bucket_in_prefix: true,
            addressing: Addressing::Auto,
            write_options: WriteOptions::default(),
            client: ClientOptions::default(),
            features: StoreFeatures::default(),
        };
        let objects = connector
            .reader(&bucket, &keys, FETCH_TIMEOUT, FETCH_ATTEMPTS, || SystemClock.now())
            .await?;
        Ok(Self {
            objects,
            max_bytes: settings.blob_max_bytes,
            prefixes: settings.blob_key_prefix.clone(),
            gave: Arc::default(),
        })
    }

    /// Whether the store has recently shown that it grants access.
    pub(crate) fn gives(&self) -> bool {
        let gave = *self.gave.lock().unwrap_or_else(PoisonError::into_inner);
        gave.is_some_and(|at| at.elapsed() < MEMORY)
    }

    /// Fetches the text of a field of this owner's row. The body is read once its `turn` has room
    /// for it.
    pub(crate) async fn fetch(
        &self,
        owner: Owner,
        column: Column,
        pointer: &Pointer,
        turn: &mut Turn,
    ) -> Result<String, FetchError> {
        if pointer.bucket.as_ref().is_some_and(|named| named != self.objects.bucket()) {
            return Err(Miss::ForeignBucket.into());
        }
        if let Some(reason) = key_prefix::refusal(&self.prefixes, owner, &pointer.key) {
            return Err(Miss::Pointer(reason).into());
        }
        let answer = self.objects.get(&pointer.key).await.map_err(|error| no_blob(&error));
        if matches!(answer, Ok(_) | Err(FetchError::Miss(Miss::NotFound | Miss::Refused(_)))) {
            *self.gave.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        }
        let mut object = answer?;
        let body = self.body(&pointer.key, &mut object, turn).await?;
        let content = unpack(body, object.encoding.as_deref(), self.max_bytes, turn).await?;
        if (content.len() as u64) < LARGE {
            return Ok(field(column, content));
        }
        let read = tasks::compute(move || field(column, content)).await;
        read.map_err(|panic| cut(&pointer.key, &panic))
    }

    /// Reads the whole body. Room is reserved for the announced size, or step by step if none is
    /// announced.
    async fn body(
        &self,
        key: &str,
        object: &mut Object,
        turn: &mut Turn,
    ) -> Result<Vec<u8>, FetchError> {
        let announced = object.size;
        let mut room = announced.unwrap_or_default();
        if room > self.max_bytes {
            return Err(Miss::TooLarge.into());
        }
        turn.wait_for(room).await;
        let mut body = Vec::with_capacity(usize::try_from(room).unwrap_or_default());
        while let Some(more) = object.next(BODY_SILENCE).await.map_err(|error| cut(key, &error))? {
            let size = (body.len() + more.len()) as u64;
            if size > self.max_bytes {
                return Err(Miss::TooLarge.into());
            }
            if size > room {
                let step = (size - room).max(STEP);
                turn.wait_for(step).await;
                room += step;
            }
            body.extend_from_slice(&more);
        }
        match announced {
            Some(size) if size != body.len() as u64 => {
                Err(cut(key, &"it is not as long as announced"))
            }
            _ => Ok(body),
        }
    }
}

/// Room reserved at a time for a body of unknown size, in bytes.
const STEP: u64 = 64 << 10;
/// Larger texts are validated off the reactor; in bytes.
const LARGE: u64 = 64 << 10;

/// Whether an error concerns this object, the store's configuration, or only this moment.
fn no_blob(error: &BucketError) -> FetchError {
    // The message may contain anything.
    let answer = error.words.split(": ").next().unwrap_or_default().to_owned();
    let class = match error.fault {
        Fault::NoSuchKey => return Miss::NotFound.into(),
        Fault::AccessDenied if answer.contains("SignatureDoesNotMatch") => {
            FailureClass::SourceConfig
        }
        // A store may answer "denied" for a missing object if the reader may not list.
        Fault::AccessDenied if is_about_one(&answer, &error.words) => {
            return Miss::Refused(answer).into();
        }
        Fault::AccessDenied => return Miss::Denied(answer).into(),
        Fault::Throttled => FailureClass::Throttled,
        Fault::Unavailable | Fault::ClockSkewed => FailureClass::SourceTransient,
        Fault::UnknownKeyId
        | Fault::ExpiredToken
        | Fault::NoIdentity
        | Fault::WrongRegion
        | Fault::BucketNotValid
        | Fault::InvalidBucketName => FailureClass::SourceConfig,
        _ => return Miss::Refused(answer).into(),
    };
    // The advice is written for customers' buckets, but a wrong clock is always the operator's
    // concern.
    let advice = match (error.fault, class) {
        (Fault::ClockSkewed, _) => format!("; {}", error.fault.advice()),
        (_, FailureClass::SourceConfig) => {
            "; check BLOB_BUCKET, BLOB_ENDPOINT, BLOB_REGION and the keys of the exporter"
                .to_owned()
        }
        _ => String::new(),
    };
    let detail =
        format!("the store of offloaded fields: {} answered {}{advice}", error.call, error.words);
    FetchError::Failure(Failure { step: Step::Hydrate, class, detail })
}

/// Whether a denial is for this object alone.
fn is_about_one(answer: &str, words: &str) -> bool {
    answer.contains("InvalidObjectState")
        || ["ListBucket", "kms:"].iter().any(|cause| words.contains(cause))
}

/// The failure if every object is refused.
pub(crate) fn refuses_all(answer: &str) -> Failure {
    let detail = format!(
        "the store of offloaded fields refuses every object: GetObject answered {answer}; allow s3:GetObject on BLOB_BUCKET for the exporter's keys"
    );
    Failure { step: Step::Hydrate, class: FailureClass::SourceConfig, detail }
}

fn cut(key: &str, reason: &dyn std::fmt::Display) -> FetchError {
    let detail = format!("the offloaded object {key} was cut short: {reason}");
    FetchError::Failure(Failure {
        step: Step::Hydrate,
        class: FailureClass::SourceTransient,
        detail,
    })
}

/// The value of the column: the text unchanged, as if inline. `error` is plain text, so a JSON
/// string is unquoted.
fn field(column: Column, content: Vec<u8>) -> String {
    let text = String::from_utf8(content)
        .unwrap_or_else(|wrong| String::from_utf8_lossy(wrong.as_bytes()).into_owned());
    if column != Column::Error {
        return text;
    }
    json::whole_text(&text).map(Cow::into_owned).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"{"a": "é"}"#;

    #[test]
    fn a_field_is_the_text_that_it_would_be_inline() {
        let field = |column, text: &[u8]| field(column, text.to_vec());
        for text in [TEXT, "{", "", "\n", r#"{"score": NaN}"#, "\u{feff}{}", "{}\0", "plain"] {
            assert_eq!(field(Column::Inputs, text.as_bytes()), text);
        }
        assert_eq!(field(Column::Inputs, b"a\xffb"), "a\u{fffd}b");
        assert_eq!(field(Column::Error, br#""ValueError: \"x\"""#), "ValueError: \"x\"");
        assert_eq!(field(Column::Error, br#""cut \ud83d""#), "cut \u{fffd}");
        assert_eq!(field(Column::Error, b"ValueError"), "ValueError");
        assert_eq!(field(Column::Error, br#""a" is not "b""#), r#""a" is not "b""#);
    }

    #[test]
    fn a_refusal_is_about_the_object_the_setup_or_the_moment() {
        let told = |status, code, message: &str| match no_blob(&BucketError::told_by(
            "GetObject",
            status,
            Some(code),
            message,
            &tracelift_bucket::Sent::default(),
        )) {
            FetchError::Miss(miss) => miss.reason(),
            FetchError::Failure(failure) => format!("{:?}: {}", failure.class, failure.detail),
        };
        let answers = [
            (404, "NoSuchKey", ""),
            (403, "AccessDenied", "Access Denied."),
            (403, "AccessDenied", "no identity-based policy allows the s3:ListBucket action"),
            (
                403,
                "InvalidObjectState",
                "The operation is not valid for the object's storage class",
            ),
            (400, "KeyTooLongError", "Your key is too long"),
            (400, "XMinioInvalidObjectName", "Object name contains unsupported characters."),
            (
                400,
                "InvalidRequest",
                "The object was stored using a form of Server Side Encryption.",
            ),
            (400, "KMS.DisabledException", "the key is off"),
            (404, "NoSuchBucket", "The specified bucket does not exist"),
            (403, "InvalidAccessKeyId", ""),
            (403, "SignatureDoesNotMatch", ""),
            (503, "SlowDown", ""),
            (500, "InternalError", ""),
        ];
        let told: Vec<_> =
            answers.iter().map(|(status, code, message)| told(*status, code, message)).collect();
        insta::assert_snapshot!(told.join("\n"));
    }
}
