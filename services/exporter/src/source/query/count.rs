//! Counts and measures rows without reading them.

use super::RenderedQuery;
use crate::source::{
    merging::Merging,
    schema::{RunsTable, VersionedTable},
    versions::Versions,
};

impl RenderedQuery<'_> {
    /// The newest versions of rows that the engine does not merge: their keys, size, and whether
    /// they count.
    fn newest(&self) -> String {
        let counts = self.filter.map_or("1", |filter| &filter.condition);
        let (bytes, keys) = (inline_bytes(&self.schema.runs), self.keys());
        let VersionedTable { name, start_time, id, modified_at, is_deleted, .. } =
            &self.schema.runs.versioned;
        format!(
            "(SELECT r.{start_time} AS start_time, r.{id} AS id,
       argMax(({bytes}, r.{is_deleted} = 0 AND ({counts})), (r.{modified_at}, r.{is_deleted})) AS newest
FROM {name} AS r WHERE {keys} GROUP BY r.{start_time}, r.{id})"
        )
    }
}

/// Number, rows, total bytes and widest row of each non-empty interval of a slice, in order. Rows
/// read as stored count once per version.
pub(in crate::source) fn extent(asked: &RenderedQuery<'_>, versions: Versions) -> String {
    intervals(asked, versions, &inline_bytes(&asked.schema.runs))
}

/// The same without bytes, for rows that can be counted but not measured.
pub(in crate::source) fn counts(asked: &RenderedQuery<'_>, versions: Versions) -> String {
    intervals(asked, versions, "0")
}

fn intervals(asked: &RenderedQuery<'_>, versions: Versions, bytes: &str) -> String {
    let VersionedTable { name, start_time, .. } = &asked.schema.runs.versioned;
    let (from, time, bytes) = match versions {
        Versions::AsStored => (format!("{name} AS r WHERE {}", asked.keys()), &**start_time, bytes),
        Versions::Merged => {
            let from = format!("{name} AS r FINAL WHERE {}{}", asked.keys(), asked.only());
            (from, &**start_time, bytes)
        }
        Versions::Neighbours => {
            (format!("{} AS r WHERE r.newest.2", asked.newest()), "start_time", "r.newest.1")
        }
    };
    format!(
        "SELECT intDiv(toUnixTimestamp64Micro(r.{time}) - {{start:Int64}}, {{width:Int64}}) AS stretch,
       count(), toUInt64(sum({bytes})), toUInt64(max({bytes}))
FROM {from}
GROUP BY stretch ORDER BY stretch"
    )
}

/// Counts each row of a slice once; with a filter on content, the rows that may match.
pub(in crate::source) fn count(asked: &RenderedQuery<'_>) -> String {
    match asked.merging {
        Merging::Final => {
            let (table, keys) = (&asked.schema.runs.versioned.name, asked.keys());
            format!("SELECT count() FROM {table} AS r FINAL WHERE {keys}{}", asked.only())
        }
        Merging::Ours => format!("SELECT count() FROM {} AS r WHERE r.newest.2", asked.newest()),
    }
}

/// The size of a row's inline text.
fn inline_bytes(runs: &RunsTable) -> String {
    let lengths = runs.measured.iter().map(|column| format!("length({})", runs.value(*column)));
    lengths.collect::<Vec<_>>().join(" + ")
}
