//! `make sim`: the worlds of some seeds, each in a process of its own; one line at the end.

use std::process::ExitCode;

use clap::Parser as _;
use tracelift_sim::command::Command;

fn main() -> ExitCode {
    Command::parse().run()
}
