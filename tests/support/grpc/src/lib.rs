//! The public gRPC API as tests need it from both sides: a control plane with fixed answers for
//! tests of its callers, and the key of a caller for tests of the control plane.
//!
//! It stays light: neither a database nor a data path, so that tests of the gateway and the command
//! build without them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a harness fails loudly, where it stands"
)]

mod answers;
mod bearer;
mod control_plane;
mod services;

pub use answers::{DESTINATION, EXPORT, PROJECT, RUN, TENANT, export};
pub use bearer::{Authorised, Bearer};
pub use control_plane::{Change, FakeControlPlane, Watch};
