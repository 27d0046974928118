//! Parquet: columns are encoded side by side, row groups are closed by size.

mod column;
mod plain;
mod segments;

use std::sync::Arc;

use arrow::{
    array::{Array as _, RecordBatch},
    datatypes::SchemaRef,
};
use parquet::{
    arrow::{ArrowWriter, arrow_writer::ArrowRowGroupWriterFactory},
    errors::ParquetError,
    file::{properties::WriterProperties, writer::SerializedFileWriter},
};
use tracelift_core::{
    export::ExportSpec,
    failure::{Failure, FailureClass, Step},
    file::LeftOut,
};
use tracelift_runtime::tasks;

use column::ColumnWriter;

use super::{Content, Encoded, FileEncoder, OpenFile, parts::PartSink};
use crate::{
    file_schema::{self, FileProvenance},
    hydrate::HydratedRows,
    meter::{Meter, Stage},
    settings::Limits,
};

/// How the files are written.
pub(super) struct ParquetEncoder {
    pub(super) schema: SchemaRef,
    pub(super) properties: WriterProperties,
    pub(super) limits: Limits,
    pub(super) meter: Arc<Meter>,
}

impl ParquetEncoder {
    pub(super) fn new(
        spec: &ExportSpec,
        provenance: FileProvenance,
        limits: Limits,
        meter: Arc<Meter>,
    ) -> Self {
        let (columns, version) = (&spec.columns, spec.format_version);
        Self {
            schema: file_schema::arrow(columns, version),
            properties: file_schema::properties(columns, version, spec.compression, provenance),
            limits,
            meter,
        }
    }
}

impl FileEncoder for ParquetEncoder {
    fn open(self: Arc<Self>, first: &HydratedRows) -> Result<Box<dyn OpenFile>, Failure> {
        let sink = PartSink::new(self.limits.part_bytes);
        let writer = ArrowWriter::try_new(sink, self.schema.clone(), Some(self.properties.clone()));
        let (writer, columns) =
            writer.and_then(ArrowWriter::into_serialized_writer).map_err(broken)?;
        let content = Content::from(first);
        Ok(Box::new(ParquetFile { encoder: self, writer, columns, group: None, content }))
    }
}

/// A Parquet file that is being written.
struct ParquetFile {
    encoder: Arc<ParquetEncoder>,
    writer: SerializedFileWriter<PartSink>,
    columns: ArrowRowGroupWriterFactory,
    group: Option<RowGroup>,
    content: Content,
}

/// The row group in hand.
struct RowGroup {
    columns: Vec<ColumnWriter>,
    /// Bytes of its rows, as readers will hold them.
    bytes: u64,
}

impl ParquetFile {
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

    /// Closes the row group in hand.
    fn flush(&mut self) -> Result<(), ParquetError> {
        let Some(group) = self.group.take() else { return Ok(()) };
        let chunks = tasks::side_by_side(group.columns, ColumnWriter::close)?;
        let mut group = self.writer.next_row_group()?;
        chunks.into_iter().try_for_each(|chunk| chunk.append_to(&mut group))?;
        group.close().map(drop)
    }
}

impl OpenFile for ParquetFile {
    fn add(&mut self, rows: HydratedRows) -> Result<(), Failure> {
        let meter = self.encoder.meter.clone();
        let _encoding = meter.time(Stage::Encode);
        self.write(&rows.batch).map_err(broken)?;
        meter.add_rows(rows.batch.num_rows() as u64);
        self.content.add(rows);
        Ok(())
    }

    fn leave_out(&mut self, left_out: LeftOut) {
        self.content.left_out.add(left_out);
    }

    fn is_full(&self) -> bool {
        let group = self.group.iter().flat_map(|group| &group.columns).map(ColumnWriter::bytes);
        (self.writer.bytes_written() + group.sum::<usize>()) as u64
            >= self.encoder.limits.file_bytes
    }

    fn ready(&mut self) -> Vec<Encoded> {
        self.writer.inner_mut().ready()
    }

    fn close(mut self: Box<Self>) -> Result<Vec<Encoded>, Failure> {
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
        let (mut ready, rest) = (sink.ready(), sink.rest());
        (self.content.bytes, self.content.sha256) = (sink.bytes(), sink.sha256());
        drop(encoding);
        if !rest.is_empty() {
            ready.push(Encoded::Part(rest));
        }
        ready.push(Encoded::End(self.content));
        Ok(ready)
    }
}

/// Bytes of a batch's values, without what its buffers hold of other rows.
fn held(batch: &RecordBatch) -> u64 {
    batch
        .columns()
        .iter()
        .map(|column| column.to_data().get_slice_memory_size().unwrap_or_default() as u64)
        .sum()
}

fn broken(error: ParquetError) -> Failure {
    Failure {
        step: Step::Encode,
        class: FailureClass::Internal,
        detail: format!("the Parquet writer failed: {error}"),
    }
}
