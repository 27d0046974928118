//! The reference pages say what the programs say: settings and commands are rendered from the
//! command lines' own definitions, secrets and failures are looked up.
//!
//! `make docs` writes the generated parts of the pages.

use std::{fs, path::Path};

use clap::CommandFactory as _;
use tracelift_core::failure::FailureClass;
use tracelift_runtime::reference;
use tracelift_test_support::repository;

/// Set by `make docs`: the generated parts are written instead of compared.
const UPDATE: &str = "TRACELIFT_UPDATE_DOCS";

/// Compares the part of a page that carries a name with what it should be, or writes it.
fn holds(page: &str, name: &str, generated: &str) {
    let path = repository().join(page);
    let text = fs::read_to_string(&path).unwrap();
    let (begin, end) = (format!("<!-- generated: {name} -->\n"), "<!-- end -->\n");
    let start = text.find(&begin).expect("the page has a place for it") + begin.len();
    let stop = start + text[start..].find(end).expect("the generated part ends");
    let generated = format!("\n{generated}\n");
    if std::env::var_os(UPDATE).is_some() {
        let renewed = format!("{}{generated}{}", &text[..start], &text[stop..]);
        return fs::write(path, renewed).unwrap();
    }
    assert!(
        text[start..stop] == generated,
        "{page} does not say what {name} says now: run `make docs`. It should be:\n{generated}"
    );
}

#[test]
fn every_setting_of_every_program_is_documented() {
    let page = "docs/configuration.md";
    for (name, command) in [
        ("tracelift-control-plane", tracelift_control_plane::Settings::command()),
        ("tracelift-exporter", tracelift_exporter::Settings::command()),
        ("tracelift-gateway", tracelift_gateway::Settings::command()),
        ("tracelift", tracelift::Cli::command()),
    ] {
        assert_eq!(command.get_name(), name);
        holds(page, name, &reference::settings(&command));
    }
}

#[test]
fn every_command_is_documented() {
    holds("docs/cli.md", "commands", &reference::commands(&tracelift::Cli::command()));
}

#[test]
fn every_secret_that_comes_from_the_environment_is_documented() {
    let page = fs::read_to_string(repository().join("docs/configuration.md")).unwrap();
    let mut secrets = Vec::new();
    secrets_of(&repository().join("services"), &mut secrets);
    assert!(secrets.len() >= 10, "only {secrets:?} were found");
    for secret in secrets {
        assert!(page.contains(&format!("`{secret}`")), "docs/configuration.md lacks {secret}");
    }
}

/// The variables that are read with `secret::from_env` in a folder's sources.
fn secrets_of(folder: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() {
            secrets_of(&entry, found);
        } else if entry.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&entry).unwrap();
            let names = text.split("from_env(\"").skip(1).filter_map(|rest| rest.split('"').next());
            found.extend(names.map(str::to_owned));
        }
    }
}

#[test]
fn every_class_of_failure_is_documented() {
    let page = fs::read_to_string(repository().join("docs/troubleshooting.md")).unwrap();
    for class in FailureClass::ALL {
        let words = class.blame();
        assert!(page.contains(words), "docs/troubleshooting.md does not explain \"{words}\"");
    }
}
