//! JSON to messages: what a caller asks for, checked by the rules of `tracelift_core`, every wrong
//! field named at once.
//!
//! Unknown fields are ignored, as LangSmith does; a known one that this version cannot honour is
//! refused by name.

mod destinations;
mod exports;

pub(crate) use destinations::{create_destination, new_identity};
pub(crate) use exports::{cancellation, create_export, idempotency_key, validate_filter};

#[cfg(test)]
mod tests;
