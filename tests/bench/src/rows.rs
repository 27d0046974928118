//! Rows as ClickHouse answers them for an export of all columns, about as those of the benchmark's
//! data set: texts are words of a vocabulary, one row in 200 is 20 times longer. The same number
//! gives the same rows.

use std::{fmt::Write as _, sync::Arc};

use arrow::{
    array::{
        ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray,
        TimestampMicrosecondArray,
    },
    error::ArrowError,
};
use tracelift_core::column::{Column, ColumnType, Columns};

/// Where the large fields are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Large {
    /// In the row.
    Inline,
    /// inputs and outputs in objects.
    Offloaded,
}

/// Rows number `from` to `from + count`.
pub fn rows(from: u64, count: u64, large: Large) -> Result<Arc<RecordBatch>, ArrowError> {
    let rows = from..from + count;
    let vocabulary: Vec<String> = (0..2000)
        .map(|word| format!("{:016x}", mixed(word))[..2 + word as usize % 9].to_owned())
        .collect();
    let text = |value: &dyn Fn(u64) -> Option<String>| {
        Arc::new(rows.clone().map(value).collect::<StringArray>()) as ArrayRef
    };
    let times = |late: i64| {
        let times = rows
            .clone()
            .map(|row| Some(1_704_067_200_000_000 + 259_200 * row.cast_signed() + late));
        Arc::new(times.collect::<TimestampMicrosecondArray>().with_timezone("UTC")) as ArrayRef
    };
    let mut columns: Vec<(String, ArrayRef)> = Vec::new();
    for column in Columns::default().iter() {
        let array = match column.kind() {
            ColumnType::Text => text(&|row| field(column, row, large, &vocabulary)),
            ColumnType::Timestamp if column == Column::StartTime => times(0),
            ColumnType::Timestamp => times(1_500_000),
            ColumnType::Bool => Arc::new(
                rows.clone().map(|row| Some(row.is_multiple_of(3))).collect::<BooleanArray>(),
            ),
            ColumnType::Int => {
                Arc::new(rows.clone().map(|row| (row % 3000).cast_signed()).collect::<Int64Array>())
            }
            ColumnType::Cost => Arc::new(
                rows.clone().map(|row| (row % 700) as f64 / 100_000.0).collect::<Float64Array>(),
            ),
        };
        columns.push((format!("x_{}", column.name()), array));
    }
    for (name, field) in [("inputs_s3_urls", "inputs"), ("outputs_s3_urls", "outputs")] {
        let pointer = |row| format!(r#"{{"ROOT":"blobs/{}/{field}.json"}}"#, uuid(row));
        let pointers =
            text(&|row| Some(if large == Large::Offloaded { pointer(row) } else { String::new() }));
        columns.push((format!("x_{name}"), pointers));
    }
    columns.push(("x_s3_urls".to_owned(), text(&|_| Some(String::new()))));
    RecordBatch::try_from_iter_with_nullable(
        columns.into_iter().map(|(name, array)| (name, array, true)),
    )
    .map(Arc::new)
}

fn field(column: Column, row: u64, large: Large, vocabulary: &[String]) -> Option<String> {
    let longer = |every: u64, at: u64| if row % every == at { 20 } else { 1 };
    match column {
        Column::Inputs | Column::Outputs if large == Large::Offloaded => None,
        Column::Inputs => {
            let words = words(row, (40 + row % 160) * longer(200, 7), vocabulary);
            Some(format!(r#"{{"messages":[{{"role":"user","content":"{words}"}}]}}"#))
        }
        Column::Outputs => {
            let words = words(row + (1 << 40), (20 + row % 120) * longer(250, 9), vocabulary);
            Some(format!(r#"{{"generations":[{{"text":"{words}"}}]}}"#))
        }
        Column::Extra => Some(format!(
            r#"{{"metadata":{{"ls_model_name":"gpt-4o","thread_id":"{:012x}"}},"runtime":{{"sdk":"langsmith-py","platform":"Linux"}}}}"#,
            mixed(row) >> 16
        )),
        Column::Error => row
            .is_multiple_of(20)
            .then(|| format!("ValueError: something went wrong at step {row}")),
        Column::Events => Some("[]".to_owned()),
        Column::FeedbackStats => Some("{}".to_owned()),
        Column::Id => Some(uuid(row)),
        Column::TraceId => Some(uuid(row - row % 3)),
        Column::ParentRunId => (!row.is_multiple_of(3)).then(|| uuid(row - row % 3)),
        Column::ReferenceExampleId => None,
        Column::DottedOrder => Some(format!("20240101T000000{row:06}Z{}", uuid(row))),
        Column::Tags => Some(format!(r#"["prod","v{}"]"#, row % 7)),
        Column::Name => Some(format!("ChatOpenAI-{}", row % 50)),
        Column::Status => Some(if row.is_multiple_of(20) { "error" } else { "success" }.to_owned()),
        _ => Some("00000000-0000-0000-0000-000000000001".to_owned()),
    }
}

fn words(seed: u64, count: u64, vocabulary: &[String]) -> String {
    (0..count).fold(String::new(), |mut text, word| {
        let index = mixed(mixed(seed).wrapping_add(word)) % vocabulary.len() as u64;
        let _ = write!(text, "{}{}", if word == 0 { "" } else { " " }, vocabulary[index as usize]);
        text
    })
}

fn uuid(row: u64) -> String {
    let digits = format!("{:016x}{:016x}", mixed(row), mixed(!row));
    [&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]].join("-")
}

/// A number that looks like chance (SplitMix64).
fn mixed(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
