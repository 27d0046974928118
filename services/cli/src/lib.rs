//! The command-line client: it calls the control plane over gRPC and prints the response, for
//! people or for scripts.
//!
//! It stores nothing on disk. Secrets come from the environment or from files, never from the value
//! of an option.

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

/// Runs a command. The exit code is 0 on success; for a watch, if the export completed.
pub async fn run(cli: Cli) -> ExitCode {
    match command::run(cli).await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
