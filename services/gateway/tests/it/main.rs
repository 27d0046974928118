//! The gateway over HTTP, in front of a control plane that says what the test wants.

#![allow(clippy::unwrap_used, reason = "a test may fall over")]

mod audit;
mod beyond;
mod destinations;
mod exports;
mod hostile;
mod limits;
mod probes;
mod refusals;
mod runs;
mod talk;
