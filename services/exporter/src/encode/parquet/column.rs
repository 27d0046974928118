//! One column of a row group, with the writer that suits it.

use std::io::Write;

use arrow::{
    array::{Array as _, ArrayRef, AsArray as _},
    datatypes::FieldRef,
};
use parquet::{
    arrow::arrow_writer::{
        ArrowColumnChunk, ArrowColumnWriter, ArrowRowGroupWriterFactory, compute_leaves,
    },
    column::writer::ColumnCloseResult,
    errors::ParquetError,
    file::{
        properties::WriterProperties,
        writer::{SerializedFileWriter, SerializedRowGroupWriter},
    },
};

use super::{plain::PlainTexts, segments::Written};

/// Writes one column of a row group.
pub(super) enum ColumnWriter {
    Plain(Box<PlainTexts>),
    Arrow(Box<ArrowColumnWriter>),
}

/// A complete column.
pub(super) enum Chunk {
    Plain(Written, Box<ColumnCloseResult>),
    Arrow(Box<ArrowColumnChunk>),
}

impl ColumnWriter {
    /// Writers for the next row group of `file`, in order; every field is one column.
    pub(super) fn all<W: Write + Send>(
        file: &SerializedFileWriter<W>,
        columns: &ArrowRowGroupWriterFactory,
        properties: &WriterProperties,
    ) -> Result<Vec<Self>, ParquetError> {
        let arrow = columns.create_column_writers(file.flushed_row_groups().len())?;
        let writers =
            arrow.into_iter().zip(file.schema_descr().columns()).map(|(arrow, column)| {
                let plain = PlainTexts::new(column.clone(), properties)?;
                Ok(plain.map_or_else(
                    || Self::Arrow(Box::new(arrow)),
                    |plain| Self::Plain(Box::new(plain)),
                ))
            });
        writers.collect()
    }

    pub(super) fn write(&mut self, field: &FieldRef, array: &ArrayRef) -> Result<(), ParquetError> {
        match self {
            Self::Arrow(writer) => {
                compute_leaves(field, array)?.iter().try_for_each(|leaf| writer.write(leaf))
            }
            Self::Plain(writer) => {
                let texts = array.as_string_opt::<i32>();
                writer.write(texts.ok_or_else(|| {
                    ParquetError::General(format!("{} is no column of texts", array.data_type()))
                })?)
            }
        }
    }

    /// Approximate size in the file, in bytes.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Arrow(writer) => writer.get_estimated_total_bytes(),
            Self::Plain(writer) => writer.bytes(),
        }
    }

    pub(super) fn close(self) -> Result<Chunk, ParquetError> {
        Ok(match self {
            Self::Arrow(writer) => Chunk::Arrow(Box::new(writer.close()?)),
            Self::Plain(writer) => {
                let (pages, told) = writer.close()?;
                Chunk::Plain(pages, Box::new(told))
            }
        })
    }
}

impl Chunk {
    pub(super) fn append_to<W: Write + Send>(
        self,
        group: &mut SerializedRowGroupWriter<'_, W>,
    ) -> Result<(), ParquetError> {
        match self {
            Self::Arrow(chunk) => chunk.append_to_row_group(group),
            Self::Plain(pages, told) => group.append_column(&pages, *told),
        }
    }
}
