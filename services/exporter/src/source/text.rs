//! Turns ClickHouse Strings and UUIDs into text. A String holds arbitrary bytes; invalid UTF-8
//! becomes U+FFFD and the row is kept. Done here because `toValidUTF8` and `toString` in the query
//! would copy every text (ADR 0022).

use std::sync::Arc;

use arrow::{
    array::{
        Array as _, ArrayRef, AsArray as _, BinaryArray, FixedSizeBinaryArray, RecordBatch,
        RecordBatchOptions, StringArray, StringBuilder,
    },
    buffer::{BooleanBuffer, NullBuffer},
    datatypes::{DataType, Field, Schema},
};
use tracelift_core::{column::Column, failure::Failure};
use uuid::{Uuid, fmt::Hyphenated};

use super::{failures::cut, query::out};

/// The same rows with text in place of bytes and UUIDs. Empty values in columns of large text
/// become null.
pub(super) fn texts(batch: &RecordBatch) -> Result<RecordBatch, Failure> {
    let schema = batch.schema();
    let converted = schema.fields().iter().zip(batch.columns()).map(|(field, array)| {
        if let Some(ids) = array.as_fixed_size_binary_opt().filter(|ids| ids.value_length() == 16) {
            let field = Field::new(field.name(), DataType::Utf8, field.is_nullable());
            return (Arc::new(field), Arc::new(uuids(ids)) as ArrayRef);
        }
        let Some(bytes) = array.as_binary_opt::<i32>() else {
            return (field.clone(), array.clone());
        };
        let empty_is_null =
            Column::ALL.iter().any(|column| column.wide() && out(column.name()) == *field.name());
        let field = Field::new(field.name(), DataType::Utf8, field.is_nullable() || empty_is_null);
        (Arc::new(field), Arc::new(text(bytes, empty_is_null)) as ArrayRef)
    });
    let (fields, columns): (Vec<_>, Vec<_>) = converted.unzip();
    let rows = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &rows).map_err(cut)
}

fn text(bytes: &BinaryArray, empty_is_null: bool) -> StringArray {
    let nulls = if empty_is_null { filled(bytes) } else { bytes.nulls().cloned() };
    let valid =
        StringArray::try_new(bytes.offsets().clone(), bytes.values().clone(), nulls.clone());
    valid.unwrap_or_else(|_| {
        let there = |row: &usize| nulls.as_ref().is_none_or(|nulls| nulls.is_valid(*row));
        (0..bytes.len())
            .map(|row| Some(row).filter(there).map(|row| String::from_utf8_lossy(bytes.value(row))))
            .collect()
    })
}

/// Formats UUIDs as ClickHouse holds them in memory: high half first, each half in little-endian
/// order.
fn uuids(ids: &FixedSizeBinaryArray) -> StringArray {
    let mut texts = StringBuilder::with_capacity(ids.len(), ids.len() * Hyphenated::LENGTH);
    let mut text = Uuid::encode_buffer();
    for id in ids {
        let halves = id.and_then(|id| Some((id.first_chunk()?, id.last_chunk()?)));
        match halves.map(|(high, low)| {
            Uuid::from_u64_pair(u64::from_le_bytes(*high), u64::from_le_bytes(*low))
        }) {
            Some(id) => texts.append_value(id.hyphenated().encode_lower(&mut text)),
            None => texts.append_null(),
        }
    }
    texts.finish()
}

/// Which values are not empty.
fn filled(bytes: &BinaryArray) -> Option<NullBuffer> {
    let filled = BooleanBuffer::collect_bool(bytes.len(), |row| {
        bytes.is_valid(row) && bytes.value_length(row) > 0
    });
    Some(NullBuffer::new(filled)).filter(|nulls| nulls.null_count() > 0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn column(name: &str, values: Vec<Option<&[u8]>>) -> Vec<Option<String>> {
        let batch = RecordBatch::try_from_iter([(
            out(name),
            Arc::new(BinaryArray::from(values)) as ArrayRef,
        )])
        .unwrap();
        let texts = texts(&batch).unwrap();
        texts.column(0).as_string::<i32>().iter().map(|text| text.map(str::to_owned)).collect()
    }

    #[test]
    fn wrong_bytes_are_replaced_and_nothing_else_changes() {
        let values: Vec<Option<&[u8]>> =
            vec![Some(b"a\xffb"), Some("日本".as_bytes()), None, Some(b""), Some(b"\xe6\x97")];
        let told = column("name", values.clone());
        assert_eq!(
            told,
            [Some("a\u{fffd}b"), Some("日本"), None, Some(""), Some("\u{fffd}")]
                .map(|text| text.map(str::to_owned))
        );
        assert_eq!(column("inputs", values)[2..4], [None, None], "an empty large text is nothing");
    }

    #[test]
    fn a_character_cut_by_the_end_of_a_value_is_not_joined_with_the_next() {
        let (first, second) = "é".as_bytes().split_at(1);
        assert_eq!(
            column("name", vec![Some(first), Some(second)]),
            [Some("\u{fffd}".to_owned()), Some("\u{fffd}".to_owned())]
        );
    }

    #[test]
    fn a_uuid_is_the_text_that_clickhouse_makes_of_it() {
        let high_and_low = [
            0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11, 0x00, 0xff, 0xee, 0xdd, 0xcc, 0xbb, 0xaa,
            0x99, 0x88,
        ];
        let ids = FixedSizeBinaryArray::try_from_sparse_iter_with_size(
            [Some(high_and_low), None].into_iter(),
            16,
        )
        .unwrap();
        let texts =
            texts(&RecordBatch::try_from_iter([(out("id"), Arc::new(ids) as ArrayRef)]).unwrap())
                .unwrap();
        let texts: Vec<_> = texts.column(0).as_string::<i32>().iter().collect();
        assert_eq!(texts, [Some("00112233-4455-6677-8899-aabbccddeeff"), None]);
    }

    proptest! {
        #[test]
        fn every_value_is_what_it_would_be_alone(values: Vec<Option<Vec<u8>>>) {
            let told = column("status", values.iter().map(Option::as_deref).collect());
            let alone = |bytes: &Vec<u8>| String::from_utf8_lossy(bytes).into_owned();
            prop_assert_eq!(told, values.iter().map(|value| value.as_ref().map(alone)).collect::<Vec<_>>());
        }
    }
}
