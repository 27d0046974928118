//! A writer for text columns with plain encoding, without dictionary and statistics, compressed
//! with zstd: nearly all bytes of a file.
//!
//! A page is assembled in one buffer and compressed into another, and all pages of a column reuse
//! both. Each byte is copied once before compression, where the Parquet crate's own writer copies
//! it several times (ADR 0028).

use arrow::{
    array::{BooleanBufferBuilder, StringArray},
    buffer::BooleanBuffer,
};
use bytes::Bytes;
use parquet::{
    basic::{Compression, Encoding, EncodingMask, PageType},
    column::{
        page::{CompressedPage, Page, PageWriter as _},
        writer::ColumnCloseResult,
    },
    errors::ParquetError,
    file::{
        metadata::{ColumnChunkMetaData, OffsetIndexBuilder, PageEncodingStats},
        properties::{EnabledStatistics, WriterProperties},
        writer::{SerializedPageWriter, TrackedWrite},
    },
    schema::types::ColumnDescPtr,
};
use zstd::{bulk::Compressor, zstd_safe::compress_bound};

use super::segments::{Segments, Written};

/// One column of a row group.
pub(super) struct PlainTexts {
    column: ColumnDescPtr,
    codec: Compression,
    compressor: Compressor<'static>,
    /// Maximum size of a page in bytes, unless a single text exceeds it.
    page_bytes: usize,
    page_rows: usize,
    page: OpenPage,
    compressed: Vec<u8>,
    chunk: TrackedWrite<Segments>,
    pages: OffsetIndexBuilder,
    page_count: i32,
    rows: u64,
    /// Size of all pages and headers before compression, in bytes.
    uncompressed: usize,
}

/// The current page.
struct OpenPage {
    /// Space for the levels, which are not known until the end, then the values, each preceded by
    /// its length.
    bytes: Vec<u8>,
    /// Size of that space, in bytes.
    room: usize,
    /// Which rows have a text.
    valid: BooleanBufferBuilder,
}

/// Largest buffer to keep for the next page, in bytes: texts can be large, and there are many
/// columns.
const KEPT: usize = 2 << 20;

impl PlainTexts {
    /// `None` if the column needs another writer: not text, with a dictionary or statistics, or
    /// with another codec.
    pub(super) fn new(
        column: ColumnDescPtr,
        properties: &WriterProperties,
    ) -> Result<Option<Self>, ParquetError> {
        let (path, codec) = (column.path(), properties.compression(column.path()));
        let Compression::ZSTD(level) = codec else { return Ok(None) };
        let texts = column.physical_type() == parquet::basic::Type::BYTE_ARRAY
            && column.max_rep_level() == 0
            && column.max_def_level() <= 1;
        let bare = !properties.dictionary_enabled(path)
            && properties.statistics_enabled(path) == EnabledStatistics::None;
        if !texts || !bare {
            return Ok(None);
        }
        let (page_bytes, page_rows) =
            (properties.column_data_page_size_limit(path), properties.data_page_row_count_limit());
        Ok(Some(Self {
            codec,
            compressor: Compressor::new(level.compression_level())?,
            page_bytes,
            page_rows,
            page: OpenPage::new(
                if column.max_def_level() == 0 { 0 } else { room(page_rows) },
                page_bytes,
            ),
            compressed: Vec::new(),
            chunk: TrackedWrite::new(Segments::default()),
            pages: OffsetIndexBuilder::new(),
            page_count: 0,
            rows: 0,
            uncompressed: 0,
            column,
        }))
    }

    /// Bytes so far, counting the current page uncompressed.
    pub(super) fn bytes(&self) -> usize {
        self.chunk.bytes_written() + self.page.size()
    }

    /// Adds texts and nulls.
    pub(super) fn write(&mut self, texts: &StringArray) -> Result<(), ParquetError> {
        for text in texts {
            let size = text.map_or(0, |text| LENGTH + text.len());
            if self.page.size() + size > self.page_bytes || self.page.valid.len() == self.page_rows
            {
                self.end_page()?;
            }
            self.page.add(text)?;
        }
        Ok(())
    }

    /// Finishes the column; returns the bytes of all pages and their metadata.
    pub(super) fn close(mut self) -> Result<(Written, ColumnCloseResult), ParquetError> {
        self.end_page()?;
        let compressed = self.chunk.bytes_written();
        let chunk = self.chunk.into_inner()?.done();
        let stats = PageEncodingStats {
            page_type: PageType::DATA_PAGE,
            encoding: Encoding::PLAIN,
            count: self.page_count,
        };
        let metadata = ColumnChunkMetaData::builder(self.column)
            .set_compression(self.codec)
            .set_encodings_mask(EncodingMask::new_from_encodings(
                [Encoding::PLAIN, Encoding::RLE].iter(),
            ))
            .set_page_encoding_stats(vec![stats])
            .set_total_compressed_size(number(compressed)?)
            .set_total_uncompressed_size(number(self.uncompressed)?)
            .set_num_values(number(self.rows)?)
            .set_data_page_offset(0)
            .build()?;
        let told = ColumnCloseResult {
            bytes_written: compressed as u64,
            rows_written: self.rows,
            metadata,
            bloom_filter: None,
            column_index: None,
            offset_index: Some(self.pages.build()),
        };
        Ok((chunk, told))
    }

    fn end_page(&mut self) -> Result<(), ParquetError> {
        let rows = self.page.valid.len();
        if rows == 0 {
            return Ok(());
        }
        let content = self.page.end()?;
        self.compressed.reserve(compress_bound(content.len()));
        self.compressor.compress_to_buffer(content, &mut self.compressed)?;
        let (size, compressed) = (content.len(), Bytes::from(std::mem::take(&mut self.compressed)));
        let page = Page::DataPage {
            buf: compressed.clone(),
            num_values: number(rows)?,
            encoding: Encoding::PLAIN,
            def_level_encoding: Encoding::RLE,
            rep_level_encoding: Encoding::RLE,
            statistics: None,
        };
        let written = SerializedPageWriter::new(&mut self.chunk)
            .write_page(CompressedPage::new(page, size))?;
        self.pages.append_row_count(i64::from(written.num_values));
        self.pages
            .append_offset_and_size(number(written.offset)?, number(written.compressed_size)?);
        self.page_count += 1;
        self.rows += u64::from(written.num_values);
        self.uncompressed += written.uncompressed_size;
        self.compressed = compressed.into(); // the page was dropped, so this reuses its buffer
        emptied(&mut self.compressed, 0);
        self.page.begin();
        Ok(())
    }
}

/// Size of the length prefix of each text, in bytes.
const LENGTH: usize = size_of::<u32>();

/// Maximum size of the levels of this many rows: their length, a header, and one bit per row.
fn room(rows: usize) -> usize {
    LENGTH + size_of::<u32>() + 1 + rows.div_ceil(8)
}

impl OpenPage {
    fn new(room: usize, page_bytes: usize) -> Self {
        let mut bytes = Vec::with_capacity(room + page_bytes);
        bytes.resize(room, 0);
        Self { bytes, room, valid: BooleanBufferBuilder::new(0) }
    }

    /// Size of its texts, in bytes.
    fn size(&self) -> usize {
        self.bytes.len() - self.room
    }

    fn add(&mut self, text: Option<&str>) -> Result<(), ParquetError> {
        self.valid.append(text.is_some());
        if let Some(text) = text {
            let length: u32 = number(text.len())?;
            self.bytes.extend_from_slice(&length.to_le_bytes());
            self.bytes.extend_from_slice(text.as_bytes());
        }
        Ok(())
    }

    /// Finishes the page: levels, if nulls are possible, then values.
    fn end(&mut self) -> Result<&[u8], ParquetError> {
        let valid = self.valid.finish();
        if self.room == 0 {
            return Ok(&self.bytes);
        }
        let levels = levels(&valid)?;
        let start = self.room - levels.len();
        self.bytes[start..self.room].copy_from_slice(&levels);
        Ok(&self.bytes[start..])
    }

    fn begin(&mut self) {
        emptied(&mut self.bytes, self.room);
    }
}

/// Converts to the integer types that Parquet uses: 32 or 64 bits, mostly signed.
fn number<N: TryFrom<T>, T>(count: T) -> Result<N, ParquetError> {
    N::try_from(count).map_err(|_| {
        ParquetError::General("a column, a page or a text is too large for Parquet".to_owned())
    })
}

/// Truncates a buffer to `length` and frees excess capacity.
fn emptied(buffer: &mut Vec<u8>, length: usize) {
    buffer.truncate(length);
    buffer.shrink_to(KEPT);
}

/// The definition levels of a page without their length prefix, in the hybrid of run-length
/// encoding and bit packing: a single run if all rows have a text or none has, otherwise Arrow's
/// own bits, which have the same order.
fn levels(valid: &BooleanBuffer) -> Result<Vec<u8>, ParquetError> {
    let (rows, texts) = (valid.len(), valid.count_set_bits());
    let mut run = Vec::with_capacity(room(rows));
    if texts == 0 || texts == rows {
        varint(rows << 1, &mut run);
        run.push(u8::from(texts > 0));
    } else {
        let bytes = rows.div_ceil(8);
        varint((bytes << 1) | 1, &mut run);
        run.extend_from_slice(&valid.values()[..bytes]);
    }
    let length: u32 = number(run.len())?;
    Ok([&length.to_le_bytes()[..], &run].concat())
}

/// Encodes as LEB128: seven bits per byte, lowest first; the highest bit marks that more follow.
fn varint(mut number: usize, to: &mut Vec<u8>) {
    while number >= 0x80 {
        to.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    to.push(number.to_le_bytes()[0]);
}

#[cfg(test)]
mod tests;
