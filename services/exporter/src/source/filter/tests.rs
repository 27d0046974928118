//! The SQL of filters, as text.

use super::*;

fn pushed(filter: &str) -> Pushdown {
    Pushdown::of(
        &Filter::read(filter).unwrap_or_else(|errors| panic!("{filter}: {errors:?}")),
        &SourceSchema::reference("runs", "feedbacks"),
        "feedbacks AS f FINAL",
    )
}

#[test]
fn every_kind_of_condition_has_its_sql() {
    let id = "00000000-0000-0000-0000-000000000001";
    let filters = [
        format!("eq(id, '{id}')"),
        format!("in(parent_run_id, ['{id}', '{id}'])"),
        "neq(parent_run_id, null)".to_owned(),
        "in(id, [])".to_owned(),
        "neq(name, 'a')".to_owned(),
        "in(run_type, ['llm', \"it's\"])".to_owned(),
        "notlike(status, '%\\_a_')".to_owned(),
        "eq(error, null)".to_owned(),
        "search('é')".to_owned(),
        "gt(start_time, '2024-01-01')".to_owned(),
        "eq(end_time, '2024-01-01')".to_owned(),
        "lte(latency, '5s')".to_owned(),
        "gte(total_cost, 0.0000000000001)".to_owned(),
        "in(total_tokens, [1, 2.5, 3])".to_owned(),
        "eq(is_root, true)".to_owned(),
        "not(has(tags, 'x'))".to_owned(),
        "exists(tags)".to_owned(),
        "eq(thread_id, 't')".to_owned(),
        "and(eq(feedback_key, 'k'), gt(feedback_score, 0.5), neq(feedback_value, ''))".to_owned(),
        "and(neq(feedback_key, 'k'), neq(feedback_score, 1))".to_owned(),
        "and(eq(metadata_key, 'a.b'), in(metadata_value, ['x', 2, true]))".to_owned(),
        "and(like(input_key, 'a%'), gt(input_value, 1))".to_owned(),
        "neq(output_key, 'k')".to_owned(),
    ];
    let table: Vec<_> = filters
        .iter()
        .map(|filter| {
            let pushed = pushed(filter);
            let parameters: Vec<_> =
                pushed.parameters.iter().map(|(name, value)| format!("{name}={value}")).collect();
            format!("{filter}\n    {}\n    {}", pushed.condition, parameters.join(" "))
        })
        .collect();
    insta::assert_snapshot!(table.join("\n"));
}

#[test]
fn no_value_stands_in_the_sql() {
    let odd = "x') OR 1=1 --\\";
    let value = serde_json::Value::from(odd).to_string();
    for field in [
        "name",
        "error",
        "metadata_key",
        "metadata_value",
        "feedback_key",
        "feedback_value",
        "thread_id",
    ] {
        for filter in [
            format!("eq({field}, {value})"),
            format!("in({field}, [{value}])"),
            format!("like({field}, {value})"),
        ] {
            assert!(!pushed(&filter).condition.contains("OR 1"), "{filter}");
        }
    }
    assert!(
        !pushed(&format!("or(has(tags, {value}), search({value}))")).condition.contains("OR 1")
    );
}

#[test]
fn only_a_filter_on_content_leaves_rows_undecided() {
    assert_eq!(pushed("and(eq(name, 'a'), eq(feedback_key, 'k'))").undecided, None);
    let some = pushed("and(eq(is_root, true), not(and(eq(name, 'a'), neq(error, null))))");
    assert_eq!(some.questions, ["r.is_root = true", "NOT (toValidUTF8(r.name) = {f0:String})"]);
    assert_eq!(some.content, [Column::Error]);
    assert_eq!(
        some.undecided.as_deref(),
        Some(
            "(r.error IN ('', '{}', '[]', 'null', '\"\"') AND (position(r.s3_urls, 'error') > 0 OR position(r.s3_urls, '\\\\') > 0))"
        )
    );
}

/// By default a server accepts 128 KiB per field of a request, and the rest of the query needs some
/// of that.
#[test]
fn the_largest_filters_fit_into_a_request() {
    let times =
        |count: usize, condition: &str| format!("and({})", vec![condition; count].join(", "));
    let keys: Vec<_> = (0..9).map(|key| format!("'k{key}.x'")).collect();
    let values = ["in(metadata_value, [1, 'a', true, 2])"; 9].join(", ");
    let filters = [
        times(50, "and(eq(output_key, 'k'), in(output_value, [1, 'a', true, 2]))"),
        times(25, "and(eq(metadata_key, 'a.b'), in(metadata_value, [1, 'a', true, 2]))"),
        format!("and(in(metadata_key, [{}]), {values})", keys.join(", ")),
        times(25, "not(search('a'))"),
        times(100, "eq(feedback_key, 'a')"),
        times(100, "notlike(error, 'a')"),
        format!(
            "or(eq(is_root, true), in(id, [{}]))",
            vec!["'00000000-0000-0000-0000-000000000001'"; 800].join(",")
        ),
        format!("eq(name, '{}')", "\t".repeat(32_000)),
        format!("like(name, '{}')", "\t".repeat(1024)),
        format!("in(metadata_value, [{}])", vec!["1"; 1000].join(",")),
    ];
    for filter in filters {
        let pushed = pushed(&filter);
        let sql = pushed.condition.len()
            + pushed.questions.iter().map(String::len).sum::<usize>()
            + pushed.undecided.map_or(0, |sql| sql.len() * 5);
        assert!(sql < 100_000, "{sql} for {filter}");
        assert!(pushed.parameters.iter().all(|(_, value)| value.len() < 128 << 10), "{filter}");
    }
}
