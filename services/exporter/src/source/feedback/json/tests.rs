//! What the JSON of feedback looks like, and that it is valid whatever people wrote.

use std::sync::Arc;

use arrow::datatypes::{Field, Schema};
use proptest::prelude::*;

use super::*;

/// One row: these texts by name, and typical values for the other fields.
fn fields(texts: &[(&str, &str)], score: Option<f64>) -> Fields {
    let array = |name: &str, kind: Kind| -> ArrayRef {
        match kind {
            Kind::Bool => Arc::new(BooleanArray::from(vec![true])),
            Kind::Time => Arc::new(
                TimestampMicrosecondArray::from(vec![1_747_153_234_123_456]).with_timezone("UTC"),
            ),
            Kind::Score => Arc::new(Float64Array::from(vec![score])),
            _ => Arc::new(StringArray::from(vec![
                texts.iter().find(|(of, _)| *of == name).map_or("", |(_, text)| *text),
            ])),
        }
    };
    let arrays: Vec<_> = FIELDS.iter().map(|(name, kind)| array(name, *kind)).collect();
    let schema = FIELDS
        .iter()
        .zip(&arrays)
        .map(|((name, _), array)| Field::new(out(name), array.data_type().clone(), true));
    Fields::read(
        &RecordBatch::try_new(Arc::new(Schema::new(schema.collect::<Vec<_>>())), arrays).unwrap(),
    )
    .unwrap()
}

fn json(texts: &[(&str, &str)], score: Option<f64>) -> Value {
    serde_json::from_str(&fields(texts, score).json(0)).unwrap()
}

#[test]
fn feedback_is_an_object_of_every_field_in_order() {
    let id = "00000000-0000-0000-0000-00000000000a";
    let said = [
        ("id", id),
        ("run_id", id),
        ("session_id", id),
        ("trace_id", id),
        ("key", "user_score"),
        ("value", "good"),
        ("correction", r#"{"b": 1.50, "a": 18446744073709551616}"#),
        ("feedback_source", r#"{"type":"api"}"#),
    ];
    insta::assert_snapshot!(fields(&said, Some(1.0)).json(0).replace(",\"", ",\n\""));
}

#[test]
fn only_objects_and_lists_are_told_as_json_and_other_values_are_the_text_that_filters_compare() {
    let value = |text: &str| {
        json(&[("value", text), ("correction", text), ("feedback_source", text)], None)["value"]
            .clone()
    };
    assert_eq!(value(r#" {"a": [1, null]} "#), serde_json::json!({"a": [1, null]}));
    assert_eq!(value("[]"), serde_json::json!([]));
    for text in [
        "good",
        "\"good\"",
        "1",
        "true",
        "null",
        " ",
        "{",
        "[1,]",
        r#"{"a":NaN}"#,
        r#"["\ud800"]"#,
        "[1e999]",
        "{} {}",
    ] {
        assert_eq!(value(text), text, "it stays a text");
    }
    assert_eq!(value(""), Value::Null);
}

#[test]
fn a_score_that_is_no_number_of_json_is_null_and_an_empty_comment_too_but_not_a_key() {
    for score in [None, Some(f64::NAN), Some(f64::INFINITY), Some(f64::NEG_INFINITY)] {
        assert_eq!(json(&[], score)["score"], Value::Null);
    }
    assert_eq!(json(&[], Some(-0.25))["score"], -0.25);
    let empty = json(&[], None);
    assert_eq!((&empty["comment"], &empty["key"]), (&Value::Null, &Value::from("")));
}

#[test]
fn lists_are_in_the_order_of_the_rows_and_empty_where_nothing_was_said() {
    let mut lists = Lists::default();
    lists.add(1, "{1}").unwrap();
    lists.add(1, "{2}").unwrap();
    assert_eq!(lists.bytes(), 2, "the list of row 1 may still grow");
    lists.add(3, "{3}").unwrap();
    assert_eq!(lists.take().iter().flatten().collect::<Vec<_>>(), ["[]", "[{1},{2}]", "[]"]);
    assert_eq!(lists.bytes(), 0);
    lists.finish(5);
    assert_eq!(lists.take().iter().flatten().collect::<Vec<_>>(), ["[{3}]", "[]"]);
}

proptest! {
    #[test]
    fn it_is_json_and_says_what_was_said(key in any::<String>(), value in any::<String>(), comment in ".{1,20}", score in any::<f64>()) {
        let said = [("key", key.as_str()), ("value", &value), ("correction", &comment), ("comment", &comment)];
        let text = fields(&said, Some(score)).json(0);
        let told: Value = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(told["key"].as_str(), Some(key.as_str()));
        prop_assert_eq!(told["comment"].as_str(), Some(comment.as_str()));
        // Exact to the last bit, which serde_json's parser is not.
        let number = text.split("\"score\":").nth(1).and_then(|rest| rest.split(',').next()).unwrap();
        prop_assert_eq!(number.parse().ok(), score.is_finite().then_some(score));
        let is_text = told["value"].as_str() == Some(value.as_str());
        prop_assert!(is_text || value.is_empty() || told["value"] == serde_json::from_str::<Value>(&value).unwrap());
    }

    #[test]
    fn json_that_was_sent_is_told_as_it_is(keys in prop::collection::vec(any::<String>(), 0..5), number in any::<i64>()) {
        let sent: serde_json::Map<_, _> = keys.into_iter().map(|key| (key.clone(), serde_json::json!([key, number, null, true]))).collect();
        let text = Value::Object(sent.clone()).to_string();
        prop_assert_eq!(&json(&[("correction", text.as_str())], None)["correction"], &Value::Object(sent));
        prop_assert!(fields(&[("correction", text.as_str())], None).json(0).contains(&text));
    }
}
