//! The real programs as processes, on real components, any of which is killed, frozen or restarted
//! while exports are in progress. Afterwards everything exported is read back and compared with the
//! source data.

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
