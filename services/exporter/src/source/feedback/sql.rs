//! The SQL of feedback, as pure text. Values are parameters.

use super::json::{FIELDS, Kind};
use crate::source::{merging::Merging, query::out};

/// The index (from 1) of the queried row that a feedback row belongs to.
pub(super) const ON: &str = "x_on";

/// Selects the feedback on some rows of a session, in the order of their ids and then of creation.
///
/// The table is not ordered by trace row, and merging the versions (FINAL) of a whole project costs
/// more than scanning it. So the keys of all versions on one of the rows are found first, reading a
/// single column, and only rows with these keys are merged. The inner query uses blocks of the
/// default size, because it scans much and returns little.
pub(in crate::source) fn feedback(table: &str, merging: Merging) -> String {
    let selected = FIELDS.map(|(name, kind)| {
        let expression = match kind {
            Kind::Uuid => format!("toString(f.{name})"),
            Kind::Bool => format!("toBool(f.{name})"),
            Kind::Time | Kind::Score => format!("f.{name}"),
            Kind::Name | Kind::Text | Kind::Json => format!("f.{name}"),
        };
        format!("{expression} AS {}", out(name))
    });
    let keys = format!(
        "(SELECT v.start_time, v.id FROM {table} AS v
    WHERE v.tenant_id = {{tenant:UUID}} AND v.session_id = {{session:UUID}} AND v.run_id IN {{ids:Array(UUID)}}
    SETTINGS max_block_size = 65409)"
    );
    let from = match merging {
        Merging::Final => format!(
            "{table} AS f FINAL
WHERE f.tenant_id = {{tenant:UUID}} AND f.session_id = {{session:UUID}}
  AND (f.start_time, f.id) IN {keys}"
        ),
        Merging::Ours => format!(
            "{}\nWHERE 1",
            newest_feedback(table, &format!("\n  AND (v.start_time, v.id) IN {keys}"))
        ),
    };
    format!(
        "SELECT toUInt64(indexOf({{ids:Array(UUID)}}, f.run_id)) AS {ON},
       {}
FROM {from}
  AND f.run_id IN {{ids:Array(UUID)}} AND f.is_deleted = 0
ORDER BY {ON}, f.created_at, toString(f.id)",
        selected.join(",\n       ")
    )
}

/// The feedback table as seen by a filter, each row in its newest version.
pub(in crate::source) fn feedback_of_project(table: &str, merging: Merging) -> String {
    match merging {
        Merging::Final => format!("{table} AS f FINAL"),
        Merging::Ours => newest_feedback(table, ""),
    }
}

fn newest_feedback(table: &str, only: &str) -> String {
    format!(
        "(SELECT * FROM {table} AS v WHERE v.tenant_id = {{tenant:UUID}} AND v.session_id = {{session:UUID}}{only}
  ORDER BY v.modified_at DESC, v.is_deleted DESC LIMIT 1 BY v.start_time, v.id) AS f"
    )
}
