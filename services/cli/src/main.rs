//! The `tracelift` command.

use std::process::ExitCode;

use clap::Parser as _;

#[tokio::main]
async fn main() -> ExitCode {
    tracelift::run(tracelift::Cli::parse()).await
}
