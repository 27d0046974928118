//! Settings that every query carries, whatever its user's profile, a proxy or a session says. With
//! other values a response would silently have fewer rows, other rows or other text. They are part
//! of the query's text, which outranks all other places.

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
pub(super) fn question() -> String {
    let names = WHERE_KNOWN.map(|(name, _)| format!("'{name}'"));
    format!("SELECT name FROM system.settings WHERE name IN ({}){}", names.join(", "), clause(&[]))
}

/// The clause that ends every query, for a server that has these settings.
pub(super) fn clause(known: &[String]) -> String {
    let known = WHERE_KNOWN.iter().filter(|(name, _)| known.iter().any(|known| known == name));
    let pins: Vec<_> =
        ALWAYS.iter().chain(known).map(|(name, value)| format!("{name} = '{value}'")).collect();
    format!("\nSETTINGS {}", pins.join(", "))
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
