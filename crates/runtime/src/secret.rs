//! Secrets from settings: a type that does not print, given as a value in the environment or as a
//! file.

use std::{fs, path::PathBuf};

use secrecy::{ExposeSecret as _, SecretString};

/// Why a secret could not be had.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// Neither way was used.
    #[error("{name} is missing: set {env} or give a file with {flag}")]
    Missing {
        /// What it is.
        name: &'static str,
        /// The variable.
        env: &'static str,
        /// The option.
        flag: &'static str,
    },
    /// The file cannot be read.
    #[error("cannot read {path}: {source}")]
    File {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
}

/// Where one secret comes from.
#[derive(Debug)]
pub struct Source<'a> {
    /// What it is, for the error.
    pub name: &'static str,
    /// The variable, for the error.
    pub env: &'static str,
    /// The option, for the error.
    pub flag: &'static str,
    /// The value, when given directly.
    pub value: Option<&'a SecretString>,
    /// The file, when given so.
    pub file: Option<&'a PathBuf>,
}

impl Source<'_> {
    /// The secret, or `None` when neither way was used. Line ends around it are cut.
    pub fn optional(&self) -> Result<Option<SecretString>, SecretError> {
        if let Some(path) = self.file {
            let text = fs::read_to_string(path)
                .map_err(|source| SecretError::File { path: path.clone(), source })?;
            return Ok(Some(SecretString::from(text.trim())));
        }
        Ok(self.value.filter(|value| !value.expose_secret().is_empty()).cloned())
    }

    /// The secret.
    pub fn required(&self) -> Result<SecretString, SecretError> {
        self.optional()?.ok_or(SecretError::Missing {
            name: self.name,
            env: self.env,
            flag: self.flag,
        })
    }
}

/// A secret in a variable of the environment; `None` when it is unset or empty.
pub fn from_env(name: &str) -> Option<SecretString> {
    std::env::var(name).ok().filter(|value| !value.is_empty()).map(SecretString::from)
}
