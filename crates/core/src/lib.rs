//! The rules of Tracelift, pure: no async, no I/O, no clock, no randomness, no wire formats.
//!
//! Time and ids are arguments, and every decision is a function whose result a test can inspect.
//! The rest of the workspace depends on this crate; it depends on none of the others.

#[macro_use]
mod string_enum;

pub mod assignment;
pub mod audit;
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
pub mod printable;
pub mod rounded;
pub mod schedule;
pub mod takeover;
pub mod task;
pub mod time;

pub use invalid::{Invalid, InvalidKind};
