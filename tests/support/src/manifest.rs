//! The judgement of what an export says of itself in the bucket: its manifests, its lists of files
//! and `_SUCCESS`. Shared by the checkers of the simulation and of chaos, which differ in where
//! they look.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

/// A file, as it is stored or as a manifest lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    pub rows: u64,
    pub bytes: u64,
    pub etag: String,
    pub sha256: String,
}

/// The manifest of a complete run exists and lists these files, by key, and no others.
pub fn of_run(
    run: &str,
    manifest: Option<&Value>,
    there: &BTreeMap<&str, Listed>,
) -> Option<String> {
    let Some(manifest) = manifest else {
        return Some(format!("run {run} is complete and has no manifest"));
    };
    let told = files(manifest);
    (told.as_ref() != Some(there)).then(|| {
        format!("manifest that does not say what is there: run {run}: {told:?}, there is {there:?}")
    })
}

/// The manifest of a complete export exists and tells this sum of rows.
pub fn of_export(export: &str, manifest: Option<&Value>, rows: u64) -> Option<String> {
    let told = manifest.and_then(|manifest| manifest["totals"]["rows"].as_u64());
    (told != Some(rows))
        .then(|| format!("the manifest of export {export} tells {told:?} rows of {rows}"))
}

/// `_SUCCESS` is there if it must be, and is not there unless it may be.
pub fn success(export: &str, there: bool, must: bool, may: bool) -> Option<String> {
    match there {
        true if !may => Some(format!("_SUCCESS is there although export {export} is not complete")),
        false if must => Some(format!("_SUCCESS is missing although export {export} is complete")),
        _ => None,
    }
}

/// The files that are listed are those that are there.
pub fn unlisted(listed: &BTreeSet<&str>, there: &BTreeSet<&str>) -> Vec<String> {
    let stray = there.difference(listed).map(|key| format!("object that no run lists: {key}"));
    let lost = listed.difference(there).map(|key| format!("listed file that is not there: {key}"));
    stray.chain(lost).collect()
}

/// The files of a manifest; `None` if it has no list or misses something about one.
fn files(manifest: &Value) -> Option<BTreeMap<&str, Listed>> {
    manifest["files"].as_array()?.iter().map(file).collect()
}

fn file(file: &Value) -> Option<(&str, Listed)> {
    let listed = Listed {
        rows: file["rows"].as_u64()?,
        bytes: file["bytes"].as_u64()?,
        etag: file["etag"].as_str()?.to_owned(),
        sha256: file["sha256"].as_str()?.to_owned(),
    };
    Some((file["key"].as_str()?, listed))
}
