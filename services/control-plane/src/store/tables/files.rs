//! The complete files of a task.

use std::collections::HashMap;

use tracelift_core::{
    file::{Cursor, File, LeftOut},
    id::TaskId,
};

use crate::store::{
    StoreError,
    sql::{self, Row, Value},
    tables::{
        intent::{self, MissRecord, miss_record},
        oversized,
        tasks::{AT_ONCE, marks},
    },
    transaction::Transaction,
};

pub(crate) fn create(
    tx: &mut dyn Transaction,
    task: TaskId,
    file: &File,
) -> Result<(), StoreError> {
    let misses: Vec<_> = file.misses.iter().map(miss_record).collect();
    let columns = vec![
        ("run_id", task.into()),
        ("number", file.number.into()),
        ("key", (&file.key).into()),
        ("rows", file.rows.into()),
        ("bytes", file.bytes.into()),
        ("etag", (&file.etag).into()),
        ("sha256", (&file.sha256).into()),
        ("min_start_time", file.min_start_time.into()),
        ("max_start_time", file.max_start_time.into()),
        ("cursor_time", file.cursor.start_time.into()),
        ("cursor_id", file.cursor.id.into()),
        ("hydrated_objects", file.hydrated_objects.into()),
        ("hydration_misses", file.hydration_misses.into()),
        ("misses", sql::json(&misses)?),
        ("oversized", oversized::column(file.oversized)?),
    ];
    sql::insert(tx, "files", columns)
}

pub(crate) fn all(tx: &mut dyn Transaction, task: TaskId) -> Result<Vec<File>, StoreError> {
    tx.query("SELECT * FROM files WHERE run_id = $1 ORDER BY number", &[task.into()])?
        .iter()
        .map(file)
        .collect()
}

/// Numbers and keys of up to `most` files with greater numbers.
pub(crate) fn keys(
    tx: &mut dyn Transaction,
    task: TaskId,
    after: Option<u32>,
    most: u32,
) -> Result<Vec<(u32, String)>, StoreError> {
    let sql =
        "SELECT number, key FROM files WHERE run_id = $1 AND number > $2 ORDER BY number LIMIT $3";
    let rows = tx.query(sql, &[task.into(), after.map_or(-1, i64::from).into(), most.into()])?;
    rows.iter().map(|row| Ok((row.get("number")?, row.get("key")?))).collect()
}

/// Keys of the first `most` files of each of these tasks, in order.
pub(crate) fn keys_of(
    tx: &mut dyn Transaction,
    ids: &[TaskId],
    most: u32,
) -> Result<HashMap<TaskId, Vec<String>>, StoreError> {
    let mut keys: HashMap<_, Vec<_>> = HashMap::new();
    for ids in ids.chunks(AT_ONCE) {
        // Files are numbered without gaps.
        let sql = format!(
            "SELECT run_id, key FROM files WHERE run_id IN ({}) AND number < {most} ORDER BY run_id, number",
            marks(ids.len())
        );
        let values: Vec<_> = ids.iter().map(|id| Value::from(*id)).collect();
        for row in tx.query(&sql, &values)? {
            keys.entry(row.get("run_id")?).or_default().push(row.get("key")?);
        }
    }
    Ok(keys)
}

fn file(row: &Row) -> Result<File, StoreError> {
    let misses: Vec<MissRecord> = row.json("misses")?;
    Ok(File {
        number: row.get("number")?,
        key: row.get("key")?,
        rows: row.get("rows")?,
        bytes: row.get("bytes")?,
        etag: row.get("etag")?,
        sha256: row.get("sha256")?,
        min_start_time: row.get("min_start_time")?,
        max_start_time: row.get("max_start_time")?,
        cursor: Cursor { start_time: row.get("cursor_time")?, id: row.get("cursor_id")? },
        hydrated_objects: row.get("hydrated_objects")?,
        hydration_misses: row.get("hydration_misses")?,
        misses: misses.into_iter().map(intent::miss).collect(),
        oversized: oversized::read(row)?,
        left_out: LeftOut::default(), // its task holds the totals
    })
}
