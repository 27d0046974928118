//! Both sides of the gRPC APIs for tests: a control plane with fixed responses for tests of its
//! clients, and a client's credentials and an exporter's stream for tests of the control plane.
//!
//! It stays small, without a database or a data path, so that tests of the gateway and the command
//! build without them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a harness fails loudly, where it stands"
)]

mod answers;
mod bearer;
mod control_plane;
pub mod fleet;
mod services;

pub use answers::{DESTINATION, EXPORT, PROJECT, RUN, TENANT, export};
pub use bearer::{Authorised, Bearer};
pub use control_plane::{Change, FakeControlPlane, Watch};
