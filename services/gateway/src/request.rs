//! Converts JSON requests to gRPC messages, validated by the rules of `tracelift_core`; every
//! invalid field is reported at once.
//!
//! Unknown fields are ignored, as in LangSmith; a known field that this version does not support is
//! rejected by name.

mod destinations;
mod exports;

pub(crate) use destinations::{create_destination, new_identity};
pub(crate) use exports::{cancellation, create_export, idempotency_key, validate_filter};

#[cfg(test)]
mod tests;
