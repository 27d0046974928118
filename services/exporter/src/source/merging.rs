//! How the versions of a row are merged, depending on the table that ClickHouse reports.
//!
//! `FINAL` merges the way the table's engine does, and does nothing for some tables: a view ignores
//! it, a Distributed table applies it per shard. So it is used only where it has the required
//! meaning; elsewhere the exporter merges versions.

use tracelift_core::failure::Failure;

use super::{
    Source,
    failures::{NO_GRANT, code, config},
    query,
    schema::VersionedTable,
};

/// Who merges the versions of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Merging {
    /// The engine: FINAL keeps the newest version, unless it withdraws the row.
    Final,
    /// The exporter, or a separate query: the newest version, unless it withdraws the row.
    Ours,
}

/// A table as described by `system.tables`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Table {
    engine: String,
    /// The engine with arguments and clauses.
    engine_full: String,
    sorting_key: String,
}

/// Engines that combine rows in their own way, so that what is stored is not a version of anything.
const COMBINING: [&str; 5] = ["Aggregating", "Coalescing", "Collapsing", "Graphite", "Summing"];

impl Table {
    /// How the versions of `table` are merged, which this describes; a failure if that is
    /// impossible.
    fn merging(&self, table: &VersionedTable) -> Result<Merging, Failure> {
        let (Self { engine, engine_full, sorting_key }, name) = (self, &table.name);
        if COMBINING.iter().any(|combining| engine.contains(combining)) {
            let detail = format!(
                "the table {name} has the engine {engine}, of whose rows nobody can tell which version is the newest: name a table of the \
                 engine ReplacingMergeTree({}), or a view of it",
                table.replacing_arguments().join(", ")
            );
            return Err(config(detail));
        }
        let definition = [" PARTITION BY", " PRIMARY KEY", " ORDER BY"]
            .iter()
            .fold(engine_full.as_str(), |text, clause| {
                text.split_once(clause).map_or(text, |(definition, _)| definition)
            });
        let arguments =
            definition.trim_end().strip_suffix(')').unwrap_or_default().rsplit([',', '(']);
        let last = arguments.map(|argument| argument.trim().trim_matches('`'));
        // Versions of a row have equal keys, and are adjacent in the order of a partition.
        let merges_versions = engine.ends_with("ReplacingMergeTree")
            && *sorting_key == table.sorting_key()
            && last.take(2).eq(table.replacing_arguments().into_iter().rev());
        Ok(if merges_versions { Merging::Final } else { Merging::Ours })
    }
}

impl Source {
    /// How a table's row versions are merged; `None` if there is no such table.
    async fn merging_of(&self, table: &VersionedTable) -> Result<Option<Merging>, Failure> {
        let found = self
            .query(query::TABLE)
            .param("table", &table.name)
            .fetch_optional::<(String, String, String)>()
            .await;
        match found {
            Ok(Some((engine, engine_full, sorting_key))) => {
                Table { engine, engine_full, sorting_key }.merging(table).map(Some)
            }
            Ok(None) => Ok(None),
            Err(error) if code(&error.to_string()) == Some(NO_GRANT) => {
                tracing::debug!(%error, table = table.name, "the engine of the table is not known; the exporter merges the versions of its rows");
                Ok(Some(Merging::Ours))
            }
            Err(error) => Err(self.failed(&error)),
        }
    }

    /// How versions of trace rows are merged.
    pub(super) async fn merging(&self) -> Result<Merging, Failure> {
        let table = &self.schema.runs.versioned;
        self.merging_of(table).await?.ok_or_else(|| {
            let table = &table.name;
            config(format!(
                "the table {table} does not exist, or the exporter's ClickHouse user may not see it; check CLICKHOUSE_DATABASE and \
                 CLICKHOUSE_RUNS_TABLE, and grant SELECT"
            ))
        })
    }

    /// How versions of feedback are merged. A missing table is an error only for those who need it.
    pub(super) async fn merging_of_feedback(&self) -> Result<Merging, Failure> {
        Ok(self.merging_of(&self.schema.feedbacks.versioned).await?.unwrap_or(Merging::Final))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::schema::SourceSchema;

    const KEY: &str = "tenant_id, session_id, start_time, id";

    fn merging(engine: &str, arguments: &str, key: &str) -> Result<Merging, String> {
        let engine_full = format!(
            "{engine}{arguments} PARTITION BY toYYYYMM(start_time) ORDER BY ({key}) SETTINGS index_granularity = 8192"
        );
        let table = Table { engine: engine.to_owned(), engine_full, sorting_key: key.to_owned() };
        let schema = SourceSchema::reference("runs", "feedbacks");
        table.merging(&schema.runs.versioned).map_err(|failure| failure.detail)
    }

    #[test]
    fn the_engine_merges_only_what_has_the_documented_key_and_version() {
        let (version, paths) = (
            "(modified_at, is_deleted)",
            "('/clickhouse/{shard}/runs', '{replica}', modified_at, is_deleted)",
        );
        assert_eq!(merging("ReplacingMergeTree", version, KEY), Ok(Merging::Final));
        assert_eq!(merging("ReplicatedReplacingMergeTree", paths, KEY), Ok(Merging::Final));
        assert_eq!(merging("SharedReplacingMergeTree", paths, KEY), Ok(Merging::Final));
        for (engine, arguments, key) in [
            ("ReplacingMergeTree", "(inserted_at, is_deleted)", KEY),
            ("ReplacingMergeTree", "(modified_at)", KEY),
            ("ReplacingMergeTree", "", KEY),
            ("ReplacingMergeTree", version, "tenant_id, session_id, toDate(start_time), id"),
            ("ReplacingMergeTree", version, "tenant_id, session_id, start_time, id, run_type"),
            ("ReplacingMergeTree", version, "id"),
            ("MergeTree", "", KEY),
            ("Distributed", "('cluster', 'default', 'runs', rand())", ""),
            ("View", "", ""),
            ("Merge", "('default', '^runs')", ""),
        ] {
            assert_eq!(
                merging(engine, arguments, key),
                Ok(Merging::Ours),
                "{engine}{arguments} {key}"
            );
        }
    }

    #[test]
    fn a_table_that_keeps_no_versions_is_refused_in_words() {
        for engine in [
            "CollapsingMergeTree",
            "ReplicatedVersionedCollapsingMergeTree",
            "SummingMergeTree",
            "AggregatingMergeTree",
        ] {
            let told = merging(engine, "(sign)", KEY).unwrap_err();
            assert!(
                told.starts_with(&format!(
                    "the table runs has the engine {engine}, of whose rows nobody can tell"
                )),
                "{told}"
            );
        }
    }
}
