//! Words that were given up stay away: each has a word of the glossary in ARCHITECTURE.md instead.

use std::{
    fs,
    path::{Path, PathBuf},
};

use tracelift_test_support::repository;

/// What was given up, and what it is called now.
const GIVEN_UP: [(&str, &str); 29] = [
    ("Workshop", "JobContext"),
    ("Halt", "JobError"),
    ("NoAnswer", "CallError"),
    ("NoBlob", "FetchError"),
    ("Died", "TaskPanicked"),
    ("Decider", "ContentFilter"),
    ("Packing", "TransportCompression"),
    ("FIGURES", "METRICS"),
    ("Desk", "Dispatcher"),
    ("give_out", "assign_batch"),
    ("Vault", "CredentialSealer"),
    ("OwnRights", "AmbientCredentials"),
    ("Refusal", "ApiError"),
    ("WrongField", "ValidationError"),
    ("RunFinished", "Finished"),
    ("RunPublished", "Published"),
    ("RunFailed", "Failed"),
    ("RunId", "TaskId"),
    ("Weather", "FaultInjector"),
    ("Sky", "FaultState"),
    ("Judge", "Checker"),
    ("MAX_RUNS", "EXPORTER_SLOTS"),
    ("the desk", "the dispatcher"),
    ("the vault", "the credential sealer"),
    ("the weather", "the fault injector"),
    ("lets us in", "authentication"),
    ("lets it in", "authentication"),
    ("own rights", "ambient credentials"),
    ("the judge", "the checker"),
];

/// Places that speak of what was: history, decisions, and the names that still work.
const EXCEPT: [&str; 6] = [
    "CHANGELOG.md",
    "docs/adr",
    "tests/e2e/it/vocabulary.rs",
    "services/exporter/src/settings.rs",
    "crates/runtime/src/renamed.rs",
    "services/gateway/src/openapi/request_schema.rs",
];

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if entry.file_type().unwrap().is_dir() {
            files(&path, found);
        } else if path
            .extension()
            .is_some_and(|kind| kind == "rs" || kind == "md" || kind == "proto")
        {
            found.push(path);
        }
    }
}

/// Whether `text` holds `word` as a word of its own.
fn holds(text: &str, word: &str) -> bool {
    let is_part = |letter: char| letter.is_alphanumeric() || letter == '_';
    text.match_indices(word).any(|(at, _)| {
        let (before, behind) = (&text[..at], &text[at + word.len()..]);
        !before.ends_with(is_part) && !behind.starts_with(is_part)
    })
}

#[test]
fn words_that_were_given_up_stay_away() {
    let (root, mut found) = (repository(), Vec::new());
    ["crates", "docs", "proto", "services", "tests"]
        .iter()
        .for_each(|folder| files(&root.join(folder), &mut found));
    found.extend(["ARCHITECTURE.md", "CONTRIBUTING.md", "README.md"].map(|name| root.join(name)));
    assert!(found.len() > 300, "{} files are too few", found.len());
    let mut faults = String::new();
    for path in found {
        let name = path.strip_prefix(&root).unwrap().to_owned();
        if EXCEPT.iter().any(|except| name.starts_with(except)) {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        for (number, line) in text.lines().enumerate() {
            for (word, instead) in GIVEN_UP.iter().filter(|(word, _)| holds(line, word)) {
                faults +=
                    &format!("{}:{}: `{word}` is called `{instead}`\n", name.display(), number + 1);
            }
        }
    }
    assert!(faults.is_empty(), "{faults}");
}

#[test]
fn a_word_is_found_only_where_it_stands_alone() {
    assert!(holds("a Halt.", "Halt") && holds("Halt", "Halt"));
    assert!(!holds("Halted", "Halt") && !holds("_Halt", "Halt"));
}
