//! Invalid bodies, with every invalid field reported.

use serde_json::{Value, json};

use super::*;
use crate::validation::ValidationErrors;

const ID: &str = "0190d1a2-0000-7000-8000-000000000001";

fn export_with(field: &str, value: Value) -> Value {
    let mut body = json!({
        "bulk_export_destination_id": ID,
        "session_id": ID,
        "start_time": "2024-01-01T00:00:00Z",
        "end_time": "2024-01-02T00:00:00Z",
    });
    body[field] = value;
    body
}

fn destination() -> Value {
    json!({
        "display_name": "mine",
        "config": {"bucket_name": "traces", "region": "us-east-1"},
        "credentials": {"access_key_id": "AKIA", "secret_access_key": "hunter2"},
    })
}

fn config_with(field: &str, value: Value) -> Value {
    let mut body = destination();
    body["config"][field] = value;
    body
}

fn shown<T>(result: Result<T, ValidationErrors>) -> String {
    match result {
        Ok(_) => "taken".to_owned(),
        Err(wrong) => serde_json::to_string(&wrong).unwrap().replace("},{", "},\n{"),
    }
}

/// Per case, a line with what was changed, then the result.
fn table(cases: impl IntoIterator<Item = (String, String)>) -> String {
    cases.into_iter().map(|(case, shown)| format!("{case}\n{shown}\n\n")).collect()
}

#[test]
fn an_empty_export_misses_each_required_field() {
    insta::assert_snapshot!(shown(create_export(&json!({}))));
}

#[test]
fn every_field_of_an_export_that_is_wrong_is_named_at_once() {
    let body = json!({
        "bulk_export_destination_id": 7,
        "session_id": "nope",
        "start_time": "yesterday",
        "end_time": true,
        "filter": "and(eq(colour, \"red\"), search())",
        "interval_hours": 24,
        "all_experiments": true,
        "format": "CSV",
        "format_version": "v3",
        "compression": "lz4",
        "export_fields": ["id", 5, "feedbacks", "colour"],
    });
    insta::assert_snapshot!(shown(create_export(&body)));
}

#[test]
fn wrong_values_of_an_export_one_by_one() {
    let cases = [
        ("session_id", Value::Null),
        ("session_id", json!("")),
        ("start_time", json!("")),
        ("start_time", json!("2024-13-01T00:00:00Z")),
        ("start_time", json!("1850-01-01T00:00:00Z")),
        ("start_time", json!(1e300)),
        ("start_time", json!([1_704_067_200])),
        ("end_time", Value::Null),
        ("end_time", json!("2024-01-01T00:00:00Z")),
        ("compression", json!(5)),
        ("compression", Value::Null),
        ("format", json!("parquet")),
        ("all_experiments", json!("yes")),
        ("all_experiments", json!(true)),
        ("all_experiments", json!(false)),
        ("interval_hours", json!(1)),
        ("export_fields", json!("id")),
        ("export_fields", json!(["id", "colour", "id", "feedbacks"])),
        ("export_fields", json!(["feedbacks", "id"])),
        ("export_fields", json!(vec!["id"; 65])),
        ("export_fields", json!([])),
        ("filter", Value::Null),
        ("filter", json!("")),
        ("filter", json!(5)),
        ("filter", json!("eq(run_type, \"llm\")")),
        ("filter", json!("eq(run_type, \"llm\"")),
        ("filter", json!("search('a', 'b')")),
        ("colour", json!("ignored")),
    ];
    let cases = cases.map(|(field, value)| {
        let case = if field == "export_fields" && value[3] == "id" {
            "65 fields".to_owned()
        } else {
            format!("{field} = {value}")
        };
        (case, shown(create_export(&export_with(field, value))))
    });
    insta::assert_snapshot!(table(cases));
}

#[test]
fn times_are_taken_in_every_form_that_pydantic_takes() {
    let start = |start: Value| {
        create_export(&export_with("start_time", start)).unwrap().spec.unwrap().start_time.unwrap()
    };
    let midnight = start(json!("2024-01-01T00:00:00Z"));
    for same in [
        json!("2024-01-01T00:00:00+0000"),
        json!("2024-01-01T00:00Z"),
        json!("2024-01-01 00:00"),
        json!("1704067200"),
    ] {
        assert_eq!(start(same.clone()), midnight, "{same}");
    }
    for same in [
        json!(1_704_067_200),
        json!(1_704_067_200.0),
        json!(1_704_067_200_000u64),
        json!("1704067200000"),
    ] {
        assert_eq!(start(same.clone()), midnight, "{same}");
    }
    assert_eq!(
        start(json!(1_704_067_200.123456)).nanos,
        123_456_000,
        "not what the nearest double is"
    );
    assert_eq!(start(json!(0.0000005)), prost_types::Timestamp { seconds: 0, nanos: 1000 });
}

#[test]
fn a_bound_between_two_microseconds_is_the_later_one() {
    let body = export_with("end_time", json!("2024-01-01T23:59:59.999999999Z"));
    let next_day = create_export(&export_with("end_time", json!("2024-01-02"))).unwrap();
    assert_eq!(create_export(&body).unwrap(), next_day);
}

#[test]
fn all_experiments_take_the_place_of_a_project() {
    let of = |session: Value, all: Value| {
        let mut body = export_with("session_id", session);
        body["all_experiments"] = all;
        body
    };
    for body in
        [of(Value::Null, json!(true)), export_without("session_id", of(Value::Null, json!(true)))]
    {
        let spec = create_export(&body).unwrap().spec.unwrap();
        assert_eq!((spec.session_id.as_str(), spec.all_experiments), ("", true));
    }
    for all in [json!(false), Value::Null] {
        let spec = create_export(&of(json!(ID), all)).unwrap().spec.unwrap();
        assert_eq!((spec.session_id.as_str(), spec.all_experiments), (ID, false));
    }
    let neither = r#"[{"loc":["body","session_id"],"msg":"Field required","type":"missing"}]"#;
    assert_eq!(shown(create_export(&of(Value::Null, json!(false)))), neither);
    assert_eq!(shown(create_export(&of(Value::Null, Value::Null))), neither);
}

fn export_without(field: &str, mut body: Value) -> Value {
    body.as_object_mut().unwrap().remove(field);
    body
}

#[test]
fn a_schedule_has_no_end_and_an_interval_of_an_hour_to_a_week() {
    let schedule = |hours: Value| {
        let mut body = export_with("interval_hours", hours);
        body.as_object_mut().unwrap().remove("end_time");
        body
    };
    let spec = create_export(&schedule(json!(24))).unwrap().spec.unwrap();
    assert_eq!((spec.end_time, spec.interval_hours), (None, 24));
    let wrong = [
        json!(0),
        json!(-1),
        json!(169),
        json!(1.5),
        json!("24"),
        json!(true),
        json!(1e30),
        Value::Null,
    ];
    let cases = wrong
        .into_iter()
        .map(|hours| (format!("interval_hours = {hours}"), shown(create_export(&schedule(hours)))));
    insta::assert_snapshot!(table(cases));
}

#[test]
fn an_empty_destination_misses_each_required_field() {
    insta::assert_snapshot!(shown(create_destination(&json!({}))));
}

#[test]
fn every_field_of_a_destination_that_is_wrong_is_named_at_once() {
    let body = json!({
        "destination_type": "gcs",
        "display_name": "a/b",
        "config": {
            "bucket_name": 5,
            "prefix": "a/../b",
            "region": [],
            "endpoint_url": "ftp://x",
            "include_bucket_in_prefix": "no",
            "s3_additional_kwargs": {"Colour": "red", "Tagging": 1, "StorageClass": ""},
            "config_kwargs_s3": {
                "addressing_style": "sideways",
                "use_accelerate_endpoint": true,
                "payload_signing_enabled": true,
                "us_east_1_regional_endpoint": "regional",
            },
            "aws_role_arn": "arn:aws:iam::1:role/x",
        },
        "aws_role_arn": "arn:aws:iam::1:role/x",
        "credentials": {"access_key_id": "", "secret_access_key": 5, "session_token": "with space"},
    });
    insta::assert_snapshot!(shown(create_destination(&body)));
}

#[test]
fn wrong_values_of_a_destination_one_by_one() {
    let top = |field: &str, value: Value| {
        let mut body = destination();
        body[field] = value;
        body
    };
    let long = "x".repeat(2049);
    let cases = [
        ("display_name empty", top("display_name", json!(""))),
        ("display_name too long", top("display_name", json!("x".repeat(256)))),
        ("config not an object", top("config", json!("traces"))),
        ("credentials null", top("credentials", Value::Null)),
        ("credentials not an object", top("credentials", json!("AKIA:hunter2"))),
        ("credentials empty", top("credentials", json!({}))),
        ("aws_role_arn null", top("aws_role_arn", Value::Null)),
        ("bucket_name short", config_with("bucket_name", json!("ab"))),
        ("bucket_name long", config_with("bucket_name", json!("x".repeat(64)))),
        ("prefix long", config_with("prefix", json!(long))),
        ("endpoint_url long", config_with("endpoint_url", json!(format!("https://{long}")))),
        ("neither region nor endpoint", config_with("region", Value::Null)),
        ("endpoint_url wrong, no region", {
            let mut body = config_with("endpoint_url", json!(5));
            body["config"]["region"] = Value::Null;
            body
        }),
        ("bucket not in the endpoint", config_with("include_bucket_in_prefix", json!(false))),
        ("kwargs null", config_with("s3_additional_kwargs", Value::Null)),
        (
            "client config null",
            config_with(
                "config_kwargs_s3",
                json!({"addressing_style": null, "payload_signing_enabled": null}),
            ),
        ),
    ];
    insta::assert_snapshot!(table(
        cases.map(|(case, body)| (case.to_owned(), shown(create_destination(&body))))
    ));
}

proptest::proptest! {
    #[test]
    fn no_body_makes_the_reader_fall_over(text in "\\PC{0,200}") {
        let body = json!({"config": text, "session_id": text, "start_time": text, "credentials": {"access_key_id": text}});
        proptest::prop_assert!(create_export(&body).is_err());
        proptest::prop_assert!(create_destination(&body).is_err());
    }
}
