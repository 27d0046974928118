//! The source data: the data set, with a tenth of its rows offloaded to objects, and a hash of
//! every row as it must be exported.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash as _, Hasher as _},
};

use arrow::{
    array::AsArray as _, buffer::Buffer, ipc::reader::StreamDecoder, record_batch::RecordBatch,
};
use clickhouse::Client;
use futures::StreamExt as _;
use serde_json::Value;
use tracelift_core::time::Timestamp;
use tracelift_test_support::{dataset, rows::rows_of_batch, world::SOURCE_BUCKET};

use crate::bucket::Bucket;

/// The exported columns that ClickHouse stores in the same form, as SQL expressions.
const COLUMNS: &[(&str, &str)] = &[
    ("id", "toString(id)"),
    ("trace_id", "toString(trace_id)"),
    ("parent_run_id", "toString(parent_run_id)"),
    ("name", "name"),
    ("run_type", "toString(run_type)"),
    ("status", "toString(status)"),
    ("dotted_order", "dotted_order"),
    ("start_time", "start_time"),
    ("end_time", "end_time"),
    ("first_token_time", "first_token_time"),
    ("is_root", "is_root"),
    ("trace_tier", "toString(trace_tier)"),
    ("inputs", "inputs"),
    ("outputs", "outputs"),
    ("extra", "extra"),
    ("error", "error"),
    ("prompt_tokens", "prompt_tokens"),
    ("completion_tokens", "completion_tokens"),
    ("total_tokens", "total_tokens"),
    ("prompt_cost", "toFloat64(prompt_cost)"),
    ("completion_cost", "toFloat64(completion_cost)"),
    ("total_cost", "toFloat64(total_cost)"),
];

const OFFLOADED: &str = "cityHash64(toString(id)) % 10 = 0";

/// The start of the data set.
pub(crate) fn start() -> Timestamp {
    Timestamp::parse("start", dataset::START).expect("a time")
}

/// A row as it must be exported.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Row {
    /// Microseconds since 1970.
    pub(crate) start_time: i64,
    pub(crate) hash: u64,
}

/// Every row by its id.
pub(crate) type Rows = HashMap<String, Row>;

/// Loads this many rows. Returns what must be exported.
pub(crate) async fn load(client: &Client, bucket: &Bucket, rows: u64) -> Rows {
    let run = async |sql: String| {
        client.query_raw(&sql).execute().await.unwrap_or_else(|error| panic!("{sql}: {error}"))
    };
    dataset::load_truth(client, rows).await.expect("the data set");
    let replaced = ["inputs", "outputs"].map(|field| {
        format!(
            "if({OFFLOADED}, '', {field}) AS {field}, \
             if({OFFLOADED}, concat('{{\"ROOT\":\"blobs/', toString(id), '/{field}.json\"}}'), '') AS {field}_s3_urls"
        )
    });
    run(format!("INSERT INTO runs SELECT * REPLACE ({}) FROM truth", replaced.join(", "))).await;
    let texts = select(
        client,
        &format!("SELECT toString(id) AS id, inputs, outputs FROM truth WHERE {OFFLOADED}"),
    )
    .await;
    futures::stream::iter(objects(&texts))
        .for_each_concurrent(16, |(key, text)| bucket.put(SOURCE_BUCKET, key, text))
        .await;
    let columns: Vec<_> = COLUMNS.iter().map(|(name, sql)| format!("{sql} AS {name}")).collect();
    let truth =
        select(client, &format!("SELECT {} FROM (SELECT * FROM truth)", columns.join(", "))).await;
    truth.iter().flat_map(rows_of_batch).map(|row| entry(&row)).collect()
}

fn objects(texts: &[RecordBatch]) -> Vec<(String, Vec<u8>)> {
    let mut objects = Vec::new();
    for batch in texts {
        let ids = batch.column(0).as_string::<i32>();
        for (column, name) in [(1, "inputs"), (2, "outputs")] {
            let texts = batch.column(column).as_string::<i32>();
            objects.extend((0..batch.num_rows()).map(|row| {
                (format!("blobs/{}/{name}.json", ids.value(row)), texts.value(row).into())
            }));
        }
    }
    objects
}

async fn select(client: &Client, sql: &str) -> Vec<RecordBatch> {
    let client = client.clone().with_setting("output_format_arrow_compression_method", "none");
    let mut bytes = client.query_raw(sql).fetch_bytes("ArrowStream").expect(sql);
    let (mut decoder, mut batches) = (StreamDecoder::new(), Vec::new());
    while let Some(chunk) = bytes.next().await.expect(sql) {
        let mut buffer = Buffer::from(chunk);
        while let Some(batch) = decoder.decode(&mut buffer).expect("Arrow") {
            batches.push(batch);
        }
    }
    batches
}

/// A row's id, and what is compared. An empty text equals a missing one.
pub(crate) fn entry(row: &Value) -> (String, Row) {
    let mut hasher = DefaultHasher::new();
    for (name, _) in COLUMNS {
        row[*name].as_str().unwrap_or_default().hash(&mut hasher);
    }
    let start_time =
        row["start_time"].as_str().and_then(|text| text.parse().ok()).expect("microseconds");
    (row["id"].as_str().expect("an id").to_owned(), Row { start_time, hash: hasher.finish() })
}
