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
mod checker;
pub mod command;
mod fleet;
mod parts;
mod plan;
mod process;
mod recovery;
mod report;
mod round;
mod source;
