//! The SQL of feedback, as pure text. Values are parameters.

use super::json::FIELDS;
use crate::source::{
    merging::Merging,
    query::{newest_first, of_project, out},
    schema::{FeedbacksTable, VersionedTable},
};

/// The index (from 1) of the queried row that a feedback row belongs to.
pub(super) const ON: &str = "x_on";

/// Selects the feedback on some rows of a session, in the order of their ids and then of creation.
///
/// The table is not ordered by trace row, and merging the versions (FINAL) of a whole project costs
/// more than scanning it. So the keys of all versions on one of the rows are found first, reading a
/// single column, and only rows with these keys are merged. The inner query uses blocks of the
/// default size, because it scans much and returns little.
pub(in crate::source) fn feedback(feedbacks: &FeedbacksTable, merging: Merging) -> String {
    let FeedbacksTable { run_id, created_at, versioned: table, .. } = feedbacks;
    let VersionedTable { name, start_time, id, is_deleted, .. } = table;
    let selected =
        FIELDS.map(|(field, _)| format!("{} AS {}", feedbacks.selected(field), out(field)));
    let keys = format!(
        "(SELECT v.{start_time}, v.{id} FROM {name} AS v
    WHERE {} AND v.{run_id} IN {{ids:Array(UUID)}}
    SETTINGS max_block_size = 65409)",
        of_project(table, "v")
    );
    let from = match merging {
        Merging::Final => format!(
            "{name} AS f FINAL\nWHERE {}\n  AND (f.{start_time}, f.{id}) IN {keys}",
            of_project(table, "f")
        ),
        Merging::Ours => {
            let only = format!("\n  AND (v.{start_time}, v.{id}) IN {keys}");
            format!("{}\nWHERE 1", newest(table, &only))
        }
    };
    format!(
        "SELECT toUInt64(indexOf({{ids:Array(UUID)}}, f.{run_id})) AS {ON},
       {}
FROM {from}
  AND f.{run_id} IN {{ids:Array(UUID)}} AND f.{is_deleted} = 0
ORDER BY {ON}, f.{created_at}, toString(f.{id})",
        selected.join(",\n       ")
    )
}

/// The feedback table as seen by a filter, each row in its newest version.
pub(in crate::source) fn feedback_of_project(
    feedbacks: &FeedbacksTable,
    merging: Merging,
) -> String {
    match merging {
        Merging::Final => format!("{} AS f FINAL", feedbacks.versioned.name),
        Merging::Ours => newest(&feedbacks.versioned, ""),
    }
}

fn newest(table: &VersionedTable, only: &str) -> String {
    let VersionedTable { name, start_time, id, .. } = table;
    format!(
        "(SELECT * FROM {name} AS v WHERE {}{only}
  ORDER BY {} LIMIT 1 BY v.{start_time}, v.{id}) AS f",
        of_project(table, "v"),
        newest_first(table, "v")
    )
}
