//! The product against real parts, in one process: what customers get, and what becomes of faults.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs, reason = "tests")]

mod binaries;
mod cancel;
mod complete;
mod configuration;
mod content;
mod deadlines;
mod experiments;
mod faults;
mod feedback;
mod filter;
mod matrix;
mod odd;
mod open_windows;
mod replicas;
mod restarts;
mod setup;
mod slow_line;
mod stores;
mod takeover;
mod vocabulary;
mod zombie;

use serde_json::{Value, json};
use uuid::Uuid;

/// The id of row number n.
fn id(n: u128) -> String {
    Uuid::from_u128(n).to_string()
}

/// Rows number 1 to n, a second apart from noon on, with their inputs offloaded to `blobs/<n>`.
fn offloaded(n: u128) -> Vec<Value> {
    let row = |n| json!({"id": id(n), "start_time": format!("2024-01-01 12:{:02}:{:02}", n / 60, n % 60), "inputs_s3_urls": pointer(n)});
    (1..=n).map(row).collect()
}

fn pointer(n: u128) -> String {
    json!({"ROOT": format!("blobs/{n}")}).to_string()
}

/// The ids of rows, sorted.
fn ids(rows: &[Value]) -> Vec<String> {
    let mut ids: Vec<_> = rows.iter().map(|row| row["id"].as_str().unwrap().to_owned()).collect();
    ids.sort();
    ids
}

/// The ids of rows 1 to n.
fn all(n: u128) -> Vec<String> {
    (1..=n).map(id).collect()
}
