//! Finds ids that occur at several start times ([`crate::source::moved`]), and the rows that count
//! there.

use super::conditions::{of_project, slice, within};
use crate::source::schema::{SourceSchema, VersionedTable};

/// Counts the stored rows of a project, and of a window of it.
pub(in crate::source) fn sizes(schema: &SourceSchema) -> String {
    let table = &schema.runs.versioned;
    format!(
        "SELECT count(), countIf({}) FROM {} AS r WHERE {}",
        within(table),
        table.name,
        of_project(table, "r")
    )
}

/// Whether ids of a window occur at several start times within the project: 0 or 1. Looks only at
/// share number `share` of `shares`, so that the ids fit into the server's memory.
pub(in crate::source) fn moved(schema: &SourceSchema, nearly_all: bool) -> String {
    let table = &schema.runs.versioned;
    let VersionedTable { name, start_time, id, .. } = table;
    let (project, slice) = (of_project(table, "r"), slice(table));
    let share = format!("cityHash64(r.{id}) % {{shares:UInt64}} = {{share:UInt64}}");
    // If most rows are in the window, looking at all of them is faster.
    let of_window =
        format!("\n  AND r.{id} IN (SELECT r.{id} FROM {name} AS r WHERE {slice} AND {share})");
    format!(
        "SELECT count() FROM (
SELECT r.{id} FROM {name} AS r WHERE {project} AND {share}{}
GROUP BY r.{id} HAVING min(r.{start_time}) != max(r.{start_time}) LIMIT 1)",
        if nearly_all { "" } else { &of_window }
    )
}

/// Tests that an id's newest version is at this start time and not withdrawn. Looks only at ids of
/// the slice that occur at several.
pub(super) fn unmoved(schema: &SourceSchema) -> String {
    let table = &schema.runs.versioned;
    let VersionedTable { name, start_time, id, modified_at, is_deleted, .. } = table;
    let (project, slice, inserted_at) =
        (of_project(table, "r"), slice(table), &schema.runs.inserted_at);
    format!(
        "
  AND (r.{start_time}, r.{id}) NOT IN (
    SELECT arrayJoin(arrayFilter(time -> time != newest.1 OR newest.2 != 0, times)), id
    FROM (
      SELECT r.{id} AS id, groupUniqArray(r.{start_time}) AS times,
             argMax((r.{start_time}, r.{is_deleted}), (r.{modified_at}, r.{inserted_at}, r.{start_time}, r.{is_deleted})) AS newest
      FROM {name} AS r
      WHERE {project} AND r.{id} IN (SELECT r.{id} FROM {name} AS r WHERE {slice})
      GROUP BY r.{id} HAVING length(times) > 1))"
    )
}
