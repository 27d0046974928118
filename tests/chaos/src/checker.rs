//! Invariants of an export at rest, checked on the content of the bucket and the responses of the
//! control plane.

mod gather;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde_json::Value;
use tracelift_proto::{
    time_from,
    v1::{Export, ExportRun, ExportStatus, RunStatus},
};
use tracelift_test_support::{
    manifest::{self, Listed},
    world::DESTINATION_BUCKET,
};

use crate::{
    report::Report,
    source::{Row, Rows},
};

pub(crate) use gather::{found, open};

/// An ended export, its runs, and what is in the bucket.
#[derive(Debug, Clone, Default)]
pub(crate) struct Found {
    export: Export,
    runs: Vec<ExportRun>,
    /// The data tree, by key.
    files: BTreeMap<String, Listed>,
    /// What is compared, for every row with an id.
    rows: HashMap<String, Vec<Row>>,
    /// Everything else, by key.
    manifests: BTreeMap<String, Value>,
    success: bool,
    /// Uploads that were neither completed nor aborted.
    uploads: BTreeSet<String>,
}

impl Found {
    fn completed(&self) -> bool {
        self.export.status() == ExportStatus::Completed
    }

    /// Counts everything that is wrong.
    pub(crate) fn checker(&self, truth: &Rows, report: &mut Report) {
        report.exports += 1;
        report.cancelled += u64::from(self.export.status() == ExportStatus::Cancelled);
        self.count_rows(truth, report);
        report.leftovers.extend(self.uploads.iter().map(|upload| format!("open upload: {upload}")));
        report.leftovers.extend(
            self.runs
                .iter()
                .filter(|run| pending(run))
                .map(|run| format!("pending upload of run {}", run.id)),
        );
        report.leftovers.extend(self.unlisted());
        report.leftovers.extend(self.manifests());
        report.leftovers.extend(self.success());
    }

    /// Every row once if the export is complete; in any case no duplicates, no foreign rows, no
    /// changes.
    fn count_rows(&self, truth: &Rows, report: &mut Report) {
        let spec = self.export.spec.as_ref().expect("a spec");
        let micros = |time: Option<&_>| time_from("spec", time).expect("a time").micros();
        let window = micros(spec.start_time.as_ref())..micros(spec.end_time.as_ref());
        let wanted: HashMap<_, _> =
            truth.iter().filter(|(_, row)| window.contains(&row.start_time)).collect();
        let good = |id: &String, rows: &[Row]| {
            wanted.get(id).is_some_and(|row| rows.iter().all(|found| found == *row))
        };
        let all: usize = self.rows.values().map(Vec::len).sum();
        let wrong = self.rows.iter().filter(|(id, rows)| !good(id, rows)).count();
        let lost = if self.completed() {
            wanted.keys().filter(|id| !self.rows.contains_key(**id)).count()
        } else {
            0
        };
        let doubled = all - self.rows.len();
        if lost + doubled + wrong > 0 {
            println!(
                "    export {}: of {} rows {lost} lost, {doubled} doubled, {wrong} wrong",
                self.export.id,
                wanted.len()
            );
        }
        report.rows += all as u64;
        report.lost += lost as u64;
        report.doubled += doubled as u64;
        report.wrong += wrong as u64;
    }

    /// The files and the lists of files must match.
    fn unlisted(&self) -> Vec<String> {
        let bucket = format!("{DESTINATION_BUCKET}/");
        let results = self.runs.iter().filter_map(|run| run.result.as_ref());
        let listed = results.flat_map(|result| &result.exported_files);
        let listed = listed.map(|file| file.trim_start_matches(&bucket)).collect();
        manifest::unlisted(&listed, &self.files.keys().map(String::as_str).collect())
    }

    /// The manifests exist and match the files.
    fn manifests(&self) -> Vec<String> {
        let (mut faults, mut sum) = (Vec::new(), 0);
        for run in self.runs.iter().filter(|run| run.status() == RunStatus::Completed) {
            let of_run =
                self.files.iter().filter(|(key, _)| key.contains(&format!("/{}-", run.id)));
            let there: BTreeMap<_, _> =
                of_run.map(|(key, file)| (key.as_str(), file.clone())).collect();
            sum += there.values().map(|file| file.rows).sum::<u64>();
            let manifest = self.manifest(&format!("run_id={}.json", run.id));
            faults.extend(manifest::of_run(&run.id, manifest, &there));
        }
        if self.completed() {
            let manifest = self.manifest("manifest.json");
            faults.extend(manifest::of_export(&self.export.id, manifest, sum));
        }
        faults
    }

    fn manifest(&self, name: &str) -> Option<&Value> {
        self.manifests
            .iter()
            .find(|(key, _)| key.ends_with(&format!("/{name}")))
            .map(|(_, manifest)| manifest)
    }

    /// A cancel may arrive while `_SUCCESS` is being written; the marker is correct if every
    /// partition is complete.
    fn success(&self) -> Option<String> {
        let whole = self.runs.iter().all(|run| run.status() == RunStatus::Completed);
        manifest::success(&self.export.id, self.success, self.completed(), whole)
    }
}

/// Whether a file of the run is pending, according to the control plane.
fn pending(run: &ExportRun) -> bool {
    run.result.as_ref().is_some_and(|result| result.pending_upload.is_some())
}
