//! Typed ids, so that a task id cannot be passed where a tenant id is expected. All are UUIDs,
//! displayed in lower case.

use std::{fmt, str::FromStr};

use uuid::Uuid;

use crate::Invalid;

macro_rules! id {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub Uuid);

        impl $name {
            /// Parses a UUID; anything else is an error on `field`.
            pub fn parse(field: &str, text: &str) -> Result<Self, Invalid> {
                text.parse().map_err(|_| Invalid::no_uuid(field))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.as_hyphenated().fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Uuid::parse_str(text).map(Self)
            }
        }
    )*};
}

id! {
    /// A tenant; the API calls it a workspace.
    TenantId;
    /// A destination.
    DestinationId;
    /// An export.
    ExportId;
    /// A task. The id of a partition task is the run id of the public API.
    TaskId;
    /// A tracing project; the API calls it a session.
    SessionId;
    /// An API key's public id, not its secret.
    KeyId;
}

/// The name of an exporter: chosen by its operator, stable across restarts.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ExporterId(String);

impl ExporterId {
    /// Parses 1 to 255 printable ASCII characters; anything else is an error on `field`.
    pub fn parse(field: &str, text: &str) -> Result<Self, Invalid> {
        let fits = (1..=255).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
        fits.then(|| Self(text.to_owned())).ok_or_else(|| {
            Invalid::new(field, "must be 1 to 255 printable ASCII characters without spaces")
        })
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ExporterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
