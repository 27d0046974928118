//! Counts and measures rows without reading them.

use super::RenderedQuery;
use crate::source::{merging::Merging, versions::Versions};

impl RenderedQuery<'_> {
    /// The newest versions of rows that the engine does not merge: their keys, size, and whether
    /// they count.
    fn newest(&self) -> String {
        let counts = self.filter.map_or("1", |filter| &filter.condition);
        format!(
            "(SELECT r.start_time AS start_time, r.id AS id,
       argMax(({}, r.is_deleted = 0 AND ({counts})), (r.modified_at, r.is_deleted)) AS newest
FROM {} AS r WHERE {} GROUP BY r.start_time, r.id)",
            inline_bytes(),
            self.table,
            self.keys()
        )
    }
}

/// Number, rows, total bytes and widest row of each non-empty interval of a slice, in order. Rows
/// read as stored count once per version.
pub(in crate::source) fn extent(asked: &RenderedQuery<'_>, versions: Versions) -> String {
    intervals(asked, versions, &inline_bytes())
}

/// The same without bytes, for rows that can be counted but not measured.
pub(in crate::source) fn counts(asked: &RenderedQuery<'_>, versions: Versions) -> String {
    intervals(asked, versions, "0")
}

fn intervals(asked: &RenderedQuery<'_>, versions: Versions, bytes: &str) -> String {
    let (from, bytes) = match versions {
        Versions::AsStored => (format!("{} AS r WHERE {}", asked.table, asked.keys()), bytes),
        Versions::Merged => {
            (format!("{} AS r FINAL WHERE {}{}", asked.table, asked.keys(), asked.only()), bytes)
        }
        Versions::Neighbours => (format!("{} AS r WHERE r.newest.2", asked.newest()), "r.newest.1"),
    };
    format!(
        "SELECT intDiv(toUnixTimestamp64Micro(r.start_time) - {{start:Int64}}, {{width:Int64}}) AS stretch,
       count(), toUInt64(sum({bytes})), toUInt64(max({bytes}))
FROM {from}
GROUP BY stretch ORDER BY stretch"
    )
}

/// Counts each row of a slice once; with a filter on content, the rows that may match.
pub(in crate::source) fn count(asked: &RenderedQuery<'_>) -> String {
    match asked.merging {
        Merging::Final => format!(
            "SELECT count() FROM {} AS r FINAL WHERE {}{}",
            asked.table,
            asked.keys(),
            asked.only()
        ),
        Merging::Ours => format!("SELECT count() FROM {} AS r WHERE r.newest.2", asked.newest()),
    }
}

fn inline_bytes() -> String {
    ["inputs", "outputs", "error", "extra", "events"]
        .map(|name| format!("length(r.{name})"))
        .join(" + ")
}
