//! Errors of the command: what happened, and what to do.

use std::{error::Error as _, fmt, io, path::PathBuf};

use tonic::{Code, Status, TimeoutExpired};
use tracelift_core::{Invalid, audit::Broken};
use tracelift_proto::status::violations;
use tracelift_runtime::{secret::SecretError, tls::TlsError};

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// A key or token could not be read.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// A key or token that cannot be sent in a header.
    #[error("{0} holds characters that no key has")]
    Header(&'static str),
    /// The address or its certificates are invalid.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// There are no credentials for the bucket.
    #[error(
        "no credentials for the bucket: set S3_ACCESS_KEY_ID and S3_SECRET_ACCESS_KEY, or give --credentials-file"
    )]
    NoCredentials,
    /// A new key needs a workspace.
    #[error("a key belongs to a workspace: give --tenant or set TRACELIFT_TENANT_ID")]
    NoTenant,
    /// The chain of the audit log is broken.
    #[error("the audit log is not as it was written: {0}")]
    Broken(#[from] Broken),
    /// A record that cannot be read.
    #[error("the audit log has a record that this version cannot read: {0}")]
    Record(#[from] Invalid),
    /// A deletion that was not confirmed.
    #[error("deleting a workspace is for good: give its id with --confirm again")]
    Unconfirmed,
    /// A malformed credentials file. Its content is not repeated.
    #[error(
        "{path} must hold JSON such as {{\"access_key_id\": …, \"secret_access_key\": …}} (line {line})"
    )]
    CredentialsFile {
        /// Its path.
        path: PathBuf,
        /// The line of the error.
        line: usize,
    },
    /// The control plane returned an error or could not be reached.
    #[error("{}", Refused { status, server })]
    Refused {
        /// The gRPC status.
        status: Status,
        /// The server's address.
        server: String,
    },
    /// A response without content.
    #[error("the answer of {server} is empty: is it a control plane of this version?")]
    Empty {
        /// The server's address.
        server: String,
    },
    /// Standard output is closed or failed.
    #[error("cannot write: {0}")]
    Output(#[from] io::Error),
}

/// Whether no response arrived: the connection failed or broke.
pub(crate) fn is_broken(status: &Status) -> bool {
    status.code() == Code::Unavailable || status.source().is_some()
}

struct Refused<'a> {
    status: &'a Status,
    server: &'a str,
}

impl fmt::Display for Refused<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { status, server } = self;
        // A status with a source was created by the client: no response arrived.
        if let Some(cause) = innermost(status).filter(|cause| !cause.is::<TimeoutExpired>()) {
            let right = if server.starts_with("https:") {
                "are --server and the certificates"
            } else {
                "is --server"
            };
            return write!(
                f,
                "cannot reach the control plane at {server}: {cause}; is it running, and {right} right?"
            );
        }
        let message = crate::show::plain(status.message());
        match status.code() {
            Code::InvalidArgument => wrong_fields(f, status),
            Code::Unauthenticated => write!(
                f,
                "{message}; check TRACELIFT_API_KEY (or TRACELIFT_ADMIN_TOKEN for key and tenant)"
            ),
            Code::PermissionDenied => {
                write!(f, "{message}; use a key with the permission \"manage\"")
            }
            Code::NotFound => {
                write!(f, "{message}; check the id, and that the key belongs to its workspace")
            }
            Code::ResourceExhausted | Code::Unavailable => {
                write!(f, "{message}; try again in a moment")
            }
            Code::DeadlineExceeded | Code::Cancelled => {
                write!(f, "{server} took too long; what was asked may still take effect")
            }
            Code::FailedPrecondition | Code::AlreadyExists | Code::Aborted | Code::OutOfRange => {
                f.write_str(&message)
            }
            code => write!(f, "{server} answered {code:?}: {message}; its log says more"),
        }
    }
}

fn wrong_fields(f: &mut fmt::Formatter<'_>, status: &Status) -> fmt::Result {
    let faults = violations(status);
    if faults.is_empty() {
        return f.write_str(&crate::show::plain(status.message()));
    }
    f.write_str("the request is not valid")?;
    for fault in faults {
        let field = fault.field.trim_start_matches("spec.").trim_start_matches("config.");
        write!(f, "\n  {}: {}", crate::show::plain(field), crate::show::plain(&fault.message))?;
    }
    Ok(())
}

fn innermost(status: &Status) -> Option<&(dyn std::error::Error + 'static)> {
    let mut innermost = status.source()?;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    Some(innermost)
}

#[cfg(test)]
mod tests {
    use tracelift_core::Invalid;
    use tracelift_proto::status;

    use super::*;

    #[test]
    fn every_refusal_says_what_to_do() {
        let wrong = [
            Invalid::new("spec.end_time", "must be after start_time"),
            Invalid::new("config.bucket_name", "must not be empty"),
        ];
        let refusals = [
            status::invalid(wrong),
            Status::invalid_argument("no"),
            Status::unauthenticated("The API key is not known"),
            Status::permission_denied("The API key may only read"),
            Status::not_found("No such export"),
            Status::failed_precondition("Failed to validate S3 destination: Access denied"),
            Status::resource_exhausted("15 exports at once"),
            status::retry_later("busy", 3),
            Status::deadline_exceeded("slow"),
            Status::internal("invariant"),
        ];
        let server = "http://127.0.0.1:7700";
        let told = refusals.map(|status| {
            format!("error: {}", CliError::Refused { status, server: server.to_owned() })
        });
        insta::assert_snapshot!(told.join("\n"));
    }

    #[test]
    fn a_broken_connection_and_a_slow_answer_are_told_apart() {
        let told = |source: std::sync::Arc<dyn std::error::Error + Send + Sync>| {
            let mut status = Status::cancelled("operation was canceled");
            status.set_source(source);
            CliError::Refused { status, server: "https://control-plane:7700".to_owned() }
                .to_string()
        };
        let broken = told(std::sync::Arc::new(io::Error::other(
            "received fatal alert: CertificateRequired",
        )));
        assert!(
            broken.starts_with(
                "cannot reach the control plane at https://control-plane:7700: received fatal alert"
            ),
            "{broken}"
        );
        assert!(told(std::sync::Arc::new(TimeoutExpired(()))).contains("took too long"));
    }
}
