//! Counts the texts of a batch that exceed the limits of warehouses, using their offsets only: no
//! text is read.

use arrow::array::{Array as _, AsArray as _, RecordBatch, StringArray};
use tracelift_core::oversized::Oversized;

/// Counts the values and rows of the batch that exceed a limit.
pub(super) fn count(batch: &RecordBatch) -> Oversized {
    let texts: Vec<_> =
        batch.columns().iter().filter_map(|column| column.as_string_opt::<i32>()).collect();
    let mut oversized = Oversized::default();
    // Most batches contain none, which the sizes of their columns show.
    for text in texts.iter().filter(|text| size(text) > Oversized::LEAST_VALUE) {
        (0..text.len()).for_each(|row| oversized.count_value(length(text, row)));
    }
    if texts.iter().map(|text| size(text)).sum::<u64>() > Oversized::LEAST_ROW {
        (0..batch.num_rows())
            .for_each(|row| oversized.count_row(texts.iter().map(|text| length(text, row)).sum()));
    }
    oversized
}

/// Total size of a column's texts, in bytes.
fn size(text: &StringArray) -> u64 {
    let offsets = text.value_offsets();
    offsets
        .last()
        .zip(offsets.first())
        .map_or(0, |(last, first)| u64::from((last - first).unsigned_abs()))
}

/// Size of one text in bytes; 0 for null.
fn length(text: &StringArray, row: usize) -> u64 {
    if text.is_valid(row) { u64::from(text.value_length(row).unsigned_abs()) } else { 0 }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::{
        array::ArrayRef,
        datatypes::{DataType, Field, Schema},
    };

    use super::*;

    fn batch(columns: Vec<Vec<Option<String>>>) -> RecordBatch {
        let fields: Vec<_> =
            (0..columns.len()).map(|n| Field::new(n.to_string(), DataType::Utf8, true)).collect();
        let arrays = columns
            .into_iter()
            .map(|texts| Arc::new(StringArray::from(texts)) as ArrayRef)
            .collect();
        RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays).unwrap()
    }

    fn text(bytes: usize) -> Option<String> {
        Some("x".repeat(bytes))
    }

    fn over(batch: &RecordBatch) -> Vec<(&'static str, u64)> {
        count(batch).named().filter(|(_, count)| *count > 0).collect()
    }

    #[test]
    fn only_values_over_a_limit_count_and_bytes_do_not_characters() {
        let characters = Some("é".repeat(40_000));
        let one = batch(vec![
            vec![text(65_535), text(65_536), None],
            vec![text(60_000), characters, None],
        ]);
        assert_eq!(over(&one), [("redshift_varchar", 2)]);
        assert_eq!(over(&one.slice(1, 2)), [("redshift_varchar", 2)]);
        assert_eq!(over(&one.slice(0, 1)), []);
    }

    #[test]
    fn a_row_counts_by_all_of_its_texts() {
        let one = batch(vec![
            vec![text(20_000_000), text(1), text(20_000_000)],
            vec![text(12_000_001), None, text(12_000_000)],
        ]);
        assert_eq!(
            over(&one),
            [("redshift_varchar", 4), ("snowflake_varchar_16_mib", 2), ("athena_row", 1)]
        );
    }
}
