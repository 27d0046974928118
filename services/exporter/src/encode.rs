//! Encodes batches as Parquet, off the reactor. Columns are encoded in parallel, row groups and
//! files are closed by size, and bytes leave in parts.

use std::{
    io::{self, Write},
    sync::Arc,
};

use arrow::{
    array::{Array as _, RecordBatch},
    datatypes::SchemaRef,
};
use bytes::{Bytes, BytesMut};
use parquet::{
    arrow::{ArrowWriter, arrow_writer::ArrowRowGroupWriterFactory},
    errors::ParquetError,
    file::{properties::WriterProperties, writer::SerializedFileWriter},
};
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;
use tracelift_core::{
    failure::{Failure, FailureClass, Step},
    file::{Cursor, HydrationMiss, LeftOut, MAX_NAMED_MISSES},
    oversized::Oversized,
    time::Timestamp,
};
use tracelift_runtime::tasks;

use column::ColumnWriter;

use crate::{
    hydrate::{Hydrated, HydratedRows},
    meter::{Meter, Stage},
    schema,
    settings::Limits,
};

/// The encoder's output: the parts of a file, then its content; then the next file.
#[derive(Debug)]
pub(crate) enum Encoded {
    /// The next bytes of the current file. All parts except a file's last have the configured size.
    Part(Bytes),
    /// The file is complete.
    SessionEnd(Content),
}

/// The content of a file.
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

/// How to write files.
pub(crate) struct Encoder {
    pub(crate) schema: SchemaRef,
    pub(crate) properties: WriterProperties,
    pub(crate) limits: Limits,
    pub(crate) meter: Arc<Meter>,
}

impl Encoder {
    /// Encodes until the batches end or the receiver is dropped; returns the rows after the last
    /// file that were left out. A batch is encoded only after the parts of the previous one have
    /// been taken, so at most a row group waits here.
    pub(crate) async fn run(
        self,
        mut batches: mpsc::Receiver<Hydrated>,
        parts: mpsc::Sender<Encoded>,
    ) -> Result<LeftOut, Failure> {
        let encoder = Arc::new(self);
        let (mut open, mut rest): (Option<OpenFile>, _) = (None, LeftOut::default());
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
                let (file, encoded) = compute(move || encoder.step(file, rows, left_out)).await?;
                open = file;
                if !hand_over(encoded, &parts).await {
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

    /// Adds rows to the current file, or to a new one, including the left-out rows between them.
    /// Returns the file if it is still open, and the parts that became ready.
    pub(crate) fn step(
        self: Arc<Self>,
        file: Option<OpenFile>,
        rows: HydratedRows,
        left_out: LeftOut,
    ) -> Result<(Option<OpenFile>, Vec<Encoded>), Failure> {
        let mut file = match file {
            Some(file) => file,
            None => OpenFile::new(self, &rows)?,
        };
        file.content.left_out.add(left_out);
        file.add(rows)?;
        if file.is_full() {
            return Ok((None, file.close()?));
        }
        let ready = file.ready();
        Ok((Some(file), ready))
    }
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

/// Sends parts; returns whether the receiver still exists.
async fn hand_over(encoded: Vec<Encoded>, parts: &mpsc::Sender<Encoded>) -> bool {
    for encoded in encoded {
        if parts.send(encoded).await.is_err() {
            return false;
        }
    }
    true
}

/// The current file.
pub(crate) struct OpenFile {
    encoder: Arc<Encoder>,
    writer: SerializedFileWriter<PartSink>,
    columns: ArrowRowGroupWriterFactory,
    group: Option<RowGroup>,
    content: Content,
}

/// The current row group.
struct RowGroup {
    columns: Vec<ColumnWriter>,
    /// Size of its rows in a reader's memory, in bytes.
    bytes: u64,
}

impl OpenFile {
    fn new(encoder: Arc<Encoder>, first: &HydratedRows) -> Result<Self, Failure> {
        let sink = PartSink {
            ready: Vec::new(),
            part_bytes: usize::try_from(encoder.limits.part_bytes).unwrap_or(usize::MAX),
            pending: BytesMut::new(),
            digest: Sha256::new(),
            bytes: 0,
        };
        let writer =
            ArrowWriter::try_new(sink, encoder.schema.clone(), Some(encoder.properties.clone()));
        let (writer, columns) =
            writer.and_then(ArrowWriter::into_serialized_writer).map_err(broken)?;
        let content = Content {
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
        };
        Ok(Self { encoder, writer, columns, group: None, content })
    }

    fn add(&mut self, hydrated: HydratedRows) -> Result<(), Failure> {
        let meter = self.encoder.meter.clone();
        let _encoding = meter.time(Stage::Encode);
        self.write(&hydrated.batch).map_err(broken)?;
        let rows = hydrated.batch.num_rows() as u64;
        let content = &mut self.content;
        content.rows += rows;
        content.cursor = hydrated.last;
        content.objects += hydrated.objects;
        content.miss_count += hydrated.misses.len() as u64;
        let room = MAX_NAMED_MISSES - content.misses.len();
        content.misses.extend(hydrated.misses.into_iter().take(room));
        content.oversized = content.oversized.plus(oversized::count(&hydrated.batch));
        meter.add_rows(rows);
        Ok(())
    }

    fn write(&mut self, batch: &RecordBatch) -> Result<(), ParquetError> {
        let group = match self.group.take() {
            Some(group) => group,
            None => RowGroup {
                columns: ColumnWriter::all(&self.writer, &self.columns, &self.encoder.properties)?,
                bytes: 0,
            },
        };
        let group = self.group.insert(group);
        let schema = &self.encoder.schema;
        let columns = group.columns.iter_mut().zip(schema.fields()).zip(batch.columns()).collect();
        tasks::side_by_side(columns, |((writer, field), array)| writer.write(field, array))?;
        group.bytes += held(batch);
        if group.bytes >= self.encoder.limits.row_group_bytes { self.flush() } else { Ok(()) }
    }

    /// Closes the current row group.
    fn flush(&mut self) -> Result<(), ParquetError> {
        let Some(group) = self.group.take() else { return Ok(()) };
        let chunks = tasks::side_by_side(group.columns, ColumnWriter::close)?;
        let mut group = self.writer.next_row_group()?;
        chunks.into_iter().try_for_each(|chunk| chunk.append_to(&mut group))?;
        group.close().map(drop)
    }

    fn is_full(&self) -> bool {
        let group = self.group.iter().flat_map(|group| &group.columns).map(ColumnWriter::bytes);
        (self.writer.bytes_written() + group.sum::<usize>()) as u64
            >= self.encoder.limits.file_bytes
    }

    /// Takes the parts that are full.
    fn ready(&mut self) -> Vec<Encoded> {
        std::mem::take(&mut self.writer.inner_mut().ready)
    }

    /// Closes the file; returns its last parts and its content.
    pub(crate) fn close(mut self) -> Result<Vec<Encoded>, Failure> {
        let meter = self.encoder.meter.clone();
        let encoding = meter.time(Stage::Encode);
        self.flush().map_err(broken)?;
        let footer = self.writer.finish().map_err(broken)?.file_metadata().num_rows();
        if u64::try_from(footer) != Ok(self.content.rows) {
            let detail = format!(
                "the footer of a file names {footer} rows where {} were written",
                self.content.rows
            );
            return Err(Failure { step: Step::Encode, class: FailureClass::Internal, detail });
        }
        let sink = self.writer.inner_mut();
        let (mut ready, rest) = (std::mem::take(&mut sink.ready), sink.pending.split().freeze());
        self.content.bytes = sink.bytes;
        self.content.sha256 = schema::hex(&sink.digest.clone().finalize());
        drop(encoding);
        // A Parquet file ends with its footer, so bytes remain unless the file ended exactly at a
        // part's boundary.
        if !rest.is_empty() {
            ready.push(Encoded::Part(rest));
        }
        ready.push(Encoded::SessionEnd(self.content));
        Ok(ready)
    }
}

/// Size of a batch's values in bytes, without what its buffers hold for other rows.
fn held(batch: &RecordBatch) -> u64 {
    batch
        .columns()
        .iter()
        .map(|column| column.to_data().get_slice_memory_size().unwrap_or_default() as u64)
        .sum()
}

/// Splits the writer's output into parts.
struct PartSink {
    ready: Vec<Encoded>,
    part_bytes: usize,
    pending: BytesMut,
    digest: Sha256,
    bytes: u64,
}

impl Write for PartSink {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.digest.update(data);
        self.bytes += data.len() as u64;
        let mut rest = data;
        while !rest.is_empty() {
            let taken = rest.len().min(self.part_bytes - self.pending.len());
            self.pending.extend_from_slice(&rest[..taken]);
            rest = &rest[taken..];
            if self.pending.len() == self.part_bytes {
                let part =
                    std::mem::replace(&mut self.pending, BytesMut::with_capacity(self.part_bytes))
                        .freeze();
                self.ready.push(Encoded::Part(part));
            }
        }
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn broken(error: ParquetError) -> Failure {
    Failure {
        step: Step::Encode,
        class: FailureClass::Internal,
        detail: format!("the Parquet writer failed: {error}"),
    }
}

mod column;
mod oversized;
mod plain;
mod segments;
#[cfg(test)]
mod tests;
