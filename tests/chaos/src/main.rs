//! `make chaos`: the real programs under kills, freezes and restarts; prints a summary line.

use std::process::ExitCode;

use clap::Parser as _;
use tracelift_chaos::command::Command;

#[tokio::main]
async fn main() -> ExitCode {
    Command::parse().run().await
}
