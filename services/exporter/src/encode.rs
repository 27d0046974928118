//! Batches to the bytes of files, off the reactor: files are closed by size, bytes leave in parts.
//! What the bytes are is the [`FileEncoder`]'s own matter, one per file format.

mod oversized;
mod parquet;
mod parts;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;
use tracelift_core::{
    export::{ExportSpec, FileFormat},
    failure::{Failure, FailureClass, Step},
    file::{Cursor, HydrationMiss, LeftOut, MAX_NAMED_MISSES},
    oversized::Oversized,
    time::Timestamp,
};
use tracelift_runtime::tasks;

use crate::{
    file_schema::FileProvenance,
    hydrate::{Hydrated, HydratedRows},
    meter::Meter,
    settings::Limits,
};

/// What leaves the encoder: the parts of a file, then what it holds; then the next file.
#[derive(Debug)]
pub(crate) enum Encoded {
    /// The next bytes of the file in hand; all but a file's last part have the size that was set.
    Part(Bytes),
    /// The file is complete.
    End(Content),
}

/// What a file holds.
#[derive(Debug)]
pub(crate) struct Content {
    pub(crate) rows: u64,
    pub(crate) bytes: u64,
    pub(crate) sha256: String,
    pub(crate) min_start_time: Timestamp,
    pub(crate) cursor: Cursor,
    pub(crate) objects: u64,
    pub(crate) miss_count: u64,
    pub(crate) misses: Vec<HydrationMiss>,
    pub(crate) oversized: Oversized,
    pub(crate) left_out: LeftOut,
}

impl Content {
    /// Of a file that begins with these rows and holds none yet.
    fn from(first: &HydratedRows) -> Self {
        Self {
            rows: 0,
            bytes: 0,
            sha256: String::new(),
            min_start_time: first.first,
            cursor: first.last,
            objects: 0,
            miss_count: 0,
            misses: Vec::new(),
            oversized: Oversized::default(),
            left_out: LeftOut::default(),
        }
    }

    /// With these rows.
    fn add(&mut self, rows: HydratedRows) {
        self.rows += rows.batch.num_rows() as u64;
        self.cursor = rows.last;
        self.objects += rows.objects;
        self.miss_count += rows.misses.len() as u64;
        self.oversized = self.oversized.plus(oversized::count(&rows.batch));
        let room = MAX_NAMED_MISSES - self.misses.len();
        self.misses.extend(rows.misses.into_iter().take(room));
    }
}

/// Writes files of one format.
pub(crate) trait FileEncoder: Send + Sync {
    /// Begins the file that these rows come first in, without adding them.
    fn open(self: Arc<Self>, first: &HydratedRows) -> Result<Box<dyn OpenFile>, Failure>;
}

/// A file that is being written.
pub(crate) trait OpenFile: Send {
    /// Adds rows.
    fn add(&mut self, rows: HydratedRows) -> Result<(), Failure>;
    /// Notes rows that were read and not exported, after the rows before and up to the next ones.
    fn leave_out(&mut self, left_out: LeftOut);
    /// Whether it is to be closed.
    fn is_full(&self) -> bool;
    /// The parts that are full.
    fn ready(&mut self) -> Vec<Encoded>;
    /// The last parts, and what the file holds.
    fn close(self: Box<Self>) -> Result<Vec<Encoded>, Failure>;
}

/// The encoder of an export's files.
pub(crate) fn encoder(
    spec: &ExportSpec,
    provenance: FileProvenance,
    limits: Limits,
    meter: Arc<Meter>,
) -> Arc<dyn FileEncoder> {
    match spec.format {
        FileFormat::Parquet => {
            Arc::new(parquet::ParquetEncoder::new(spec, provenance, limits, meter))
        }
    }
}

/// Encodes until the batches end, or until nobody takes the parts: the rows behind the last file
/// that were left out. A batch is encoded when the parts of the one before it are taken, so that
/// what waits here is never more than a row group.
pub(crate) async fn run(
    encoder: Arc<dyn FileEncoder>,
    mut batches: mpsc::Receiver<Hydrated>,
    parts: mpsc::Sender<Encoded>,
) -> Result<LeftOut, Failure> {
    let (mut open, mut rest) = (None, LeftOut::default());
    loop {
        let next = tokio::select! {
            biased;
            () = parts.closed() => return Ok(rest),
            next = batches.recv() => next,
        };
        let Some(Hydrated { rows, before, behind }) = next else { break };
        rest.add(before);
        if let Some(rows) = rows {
            let (encoder, file, left_out) =
                (encoder.clone(), open.take(), std::mem::take(&mut rest));
            let advanced = compute(move || step(encoder, file, rows, left_out)).await?;
            open = advanced.open;
            if !hand_over(advanced.encoded, &parts).await {
                return Ok(rest);
            }
        }
        rest.add(behind);
    }
    if let Some(file) = open {
        hand_over(compute(move || file.close()).await?, &parts).await;
    }
    Ok(rest)
}

/// What rows have led to.
pub(crate) struct Advanced {
    /// The file that is still open.
    pub(crate) open: Option<Box<dyn OpenFile>>,
    /// What has become ready.
    pub(crate) encoded: Vec<Encoded>,
}

/// Adds rows to the file in hand or to a new one, with those before the last of them that were left
/// out.
pub(crate) fn step(
    encoder: Arc<dyn FileEncoder>,
    file: Option<Box<dyn OpenFile>>,
    rows: HydratedRows,
    left_out: LeftOut,
) -> Result<Advanced, Failure> {
    let mut file = match file {
        Some(file) => file,
        None => encoder.open(&rows)?,
    };
    file.leave_out(left_out);
    file.add(rows)?;
    if file.is_full() {
        return Ok(Advanced { open: None, encoded: file.close()? });
    }
    let encoded = file.ready();
    Ok(Advanced { open: Some(file), encoded })
}

async fn compute<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    let died = |died: tasks::TaskPanicked| Failure {
        step: Step::Encode,
        class: FailureClass::Internal,
        detail: died.to_string(),
    };
    tasks::compute(work).await.map_err(died)?
}

/// Whether somebody still takes them.
async fn hand_over(encoded: Vec<Encoded>, parts: &mpsc::Sender<Encoded>) -> bool {
    for encoded in encoded {
        if parts.send(encoded).await.is_err() {
            return false;
        }
    }
    true
}
