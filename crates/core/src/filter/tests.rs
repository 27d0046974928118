//! What filters mean, and how errors are reported.

use super::*;
use crate::time::Timestamp;
use uuid::Uuid;

/// Content, some of which is unknown.
#[derive(Debug, Clone, Default)]
struct Known(Vec<(Column, String)>);

impl Known {
    fn with(mut self, column: Column, text: &str) -> Self {
        self.0.push((column, text.to_owned()));
        self
    }
}

impl Content for Known {
    fn text(&self, column: Column) -> Option<&str> {
        self.0.iter().find(|known| known.0 == column).map(|known| known.1.as_str())
    }
}

const EXTRA: &str = r#"{
    "metadata": {
        "env": "prod", "version": 2.0, "beta": true, "nothing": null, "session_id": "thread 1", "user": {"name": "Ada"}, "a.b": "whole"
    },
    "other": {"hidden": "x"}
}"#;

fn row() -> Row<Known> {
    Row {
        id: Uuid::from_u128(1),
        trace_id: Uuid::from_u128(2),
        parent_run_id: None,
        name: "ChatOpenAI".into(),
        run_type: "llm".into(),
        status: "success".into(),
        start_time: Timestamp::parse("t", "2024-01-01T00:00:00Z").unwrap(),
        end_time: Some(Timestamp::parse("t", "2024-01-01T00:00:02.5Z").unwrap()),
        is_root: true,
        tags: vec!["beta".into()],
        prompt_tokens: 1,
        completion_tokens: 2,
        total_tokens: 3,
        total_cost: Some(1_500_000_000),
        feedbacks: vec![
            Feedback { key: "correctness".into(), score: Some(0.0), value: String::new() },
            Feedback { key: "user_score".into(), score: Some(1.0), value: "good".into() },
        ],
        content: Known::default()
            .with(Column::Inputs, r#"{"question":"Why?","k":[1]}"#)
            .with(Column::Outputs, "")
            .with(Column::Error, "")
            .with(Column::Extra, EXTRA),
    }
}

fn matches(filter: &str) -> bool {
    let read = Filter::read(filter).unwrap_or_else(|errors| panic!("{filter}: {errors:?}"));
    read.matches(&row()).expect("everything is known")
}

fn told(filter: &str) -> String {
    match Filter::read(filter) {
        Ok(_) => "valid".to_owned(),
        Err(errors) => errors
            .iter()
            .map(|error| format!("{} {error}", error.position))
            .collect::<Vec<_>>()
            .join("\n    "),
    }
}

#[test]
fn the_samples_are_understood() {
    for sample in [
        r#"eq(run_type,"llm")"#,
        r#"and(eq(is_root,true),eq(feedback_key,"user_score"),eq(feedback_score,1))"#,
        r#"and(or(has(tags,"experimental"),has(tags,"beta")),gt(latency,2))"#,
        r#"and(gt(start_time,"2023-07-15T12:34:56Z"),or(neq(error,null),and(eq(feedback_key,"correctness"),eq(feedback_score,0.0))))"#,
        r#"and(in(metadata_key,["session_id","conversation_id","thread_id"]), eq(metadata_value,"thread 1"))"#,
    ] {
        assert!(matches(sample), "{sample}");
    }
}

proptest::proptest! {
    #[test]
    fn a_time_finer_than_a_microsecond_is_compared_exactly(nanos in 0i64..1_000_000_000, off in -2i64..=2, coarse in 0usize..2) {
        let nanos = if coarse == 0 { nanos } else { nanos / 1000 * 1000 };
        let begin = row().start_time.micros();
        let time = Timestamp::from_micros(begin + nanos / 1000 + off).unwrap();
        let row = Row { start_time: time, ..row() };
        let (row_nanos, filter_nanos) = ((time.micros() - begin) * 1000, nanos);
        for (operator, expected) in [
            ("gt", row_nanos > filter_nanos),
            ("gte", row_nanos >= filter_nanos),
            ("lt", row_nanos < filter_nanos),
            ("lte", row_nanos <= filter_nanos),
            ("eq", row_nanos == filter_nanos),
            ("neq", row_nanos != filter_nanos),
        ] {
            let filter = format!("{operator}(start_time, '2024-01-01T00:00:00.{nanos:09}Z')");
            proptest::prop_assert_eq!(Filter::read(&filter).unwrap().matches(&row), Some(expected), "{} of {}", filter, time);
        }
    }
}

#[test]
fn conditions_hold_or_do_not() {
    let id = Uuid::from_u128(1);
    for (yes, no) in [
        (format!("eq(id, '{id}')"), format!("neq(id, '{id}')")),
        (
            format!("in(trace_id, ['{id}', '{}'])", Uuid::from_u128(2)),
            "in(trace_id, [])".to_owned(),
        ),
        ("eq(parent_run_id, null)".to_owned(), format!("eq(parent_run_id, '{id}')")),
        (format!("neq(parent_run_id, '{id}')"), "exists(parent_run_id)".to_owned()),
    ] {
        assert!(matches(&yes) && !matches(&no), "{yes} {no}");
    }
    for (yes, no) in [
        ("like(name, 'Chat%')", "like(name, 'chat%')"),
        ("notlike(name, '%Google%')", "notlike(name, '%AI')"),
        ("in(status, ['success', 'error'])", "in(status, ['pending'])"),
        ("eq(error, null)", "neq(error, null)"),
        ("eq(error, '')", "exists(error)"),
        ("neq(error, 'x')", "eq(error, 'x')"),
        ("gte(start_time, '2024-01-01')", "gt(start_time, '2024-01-01')"),
        ("lt(end_time, '2024-01-01T00:00:02.500001Z')", "exists(not_there)"),
        ("eq(start_time, '1704067200')", "eq(start_time, '2024-01-01T00:00:00.0000001Z')"),
        (
            "neq(start_time, '2024-01-01T00:00:00.0000001Z')",
            "in(start_time, ['2024-01-01T00:00:00.0000001Z'])",
        ),
        (
            "lt(start_time, '2024-01-01T00:00:00.0000001Z')",
            "gte(start_time, '2024-01-01T00:00:00.0000001Z')",
        ),
        ("eq(latency, 2.5)", "eq(latency, '2s')"),
        ("lte(latency, '2500ms')", "gt(latency, '2.5s')"),
        ("gt(latency, 2.4999999)", "lt(latency, '0.04m')"),
        ("gte(total_tokens, 2.5)", "eq(total_tokens, 2.5)"),
        ("neq(total_tokens, 2.5)", "lte(total_tokens, 2.5)"),
        ("eq(total_cost, 0.0015)", "gt(total_cost, 0.0015)"),
        ("in(completion_tokens, [1, 2])", "in(completion_tokens, [3])"),
        ("neq(is_root, false)", "eq(is_root, false)"),
        ("not(eq(is_root, false))", "not(exists(is_root))"),
        ("exists(tags)", "has(tags, 'bet')"),
        ("search('WHY?')", "search('because')"),
        ("search('chatopen')", "not(search(''))"),
        ("like(inputs, '%\"Why_\"%')", "like(outputs, '_%')"),
        ("eq(outputs, null)", "neq(outputs, null)"),
        ("eq(thread_id, 'thread 1')", "neq(thread_id, 'thread 1')"),
        ("exists(thread_id)", "eq(thread_id, null)"),
        (
            "or(eq(name, 'x'), not(and(eq(name, 'x'), eq(name, 'y'))))",
            "and(eq(status, 'success'), not(eq(name, 'ChatOpenAI')))",
        ),
    ] {
        assert!(matches(yes), "{yes}");
        assert!(told(no).contains("is not a field") || !matches(no), "{no}");
    }
}

#[test]
fn key_and_value_of_one_and_are_those_of_one_entry() {
    for (yes, no) in [
        (
            "and(eq(metadata_key, 'env'), eq(metadata_value, 'prod'))",
            "and(eq(metadata_key, 'version'), eq(metadata_value, 'prod'))",
        ),
        (
            "and(and(eq(metadata_key, 'version')), eq(metadata_value, 'prod'))",
            "and(eq(metadata_value, 'prod'), eq(metadata_key, 'version'))",
        ),
        (
            "and(eq(metadata_key, 'env'), eq(metadata_value, 'prod'), eq(metadata_key, 'version'), eq(metadata_value, 2))",
            "and(eq(metadata_key, 'env'), eq(metadata_value, 2), eq(metadata_key, 'version'))",
        ),
        (
            "and(eq(feedback_key, 'user_score'), gt(feedback_score, 0.5), lte(feedback_score, 1))",
            "and(eq(feedback_key, 'correctness'), gt(feedback_score, 0.5))",
        ),
        (
            "and(eq(feedback_key, 'user_score'), eq(feedback_value, 'good'))",
            "and(eq(feedback_key, 'correctness'), exists(feedback_value))",
        ),
        (
            "and(eq(input_key, 'question'), like(input_value, 'W%'))",
            "and(eq(input_key, 'k'), like(input_value, '%'))",
        ),
        (
            "and(eq(metadata_key, 'version'), gt(metadata_value, 1.5))",
            "and(eq(metadata_key, 'env'), gt(metadata_value, 0))",
        ),
        (
            "and(eq(metadata_key, 'beta'), eq(metadata_value, true))",
            "and(eq(metadata_key, 'beta'), eq(metadata_value, 1))",
        ),
        (
            "and(eq(metadata_key, 'version'), eq(metadata_value, '2.0'))",
            "and(eq(metadata_key, 'version'), like(metadata_value, '2'))",
        ),
        (
            "and(eq(metadata_key, 'nothing'), eq(metadata_value, null))",
            "and(eq(metadata_key, 'nothing'), exists(metadata_value))",
        ),
        (
            "and(eq(metadata_key, 'user.name'), eq(metadata_value, 'Ada'))",
            "eq(metadata_key, 'name')",
        ),
        (
            "and(in(metadata_key, ['x', 'a.b']), eq(metadata_value, 'whole'))",
            "eq(metadata_key, 'user.name.first')",
        ),
        ("eq(input_key, 'k')", "eq(output_key, 'k')"),
    ] {
        assert!(matches(yes), "{yes}");
        assert!(!matches(no), "{no}");
    }
}

#[test]
fn negative_forms_say_what_there_is_not() {
    for (yes, no) in [
        ("neq(metadata_key, 'colour')", "neq(metadata_key, 'env')"),
        ("neq(metadata_key, 'hidden')", "neq(metadata_key, 'user.name')"),
        (
            "and(eq(metadata_key, 'env'), neq(metadata_value, 'test'))",
            "and(eq(metadata_key, 'env'), neq(metadata_value, 'prod'))",
        ),
        (
            "and(eq(metadata_key, 'version'), neq(metadata_value, 'prod'))",
            "and(eq(metadata_key, 'colour'), neq(metadata_value, 'red'))",
        ),
        (
            "and(neq(metadata_key, 'colour'), neq(metadata_value, 'red'))",
            "and(neq(metadata_key, 'colour'), neq(metadata_value, 'prod'))",
        ),
        (
            "and(neq(metadata_key, 'env'), eq(metadata_value, 'thread 1'))",
            "and(neq(metadata_key, 'env'), neq(metadata_value, 'red'))",
        ),
        (
            "not(and(eq(metadata_key, 'env'), eq(metadata_value, 'test')))",
            "not(and(eq(metadata_key, 'env'), eq(metadata_value, 'prod')))",
        ),
        ("neq(feedback_key, 'x')", "neq(feedback_key, 'user_score')"),
        ("neq(feedback_score, 0.5)", "neq(feedback_score, 1)"),
        ("eq(output_key, null)", "eq(input_key, null)"),
        ("notlike(metadata_key, 'x%')", "notlike(metadata_value, '%rod')"),
        (
            "or(neq(metadata_key, 'env'), eq(name, 'ChatOpenAI'))",
            "not(neq(metadata_key, 'colour'))",
        ),
    ] {
        assert!(matches(yes), "{yes}");
        assert!(!matches(no), "{no}");
    }
}

#[test]
fn what_is_wrong_is_named_with_its_place() {
    let long = format!("in(name, [{}])", vec!["'x'"; 1001].join(", "));
    let many = format!("or({})", vec!["eq(name, 'x')"; 101].join(", "));
    let pattern = format!("like(inputs, '%{}')", "a".repeat(1024));
    let cases = [
        r#"search("a", "b")"#,
        "search()",
        "and()",
        "not(eq(name, 'x'), eq(name, 'y'))",
        "eq(name)",
        "equals(name, 'x')",
        "eq(colour, 'red')",
        "EQ(name, 'x')",
        "eq('name', 'x')",
        "and(name)",
        "and(eq(name, 5), gt(name, 'x'), eq(id, 'x'))",
        "eq(is_root, 'true')",
        "gt(latency, '5 parsecs')",
        "gt(latency, null)",
        "gt(total_tokens, '5')",
        "gt(start_time, 'yesterday')",
        "gt(start_time, '1850-01-01')",
        "eq(tags, 'x')",
        "has(name, 'x')",
        "in(name, 'x')",
        "eq(name, ['x'])",
        "in(name, ['x', null, 5])",
        "eq(inputs, 'x')",
        "gt(feedback_value, 5)",
        "gt(metadata_value, 'x')",
        "gt(feedback_score, 1e999)",
        "like(name, null)",
        "eq(name, other)",
        "search(5)",
        &long,
        &many,
        &pattern,
    ];
    let table: Vec<_> =
        cases.iter().map(|case| format!("{}\n    {}", syntax::short(case), told(case))).collect();
    insta::assert_snapshot!(table.join("\n"));
}

#[test]
fn wrong_arity_is_told_in_the_words_that_clients_know() {
    let errors = Filter::read(r#"search("a", "b")"#).unwrap_err();
    assert_eq!(errors[0].to_string(), r#""search" requires 1 arguments, got 2"#);
}

#[test]
fn content_that_is_not_known_leaves_open_what_hangs_on_it() {
    let unknown = Row { content: Known::default(), ..row() };
    let decide = |filter: &str| Filter::read(filter).unwrap().matches(&unknown);
    assert_eq!(decide("search('CHAT')"), Some(true));
    assert_eq!(decide("search('why')"), None);
    assert_eq!(decide("and(eq(name, 'x'), neq(error, null))"), Some(false));
    assert_eq!(decide("not(eq(metadata_key, 'x'))"), None);
    assert_eq!(decide("or(eq(metadata_key, 'x'), eq(is_root, true))"), Some(true));
}

#[test]
fn what_reads_no_content_is_asked_in_as_few_questions_as_can_be() {
    let filter = Filter::read("and(eq(name, 'a'), eq(is_root, true), or(eq(status, 'b'), neq(error, null)), not(search('c')))").unwrap();
    assert_eq!(filter.content(), [Column::Inputs, Column::Outputs, Column::Error]);
    let (open, questions) = filter.split();
    assert_eq!(questions.len(), 3);
    assert_eq!(questions[0].leaves().len(), 2);
    assert_eq!(open.leaves().len(), 3 + 4);
    assert!(!Filter::read("and(eq(feedback_key, 'a'), has(tags, 'b'))").unwrap().reads_content());
}
