//! Reads an export back, as a customer would.

use std::collections::BTreeSet;

use sha2::{Digest as _, Sha256};
use tracelift_proto::{
    time_from,
    v1::{Export, ExportRun},
};
use tracelift_test_support::{manifest::Listed, rows::rows_of, world::DESTINATION_BUCKET};

use super::{Found, pending};
use crate::{
    bucket::Object,
    caller::PREFIX,
    fleet::World,
    source::{self, Row},
};

/// Whether an export still has something to clean up.
pub(crate) async fn open(world: &World, export: &Export) -> bool {
    let runs = world.caller.runs(&export.id).await.unwrap_or_default();
    runs.iter().any(pending) || !uploads(world, &runs).await.is_empty()
}

/// Collects everything that the checks of an export need.
pub(crate) async fn found(world: &World, export: &Export) -> Found {
    let runs = world.caller.runs(&export.id).await.expect("runs");
    let mut found = Found {
        uploads: uploads(world, &runs).await,
        export: export.clone(),
        runs,
        ..Found::default()
    };
    for key in world.bucket.keys(&format!("{PREFIX}/export_id={}/", export.id)).await {
        let object = world.bucket.get(&key).await;
        let (told, rows) =
            tokio::task::spawn_blocking(move || contents(object)).await.expect("Parquet");
        found.files.insert(key, told);
        rows.into_iter().for_each(|(id, row)| found.rows.entry(id).or_default().push(row));
    }
    for key in world.bucket.keys(&format!("{PREFIX}/_manifests/export_id={}/", export.id)).await {
        if key.ends_with("/_SUCCESS") {
            found.success = true;
        } else {
            let manifest =
                serde_json::from_slice(&world.bucket.get(&key).await.content).expect("JSON");
            found.manifests.insert(key, manifest);
        }
    }
    found
}

fn contents(object: Object) -> (Listed, Vec<(String, Row)>) {
    let rows = rows_of(&object.content);
    let sha256 = Sha256::digest(&object.content).iter().map(|byte| format!("{byte:02x}")).collect();
    let told = Listed {
        rows: rows.len() as u64,
        bytes: object.content.len() as u64,
        etag: object.etag,
        sha256,
    };
    (told, rows.iter().map(source::entry).collect())
}

/// MinIO lists the uploads of a single key only, so query each key for which a run may have opened
/// one.
async fn uploads(world: &World, runs: &[ExportRun]) -> BTreeSet<String> {
    let mut open: BTreeSet<_> = world.bucket.open_uploads(PREFIX).await.into_iter().collect();
    for (run, result) in runs.iter().filter_map(|run| Some((run, run.result.as_ref()?))) {
        let (year, month, day) =
            time_from("run", run.start_time.as_ref()).expect("a time").day().civil();
        let path =
            result.export_path.trim_start_matches(DESTINATION_BUCKET).trim_start_matches('/');
        for number in 0..result.exported_files.len() + 3 {
            let key = format!(
                "{path}/year={year}/month={month}/day={day}/{}-{number:05}.parquet",
                run.id
            );
            open.extend(world.bucket.open_uploads(&key).await);
        }
    }
    // Only those of this export: the others are checked separately.
    open.retain(|upload| runs.iter().any(|run| upload.contains(&run.id)));
    open
}
