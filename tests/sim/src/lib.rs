//! Simulated worlds: the real control plane and the real exporter as hosts of a simulated network,
//! with a simulated ClickHouse and S3, under faults determined by a seed. Invariants are checked
//! after every step; the same seed gives the same trace.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "a harness fails loudly, where it stands"
)]

pub mod bucket;
pub mod caller;
pub mod chaos;
pub mod checker;
pub mod clickhouse;
pub mod command;
pub mod data;
pub mod faults;
pub mod hosts;
pub mod net;
pub mod rest;
pub mod trace;
pub mod world;
