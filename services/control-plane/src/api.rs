//! The calls: a message is converted to a domain value, the store does the work, and the result is
//! converted back to a message.

pub(crate) mod admin;
mod audit;
pub(crate) mod destinations;
pub(crate) mod exports;
pub(crate) mod fleet;
pub(crate) mod limits;
mod pages;
pub(crate) mod view;

use tonic::Status;
use tracelift_core::{Invalid, InvalidKind};
use tracelift_proto::status;

use crate::{sealer::SealError, store::StoreError};

/// Seconds after which a caller should retry when the database is unavailable.
const RETRY_SECONDS: u64 = 2;

/// The only mapping of store errors to gRPC codes. Database messages go to the log, not to the
/// caller.
pub(crate) fn unavailable(error: StoreError) -> Status {
    match error {
        StoreError::Exists(what) => Status::already_exists(format!("{what} exists already")),
        StoreError::Unavailable(_) | StoreError::Contended => {
            tracing::error!(%error, "the store failed");
            status::retry_later(
                "the control plane's database is not available; try again shortly",
                RETRY_SECONDS,
            )
        }
        StoreError::Corrupt(_) | StoreError::NewerSchema | StoreError::Address(_) => {
            tracing::error!(%error, "the store failed");
            Status::internal("a stored value cannot be read; the control plane's log says which")
        }
    }
}

pub(crate) fn sealer(error: SealError) -> Status {
    tracing::error!(%error, "credentials cannot be sealed or opened");
    Status::internal("the stored credentials cannot be used; the control plane's log says why")
}

/// The error for a key that belongs to another request.
const OTHER_REQUEST: &str = "the idempotency key was given to another request within the last 24 hours: give each request a key of its own";

/// Longest idempotency key.
const LONGEST_KEY: usize = 255;

/// The idempotency key of a request, if it has one.
fn request_key(key: String) -> Result<Option<String>, Invalid> {
    if key.len() > LONGEST_KEY || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Invalid::new(
            "idempotency_key",
            format!("must have at most {LONGEST_KEY} visible ASCII characters"),
        )
        .of_kind(InvalidKind::TooLong));
    }
    Ok(Some(key).filter(|key| !key.is_empty()))
}
