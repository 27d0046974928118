//! What must be true of an export at rest, read back from the bucket as a customer would.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tracelift_core::time::Timestamp;
use tracelift_proto::{
    time_from,
    v1::{Export, ExportRun, ExportStatus, RunStatus},
};
use tracelift_tests::{rows::rows_of, world::DESTINATION_BUCKET};

use crate::{
    caller::PREFIX,
    fleet::World,
    source::{self, Rows},
    tally::Tally,
};

/// Whether something of an export is still to be cleaned up.
pub(crate) async fn open(world: &World, export: &Export) -> bool {
    let runs = world.caller.runs(&export.id).await.unwrap_or_default();
    let pending = |run: &ExportRun| run.result.as_ref().is_some_and(|result| result.pending_upload.is_some());
    runs.iter().any(pending) || !uploads(world, &runs).await.is_empty()
}

/// MinIO lists the uploads of one key only, so each key that a run may have opened is asked for.
async fn uploads(world: &World, runs: &[ExportRun]) -> BTreeSet<String> {
    let mut open = BTreeSet::new();
    for run in runs {
        let (start, _) = window(run);
        let (year, month, day) = start.day().civil();
        let Some(result) = &run.result else { continue };
        let path = result.export_path.trim_start_matches(&format!("{DESTINATION_BUCKET}/")).to_owned();
        for number in 0..result.exported_files.len() + 3 {
            let key = format!("{path}/year={year}/month={month}/day={day}/{}-{number:05}.parquet", run.id);
            open.extend(world.bucket.open_uploads(&key).await);
        }
    }
    open.extend(world.bucket.open_uploads(PREFIX).await);
    open
}

fn window(run: &ExportRun) -> (Timestamp, Timestamp) {
    let time = |time: Option<&_>| time_from("run", time).expect("a time");
    (time(run.start_time.as_ref()), time(run.end_time.as_ref()))
}

/// Counts everything that is wrong with an export.
pub(crate) async fn export(world: &World, export: &Export, tally: &mut Tally) {
    tally.exports += 1;
    let runs = world.caller.runs(&export.id).await.expect("runs");
    let mut found = Found::default();
    for key in world.bucket.keys(&format!("{PREFIX}/export_id={}/", export.id)).await {
        let object = world.bucket.get(&key).await.expect("it was just listed");
        let rows =
            if object.content.starts_with(b"PAR1") && object.content.ends_with(b"PAR1") { rows_of(&object.content) } else { Vec::new() };
        let told = Told {
            rows: rows.len() as u64,
            bytes: object.content.len() as u64,
            etag: object.etag,
            sha256: Sha256::digest(&object.content).iter().map(|byte| format!("{byte:02x}")).collect(),
        };
        found.files.insert(key, told);
        rows.iter().map(source::entry).for_each(|(id, row)| found.rows.entry(id).or_default().push(row.hash));
    }
    let completed = export.status() == ExportStatus::Completed;
    tally.cancelled += u64::from(export.status() == ExportStatus::Cancelled);
    rows(world, export, &found.rows, completed, tally);
    tally.leftovers.extend(uploads(world, &runs).await.into_iter().map(|upload| format!("open upload: {upload}")));
    tally.leftovers.extend(unlisted(&runs, &found));
    tally.leftovers.extend(manifests(world, export, &runs, &found, completed).await);
}

#[derive(Default)]
struct Found {
    files: BTreeMap<String, Told>,
    /// Hashes of every row of an id.
    rows: HashMap<String, Vec<u64>>,
}

/// A file, as it is or as a manifest tells.
#[derive(Debug, PartialEq)]
struct Told {
    rows: u64,
    bytes: u64,
    etag: String,
    sha256: String,
}

/// Every row once, if the export is complete; none twice, none of others, none changed in any case.
fn rows(world: &World, export: &Export, found: &HashMap<String, Vec<u64>>, completed: bool, tally: &mut Tally) {
    let spec = export.spec.as_ref().expect("a spec");
    let micros = |time: Option<&_>| time_from("spec", time).expect("a time").micros();
    let window = micros(spec.start_time.as_ref())..micros(spec.end_time.as_ref());
    let wanted: Rows = world.rows.iter().filter(|(_, row)| window.contains(&row.start_time)).map(|(id, row)| (id.clone(), *row)).collect();
    let before = (tally.lost, tally.doubled, tally.wrong);
    tally.rows += found.values().map(|hashes| hashes.len() as u64).sum::<u64>();
    tally.doubled += found.values().map(|hashes| hashes.len() as u64 - 1).sum::<u64>();
    tally.wrong +=
        found.iter().filter(|(id, hashes)| wanted.get(*id).is_none_or(|row| hashes.iter().any(|hash| *hash != row.hash))).count() as u64;
    if completed {
        tally.lost += wanted.keys().filter(|id| !found.contains_key(*id)).count() as u64;
    }
    if before != (tally.lost, tally.doubled, tally.wrong) {
        println!(
            "    export {}: {} rows wanted, {} ids found; lost, doubled, wrong were {before:?} before",
            export.id,
            wanted.len(),
            found.len()
        );
    }
}

/// Files and lists of files name the same.
fn unlisted(runs: &[ExportRun], found: &Found) -> Vec<String> {
    let bucket = format!("{DESTINATION_BUCKET}/");
    let results = runs.iter().filter_map(|run| run.result.as_ref());
    let listed: BTreeSet<_> = results.flat_map(|result| &result.exported_files).map(|file| file.trim_start_matches(&bucket)).collect();
    let there: BTreeSet<_> = found.files.keys().map(String::as_str).collect();
    let stray = there.difference(&listed).map(|key| format!("object that no run lists: {key}"));
    stray.chain(listed.difference(&there).map(|key| format!("listed file that is not there: {key}"))).collect()
}

/// Manifests say what the files hold, and `_SUCCESS` stands for an export whose rows are all there.
async fn manifests(world: &World, export: &Export, runs: &[ExportRun], found: &Found, completed: bool) -> Vec<String> {
    let mut faults = Vec::new();
    let folder = format!("{PREFIX}/_manifests/export_id={}/", export.id);
    let mut sum = 0;
    for run in runs.iter().filter(|run| run.status() == RunStatus::Completed) {
        let key = format!("{folder}run_id={}.json", run.id);
        let Some(manifest) = json(world, &key).await else {
            faults.push(format!("manifest that is not there: {key}"));
            continue;
        };
        let told: BTreeMap<_, _> = manifest["files"].as_array().into_iter().flatten().map(file).collect();
        let is = found.files.iter().filter(|(key, _)| key.contains(&format!("/{}-", run.id)));
        if told.iter().collect::<Vec<_>>() != is.collect::<Vec<_>>() {
            let is: Vec<_> = found.files.iter().filter(|(key, _)| key.contains(&run.id)).collect();
            faults.push(format!("manifest that does not say what is there: {key} says {told:?}, there is {is:?}"));
        }
        sum += told.values().map(|file| file.rows).sum::<u64>();
    }
    let success = world.bucket.get(&format!("{folder}_SUCCESS")).await.is_some();
    if completed {
        let manifest = json(world, &format!("{folder}manifest.json")).await;
        if manifest.as_ref().and_then(|manifest| manifest["totals"]["rows"].as_u64()) != Some(sum) {
            faults.push(format!("the export's manifest does not tell {sum} rows: {folder}manifest.json"));
        }
    }
    // A cancel may come while `_SUCCESS` is being written; it says the truth if every partition is complete.
    let whole = runs.iter().all(|run| run.status() == RunStatus::Completed);
    if (completed && !success) || (success && !whole) {
        faults.push(format!(
            "_SUCCESS is {} although export {} is {:?}",
            if success { "there" } else { "missing" },
            export.id,
            export.status()
        ));
    }
    faults
}

async fn json(world: &World, key: &str) -> Option<Value> {
    serde_json::from_slice(&world.bucket.get(key).await?.content).ok()
}

fn file(file: &Value) -> (String, Told) {
    let (text, number) =
        (|name: &str| file[name].as_str().unwrap_or_default().to_owned(), |name: &str| file[name].as_u64().unwrap_or_default());
    (text("key"), Told { rows: number("rows"), bytes: number("bytes"), etag: text("etag"), sha256: text("sha256") })
}
