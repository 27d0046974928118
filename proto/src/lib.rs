//! The wire format: generated messages and services, their conversions to and from the types of
//! `tracelift_core`, and the mapping of errors.
//!
//! `From` converts outward (domain value to message), `TryFrom` inward, reporting the path of every
//! invalid field. Messages stop here: no other crate keeps one as its own state.

#![allow(clippy::result_large_err, reason = "tonic::Status is what gRPC handlers return")]

mod convert;
pub mod pages;
mod redacted;
pub mod status;

/// The public API: destinations, exports and administration.
#[allow(
    missing_docs,
    clippy::all,
    clippy::pedantic,
    clippy::unwrap_used,
    unreachable_pub,
    reason = "generated"
)]
pub mod v1 {
    tonic::include_proto!("tracelift.v1");
}

/// The protocol between the control plane and its exporters.
pub mod fleet {
    /// Version 1 of the package; see [`PROTOCOL`](super::PROTOCOL) for the version that peers
    /// negotiate.
    #[allow(
        missing_docs,
        clippy::all,
        clippy::pedantic,
        clippy::unwrap_used,
        unreachable_pub,
        reason = "generated"
    )]
    pub mod v1 {
        tonic::include_proto!("tracelift.fleet.v1");
    }
}

/// Encoded descriptors of all services, for gRPC reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// The fleet protocol versions that this build speaks, both inclusive. Exporters of version 1
/// ignore filters and roles, so they would export rows that nobody requested; those of version 2
/// treat every export as one of a single project. Version 4 introduced one envelope for all
/// reports.
pub const PROTOCOL: std::ops::RangeInclusive<u32> = 4..=4;

/// Largest request of the public API, in bytes.
pub const MAX_REQUEST_BYTES: usize = 1 << 20;

/// Largest message between the control plane and an exporter, in bytes; an export's file list can
/// be long.
pub const MAX_FLEET_BYTES: usize = 64 << 20;

pub use convert::{destinations::BucketSecrets, time_from, time_to};
