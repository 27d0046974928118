//! The real programs as processes, on real parts, any of which is killed, frozen or restarted while
//! exports are under way. Afterwards everything that was exported is read back and compared with
//! what was put in.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a harness fails loudly, where it stands"
)]

mod bucket;
mod caller;
pub mod command;
mod fleet;
mod judge;
mod parts;
mod plan;
mod process;
mod recovery;
mod round;
mod source;
mod tally;
