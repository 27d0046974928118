//! The schema of the files, which is fixed: Arrow fields of the exported columns, and how Parquet
//! writes each of them. The schema of the trace store is [`crate::source::schema`].

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use parquet::{
    basic::{Compression as Codec, GzipLevel, ZstdLevel},
    file::{
        metadata::{KeyValue, SortingColumn},
        properties::{EnabledStatistics, WriterProperties, WriterVersion},
    },
    schema::types::ColumnPath,
};
use sha2::{Digest as _, Sha256};
use tracelift_core::{
    column::{Column, ColumnType, Columns},
    export::{Compression, FormatVersion},
    id::{ExportId, TaskId},
};

/// Precision and scale of a cost.
const COST: DataType = DataType::Decimal128(18, 12);

/// The Arrow type of a column.
pub(crate) fn data_type(column: Column, version: FormatVersion) -> DataType {
    match (column.kind(), version) {
        (ColumnType::Text, _) => DataType::Utf8,
        (ColumnType::Timestamp, _) => {
            DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
        }
        (ColumnType::Bool, _) => DataType::Boolean,
        (ColumnType::Int, _) => DataType::Int64,
        (ColumnType::Cost, FormatVersion::V1) => DataType::Float64,
        (ColumnType::Cost, FormatVersion::V2Beta) => COST,
    }
}

/// The Arrow schema of the files.
pub(crate) fn arrow(columns: &Columns, version: FormatVersion) -> SchemaRef {
    let fields = columns
        .iter()
        .map(|column| Field::new(column.name(), data_type(column, version), column.nullable()));
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// SHA-256 of everything a reader relies on, in lower-case hex.
pub(crate) fn hash(columns: &Columns, version: FormatVersion) -> String {
    hex(&Sha256::digest(columns.describe(version).as_bytes()))
}

/// Encodes as lower-case hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let digit = |nibble: u8| char::from(b"0123456789abcdef"[usize::from(nibble & 0xf)]);
        text.push(digit(byte >> 4));
        text.push(digit(*byte));
        text
    })
}

/// Who a file belongs to, for its key-value metadata.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FileProvenance {
    pub(crate) export: ExportId,
    pub(crate) task: TaskId,
}

/// Approximate page size in bytes. Small enough that a page is encoded and compressed within the
/// CPU cache, which takes a quarter less time than pages of 1 MiB and makes files 1 % larger;
/// larger than 128 KiB, up to which zstd compresses with smaller tables: pages of 128 KiB make
/// files 6 % larger.
const PAGE_BYTES: usize = 160 << 10;
/// Rows between the writer's checks of a page's size. Low, because a row can be megabytes.
const ROWS_BETWEEN_LOOKS: usize = 128;

/// Parquet properties of each column.
pub(crate) fn properties(
    columns: &Columns,
    version: FormatVersion,
    compression: Compression,
    provenance: FileProvenance,
) -> WriterProperties {
    let metadata = [
        ("tracelift.export_id", provenance.export.to_string()),
        ("tracelift.run_id", provenance.task.to_string()),
        ("tracelift.format_version", version.as_str().to_owned()),
        ("tracelift.schema_hash", hash(columns, version)),
        ("tracelift.producer", format!("tracelift {}", env!("CARGO_PKG_VERSION"))),
    ];
    let metadata = metadata.map(|(key, value)| KeyValue::new(key.to_owned(), value)).to_vec();
    let mut properties = WriterProperties::builder()
        .set_writer_version(WriterVersion::PARQUET_1_0)
        .set_compression(codec(compression))
        .set_data_page_size_limit(PAGE_BYTES)
        .set_write_batch_size(ROWS_BETWEEN_LOOKS)
        .set_max_row_group_row_count(None)
        .set_statistics_enabled(EnabledStatistics::None)
        .set_sorting_columns(sorting(columns))
        .set_created_by(format!("tracelift version {}", env!("CARGO_PKG_VERSION")))
        .set_key_value_metadata(Some(metadata));
    for column in columns.iter() {
        let path = ColumnPath::from(column.name());
        let unique = matches!(column, Column::Id | Column::DottedOrder)
            || column.kind() == ColumnType::Timestamp;
        properties =
            properties.set_column_dictionary_enabled(path.clone(), !column.wide() && !unique);
        if matches!(column, Column::Id | Column::TraceId | Column::StartTime) {
            properties = properties.set_column_statistics_enabled(path, EnabledStatistics::Page);
        }
    }
    properties.build()
}

fn codec(compression: Compression) -> Codec {
    match compression {
        Compression::None => Codec::UNCOMPRESSED,
        Compression::Gzip => Codec::GZIP(GzipLevel::default()),
        Compression::Snappy => Codec::SNAPPY,
        Compression::Zstandard => Codec::ZSTD(ZstdLevel::default()),
    }
}

/// The sort order (start_time, id), as far as these columns are exported.
fn sorting(columns: &Columns) -> Option<Vec<SortingColumn>> {
    let index = |wanted| {
        columns
            .iter()
            .position(|column| column == wanted)
            .and_then(|index| i32::try_from(index).ok())
    };
    let start_time = index(Column::StartTime)?;
    let sorted = [Some(start_time), index(Column::Id)];
    let ascending =
        |column_idx| SortingColumn { column_idx, descending: false, nulls_first: false };
    Some(sorted.into_iter().flatten().map(ascending).collect())
}
