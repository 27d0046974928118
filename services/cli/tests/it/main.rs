//! The command as it is typed, against a control plane that says what the test wants.

#![allow(clippy::unwrap_used, reason = "a test may fall over")]

mod commands;
mod help;
mod talk;
mod watch;
