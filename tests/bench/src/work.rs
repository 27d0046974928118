//! One piece of work for each hot part of the data path that is pure.

use std::{error::Error, sync::Arc};

use arrow::array::RecordBatch;
use tracelift_core::{
    column::{Column, Columns},
    export::Compression,
    filter::Filter,
};
use tracelift_exporter::{Pushdown, SourceSchema, stages::Stages};

use crate::rows::{Large, rows};

/// Why a piece of work failed.
pub type Fault = Box<dyn Error + Send + Sync>;

/// A piece of work: its input is there, doing it again gives the same.
pub struct Work {
    /// What it is called in reports.
    pub name: &'static str,
    /// How many of `unit` it deals with.
    pub size: u64,
    /// What `size` counts.
    pub unit: &'static str,
    /// Does it; the number depends on all of what was made.
    pub run: Box<dyn Fn() -> Result<usize, Fault>>,
}

impl std::fmt::Debug for Work {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Work").field("name", &self.name).finish_non_exhaustive()
    }
}

const BATCH: u64 = 2048;
const FILTER: &str = r#"and(or(eq(run_type, "llm"), eq(run_type, "chain")), gt(start_time, "2024-01-01T00:00:00Z"), gte(latency, 1.5),
    has(tags, "prod"), search("timeout"), and(eq(metadata_key, "ls_model_name"), eq(metadata_value, "gpt-4o")), not(like(name, "%test%")))"#;

/// Every piece of work, in the order of a row's way.
pub fn all() -> Result<Vec<Work>, Fault> {
    let stages = Arc::new(Stages::of(&Columns::default()).ok_or("no stages")?);
    let inline = (0..8)
        .map(|batch| rows(batch * BATCH, BATCH, Large::Inline))
        .collect::<Result<Vec<Arc<RecordBatch>>, _>>()?;
    let offloaded = rows(0, BATCH, Large::Offloaded)?;
    let pointers: Vec<String> = (0..BATCH)
        .map(|row| format!(r#"{{"ROOT":{{"s3_url":"s3://traces/ttl_s/{row:032}"}}}}"#))
        .collect();
    let text = format!(r#"{{"text":"{}"}}"#, "word ".repeat(400));
    let (decoding, encoding) = (stages.clone(), stages.clone());
    let schema = SourceSchema::reference("runs", "feedbacks");
    Ok(vec![
        Work {
            name: "filter_to_sql",
            size: 1,
            unit: "filters",
            run: Box::new(move || filter_to_sql(&schema)),
        },
        Work {
            name: "pointers",
            size: BATCH,
            unit: "pointers",
            run: Box::new(move || {
                Ok(pointers.iter().filter(|text| decoding.pointer(Column::Inputs, text)).count())
            }),
        },
        Work {
            name: "hydrate",
            size: BATCH,
            unit: "rows",
            run: Box::new(move || Ok(stages.hydrate(&offloaded, &text)?.get_array_memory_size())),
        },
        Work {
            name: "encode",
            size: BATCH * inline.len() as u64,
            unit: "rows",
            run: Box::new(move || Ok(encoding.encode(&inline, Compression::Zstandard)?)),
        },
    ])
}

fn filter_to_sql(schema: &SourceSchema) -> Result<usize, Fault> {
    let filter = Filter::read(FILTER).map_err(|faults| format!("{faults:?}"))?;
    let pushed = Pushdown::of(&filter, schema, "feedbacks");
    Ok(pushed.condition.len() + pushed.parameters.len())
}
