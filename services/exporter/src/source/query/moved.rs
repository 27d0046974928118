//! Finds ids that occur at several start times ([`crate::source::moved`]), and the rows that count there.

use super::{PROJECT, SLICE, WITHIN};

/// Counts the stored rows of a project, and of a window of it.
pub(in crate::source) fn sizes(table: &str) -> String {
    format!("SELECT count(), countIf({WITHIN}) FROM {table} AS r WHERE {PROJECT}")
}

/// Whether ids of a window occur at several start times within the project: 0 or 1. Looks only at
/// share number `share` of `shares`, so that the ids fit into the server's memory.
pub(in crate::source) fn moved(table: &str, nearly_all: bool) -> String {
    // If most rows are in the window, looking at all of them is faster.
    let of_window =
        format!("\n  AND r.id IN (SELECT r.id FROM {table} AS r WHERE {SLICE} AND {SHARE})");
    format!(
        "SELECT count() FROM (
SELECT r.id FROM {table} AS r WHERE {PROJECT} AND {SHARE}{}
GROUP BY r.id HAVING min(r.start_time) != max(r.start_time) LIMIT 1)",
        if nearly_all { "" } else { &of_window }
    )
}

/// Selects the share of the ids to look at.
const SHARE: &str = "cityHash64(r.id) % {shares:UInt64} = {share:UInt64}";

/// Tests that an id's newest version is at this start time and not withdrawn. Looks only at ids of
/// the slice that occur at several.
pub(super) fn unmoved(table: &str) -> String {
    format!(
        "
  AND (r.start_time, r.id) NOT IN (
    SELECT arrayJoin(arrayFilter(time -> time != newest.1 OR newest.2 != 0, times)), id
    FROM (
      SELECT r.id AS id, groupUniqArray(r.start_time) AS times,
             argMax((r.start_time, r.is_deleted), (r.modified_at, r.inserted_at, r.start_time, r.is_deleted)) AS newest
      FROM {table} AS r
      WHERE {PROJECT} AND r.id IN (SELECT r.id FROM {table} AS r WHERE {SLICE})
      GROUP BY r.id HAVING length(times) > 1))"
    )
}
