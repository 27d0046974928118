//! What every process needs around its work: a clock, shutdown, telemetry, a listener, TLS, the
//! outermost layer of a server.
//!
//! Small on purpose. It knows nothing of exports, messages or stores.

pub mod clock;
pub mod listen;
pub mod metrics;
pub mod reference;
pub mod renamed;
pub mod request;
pub mod secret;
pub mod shutdown;
pub mod tasks;
pub mod telemetry;
pub mod tls;
