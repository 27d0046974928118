//! `make sim`: simulates the worlds of some seeds, each in its own process, and prints a summary
//! line.

use std::process::ExitCode;

use clap::Parser as _;
use tracelift_sim::command::Command;

fn main() -> ExitCode {
    Command::parse().run()
}
