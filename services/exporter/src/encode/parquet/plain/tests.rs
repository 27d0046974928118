//! What this writer produces is read by the Parquet crate's own reader, with and without the page
//! index, for any texts, nulls and sizes.

use std::sync::Arc;

use arrow::{
    array::{Array as _, ArrayRef, AsArray as _, RecordBatch},
    datatypes::{DataType, Field, Schema, SchemaRef},
};
use parquet::{
    arrow::{
        ArrowWriter,
        arrow_reader::{
            ArrowReaderOptions, ParquetRecordBatchReaderBuilder, RowSelection, RowSelector,
        },
    },
    basic::ZstdLevel,
    file::metadata::{PageIndexPolicy, ParquetMetaData},
};
use proptest::{collection::vec, option, prelude::*};

use super::*;
use crate::encode::parquet::column::ColumnWriter;

const PAGE_BYTES: usize = 300;
const PAGE_ROWS: usize = 40;

type Texts = Vec<Option<String>>;

fn schema(nullable: bool) -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("text", DataType::Utf8, nullable)]))
}

/// A file with one row group per entry of `groups`, each arriving in batches.
fn file(nullable: bool, groups: &[Vec<Texts>]) -> Bytes {
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_dictionary_enabled(false)
        .set_statistics_enabled(EnabledStatistics::None)
        .set_data_page_size_limit(PAGE_BYTES)
        .set_data_page_row_count_limit(PAGE_ROWS)
        .build();
    let schema = schema(nullable);
    let (mut file, columns) =
        ArrowWriter::try_new(Vec::new(), schema.clone(), Some(properties.clone()))
            .unwrap()
            .into_serialized_writer()
            .unwrap();
    for batches in groups {
        let mut writer = ColumnWriter::all(&file, &columns, &properties).unwrap().remove(0);
        assert!(matches!(writer, ColumnWriter::Plain(_)));
        for texts in batches {
            writer
                .write(
                    &schema.fields()[0],
                    &(Arc::new(StringArray::from(texts.clone())) as ArrayRef),
                )
                .unwrap();
        }
        let mut group = file.next_row_group().unwrap();
        writer.close().unwrap().append_to(&mut group).unwrap();
        group.close().unwrap();
    }
    file.into_inner().unwrap().into()
}

fn read(file: &Bytes, selection: Option<RowSelection>) -> (Texts, Arc<ParquetMetaData>) {
    let options = ArrowReaderOptions::new().with_page_index_policy(PageIndexPolicy::Required);
    let builder =
        ParquetRecordBatchReaderBuilder::try_new_with_options(file.clone(), options).unwrap();
    let metadata = builder.metadata().clone();
    let reader = match selection {
        Some(selection) => builder.with_row_selection(selection),
        None => builder,
    };
    let batches: Vec<RecordBatch> = reader.build().unwrap().map(Result::unwrap).collect();
    let texts = batches.iter().flat_map(|batch| {
        let column = batch.column(0).as_string::<i32>().clone();
        (0..column.len())
            .map(move |row| column.is_valid(row).then(|| column.value(row).to_owned()))
            .collect::<Vec<_>>()
    });
    (texts.collect(), metadata)
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![3 => "[a-zé\u{1f600}]{0,30}", 1 => Just(String::new()), 1 => (0..2000usize).prop_map(|size| "long ".repeat(size))]
}

fn batches(
    text: impl Strategy<Value = Option<String>> + Clone + 'static,
) -> impl Strategy<Value = Vec<Texts>> {
    vec(vec(text, 0..120), 1..5)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_text_and_every_null_is_read_as_it_was_written(first in batches(option::of(text()).boxed()), second in batches(option::of(text()).boxed())) {
        let groups: Vec<_> = [first, second].into_iter().filter(|batches| batches.iter().any(|texts| !texts.is_empty())).collect();
        let file = file(true, &groups);
        let (texts, metadata) = read(&file, None);
        prop_assert_eq!(&texts, &groups.concat().concat());
        for (group, batches) in metadata.row_groups().iter().zip(&groups) {
            prop_assert_eq!(group.column(0).num_values(), batches.iter().map(|texts| i64::try_from(texts.len()).unwrap()).sum::<i64>());
        }
    }

    #[test]
    fn where_no_text_can_be_null_no_levels_are_written(written in batches(text().prop_map(Some).boxed())) {
        prop_assume!(written.iter().any(|texts| !texts.is_empty()));
        let (texts, _) = read(&file(false, std::slice::from_ref(&written)), None);
        prop_assert_eq!(texts, written.concat());
    }

    #[test]
    fn rows_are_found_by_their_page(written in batches(option::of(text()).boxed()), from in 0..400usize, wanted in 1..50usize) {
        let all = written.concat();
        prop_assume!(!all.is_empty());
        let from = from % all.len();
        let wanted = wanted.min(all.len() - from);
        let selection = RowSelection::from(vec![RowSelector::skip(from), RowSelector::select(wanted)]);
        let (texts, _) = read(&file(true, std::slice::from_ref(&written)), Some(selection));
        prop_assert_eq!(&texts[..], &all[from..from + wanted]);
    }
}

#[test]
fn a_page_ends_by_its_bytes_or_its_rows_and_a_text_that_is_larger_has_its_own() {
    let text = |size: usize| Some("x".repeat(size));
    let short = vec![None; 100]; // pages of 40, 40 and 20 rows
    let long = vec![text(96), text(96), text(96), text(1), text(5000), text(1), None]; // 100 bytes each with the length
    let (texts, metadata) = read(&file(true, &[vec![short.clone(), long.clone()]]), None);
    assert_eq!(texts, [short, long].concat());
    let pages: Vec<_> = metadata
        .page_index()
        .unwrap()
        .offset_index(0, 0)
        .unwrap()
        .page_locations()
        .iter()
        .map(|page| page.first_row_index)
        .collect();
    assert_eq!(pages, [0, 40, 80, 103, 104, 105]);
}

#[test]
fn a_buffer_that_held_a_large_text_is_given_back() {
    let column = ArrowWriter::try_new(Vec::new(), schema(true), None)
        .unwrap()
        .into_serialized_writer()
        .unwrap()
        .0
        .schema_descr()
        .column(0);
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_dictionary_enabled(false)
        .set_statistics_enabled(EnabledStatistics::None)
        .build();
    let mut writer = PlainTexts::new(column, &properties).unwrap().unwrap();
    writer.write(&StringArray::from(vec!["x".repeat(3 * KEPT), String::new()])).unwrap();
    writer.write(&StringArray::from(vec!["x".repeat(3 * KEPT)])).unwrap();
    writer.end_page().unwrap();
    assert!(writer.page.bytes.capacity() <= KEPT && writer.compressed.capacity() <= KEPT);
    assert!(
        writer.page.bytes.capacity() > 0 && writer.compressed.capacity() > 0,
        "but not all of it"
    );
}
