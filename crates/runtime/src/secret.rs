//! Secrets from settings: passed in an environment variable or a file, and held in a type that is
//! never printed.

use std::{fs, path::PathBuf};

use secrecy::{ExposeSecret as _, SecretString};

/// A secret could not be obtained.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// Neither variable nor file was given.
    #[error("{name} is missing: set {env} or give a file with {flag}")]
    Missing {
        /// What the secret is.
        name: &'static str,
        /// Environment variable that can hold it.
        env: &'static str,
        /// Option that can name a file.
        flag: &'static str,
    },
    /// The file cannot be read.
    #[error("cannot read {path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
}

/// The places a secret may come from.
#[derive(Debug)]
pub struct Source<'a> {
    /// What the secret is, for errors.
    pub name: &'static str,
    /// Environment variable, for errors.
    pub env: &'static str,
    /// Option, for errors.
    pub flag: &'static str,
    /// The value, if given directly.
    pub value: Option<&'a SecretString>,
    /// The file, if given.
    pub file: Option<&'a PathBuf>,
}

impl Source<'_> {
    /// Reads the secret; `None` if neither value nor file is given. Line breaks around it are
    /// trimmed.
    pub fn optional(&self) -> Result<Option<SecretString>, SecretError> {
        if let Some(path) = self.file {
            let text = fs::read_to_string(path)
                .map_err(|source| SecretError::File { path: path.clone(), source })?;
            return Ok(Some(SecretString::from(text.trim())));
        }
        Ok(self.value.filter(|value| !value.expose_secret().is_empty()).cloned())
    }

    /// Reads the secret, or fails if neither value nor file is given.
    pub fn required(&self) -> Result<SecretString, SecretError> {
        self.optional()?.ok_or(SecretError::Missing {
            name: self.name,
            env: self.env,
            flag: self.flag,
        })
    }
}

/// Reads a secret from an environment variable; `None` if unset or empty.
pub fn from_env(name: &str) -> Option<SecretString> {
    std::env::var(name).ok().filter(|value| !value.is_empty()).map(SecretString::from)
}
