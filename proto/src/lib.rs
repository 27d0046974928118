//! The wire: generated messages and services, the conversions between them and the rules' types,
//! the errors' mapping.
//!
//! `From` goes outward (domain value to message), `TryFrom` inward with the path of every wrong
//! field. Messages stop here: no other crate keeps one as its own state.

#![allow(clippy::result_large_err, reason = "tonic::Status is what gRPC handlers return")]

mod convert;
pub mod pages;
mod redacted;
pub mod status;

/// The public API: destinations, exports, admin.
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

/// Between the control plane and its exporters.
pub mod fleet {
    /// Version 1 of the stream.
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

/// Descriptors of every service, for reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// The protocol versions of the stream that this build speaks, both inclusive. An exporter of
/// version 1 knows neither filters nor roles: it would export rows that nobody asked for. One of
/// version 2 takes every export for one of a single project. Version 4 has one envelope for all
/// reports.
pub const PROTOCOL: std::ops::RangeInclusive<u32> = 4..=4;

/// Largest message in bytes that the public API takes.
pub const MAX_REQUEST_BYTES: usize = 1 << 20;

/// Largest message in bytes between the control plane and an exporter: an export's list of files
/// may be long.
pub const MAX_FLEET_BYTES: usize = 64 << 20;

pub use convert::{destinations::BucketSecrets, time_from, time_to};
