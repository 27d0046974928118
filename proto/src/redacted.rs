//! `Debug` of messages that carry secrets, without the secrets.

use std::fmt;

use crate::v1::{CreateApiKeyResponse, Credentials, RotateApiKeyResponse};

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials { [redacted] }")
    }
}

impl fmt::Debug for CreateApiKeyResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CreateApiKeyResponse")
            .field("api_key", &self.api_key)
            .field("key", &"[redacted]")
            .finish()
    }
}

impl fmt::Debug for RotateApiKeyResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RotateApiKeyResponse")
            .field("api_key", &self.api_key)
            .field("key", &"[redacted]")
            .field("previous", &self.previous)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_never_printed() {
        let credentials = Credentials {
            access_key_id: "AKIAVISIBLE".into(),
            secret_access_key: "hunter2".into(),
            session_token: "token3".into(),
        };
        let request = crate::v1::CreateDestinationRequest {
            credentials: Some(credentials),
            ..Default::default()
        };
        let key = CreateApiKeyResponse { api_key: None, key: "tl_hunter2".into() };
        let rotated = RotateApiKeyResponse { key: "tl_hunter2".into(), ..Default::default() };
        let printed = format!("{request:?} {key:?} {rotated:?}");
        for secret in ["AKIAVISIBLE", "hunter2", "token3"] {
            assert!(!printed.contains(secret), "{printed}");
        }
    }
}
