//! What bad input gets, and what the control plane's refusals become.

use tonic::{Code, Status};
use tracelift_core::Invalid;
use tracelift_proto::status;
use tracelift_test_grpc::{DESTINATION, EXPORT, PROJECT, RUN, TENANT};

use crate::talk::{DESTINATIONS, EXPORTS, lonely_world, world};

#[tokio::test]
async fn without_a_key_nothing_is_looked_at() {
    let world = world().await;
    let mut shown = Vec::new();
    for headers in [&[] as &[&str], &["X-API-Key: "], &["X-Tenant-Id: nonsense"]] {
        shown.push(world.ask_as(headers, "POST", EXPORTS, Some("{broken")).await.shown());
    }
    shown.dedup();
    insta::assert_snapshot!(shown.join("\n\n"));
    assert!(world.fake.asked().is_empty());
}

#[tokio::test]
async fn the_callers_headers_go_on_and_no_others() {
    let world = world().await;
    let trace = "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let tenant = TENANT.to_uppercase();
    let headers = [
        "X-API-Key: k1",
        "Authorization: Bearer t1",
        &format!("X-Tenant-Id: {tenant}"),
        "x-request-id: r-1",
        trace,
        "Cookie: c",
    ];
    let heard = world.ask_as(&headers, "GET", EXPORTS, None).await;
    assert_eq!(heard.header("x-request-id"), Some("r-1"));
    let given = |name| world.fake.metadata(name);
    assert_eq!(given("x-api-key").as_deref(), Some("k1"));
    assert_eq!(given("authorization").as_deref(), Some("Bearer t1"));
    assert_eq!(given("x-tenant-id").as_deref(), Some(TENANT));
    assert_eq!(given("x-request-id").as_deref(), Some("r-1"));
    assert!(given("traceparent").unwrap().starts_with("00-4bf92f3577b34da6a3ce929d0e0e4736-"));
    assert!(given("grpc-timeout").is_some());
    assert_eq!(given("cookie"), None);
}

#[tokio::test]
async fn a_bearer_token_is_enough() {
    let world = world().await;
    assert_eq!(world.ask_as(&["Authorization: Bearer t1"], "GET", EXPORTS, None).await.status, 200);
}

#[tokio::test]
async fn a_tenant_that_is_no_uuid_is_named() {
    let world = world().await;
    let heard = world.ask_as(&["X-API-Key: k", "X-Tenant-Id: acme"], "GET", EXPORTS, None).await;
    insta::assert_snapshot!(heard.shown());
}

#[tokio::test]
async fn bodies_that_are_no_object_are_told_as_fastapi_does() {
    let world = world().await;
    let trailing_comma = "{\"config\": {\n\"region\": \"us-east-1\",\n}}";
    let mut shown = Vec::new();
    for body in [
        None,
        Some("{"),
        Some("nope"),
        Some("[]"),
        Some("\"text\""),
        Some("null"),
        Some(trailing_comma),
        Some("{} {}"),
    ] {
        shown.push(format!(
            "{}\n{}",
            body.unwrap_or("(no body)"),
            world.ask("POST", EXPORTS, body).await.shown()
        ));
    }
    insta::assert_snapshot!(shown.join("\n\n"));
    assert!(world.fake.asked().is_empty());
}

#[tokio::test]
async fn unknown_paths_and_methods_are_told_as_fastapi_does() {
    let world = world().await;
    let mut shown = Vec::new();
    for (method, path) in [
        ("GET", "/"),
        ("GET", "/api/v1/bulk-export"),
        ("DELETE", EXPORTS),
        ("PUT", DESTINATIONS),
        ("POST", "/healthz"),
    ] {
        shown.push(format!(
            "{method} {path}\n{}",
            world.ask_as(&[], method, path, None).await.shown()
        ));
    }
    insta::assert_snapshot!(shown.join("\n\n"));
}

#[tokio::test]
async fn a_slash_at_the_end_of_a_path_changes_nothing() {
    let world = world().await;
    let filter = Some(r#"{"filter": null}"#);
    let body = format!(
        r#"{{"bulk_export_destination_id": "{DESTINATION}", "session_id": "{PROJECT}", "start_time": 0, "end_time": "2024-01-02"}}"#
    );
    for (method, path, body) in [
        ("GET", EXPORTS.to_owned(), None),
        ("POST", EXPORTS.to_owned(), Some(body.as_str())),
        ("GET", DESTINATIONS.to_owned(), None),
        ("GET", format!("{DESTINATIONS}/{DESTINATION}"), None),
        ("DELETE", format!("{DESTINATIONS}/{DESTINATION}"), None),
        ("GET", format!("{EXPORTS}/{EXPORT}"), None),
        ("PATCH", format!("{EXPORTS}/{EXPORT}"), Some("{}")),
        ("GET", format!("{EXPORTS}/{EXPORT}/runs"), None),
        ("GET", format!("{EXPORTS}/{EXPORT}/runs/{RUN}"), None),
        ("POST", format!("{EXPORTS}/{EXPORT}/runs/{RUN}/retry"), None),
        ("GET", format!("{EXPORTS}/limits"), None),
        ("POST", "/api/v1/runs/query/validate".to_owned(), filter),
        ("GET", "/openapi.json".to_owned(), None),
        ("GET", "/healthz".to_owned(), None),
    ] {
        let (without, with) = (
            world.ask(method, &path, body).await,
            world.ask(method, &format!("{path}/"), body).await,
        );
        assert!((200..300).contains(&without.status), "{method} {path}: {}", without.body);
        assert_eq!((with.status, with.body), (without.status, without.body), "{method} {path}/");
    }
    let page = world.ask("GET", &format!("{EXPORTS}/?limit=2"), None).await;
    assert_eq!(page.status, 200);
    assert!(world.fake.asked().last().unwrap().contains("limit: 2"));
    for path in [format!("{EXPORTS}/{EXPORT}//"), "/".to_owned()] {
        assert_eq!(world.ask("GET", &path, None).await.status, 404, "{path}");
    }
}

#[tokio::test]
async fn the_control_planes_refusals_keep_their_meaning() {
    let world = world().await;
    let invalid = status::invalid([
        Invalid::no_uuid("spec.destination_id"),
        Invalid::new("spec.end_time", "the range touches 500 days, at most 366 are allowed"),
        Invalid::new("spec.export_fields.2", "\"colour\" is not a column"),
    ]);
    let refusals = [
        invalid,
        Status::invalid_argument("something else"),
        Status::failed_precondition("Failed to validate S3 destination: Access denied"),
        Status::unauthenticated("The API key is not known"),
        Status::permission_denied("The API key may only read"),
        Status::not_found("No such export"),
        Status::already_exists("taken"),
        Status::aborted("changed meanwhile"),
        status::overloaded("15 exports at once", 1),
        Status::resource_exhausted("received message larger than max"),
        Status::out_of_range("decoded message length too large"),
        status::retry_later("the control plane is busy", 7),
        Status::deadline_exceeded("slow"),
        Status::internal("disk full at /var/lib/x"),
        Status::new(Code::Unknown, "panic"),
    ];
    let mut shown = Vec::new();
    for refusal in refusals {
        let code = refusal.code();
        world.fake.refuse(refusal);
        shown.push(format!(
            "{code:?} -> {}",
            world.ask("GET", &format!("{EXPORTS}/{EXPORT}"), None).await.shown()
        ));
    }
    insta::assert_snapshot!(shown.join("\n\n"));
}

#[tokio::test]
async fn a_control_plane_that_is_away_is_a_503() {
    let world = lonely_world().await;
    insta::assert_snapshot!(world.ask("GET", EXPORTS, None).await.shown());
}

#[tokio::test]
async fn nothing_of_a_wrong_export_reaches_the_control_plane() {
    let world = world().await;
    let body = format!(
        r#"{{"bulk_export_destination_id": "{DESTINATION}", "session_id": "{PROJECT}",
            "start_time": "2024-01-02T00:00:00Z", "end_time": "2024-01-01T00:00:00Z"}}"#
    );
    insta::assert_snapshot!(world.ask("POST", EXPORTS, Some(&body)).await.shown());
    assert!(world.fake.asked().is_empty());
}
