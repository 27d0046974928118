//! Checks the invariants: after every step that changed a task or an object, and once more when the
//! world is at rest.

use std::collections::BTreeMap;

use futures::FutureExt as _;
use tracelift_control_plane::store::Store;
use tracelift_core::{
    id::{ExportId, TaskId},
    invariant::{Seen, broken, broken_together},
    task::{RunStatus, TaskKind},
};
use tracelift_test_support::manifest;

use crate::{
    bucket::{Bucket, DESTINATION},
    data::Data,
    rest,
    trace::Trace,
};

/// The checker, with the state it saw last.
pub struct Checker {
    store: Store,
    bucket: Bucket,
    trace: Trace,
    revision: i64,
    writes: u64,
    last: BTreeMap<TaskId, Seen>,
    /// How often the invariants were checked.
    pub judged: u64,
}

impl Checker {
    /// A checker of the database and the bucket.
    pub fn new(store: Store, bucket: Bucket, trace: Trace) -> Self {
        Self { store, bucket, trace, revision: -1, writes: 0, last: BTreeMap::new(), judged: 0 }
    }

    /// Checks after a step, if a task or an object has changed.
    pub fn step(&mut self) {
        let revision = self.store.revision().now_or_never().expect("in place").expect("a database");
        let writes = self.bucket.disk().writes;
        if (revision, writes) == (self.revision, self.writes) {
            return;
        }
        (self.revision, self.writes) = (revision, writes);
        self.judged += 1;
        let now = self.everything();
        for seen in &now {
            for rule in broken(self.last.get(&seen.task.id), seen) {
                self.trace.violation(format_args!("{rule}: run {} is now {seen:?}", seen.task.id));
            }
            self.in_the_bucket(seen);
        }
        for (export, runs) in by_export(&now) {
            for rule in broken_together(&runs) {
                self.trace.violation(format_args!("{rule}: export {}", export.0));
            }
        }
        self.last = now.into_iter().map(|seen| (seen.task.id, seen)).collect();
    }

    fn everything(&self) -> Vec<Seen> {
        self.store.everything().now_or_never().expect("in place").expect("a database")
    }

    /// ListedFileIsInBucket: a listed object exists, and stays as it was listed.
    fn in_the_bucket(&self, seen: &Seen) {
        let disk = self.bucket.disk();
        for file in &seen.files {
            match disk.objects.get(&(DESTINATION.to_owned(), file.key.clone())) {
                Some(object)
                    if object.etag == file.etag && object.content.len() as u64 == file.bytes => {}
                found => {
                    let found = found.map(|object| (&object.etag, object.content.len()));
                    self.trace.violation(format_args!(
                        "ListedFileIsInBucket: {} is listed as {}, found {found:?}",
                        file.key, file.etag
                    ));
                }
            }
        }
    }

    /// Whether there is no work left.
    pub fn at_rest(&self) -> bool {
        let runs: Vec<Seen> = self.last.values().cloned().collect();
        by_export(&runs).values().all(|runs| {
            let ended = runs.iter().all(|seen| seen.task.finished_at().is_some());
            let finalised = runs.iter().any(|seen| seen.task.kind == TaskKind::Finalize);
            let cancelled = runs.iter().any(|seen| seen.task.status() != RunStatus::Completed);
            ended && (finalised || cancelled)
        })
    }

    /// Checks the invariants that hold once the world is at rest.
    pub fn rest(&self, data: &Data) {
        let runs = self.everything();
        let disk = self.bucket.disk();
        for (export, runs) in by_export(&runs) {
            for fault in rest::faults_of(export, &runs, data, &disk) {
                self.trace.violation(fault);
            }
        }
        let listed = runs.iter().flat_map(|seen| seen.files.iter().map(|file| file.key.as_str()));
        let there = disk.objects.keys().map(|(bucket, key)| (bucket.as_str(), key.as_str()));
        let there =
            there.filter(|(bucket, key)| *bucket == DESTINATION && key.ends_with(".parquet"));
        for fault in manifest::unlisted(&listed.collect(), &there.map(|(_, key)| key).collect()) {
            self.trace.violation(format_args!("OnlyListedFilesAreInBucket: {fault}"));
        }
        // An empty upload may stay: whoever opened it crashed or was cut off before anyone received
        // its id, and it was created after the uploads of its key were listed. Nothing is ever sent
        // to an upload whose id is unknown. The check of a destination uploads one small part, and
        // nobody knows its upload if its control plane crashes.
        let of_check = |key: &str| key.contains("/tmp/") && key.ends_with(".txt");
        for (id, upload) in disk
            .uploads
            .iter()
            .filter(|(_, upload)| !upload.parts.is_empty() && !of_check(&upload.key))
        {
            self.trace.violation(format_args!(
                "NoUploadStaysOpen: {id} of {} holds {} parts",
                upload.key,
                upload.parts.len()
            ));
        }
        for seen in runs.iter().filter(|seen| seen.task.intent.is_some()) {
            self.trace.violation(format_args!(
                "NoIntentStaysOpen: run {} has {:?}",
                seen.task.id, seen.task.intent
            ));
        }
    }

    /// The last known state of every task, for the trace.
    pub fn describe(&self) -> String {
        let line = |seen: &Seen| {
            format!(
                "run {} {:?}: {:?}, attempt {}, {:?}, {:?}",
                seen.task.id,
                seen.task.kind,
                seen.task.state,
                seen.task.attempt,
                seen.task.totals,
                seen.task.errors.last()
            )
        };
        self.last.values().map(line).collect::<Vec<_>>().join("\n")
    }
}

fn by_export(runs: &[Seen]) -> BTreeMap<ExportId, Vec<Seen>> {
    let mut exports: BTreeMap<ExportId, Vec<Seen>> = BTreeMap::new();
    for seen in runs {
        exports.entry(seen.task.export).or_default().push(seen.clone());
    }
    exports
}
