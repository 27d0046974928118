//! AWS Signature Version 4 for a GET without query and body, the only request a reader sends.

use std::{
    fmt::Write as _,
    sync::{Arc, Mutex, PoisonError},
};

use aws_smithy_runtime_api::http::Headers;
use chrono::{DateTime, Utc};
use hmac::{Hmac, KeyInit as _, Mac as _};
use secrecy::{ExposeSecret as _, SecretString};
use sha2::{Digest as _, Sha256};
use tracelift_core::time::Timestamp;

use crate::Keys;

/// SHA-256 of an empty body.
const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// Signs requests to one host. `Debug` prints no keys.
#[derive(Clone)]
pub(super) struct Signer {
    keys: Keys,
    region: String,
    host: String,
    now: fn() -> Timestamp,
    /// A day, and the signing key derived for it.
    of_day: Arc<Mutex<(String, [u8; 32])>>,
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Signer").field("host", &self.host).finish_non_exhaustive()
    }
}

impl Signer {
    pub(super) fn new(keys: &Keys, region: &str, host: &str, now: fn() -> Timestamp) -> Self {
        let (region, host) = (region.to_owned(), host.to_owned());
        Self { keys: keys.clone(), region, host, now, of_day: Arc::default() }
    }

    /// Adds the headers that sign a GET of `path`, which must be encoded already.
    pub(super) fn sign(&self, path: &str, headers: &mut Headers) {
        let time = DateTime::<Utc>::from_timestamp_micros((self.now)().micros())
            .unwrap_or_default()
            .format("%Y%m%dT%H%M%SZ")
            .to_string();
        let day = &time[..8];
        let mut canonical = format!(
            "GET\n{path}\n\nhost:{}\nx-amz-content-sha256:{EMPTY}\nx-amz-date:{time}\n",
            self.host
        );
        let mut signed = "host;x-amz-content-sha256;x-amz-date".to_owned();
        if let Some(token) = &self.keys.session_token {
            let _ = writeln!(canonical, "x-amz-security-token:{}", token.expose_secret());
            signed.push_str(";x-amz-security-token");
            headers.insert("x-amz-security-token", token.expose_secret().to_owned());
        }
        let _ = write!(canonical, "\n{signed}\n{EMPTY}");
        let scope = format!("{day}/{}/s3/aws4_request", self.region);
        let text = format!(
            "AWS4-HMAC-SHA256\n{time}\n{scope}\n{}",
            hex(&Sha256::digest(canonical.as_bytes()))
        );
        let signature = hex(&mac(&self.key(day), text.as_bytes()));
        let id = &self.keys.access_key_id;
        headers.insert("authorization", format!("AWS4-HMAC-SHA256 Credential={id}/{scope}, SignedHeaders={signed}, Signature={signature}"));
        headers.insert("x-amz-content-sha256", EMPTY);
        headers.insert("x-amz-date", time);
    }

    fn key(&self, day: &str) -> [u8; 32] {
        let mut of_day = self.of_day.lock().unwrap_or_else(PoisonError::into_inner);
        if of_day.0 != day {
            let secret =
                SecretString::from(format!("AWS4{}", self.keys.secret_access_key.expose_secret()));
            let parts = [day, &self.region, "s3", "aws4_request"];
            let first = mac(secret.expose_secret().as_bytes(), parts[0].as_bytes());
            *of_day = (
                day.to_owned(),
                parts[1..].iter().fold(first, |key, part| mac(&key, part.as_bytes())),
            );
        }
        of_day.1
    }
}

fn mac(key: &[u8], text: &[u8]) -> [u8; 32] {
    // HMAC accepts keys of any length.
    Hmac::<Sha256>::new_from_slice(key)
        .map(|mac| mac.chain_update(text).finalize().into_bytes().into())
        .unwrap_or_default()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(64), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Percent-encodes a key for use in a path: everything except unreserved characters and slashes,
/// once.
pub(super) fn encoded(key: &str) -> String {
    key.bytes().fold(String::with_capacity(key.len()), |mut text, byte| {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                text.push(char::from(byte))
            }
            other => {
                let _ = write!(text, "%{other:02X}");
            }
        }
        text
    })
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use aws_credential_types::Credentials;
    use aws_sigv4::{
        http_request::{
            PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest,
            SigningSettings, UriPathNormalizationMode, sign,
        },
        sign::v4,
    };
    use proptest::prelude::*;

    use super::*;

    const SECONDS: i64 = 1_700_000_000;

    /// The Authorization header that AWS's own library computes for the same request.
    fn aws(host: &str, path: &str, token: Option<&str>) -> String {
        let identity =
            Credentials::new("AKID", "a secret", token.map(str::to_owned), None, "test").into();
        let mut settings = SigningSettings::default();
        settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
        settings.percent_encoding_mode = PercentEncodingMode::Single;
        settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
        let time = UNIX_EPOCH + Duration::from_secs(SECONDS.unsigned_abs());
        let parameters = v4::SigningParams::builder()
            .identity(&identity)
            .region("eu-west-1")
            .name("s3")
            .time(time)
            .settings(settings)
            .build()
            .unwrap();
        let uri = format!("https://{host}{path}");
        let request =
            SignableRequest::new("GET", &uri, std::iter::empty(), SignableBody::Bytes(b""))
                .unwrap();
        let (instructions, _) = sign(request, &parameters.into()).unwrap().into_parts();
        instructions.headers().find(|(name, _)| *name == "authorization").unwrap().1.to_owned()
    }

    proptest! {
        #[test]
        fn a_request_is_signed_as_awss_own_library_does(key in "[ -~äß日]{1,40}", token in proptest::option::of("[a-zA-Z0-9/+=]{1,40}")) {
            let session_token = token.as_deref().map(SecretString::from);
            let keys = Keys { access_key_id: "AKID".into(), secret_access_key: SecretString::from("a secret"), session_token };
            let signer = Signer::new(&keys, "eu-west-1", "store.example.com:9000", || Timestamp::from_micros(SECONDS * 1_000_000).unwrap());
            let path = format!("/traces/{}", encoded(&key));
            let mut headers = Headers::new();
            signer.sign(&path, &mut headers);
            prop_assert_eq!(headers.get("authorization").unwrap(), aws("store.example.com:9000", &path, token.as_deref()));
        }
    }
}
