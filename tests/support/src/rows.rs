//! Rows in a comparable form: the name and text of each value.

use arrow::{
    array::{ArrayRef, RecordBatch},
    compute::cast,
    datatypes::DataType,
};
use bytes::Bytes;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::Value;

/// The rows of a Parquet file.
pub fn rows_of(parquet: &[u8]) -> Vec<Value> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(Bytes::copy_from_slice(parquet))
        .expect("Parquet")
        .build()
        .expect("Parquet");
    reader.flat_map(|batch| rows_of_batch(&batch.expect("Parquet"))).collect()
}

/// Every value as text, times in microseconds.
pub fn rows_of_batch(batch: &RecordBatch) -> Vec<Value> {
    use arrow::util::display::{ArrayFormatter, FormatOptions};
    let options = FormatOptions::default().with_null("\u{0}null");
    let schema = batch.schema();
    // Times in microseconds: formatting them with their zone would require the time zone database.
    let plain = |column: &ArrayRef| match column.data_type() {
        DataType::Timestamp(..) => cast(column, &DataType::Int64).expect("micros"),
        _ => column.clone(),
    };
    let plain: Vec<_> = batch.columns().iter().map(plain).collect();
    let columns: Vec<_> = plain
        .iter()
        .map(|column| ArrayFormatter::try_new(column, &options).expect("a column"))
        .collect();
    let row = |row: usize| {
        let fields = schema.fields().iter().zip(&columns).map(|(field, column)| {
            let text = column.value(row).to_string();
            (
                field.name().clone(),
                if text == "\u{0}null" { Value::Null } else { Value::String(text) },
            )
        });
        Value::Object(fields.collect())
    };
    (0..batch.num_rows()).map(row).collect()
}
