//! The shared data set: rows over three UTC days, with texts inline or offloaded to objects.
//!
//! `truth` holds the same rows with their texts inline, for comparison.

use std::path::Path;

use arrow::{
    array::{AsArray as _, RecordBatch},
    buffer::Buffer,
    ipc::reader::StreamDecoder,
};
use clickhouse::Client;

use crate::repository;

pub const TENANT_ID: &str = "00000000-0000-0000-0000-000000000001";
pub const PROJECT_ID: &str = "00000000-0000-0000-0000-000000000002";
pub const START: &str = "2024-01-01T00:00:00Z";
pub const END: &str = "2024-01-04T00:00:00Z";

fn statement(table: &str, rows: u64, offload: bool) -> String {
    let text = std::fs::read_to_string(repository().join("tests/support/dataset/dataset.sql"))
        .expect("the data set");
    text.replace("{table}", table)
        .replace("{rows}", &rows.to_string())
        .replace("{offload}", if offload { "1" } else { "0" })
}

/// Loads the rows into `runs` and, with their texts, into `truth`.
pub async fn load(client: &Client, rows: u64, offload: bool) -> clickhouse::error::Result<()> {
    load_truth(client, rows).await?;
    if offload {
        client.query_raw(&statement("runs", rows, true)).execute().await
    } else {
        client.query_raw("INSERT INTO runs SELECT * FROM truth").execute().await
    }
}

/// Loads the rows into `truth` only.
pub async fn load_truth(client: &Client, rows: u64) -> clickhouse::error::Result<()> {
    client.query_raw("CREATE TABLE IF NOT EXISTS truth AS runs").execute().await?;
    client.query_raw(&statement("truth", rows, false)).execute().await
}

/// Writes the objects that offloaded rows point to, as plain files in a bucket's folder. Returns
/// how many.
pub async fn write_blobs(client: &Client, bucket: &Path) -> std::io::Result<u64> {
    let sql =
        "SELECT toString(id) AS id, inputs, outputs FROM truth SETTINGS max_block_size = 8192";
    let client = client.clone().with_setting("output_format_arrow_compression_method", "none");
    let mut bytes =
        client.query_raw(sql).fetch_bytes("ArrowStream").map_err(std::io::Error::other)?;
    let (mut decoder, mut written) = (StreamDecoder::new(), 0);
    let mut writers = tokio::task::JoinSet::new();
    while let Some(chunk) = bytes.next().await.map_err(std::io::Error::other)? {
        let mut buffer = Buffer::from(chunk);
        while let Some(batch) = decoder.decode(&mut buffer).map_err(std::io::Error::other)? {
            while writers.len() >= WRITERS {
                written += joined(writers.join_next().await)?;
            }
            let bucket = bucket.to_owned();
            writers.spawn_blocking(move || write_batch(&batch, &bucket));
        }
    }
    while let Some(done) = writers.join_next().await {
        written += joined(Some(done))?;
    }
    Ok(written)
}

const WRITERS: usize = 4;

fn joined(
    done: Option<Result<std::io::Result<u64>, tokio::task::JoinError>>,
) -> std::io::Result<u64> {
    done.map_or(Ok(0), |done| done.map_err(std::io::Error::other)?)
}

fn write_batch(batch: &RecordBatch, bucket: &Path) -> std::io::Result<u64> {
    let [ids, inputs, outputs] = [0, 1, 2].map(|column| batch.column(column).as_string::<i32>());
    for row in 0..batch.num_rows() {
        let folder = bucket.join("blobs").join(ids.value(row));
        std::fs::create_dir_all(&folder)?;
        std::fs::write(folder.join("inputs.json"), inputs.value(row))?;
        std::fs::write(folder.join("outputs.json"), outputs.value(row))?;
    }
    Ok(batch.num_rows() as u64 * 2)
}
