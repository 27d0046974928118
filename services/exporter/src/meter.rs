//! Counters of a running job, from which progress reports are made.

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

/// The counters of a job.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    rows: AtomicU64,
    bytes: AtomicU64,
    /// Bytes of requests to the destination that have no response yet.
    under_way: Arc<AtomicU64>,
    files: AtomicU32,
    hydrated_objects: AtomicU64,
    hydration_misses: AtomicU64,
    /// The estimate plus one; 0 means unknown.
    rows_estimate: AtomicU64,
    micros: [AtomicU64; 4],
    doing: Mutex<&'static str>,
    /// What the job is blocked on, if anything.
    held_up: Mutex<Option<&'static str>>,
}

impl Meter {
    /// Starts from the totals of earlier attempts.
    pub(crate) fn starting_at(before: Totals) -> Self {
        let meter = Self::default();
        meter.rows.store(before.rows, Relaxed);
        meter.files.store(before.files, Relaxed);
        meter
    }

    /// Whether the task has files, from this attempt or earlier ones.
    pub(crate) fn has_files(&self) -> bool {
        self.files.load(Relaxed) > 0
    }

    /// Sets the current activity, one word for people.
    pub(crate) fn doing(&self, what: &'static str) {
        *self.doing.lock().unwrap_or_else(PoisonError::into_inner) = what;
    }

    /// Sets or clears what the job is blocked on.
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

    /// Counts bytes in flight to the destination. They count as progress, and become part of
    /// `bytes` only after arrival.
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

    /// Attributes the time until the value is dropped to a stage.
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

/// Measures time until it is dropped.
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
