//! Conditions and orders that several queries have in common.

use super::{RenderedQuery, moved::unmoved};
use crate::source::schema::VersionedTable;

impl RenderedQuery<'_> {
    /// The condition on every version of a row.
    pub(super) fn keys(&self) -> String {
        let table = &self.schema.runs.versioned;
        let moved = if self.moved { unmoved(self.schema) } else { String::new() };
        let behind = if self.resumes { behind(table) } else { String::new() };
        format!("{}{moved}{behind}", slice(table))
    }

    /// The condition on its newest version.
    pub(super) fn only(&self) -> String {
        self.filter.map(|filter| format!("\n  AND ({})", filter.condition)).unwrap_or_default()
    }
}

/// The rows of the project, in a table with this alias.
pub(in crate::source) fn of_project(table: &VersionedTable, alias: &str) -> String {
    let VersionedTable { tenant, project, .. } = table;
    format!("{alias}.{tenant} = {{tenant:UUID}} AND {alias}.{project} = {{session:UUID}}")
}

/// The order of a row's versions, newest first, in a table with this alias.
pub(in crate::source) fn newest_first(table: &VersionedTable, alias: &str) -> String {
    let VersionedTable { modified_at, is_deleted, .. } = table;
    format!("{alias}.{modified_at} DESC, {alias}.{is_deleted} DESC")
}

/// The rows of the window.
pub(super) fn within(table: &VersionedTable) -> String {
    let time = &table.start_time;
    format!(
        "r.{time} >= fromUnixTimestamp64Micro({{start:Int64}}, 'UTC')
  AND r.{time} < fromUnixTimestamp64Micro({{end:Int64}}, 'UTC')"
    )
}

/// The rows of the project and the window.
pub(super) fn slice(table: &VersionedTable) -> String {
    format!("{}\n  AND {}", of_project(table, "r"), within(table))
}

/// The rows after the cursor.
fn behind(table: &VersionedTable) -> String {
    let VersionedTable { start_time: time, id, .. } = table;
    let cursor = "fromUnixTimestamp64Micro({cursor_time:Int64}, 'UTC')";
    format!(
        "
  AND r.{time} >= {cursor}
  AND (r.{time} > {cursor} OR toString(r.{id}) > {{cursor_id:String}})"
    )
}

/// The order of rows: that of a partition.
pub(super) fn row_order(table: &VersionedTable) -> String {
    let VersionedTable { start_time, id, .. } = table;
    format!("r.{start_time}, toString(r.{id})")
}
