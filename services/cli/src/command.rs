//! The commands: each sends a request and prints the response.

mod admin;
mod audit;
mod destination;
mod export;
mod filter;

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use clap::CommandFactory as _;
use serde_json::Value;

use crate::{
    args::{Cli, Command},
    error::CliError,
};

pub(crate) async fn run(cli: Cli) -> Result<ExitCode, CliError> {
    let global = &cli.global;
    match cli.command {
        Command::Destination(command) => destination::run(global, command).await,
        Command::Export(command) => export::run(global, command).await,
        Command::Runs(command) => export::runs(global, command).await,
        Command::Limits => export::limits(global).await,
        Command::Filter(command) => filter::run(global, command).await,
        Command::Audit(command) => audit::run(global, command).await,
        Command::Key(command) => admin::key(global, command).await,
        Command::Tenant(command) => admin::tenant(global, command).await,
        Command::Completions { shell } => completions(shell),
    }
}

fn completions(shell: clap_complete::Shell) -> Result<ExitCode, CliError> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "tracelift", &mut script);
    print(&String::from_utf8_lossy(&script))
}

/// Prints to standard output. A closed pipe is not an error.
fn print(text: &str) -> Result<ExitCode, CliError> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(ExitCode::SUCCESS),
    }
}

/// Prints either JSON or text.
fn answer(
    json: bool,
    value: impl FnOnce() -> Value,
    text: impl FnOnce() -> String,
) -> Result<ExitCode, CliError> {
    if json { print(&format!("{:#}\n", value())) } else { print(&text()) }
}
