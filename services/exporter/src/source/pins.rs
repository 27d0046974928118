//! Settings that every query carries, whatever its user's profile, a proxy or a session says. With
//! other values a response would silently have fewer rows, other rows or other text. They are part
//! of the query's text, which outranks all other places.

use std::sync::PoisonError;

use clickhouse::query::Query;
use tokio::time::{Duration, Instant};
use tracelift_core::failure::{Failure, FailureClass};

use super::{
    Source,
    failures::{NO_GRANT, UNKNOWN_SETTING, code, failure},
};

/// Settings that every supported server version has.
const ALWAYS: [(&str, &str); 13] = [
    // A response that is too large or takes too long is an error, not a shorter response.
    ("distinct_overflow_mode", "throw"),
    ("group_by_overflow_mode", "throw"),
    ("join_overflow_mode", "throw"),
    ("read_overflow_mode", "throw"),
    ("result_overflow_mode", "throw"),
    ("set_overflow_mode", "throw"),
    ("sort_overflow_mode", "throw"),
    ("timeout_overflow_mode", "throw"),
    ("transfer_overflow_mode", "throw"),
    // An export is not limited in length. What it reads and how long that takes stays under the
    // operator's limits.
    ("limit", "0"),
    ("offset", "0"),
    ("max_result_rows", "0"),
    ("max_result_bytes", "0"),
];

/// Settings that only some versions have.
const WHERE_KNOWN: [(&str, &str); 27] = [
    ("read_overflow_mode_leaf", "throw"),
    ("timeout_overflow_mode_leaf", "throw"),
    ("partial_result_on_first_cancel", "0"),
    // All rows of the table, on all shards, from one replica of each.
    ("additional_result_filter", ""),
    ("additional_table_filters", "{}"),
    ("allow_experimental_parallel_reading_from_replicas", "0"),
    ("enable_parallel_replicas", "0"),
    ("parallel_replica_offset", "0"),
    ("parallel_replicas_count", "0"),
    ("skip_unavailable_shards", "0"),
    ("use_query_cache", "0"),
    // Deleted rows are hidden, changed rows are shown changed.
    ("apply_deleted_mask", "1"),
    ("apply_patch_parts", "1"),
    // FINAL only where requested, over all parts with versions of a row, and before any condition.
    ("final", "0"),
    ("do_not_merge_across_partitions_select_final", "0"),
    ("optimize_move_to_prewhere_if_final", "0"),
    ("use_skip_indexes_if_final", "0"),
    // Responses in the requested shape.
    ("aggregate_functions_null_for_empty", "0"),
    ("distributed_group_by_no_merge", "0"),
    ("empty_result_for_aggregation_by_empty_set", "0"),
    ("extremes", "0"),
    ("join_use_nulls", "0"),
    ("transform_null_in", "0"),
    ("output_format_arrow_fixed_string_as_fixed_byte_array", "1"),
    ("output_format_arrow_low_cardinality_as_dictionary", "0"),
    ("output_format_arrow_string_as_string", "0"),
    // A tag is the ingested text, not `a\/b`.
    ("output_format_json_escape_forward_slashes", "0"),
];

/// Asks which of [`WHERE_KNOWN`] a server has.
fn question() -> String {
    let names = WHERE_KNOWN.map(|(name, _)| format!("'{name}'"));
    format!("SELECT name FROM system.settings WHERE name IN ({}){}", names.join(", "), clause(&[]))
}

/// The clause that ends every query, for a server that has these settings.
fn clause(known: &[String]) -> String {
    let known = WHERE_KNOWN.iter().filter(|(name, _)| known.iter().any(|known| known == name));
    let pins: Vec<_> =
        ALWAYS.iter().chain(known).map(|(name, value)| format!("{name} = '{value}'")).collect();
    format!("\nSETTINGS {}", pins.join(", "))
}

/// The settings clause that ends every query.
pub(super) struct Pins {
    clause: String,
    /// When the server was asked which settings it supports.
    asked: Instant,
}

/// How long to remember which settings the server supports; it may be replaced by another version.
const PINS_MEMORY: Duration = Duration::from_secs(600);

impl Source {
    /// Asks the server which of the settings that every query must carry it supports.
    pub(super) async fn prepare(&self) -> Result<(), Failure> {
        let asked = self
            .pins
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .as_ref()
            .map(|pins| pins.asked);
        if asked.is_some_and(|asked| asked.elapsed() < PINS_MEMORY) {
            return Ok(());
        }
        let known = match self.client.query_raw(&question()).fetch_all::<String>().await {
            Ok(known) => known,
            Err(error) if code(&error.to_string()) == Some(NO_GRANT) => {
                tracing::warn!(%error, "system.settings cannot be read; only settings that every version of ClickHouse knows are pinned");
                Vec::new()
            }
            Err(error) => return Err(failure(&error)),
        };
        *self.pins.lock().unwrap_or_else(PoisonError::into_inner) =
            Some(Pins { clause: clause(&known), asked: Instant::now() });
        Ok(())
    }

    /// A query with these settings.
    pub(super) fn query(&self, sql: &str) -> Query {
        let pins = self
            .pins
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .as_ref()
            .map(|pins| pins.clause.clone());
        self.client.query_raw(&format!("{sql}{}", pins.unwrap_or_else(|| clause(&[]))))
    }

    /// Classifies an error. A server that rejects a setting another one accepted has a different
    /// version, as in a cluster during an upgrade; its own settings are asked for next time.
    pub(super) fn failed(&self, error: &clickhouse::error::Error) -> Failure {
        let failure = failure(error);
        if code(&error.to_string()) != Some(UNKNOWN_SETTING) {
            return failure;
        }
        match self.pins.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(pins) if pins.clause != clause(&[]) => {
                Failure { class: FailureClass::SourceTransient, ..failure }
            }
            _ => failure,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_query_ends_with_what_must_not_be_otherwise() {
        let all = WHERE_KNOWN.map(|(name, _)| name.to_owned());
        insta::assert_snapshot!(format!("{}\n{}", question(), clause(&all)));
    }
}
