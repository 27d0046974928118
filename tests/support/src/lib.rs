//! Real components for the demo and the tests: the embedded ClickHouse, an S3 server with fault
//! injection, the data set, and the services in one process.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "a harness fails loudly, where it stands"
)]

pub mod clickhouse;
pub mod dataset;
pub mod line;
pub mod manifest;
pub mod rows;
pub mod s3;
pub mod slow_line;
pub mod wire;
pub mod world;

use std::path::{Path, PathBuf};

/// The root of the repository.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .expect("tests/support lies in the checkout")
        .to_owned()
}

/// The Python with chDB: `TRACELIFT_PYTHON`, or the one that `make install` installs.
pub fn python() -> PathBuf {
    let installed = || std::env::home_dir().unwrap_or_default().join(INSTALLED);
    std::env::var_os("TRACELIFT_PYTHON").map_or_else(installed, PathBuf::from)
}

/// Relative to the home directory, as in the Makefile.
const INSTALLED: &str = ".cache/tracelift/venv/bin/python";
