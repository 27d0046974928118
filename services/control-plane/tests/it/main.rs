//! The control plane over gRPC: the real one on a free port, the generated clients, and a clock
//! that stands still.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::result_large_err,
    reason = "a test may fall over, and a status is what it looks at"
)]

mod asking;
mod audit;
mod auth;
mod bad_input;
mod bucket;
mod destinations;
mod exporter;
mod exports;
mod fleet;
mod keys;
mod leases;
mod limits;
mod pages;
mod plane;
mod replicas;
mod secrets;
mod starting;
mod stopping;
mod tenants;
mod tls;
