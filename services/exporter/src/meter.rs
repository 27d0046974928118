//! What a job has done so far, readable while it works: the source of the progress reports.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::time::Instant;
use tracelift_core::{file::Totals, task::Progress};

/// A stage of the data path.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Stage {
    Read,
    Hydrate,
    Encode,
    Upload,
}

/// Counters of one job.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    rows: AtomicU64,
    bytes: AtomicU64,
    /// Bytes of requests to the destination that are not answered yet.
    under_way: Arc<AtomicU64>,
    files: AtomicU32,
    hydrated_objects: AtomicU64,
    hydration_misses: AtomicU64,
    /// Plus one; 0 is unknown.
    rows_estimate: AtomicU64,
    micros: [AtomicU64; 4],
    doing: Mutex<&'static str>,
    /// What it waits for instead.
    held_up: Mutex<Option<&'static str>>,
}

impl Meter {
    /// Counters of a run that has these files already.
    pub(crate) fn starting_at(before: Totals) -> Self {
        let meter = Self::default();
        meter.rows.store(before.rows, Relaxed);
        meter.files.store(before.files, Relaxed);
        meter
    }

    /// Whether the run has files, of this attempt or of earlier ones.
    pub(crate) fn has_files(&self) -> bool {
        self.files.load(Relaxed) > 0
    }

    /// What it is doing, in a word that people read.
    pub(crate) fn doing(&self, what: &'static str) {
        *self.doing.lock().unwrap_or_else(PoisonError::into_inner) = what;
    }

    /// What keeps it from going on, until that is over.
    pub(crate) fn held_up(&self, by: Option<&'static str>) {
        *self.held_up.lock().unwrap_or_else(PoisonError::into_inner) = by;
    }

    fn stage(&self) -> &'static str {
        let doing = *self.doing.lock().unwrap_or_else(PoisonError::into_inner);
        self.held_up.lock().unwrap_or_else(PoisonError::into_inner).unwrap_or(doing)
    }

    pub(crate) fn add_rows(&self, rows: u64) {
        self.rows.fetch_add(rows, Relaxed);
        crate::ROWS_ENCODED.increment(rows);
    }

    pub(crate) fn add_bytes(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Relaxed);
        metrics::counter!("tracelift_bytes_uploaded_total").increment(bytes);
    }

    /// Counts what is on its way to the destination: it shows that the run gets on, and is part of
    /// `bytes` only when it has arrived.
    pub(crate) fn under_way(&self) -> Arc<AtomicU64> {
        self.under_way.clone()
    }

    pub(crate) fn add_file(&self) {
        self.files.fetch_add(1, Relaxed);
    }

    pub(crate) fn add_hydration(&self, objects: u64, misses: u64) {
        self.hydrated_objects.fetch_add(objects, Relaxed);
        self.hydration_misses.fetch_add(misses, Relaxed);
    }

    pub(crate) fn estimate_rows(&self, rows: u64) {
        self.rows_estimate.store(rows.saturating_add(1), Relaxed);
    }

    /// Counts the time until the value is dropped to a stage.
    pub(crate) fn time(&self, stage: Stage) -> Timed<'_> {
        Timed { counter: &self.micros[stage as usize], since: Instant::now() }
    }

    pub(crate) fn progress(&self) -> Progress {
        Progress {
            stage: self.stage().to_owned(),
            rows: self.rows.load(Relaxed),
            bytes: self.bytes.load(Relaxed) + self.under_way.load(Relaxed),
            files: self.files.load(Relaxed),
            rows_estimate: self.rows_estimate.load(Relaxed).checked_sub(1),
            hydrated_objects: self.hydrated_objects.load(Relaxed),
            hydration_misses: self.hydration_misses.load(Relaxed),
            stage_seconds: [0, 1, 2, 3]
                .map(|stage| Duration::from_micros(self.micros[stage].load(Relaxed)).as_secs_f64()),
        }
    }
}

/// Counts until it is dropped.
#[derive(Debug)]
pub(crate) struct Timed<'a> {
    counter: &'a AtomicU64,
    since: Instant,
}

impl Drop for Timed<'_> {
    fn drop(&mut self) {
        self.counter.fetch_add(
            u64::try_from(self.since.elapsed().as_micros()).unwrap_or(u64::MAX),
            Relaxed,
        );
    }
}
