//! Invariants of an export once the world is at rest, checked on what a customer reads from the
//! bucket.

use arrow::array::{Array as _, AsArray as _};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::Value;
use tracelift_core::{
    file::File,
    id::ExportId,
    invariant::Seen,
    task::{RunStatus, TaskKind},
    time::Window,
};
use tracelift_test_support::manifest::{self, Listed};

use crate::{
    bucket::{DESTINATION, Disk, Object},
    data::Data,
};

/// Every violation found in an export at rest.
pub fn faults_of(export: ExportId, runs: &[Seen], data: &Data, disk: &Disk) -> Vec<String> {
    let mut faults = Vec::new();
    let completed = runs.iter().all(|seen| seen.task.status() == RunStatus::Completed);
    let cancelled = runs.iter().any(|seen| seen.task.status() == RunStatus::Cancelled);
    for seen in runs {
        let status = seen.task.status();
        if !matches!(status, RunStatus::Completed | RunStatus::Cancelled) {
            faults.push(format!(
                "EveryRunComesToRest: run {} is {status:?}: {:?}",
                seen.task.id,
                seen.task.errors.last()
            ));
        }
        match (status, seen.task.kind) {
            (RunStatus::Completed, TaskKind::Partition(partition)) => {
                faults.extend(rows(seen, partition.window, data, disk));
                faults.extend(run_manifest(export, seen, disk));
            }
            (RunStatus::Completed, TaskKind::FindExperiments(window)) => {
                faults.extend(outside_of_partitions(window, runs, data))
            }
            _ => {}
        }
    }
    let success = in_manifests(export, "_SUCCESS", disk);
    let id = export.0.to_string();
    let marker = manifest::success(&id, success.is_some(), completed, completed || cancelled);
    faults.extend(marker.map(|fault| format!("SuccessMeansCompleted: {fault}")));
    if completed {
        faults.extend(success.and_then(|success| success_is_last(export, success, disk)));
        let rows = runs.iter().map(|seen| seen.task.totals.rows).sum();
        let told = json(in_manifests(export, "manifest.json", disk));
        let fault = manifest::of_export(&id, told.as_ref(), rows);
        faults.extend(fault.map(|fault| format!("ManifestSaysWhatIsStored: {fault}")));
    }
    faults
}

/// EveryRowHasItsPartition: every day on which experiments have rows has become a partition.
fn outside_of_partitions(window: Window, runs: &[Seen], data: &Data) -> Option<String> {
    let partitions = || runs.iter().filter_map(|seen| seen.task.kind.partition());
    let within = |start_time: i64| {
        let holds =
            |part: Window| (part.start().micros()..part.end().micros()).contains(&start_time);
        partitions().any(|partition| holds(partition.window))
    };
    let lost = data.within(window).find(|row| !within(row.start_time))?;
    Some(format!(
        "EveryRowHasItsPartition: row {} of {window} lies in none of {:?}",
        lost.id,
        partitions().collect::<Vec<_>>()
    ))
}

/// EveryRowOnce: the files of a run hold exactly the rows of its partition, in order and complete.
fn rows(seen: &Seen, window: Window, data: &Data, disk: &Disk) -> Vec<String> {
    let mut faults = Vec::new();
    let mut wanted = data.within(window);
    for file in &seen.files {
        let Some(object) = disk.objects.get(&(DESTINATION.to_owned(), file.key.clone())) else {
            continue;
        };
        let reader = ParquetRecordBatchReaderBuilder::try_new(object.content.clone())
            .and_then(ParquetRecordBatchReaderBuilder::build);
        let Ok(reader) = reader else {
            return vec![format!("EveryRowOnce: {} is no Parquet file", file.key)];
        };
        let mut count = 0;
        for batch in reader.map(|batch| batch.expect("a batch")) {
            let text = |name: &str, row: usize| {
                let column = batch.column_by_name(name).expect("a column").as_string::<i32>();
                column.is_valid(row).then(|| column.value(row).to_owned())
            };
            for row in 0..batch.num_rows() {
                count += 1;
                let next = wanted.next();
                let found = (text("id", row), text("inputs", row), text("outputs", row));
                let expected = next.map(|next| {
                    (
                        Some(next.id.to_string()),
                        next.inputs.exported().map(str::to_owned),
                        next.outputs.exported().map(str::to_owned),
                    )
                });
                if expected.as_ref() != Some(&found) {
                    faults.push(format!(
                        "EveryRowOnce: {} row {row} is {found:?} where {expected:?} comes next",
                        file.key
                    ));
                    return faults;
                }
            }
        }
        if count != file.rows {
            faults.push(format!(
                "EveryRowOnce: {} holds {count} rows, listed are {}",
                file.key, file.rows
            ));
        }
    }
    if let Some(lost) = wanted.next() {
        faults.push(format!(
            "EveryRowOnce: run {} lacks row {} and all behind it",
            seen.task.id, lost.id
        ));
    }
    faults
}

/// ManifestSaysWhatIsStored: a run's manifest lists its files as they are stored.
fn run_manifest(export: ExportId, seen: &Seen, disk: &Disk) -> Option<String> {
    let run = seen.task.id.to_string();
    let told = json(in_manifests(export, &format!("run_id={run}.json"), disk));
    let stored = |file: &File| Listed {
        rows: file.rows,
        bytes: file.bytes,
        etag: file.etag.clone(),
        sha256: file.sha256.clone(),
    };
    let stored = seen.files.iter().map(|file| (file.key.as_str(), stored(file))).collect();
    manifest::of_run(&run, told.as_ref(), &stored)
        .map(|fault| format!("ManifestSaysWhatIsStored: {fault}"))
}

fn in_manifests<'a>(export: ExportId, name: &str, disk: &'a Disk) -> Option<&'a Object> {
    let key = format!("p/_manifests/export_id={}/{name}", export.0);
    disk.objects.get(&(DESTINATION.to_owned(), key))
}

fn json(object: Option<&Object>) -> Option<Value> {
    object.map(|object| serde_json::from_slice(&object.content).expect("JSON"))
}

/// SuccessIsLast: the marker that readers wait for is written after everything they will read.
fn success_is_last(export: ExportId, success: &Object, disk: &Disk) -> Option<String> {
    let of_export = disk
        .objects
        .iter()
        .filter(|((_, key), _)| key.contains(&format!("export_id={}/", export.0)));
    let later = of_export
        .filter(|(_, object)| object.write > success.write)
        .map(|((_, key), _)| key)
        .next();
    later.map(|key| format!("SuccessIsLast: {key} was written after it"))
}
