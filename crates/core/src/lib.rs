//! The rules of Tracelift, pure: no async, no IO, no clock, no randomness, no wire formats.
//!
//! Time is an argument, ids are handed in, and every decision is a function whose result can be
//! looked at. Everything else in the workspace calls into here; this crate calls nothing of the
//! workspace.

#[macro_use]
mod string_enum;

pub mod assignment;
pub mod column;
pub mod destination;
pub mod export;
pub mod failure;
pub mod file;
pub mod filter;
pub mod id;
pub mod invalid;
pub mod invariant;
pub mod json;
pub mod layout;
pub mod limit;
pub mod oversized;
pub mod part;
pub mod plan;
pub mod rounded;
pub mod schedule;
pub mod takeover;
pub mod task;
pub mod time;

pub use invalid::{Invalid, InvalidKind};
