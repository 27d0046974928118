//! The command that people type: it asks the control plane over gRPC and shows the answer, for
//! people or for scripts.
//!
//! It keeps nothing on disk. Secrets come from the environment or from files, never from an
//! option's value.

#![allow(clippy::result_large_err, reason = "tonic::Status is what gRPC clients return")]

mod args;
mod command;
mod connection;
mod error;
mod json;
mod secrets;
mod show;
mod table;
mod watch;

pub use args::Cli;
pub use error::CliError;

use std::process::ExitCode;

/// Does what was asked. The code is 0 when it worked; for a watch, when the export completed.
pub async fn run(cli: Cli) -> ExitCode {
    match command::run(cli).await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
