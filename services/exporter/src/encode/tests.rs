//! Files are split by size, parts have their size, and the reported content of a file is what it
//! contains.

use ::parquet::{
    arrow::arrow_reader::ParquetRecordBatchReaderBuilder, file::properties::WriterProperties,
};
use arrow::{
    array::{ArrayRef, RecordBatch, StringArray, TimestampMicrosecondArray},
    datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit},
};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::{parquet::ParquetEncoder, *};

fn schema() -> SchemaRef {
    let time = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    Arc::new(Schema::new(vec![
        Field::new("id", DataType::Utf8, false),
        Field::new("start_time", time, false),
    ]))
}

fn hydrated(from: usize, rows: usize) -> Hydrated {
    let ids: Vec<_> = (from..from + rows)
        .map(|row| Uuid::from_u128(row as u128 * 0x1234_5678_9abc_def1).to_string())
        .collect();
    let times: Vec<_> = (from..from + rows).map(|row| row as i64).collect();
    let at = |row: usize| Timestamp::from_micros(row as i64).unwrap();
    let last = from + rows - 1;
    let arrays: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from(ids)),
        Arc::new(TimestampMicrosecondArray::from(times).with_timezone("UTC")),
    ];
    let rows = HydratedRows {
        batch: RecordBatch::try_new(schema(), arrays).unwrap(),
        first: at(from),
        last: Cursor {
            start_time: at(last),
            id: Uuid::from_u128(last as u128 * 0x1234_5678_9abc_def1),
        },
        objects: 1,
        misses: Vec::new(),
    };
    Hydrated { rows: Some(rows), before: left_out(1), behind: left_out(10) }
}

fn left_out(rows: u64) -> LeftOut {
    LeftOut { undecided: rows, decided_against: 2 * rows, named: Vec::new() }
}

async fn encode(batches: Vec<Hydrated>, file_bytes: u64) -> Vec<(Vec<Bytes>, Content)> {
    let limits = Limits {
        file_bytes,
        part_bytes: 1000,
        row_group_bytes: 8000,
        ..crate::Settings::defaults().limits
    };
    let encoder = ParquetEncoder {
        schema: schema(),
        properties: WriterProperties::default(),
        limits,
        meter: Arc::default(),
    };
    let number = batches.len();
    let (batch_sink, batch_source) = mpsc::channel(number.max(1));
    for batch in batches {
        batch_sink.try_send(batch).unwrap();
    }
    drop(batch_sink);
    let (part_sink, mut part_source) = mpsc::channel(10_000);
    let rest = run(Arc::new(encoder), batch_source, part_sink).await.unwrap();
    let (mut files, mut parts) = (Vec::new(), Vec::new());
    while let Ok(encoded) = part_source.try_recv() {
        match encoded {
            Encoded::Part(part) => parts.push(part),
            Encoded::End(content) => files.push((std::mem::take(&mut parts), content)),
        }
    }
    assert!(parts.is_empty(), "every part belongs to a file");
    let told: u64 =
        files.iter().map(|(_, content): &(Vec<Bytes>, Content)| content.left_out.undecided).sum();
    assert_eq!(
        told + rest.undecided,
        11 * number as u64,
        "every row that was left out is told once"
    );
    assert!(number == 0 || rest == left_out(10), "those behind the last row are in no file");
    files
}

#[tokio::test]
async fn files_are_cut_by_size_and_hold_every_row_once_in_order() {
    let files = encode((0..20).map(|n| hydrated(n * 100, 100)).collect(), 20_000).await;
    assert!(files.len() > 1);
    let mut next = 0;
    for (parts, content) in files {
        let (last, full) = parts.split_last().unwrap();
        assert!(full.iter().all(|part| part.len() == 1000) && (1..=1000).contains(&last.len()));
        let bytes: Bytes = parts.concat().into();
        assert_eq!(bytes.len() as u64, content.bytes);
        assert_eq!(crate::file_schema::hex(&Sha256::digest(&bytes)), content.sha256);
        assert_eq!(content.min_start_time.micros(), next);
        let rows: usize = ParquetRecordBatchReaderBuilder::try_new(bytes)
            .unwrap()
            .build()
            .unwrap()
            .map(|batch| batch.unwrap().num_rows())
            .sum();
        assert_eq!(rows as u64, content.rows);
        next += rows as i64;
        assert_eq!(content.cursor.start_time.micros(), next - 1);
    }
    assert_eq!(next, 2000);
}

#[tokio::test]
async fn no_rows_make_no_file() {
    assert!(encode(Vec::new(), 1000).await.is_empty());
}

#[tokio::test]
async fn a_job_that_stopped_ends_its_encoder() {
    let limits = Limits { part_bytes: 100, ..crate::Settings::defaults().limits };
    let encoder = ParquetEncoder {
        schema: schema(),
        properties: WriterProperties::default(),
        limits,
        meter: Arc::default(),
    };
    let (batch_sink, batch_source) = mpsc::channel(1);
    batch_sink.try_send(hydrated(0, 100)).unwrap();
    let (part_sink, part_source) = mpsc::channel(1);
    drop(part_source);
    let ended = run(Arc::new(encoder), batch_source, part_sink);
    let _ = batch_sink; // more batches could come
    ended.await.unwrap();
}
