//! Operations 1, 2, 6, 7, and filters.

use tracelift_test_grpc::{DESTINATION, EXPORT, PROJECT};

use crate::talk::{EXPORTS, world};

fn body() -> String {
    format!(
        r#"{{
"bulk_export_destination_id": "{DESTINATION}",
"session_id": "{PROJECT}",
"start_time": "2024-01-01T00:00:00Z",
"end_time": "2024-01-02T23:59:59Z"
}}"#
    )
}

#[tokio::test]
async fn the_guides_export_is_created_with_every_default() {
    let world = world().await;
    let heard = world.ask("POST", EXPORTS, Some(&body())).await;
    insta::assert_snapshot!(heard.shown());
    insta::assert_snapshot!(world.fake.asked().join("\n"));
}

#[tokio::test]
async fn every_choice_of_a_caller_reaches_the_control_plane() {
    let world = world().await;
    let more = r#", "format": "Parquet", "format_version": "v2_beta", "compression": "snappy", "export_fields": ["id", "inputs"],
        "filter": "and(eq(is_root, true), eq(name, 'ä'))", "interval_hours": null, "all_experiments": false, "colour": "ignored"}"#;
    let heard = world.ask("POST", EXPORTS, Some(&body().replace('}', more))).await;
    assert_eq!(heard.status, 200, "{}", heard.body);
    insta::assert_snapshot!(world.fake.asked().join("\n"));
}

#[tokio::test]
async fn all_experiments_reach_the_control_plane_without_a_project() {
    let world = world().await;
    let all = body().replace(
        &format!("\"session_id\": \"{PROJECT}\""),
        r#""session_id": null, "all_experiments": true"#,
    );
    let heard = world.ask("POST", EXPORTS, Some(&all)).await;
    assert_eq!(heard.status, 200, "{}", heard.body);
    assert!(heard.body.contains(r#""session_id":null,"all_experiments":true"#), "{}", heard.body);
    let asked = world.fake.asked().remove(0);
    assert!(
        asked.contains("session_id: \"\"") && asked.contains("all_experiments: true"),
        "{asked}"
    );
}

#[tokio::test]
async fn a_schedule_reaches_the_control_plane_without_an_end() {
    let world = world().await;
    let schedule = body().replace(
        r#""end_time": "2024-01-02T23:59:59Z""#,
        r#""end_time": null, "interval_hours": 24"#,
    );
    assert_eq!(world.ask("POST", EXPORTS, Some(&schedule)).await.status, 200);
    assert!(world.fake.asked()[0].contains("end_time: None"), "{:?}", world.fake.asked());
    assert!(world.fake.asked()[0].contains("interval_hours: 24"), "{:?}", world.fake.asked());
}

#[tokio::test]
async fn a_time_without_zone_is_utc() {
    let world = world().await;
    world.ask("POST", EXPORTS, Some(&body())).await;
    world.ask("POST", EXPORTS, Some(&body().replace('Z', ""))).await;
    let asked = world.fake.asked();
    assert_eq!(asked.len(), 2);
    assert_eq!(asked[0], asked[1]);
}

#[tokio::test]
async fn an_export_is_shown_and_listed() {
    let world = world().await;
    let one = world.ask("GET", &format!("{EXPORTS}/{EXPORT}"), None).await;
    let all = world.ask("GET", EXPORTS, None).await;
    assert_eq!((one.status, all.status), (200, 200));
    assert_eq!(all.body, format!("[{}]", one.body));
    world.ask("GET", &format!("{EXPORTS}?limit=7&offset=3"), None).await;
    insta::assert_snapshot!(world.fake.asked().join("\n"));
}

#[tokio::test]
async fn cancelling_takes_the_word_or_an_empty_object() {
    let world = world().await;
    let path = format!("{EXPORTS}/{EXPORT}");
    let word = world.ask("PATCH", &path, Some(r#"{"status": "Cancelled"}"#)).await;
    let empty = world.ask("PATCH", &path, Some("{}")).await;
    assert_eq!(word.body, empty.body);
    insta::assert_snapshot!(word.shown());
    assert_eq!(world.fake.asked().len(), 2);
}

#[tokio::test]
async fn any_other_change_of_an_export_is_refused() {
    let world = world().await;
    let path = format!("{EXPORTS}/{EXPORT}");
    let mut shown = Vec::new();
    for body in [None, Some(r#"{"status": "Completed"}"#), Some(r#"{"status": null}"#), Some("[]")]
    {
        shown.push(format!(
            "{}\n{}",
            body.unwrap_or("(no body)"),
            world.ask("PATCH", &path, body).await.shown()
        ));
    }
    insta::assert_snapshot!(shown.join("\n\n"));
    assert!(world.fake.asked().is_empty());
}

#[tokio::test]
async fn filters_are_valid_or_not_and_that_is_no_refusal() {
    let world = world().await;
    let path = "/api/v1/runs/query/validate";
    let right = r#"{"filter": "eq(run_type, \"llm\")", "tree_filter": "eq(name, 'x')", "trace_filter": null, "session": ["x"], "limit": 5}"#;
    let mut shown = Vec::new();
    for body in [right, "{}", r#"{"filter": "eq(wrong, 1)"}"#, r#"{"filter": 5}"#, "[]"] {
        shown.push(format!("{body}\n{}", world.ask("POST", path, Some(body)).await.shown()));
    }
    insta::assert_snapshot!(shown.join("\n\n"));
    insta::assert_snapshot!(world.fake.asked().join("\n"));
}
