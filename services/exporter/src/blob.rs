//! Offloaded objects: fetched, unpacked, checked. A missing or broken one is a miss, not a failure.

use std::{io::Read as _, time::Duration};

use secrecy::ExposeSecret as _;
use serde::de::IgnoredAny;
use tracelift_bucket::{BucketError, Connector, Fault, Keys, Reader};
use tracelift_core::{
    column::Column,
    destination::{Addressing, Bucket, ClientOptions, StoreFeatures, WriteOptions},
    failure::{Failure, FailureClass, Step},
};
use tracelift_runtime::{
    clock::{Clock as _, SystemClock},
    tasks,
};

use crate::{budget::Turn, pointer::Pointer, settings::Blobs};

/// The store of the offloaded objects.
#[derive(Debug, Clone)]
pub(crate) struct BlobStore {
    objects: Reader,
    max_bytes: u64,
}

/// Why a field stays null. The words go into the manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Miss {
    NotFound,
    TooLarge,
    ForeignBucket,
    NotText,
    NotJson,
    NotUnpackable,
    Pointer(&'static str),
}

impl Miss {
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Self::NotFound => "the object does not exist",
            Self::TooLarge => "the object is larger than the exporter's limit",
            Self::ForeignBucket => "the pointer names a bucket that the exporter does not read",
            Self::NotText => "the object is not UTF-8 text",
            Self::NotJson => "the object is not JSON",
            Self::NotUnpackable => "the object cannot be unpacked",
            Self::Pointer(reason) => reason,
        }
    }
}

/// An object's outcome that is not its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NoBlob {
    Miss(Miss),
    Failure(Failure),
}

impl From<Miss> for NoBlob {
    fn from(miss: Miss) -> Self {
        Self::Miss(miss)
    }
}

/// Longest time until an object's answer begins.
const FETCH_TIMEOUT: Duration = Duration::from_secs(60);
/// Longest time in which nothing more of its body comes: a store that falls silent must not hold a run.
const BODY_SILENCE: Duration = Duration::from_secs(60);
/// How often a transient fault is tried within one attempt of the run.
const FETCH_ATTEMPTS: u32 = 5;

impl BlobStore {
    pub(crate) async fn new(settings: &Blobs, connector: &Connector) -> Result<Self, crate::Error> {
        let (id, secret_access_key) = settings.keys()?;
        let keys = Keys { access_key_id: id.expose_secret().to_owned(), secret_access_key, session_token: None };
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
        let objects = connector.reader(&bucket, &keys, FETCH_TIMEOUT, FETCH_ATTEMPTS, || SystemClock.now()).await?;
        Ok(Self { objects, max_bytes: settings.blob_max_bytes })
    }

    /// The text of a field. The body is read when its `turn` has room for it.
    pub(crate) async fn fetch(&self, column: Column, pointer: &Pointer, turn: &mut Turn) -> Result<String, NoBlob> {
        if pointer.bucket.as_ref().is_some_and(|named| named != self.objects.bucket()) {
            return Err(Miss::ForeignBucket.into());
        }
        let object = self.objects.get(&pointer.key).await.map_err(|error| no_blob(&error))?;
        // Every store announces the length; a body without one could be endless.
        let size = object.size.ok_or_else(|| cut(&pointer.key, &"its length was not announced"))?;
        if size > self.max_bytes {
            return Err(Miss::TooLarge.into());
        }
        turn.wait_for(size).await;
        let encoding = object.encoding.clone();
        let body = object.bytes(BODY_SILENCE).await.map_err(|error| cut(&pointer.key, &error))?;
        if body.len() as u64 != size {
            return Err(cut(&pointer.key, &"it is shorter than announced"));
        }
        let max_bytes = self.max_bytes;
        let read = move || field(column, unpack(body, encoding.as_deref(), max_bytes)?);
        if size < LARGE {
            return Ok(read()?);
        }
        let read = tasks::compute(read).await;
        Ok(read.map_err(|panic| cut(&pointer.key, &panic))??)
    }
}

/// From that many bytes on an object is unpacked and checked off the reactor.
const LARGE: u64 = 64 << 10;

fn no_blob(error: &BucketError) -> NoBlob {
    let class = match error.fault {
        Fault::NoSuchKey => return Miss::NotFound.into(),
        Fault::Throttled => FailureClass::Throttled,
        _ => FailureClass::SourceTransient,
    };
    // Its advice is meant for a customer's bucket, but a wrong clock is the operator's in any case.
    let advice = if error.fault == Fault::ClockSkewed { format!("; {}", error.fault.advice()) } else { String::new() };
    let detail = format!("the store of offloaded fields: {} answered {}{advice}", error.call, error.words);
    NoBlob::Failure(Failure { step: Step::Hydrate, class, detail })
}

fn cut(key: &str, reason: &dyn std::fmt::Display) -> NoBlob {
    let detail = format!("the offloaded object {key} was cut short: {reason}");
    NoBlob::Failure(Failure { step: Step::Hydrate, class: FailureClass::SourceTransient, detail })
}

/// Unpacks gzip and zstd, recognised by Content-Encoding or by their first bytes.
fn unpack(body: Vec<u8>, encoding: Option<&str>, max_bytes: u64) -> Result<Vec<u8>, Miss> {
    let encoded = |name: &str| encoding.is_some_and(|encoding| encoding.eq_ignore_ascii_case(name));
    let mut text = Vec::new();
    let limit = max_bytes.saturating_add(1);
    let unpacked = if encoded("gzip") || body.starts_with(&[0x1f, 0x8b]) {
        flate2::read::MultiGzDecoder::new(&body[..]).take(limit).read_to_end(&mut text)
    } else if encoded("zstd") || body.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        zstd::stream::read::Decoder::new(&body[..]).and_then(|decoder| decoder.take(limit).read_to_end(&mut text))
    } else {
        return Ok(body);
    };
    unpacked.map_err(|_| Miss::NotUnpackable)?;
    text.shrink_to_fit();
    if text.len() as u64 > max_bytes { Err(Miss::TooLarge) } else { Ok(text) }
}

/// What the column holds: JSON text as it stands; for `error` plain text, so a JSON string loses its quotes.
fn field(column: Column, content: Vec<u8>) -> Result<String, Miss> {
    let text = String::from_utf8(content).map_err(|_| Miss::NotText)?;
    if column == Column::Error {
        return Ok(serde_json::from_str::<String>(&text).unwrap_or(text));
    }
    serde_json::from_str::<IgnoredAny>(&text).map_err(|_| Miss::NotJson)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    const TEXT: &str = r#"{"a": "é"}"#;
    const MAX: u64 = 1000;

    fn gzip(text: &str) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(text.as_bytes()).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn packed_objects_are_unpacked_whether_or_not_they_say_so() {
        let (zstd, plain) = (zstd::encode_all(TEXT.as_bytes(), 1).unwrap(), TEXT.as_bytes().to_vec());
        for (body, encoding) in
            [(gzip(TEXT), None), (gzip(TEXT), Some("GZIP")), (zstd, None), (plain.clone(), None), (plain, Some("identity"))]
        {
            assert_eq!(unpack(body, encoding, MAX), Ok(TEXT.as_bytes().to_vec()), "{encoding:?}");
        }
    }

    #[test]
    fn a_bomb_is_stopped_at_the_limit_and_a_broken_pack_is_a_miss() {
        assert_eq!(unpack(gzip(&"x".repeat(2000)), None, MAX), Err(Miss::TooLarge));
        assert_eq!(unpack(gzip(TEXT)[..15].to_vec(), None, MAX), Err(Miss::NotUnpackable));
        assert_eq!(unpack(TEXT.as_bytes().to_vec(), Some("gzip"), MAX), Err(Miss::NotUnpackable));
    }

    #[test]
    fn a_field_holds_json_and_an_error_plain_text() {
        let field = |column, text: &str| field(column, text.as_bytes().to_vec());
        assert_eq!(field(Column::Inputs, TEXT), Ok(TEXT.to_owned()));
        assert_eq!(field(Column::Inputs, "{"), Err(Miss::NotJson));
        assert_eq!(field(Column::Inputs, ""), Err(Miss::NotJson));
        assert_eq!(field(Column::Error, r#""ValueError: \"x\"""#), Ok("ValueError: \"x\"".to_owned()));
        assert_eq!(field(Column::Error, "ValueError"), Ok("ValueError".to_owned()));
    }
}
