//! The help of every command, and what wrong use gets.

use clap::{Command, CommandFactory as _, Parser as _};
use tracelift::Cli;

fn helps(command: &Command, path: &str, all: &mut Vec<(String, String)>) {
    let name = format!("{path}{}", command.get_name());
    let text = command
        .clone()
        .bin_name(name.replace('_', " "))
        .mut_args(|arg| arg.hide_env_values(true))
        .render_long_help();
    all.push((name.clone(), text.to_string()));
    for below in command.get_subcommands().filter(|below| below.get_name() != "help") {
        helps(below, &format!("{name}_"), all);
    }
}

#[test]
fn every_command_explains_itself() {
    let mut all = Vec::new();
    let mut command = Cli::command().disable_help_subcommand(true);
    command.build();
    helps(&command, "", &mut all);
    for (name, text) in all {
        insta::assert_snapshot!(name, text);
    }
}

#[test]
fn the_command_line_is_well_formed() {
    let mut command = Cli::command();
    command.build();
    command.debug_assert();
}

#[test]
fn wrong_use_is_told_apart_from_failure() {
    let id = "0190d1a2-0000-7000-8000-000000000001";
    let wrong: [&[&str]; 7] = [
        &["export", "get", "nope"],
        &[
            "export",
            "create",
            "--destination",
            id,
            "--project",
            id,
            "--start",
            "yesterday",
            "--end",
            "2024-01-02",
        ],
        &[
            "export",
            "create",
            "--destination",
            id,
            "--project",
            id,
            "--start",
            "2024-01-01",
            "--end",
            "2024-01-02",
            "--compression",
            "lz4",
        ],
        &["export", "create", "--destination", id, "--start", "2024-01-01", "--end", "2024-01-02"],
        &[
            "export",
            "create",
            "--destination",
            id,
            "--project",
            id,
            "--all-experiments",
            "--start",
            "2024-01-01",
            "--end",
            "2024-01-02",
        ],
        &["destination", "create", "--name", "x", "--bucket", "y", "--option", "Colour"],
        &["export", "list", "--limit", "0"],
    ];
    let told = wrong.map(|args| {
        let error = Cli::try_parse_from([&["tracelift"], args].concat()).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        error.to_string().lines().next().unwrap_or_default().to_owned()
    });
    insta::assert_snapshot!(told.join("\n"));
}

#[test]
fn no_secret_can_be_given_as_an_option() {
    for flag in ["--api-key", "--admin-token", "--secret-access-key"] {
        assert!(Cli::try_parse_from(["tracelift", "export", "list", flag, "x"]).is_err());
    }
}
