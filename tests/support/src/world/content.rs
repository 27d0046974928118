//! What goes into a world's ClickHouse, and what comes out in its bucket.

use serde_json::{Value, json};

use super::{DESTINATION_BUCKET, World};
use crate::{
    dataset::{PROJECT_ID, TENANT_ID},
    rows::rows_of,
};

impl World {
    /// Inserts rows into `runs`; missing columns have default values.
    pub async fn insert(&self, rows: &[Value]) {
        self.insert_into("runs", rows).await;
    }

    /// The same for another table with the same columns.
    pub async fn insert_into(&self, table: &str, rows: &[Value]) {
        let rows: Vec<_> = rows.iter().map(|row| full_row(row).to_string()).collect();
        self.clickhouse
            .client()
            .query_raw(&format!("INSERT INTO {table} FORMAT JSONEachRow\n{}", rows.join("\n")))
            .execute()
            .await
            .expect("rows");
    }

    /// Every row in the export's data tree, as read by a reader that globs it.
    pub fn rows(&self, id: &str) -> Vec<Value> {
        let keys = self
            .s3
            .keys(DESTINATION_BUCKET)
            .into_iter()
            .filter(|key| key.contains(&format!("/export_id={id}/tenant_id=")));
        keys.flat_map(|key| rows_of(&self.s3.get(DESTINATION_BUCKET, &key).expect("a file")))
            .collect()
    }

    /// The manifest of a run, or of the export if `run` is `None`, as stored in the bucket.
    pub fn manifest(&self, id: &str, run: Option<&str>) -> Value {
        let name =
            run.map_or_else(|| "manifest.json".to_owned(), |run| format!("run_id={run}.json"));
        let content = self
            .s3
            .get(DESTINATION_BUCKET, &format!("test/_manifests/export_id={id}/{name}"))
            .expect("a manifest");
        serde_json::from_slice(&content).expect("JSON")
    }

    /// Whether `_SUCCESS` exists.
    pub fn succeeded(&self, id: &str) -> bool {
        self.s3
            .get(DESTINATION_BUCKET, &format!("test/_manifests/export_id={id}/_SUCCESS"))
            .is_some()
    }
}

fn full_row(given: &Value) -> Value {
    let id = given["id"].as_str().expect("a row has an id");
    let mut row = json!({
        "tenant_id": TENANT_ID, "session_id": PROJECT_ID, "trace_id": id, "name": "n", "run_type": "llm",
        "start_time": "2024-01-01 12:00:00.000000", "status": "success", "is_root": true, "dotted_order": "", "tags": [],
        "inputs": "", "outputs": "", "error": "", "extra": "", "events": "", "inputs_s3_urls": "", "outputs_s3_urls": "", "s3_urls": "",
        "prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3, "feedback_stats": "", "trace_tier": "longlived",
        "in_dataset": false, "app_path": "", "inserted_at": "2024-01-01 12:00:00.000000", "modified_at": "2024-01-01 12:00:00.000000",
        "is_deleted": 0,
    });
    for (name, value) in given.as_object().expect("an object") {
        row[name] = value.clone();
    }
    row
}
