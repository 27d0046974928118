//! Keys and tokens: from the environment or from files.

use std::{fs, path::Path};

use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use tracelift_proto::v1;
use tracelift_runtime::secret::{SecretError, Source, from_env};

use crate::{args::Global, error::CliError};

pub(crate) fn api_key(global: &Global) -> Result<SecretString, SecretError> {
    let value = from_env("TRACELIFT_API_KEY");
    let (value, file) = (value.as_ref(), global.api_key_file.as_ref());
    Source { name: "the API key", env: "TRACELIFT_API_KEY", flag: "--api-key-file", value, file }
        .required()
}

pub(crate) fn admin_token(global: &Global) -> Result<SecretString, SecretError> {
    let value = from_env("TRACELIFT_ADMIN_TOKEN");
    let (value, file) = (value.as_ref(), global.admin_token_file.as_ref());
    Source {
        name: "the admin token",
        env: "TRACELIFT_ADMIN_TOKEN",
        flag: "--admin-token-file",
        value,
        file,
    }
    .required()
}

pub(crate) fn has_api_key(global: &Global) -> bool {
    global.api_key_file.is_some() || from_env("TRACELIFT_API_KEY").is_some()
}

pub(crate) fn has_admin_token(global: &Global) -> bool {
    global.admin_token_file.is_some() || from_env("TRACELIFT_ADMIN_TOKEN").is_some()
}

/// The credentials of a bucket, from `file` if given, otherwise from the environment.
pub(crate) fn bucket(file: Option<&Path>) -> Result<v1::Credentials, CliError> {
    if let Some(path) = file {
        return from_file(path);
    }
    let (Some(access), Some(secret)) =
        (from_env("S3_ACCESS_KEY_ID"), from_env("S3_SECRET_ACCESS_KEY"))
    else {
        return Err(CliError::NoCredentials);
    };
    Ok(v1::Credentials {
        access_key_id: access.expose_secret().to_owned(),
        secret_access_key: secret.expose_secret().to_owned(),
        session_token: from_env("S3_SESSION_TOKEN")
            .map(|token| token.expose_secret().to_owned())
            .unwrap_or_default(),
    })
}

#[derive(Deserialize)]
struct CredentialsFile {
    access_key_id: String,
    secret_access_key: String,
    #[serde(default)]
    session_token: Option<String>,
}

fn from_file(path: &Path) -> Result<v1::Credentials, CliError> {
    let text = fs::read_to_string(path)
        .map_err(|source| SecretError::File { path: path.to_owned(), source })?;
    let keys: CredentialsFile = serde_json::from_str(&text)
        .map_err(|error| CliError::CredentialsFile { path: path.to_owned(), line: error.line() })?;
    Ok(v1::Credentials {
        access_key_id: keys.access_key_id,
        secret_access_key: keys.secret_access_key,
        session_token: keys.session_token.unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_holds_the_keys_and_a_wrong_one_is_not_repeated() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys.json");
        fs::write(&path, r#"{"access_key_id": "AKIA", "secret_access_key": "hunter2"}"#).unwrap();
        let keys = bucket(Some(&path)).unwrap();
        assert_eq!(
            (keys.access_key_id.as_str(), keys.secret_access_key.as_str()),
            ("AKIA", "hunter2")
        );
        fs::write(&path, "{\n\"access_key_id\": [\"hunter2\"]}").unwrap();
        let told = bucket(Some(&path)).unwrap_err().to_string();
        assert!(told.contains("(line 2)") && !told.contains("hunter2"), "{told}");
    }
}
