//! What every process needs around its work: clock, shutdown, telemetry, listener, TLS, and the
//! outermost layer of a server.
//!
//! Deliberately small. Independent of exports, messages and stores.

pub mod clock;
pub mod incoming;
pub mod listen;
pub mod metrics;
pub mod process_limits;
pub mod reference;
pub mod renamed;
pub mod request;
pub mod secret;
pub mod shares;
pub mod shutdown;
pub mod tasks;
pub mod telemetry;
pub mod tls;
