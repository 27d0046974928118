//! What LangSmith does not have: limits, filters, keys that repeat a request, runs asked for anew,
//! events.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tonic::Status;
use tracelift_proto::{status, v1};
use tracelift_test_grpc::{DESTINATION, EXPORT, PROJECT, RUN, export};

use crate::talk::{DESTINATIONS, EXPORTS, World, world};

#[tokio::test]
async fn limits_are_shown_with_what_is_used() {
    let world = world().await;
    insta::assert_snapshot!(world.ask("GET", &format!("{EXPORTS}/limits"), None).await.shown());
}

#[tokio::test]
async fn a_used_up_limit_is_a_429_that_says_when() {
    let world = world().await;
    world.fake.refuse(status::overloaded(
        "the workspace may make 250 exports an hour and has; there is room again in 90 s",
        90,
    ));
    let heard = world.ask("GET", EXPORTS, None).await;
    assert_eq!((heard.status, heard.header("retry-after")), (429, Some("90")));
}

#[tokio::test]
async fn a_list_is_filtered_by_what_is_given() {
    let world = world().await;
    let query = format!(
        "status=Running&destination_id={DESTINATION}&status=Created&session_id={PROJECT}&limit=5"
    );
    assert_eq!(world.ask("GET", &format!("{EXPORTS}?{query}"), None).await.status, 200);
    insta::assert_snapshot!(world.fake.asked().join("\n"));
    let wrong = "status=Running&status=Done&destination_id=x&session_id=&limit=0";
    insta::assert_snapshot!(world.ask("GET", &format!("{EXPORTS}?{wrong}"), None).await.shown());
}

#[tokio::test]
async fn a_key_goes_on_with_the_request() {
    let world = world().await;
    let body = format!(
        r#"{{"bulk_export_destination_id": "{DESTINATION}", "session_id": "{PROJECT}",
            "start_time": "2024-01-01T00:00:00Z", "end_time": "2024-01-02T00:00:00Z"}}"#
    );
    let heard = world
        .ask_as(&["X-API-Key: k", "Idempotency-Key: once-1"], "POST", EXPORTS, Some(&body))
        .await;
    assert_eq!(heard.status, 200, "{}", heard.body);
    assert!(
        world.fake.asked()[0].contains(r#"idempotency_key: "once-1""#),
        "{:?}",
        world.fake.asked()
    );
    let wrong = world
        .ask_as(&["X-API-Key: k", "Idempotency-Key: \u{e4}"], "POST", EXPORTS, Some(&body))
        .await;
    insta::assert_snapshot!(wrong.shown());
    world.fake.refuse(Status::already_exists("the idempotency key was given to another request"));
    let other = world
        .ask_as(&["X-API-Key: k", "Idempotency-Key: once-1"], "POST", EXPORTS, Some(&body))
        .await;
    assert_eq!(other.status, 409);
}

#[tokio::test]
async fn a_request_for_a_destination_may_be_repeated_too() {
    let world = world().await;
    let body = r#"{"display_name": "Traces", "config": {"bucket_name": "traces", "region": "eu-west-1"},
        "credentials": {"access_key_id": "AKID", "secret_access_key": "s"}}"#;
    let headers = ["X-API-Key: k", "Idempotency-Key: once-1"];
    let heard = world.ask_as(&headers, "POST", DESTINATIONS, Some(body)).await;
    assert_eq!(heard.status, 200, "{}", heard.body);
    assert!(
        world.fake.asked()[0].contains(r#"idempotency_key: "once-1""#),
        "{:?}",
        world.fake.asked()
    );
    world.fake.refuse(Status::already_exists("the idempotency key was given to another request"));
    assert_eq!(world.ask_as(&headers, "POST", DESTINATIONS, Some(body)).await.status, 409);
}

#[tokio::test]
async fn a_run_is_asked_for_anew_or_its_state_is_in_the_way() {
    let world = world().await;
    let path = format!("{EXPORTS}/{EXPORT}/runs/{RUN}/retry");
    let heard = world.ask("POST", &path, None).await;
    assert_eq!(heard.status, 200, "{}", heard.body);
    assert!(heard.body.contains(RUN));
    world.fake.refuse(Status::failed_precondition(
        "run 1 is Completed: only one that has Failed or TimedOut can be retried",
    ));
    insta::assert_snapshot!(world.ask("POST", &path, None).await.shown());
    assert_eq!(world.ask("GET", &path, None).await.status, 405);
}

/// A stream of events that is read as it comes.
struct Events(TcpStream, String);

impl Events {
    async fn begin(world: &World, headers: &str) -> Self {
        let mut stream = TcpStream::connect(world.address).await.unwrap();
        let head = format!(
            "GET {EXPORTS}/{EXPORT}/events HTTP/1.1\r\nHost: gateway\r\nX-API-Key: k\r\n{headers}\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        Self(stream, String::new())
    }

    /// Everything up to and with `text`.
    async fn until(&mut self, text: &str) -> String {
        while !self.1.contains(text) {
            let mut bytes = [0; 4096];
            let count = self.0.read(&mut bytes).await.unwrap();
            assert!(count > 0, "it ended after {}", self.1);
            self.1.push_str(std::str::from_utf8(&bytes[..count]).unwrap());
        }
        let end = self.1.find(text).unwrap() + text.len();
        self.1.drain(..end).collect()
    }
}

/// What the last chunk of a body is.
const END: &str = "\r\n0\r\n\r\n";

#[tokio::test]
async fn an_export_is_told_as_events_until_it_has_ended() {
    let world = world().await;
    let mut events = Events::begin(&world, "").await;
    let watch = world.fake.watch().await;
    assert_eq!(world.fake.metadata("grpc-timeout"), None, "a watch has no deadline");
    let head = events.until("\r\n\r\n").await;
    assert!(
        head.contains("200 OK")
            && head.contains("text/event-stream")
            && head.contains("x-accel-buffering: no"),
        "{head}"
    );
    let shown = world.ask("GET", &format!("{EXPORTS}/{EXPORT}"), None).await.body;
    for number in 1..=2 {
        watch.send(Ok(v1::WatchExportResponse { export: Some(export()) })).await.unwrap();
        let event = events.until("\n\n").await;
        assert!(
            event.contains(&format!("event: export\ndata: {shown}\nid: {number}\nretry: 2000\n\n")),
            "{event}"
        );
    }
    drop(watch);
    events.until(END).await;
}

#[tokio::test]
async fn the_numbers_go_on_and_a_broken_watch_ends_with_a_refusal() {
    let world = world().await;
    let mut events = Events::begin(&world, "Last-Event-ID: 41\r\n").await;
    let watch = world.fake.watch().await;
    watch
        .send(Err(status::retry_later("the control plane is stopping; watch again", 1)))
        .await
        .unwrap();
    let all = events.until(END).await;
    let error = r#"event: refusal
data: {"detail":"the control plane is stopping; watch again"}
id: 42
"#;
    assert!(all.contains(error), "{all}");
}

#[tokio::test]
async fn a_client_that_comes_back_after_the_end_is_told_not_to_come_again() {
    let world = world().await;
    world.fake.end();
    let events = format!("{EXPORTS}/{EXPORT}/events");
    let heard = world.ask_as(&["X-API-Key: k", "Last-Event-ID: 3"], "GET", &events, None).await;
    assert_eq!((heard.status, heard.body.as_str()), (204, ""));
    let _first_time = Events::begin(&world, "").await;
    world.fake.watch().await;
}

#[tokio::test]
async fn what_is_refused_before_the_first_event_is_answered_as_everywhere() {
    let world = world().await;
    world.fake.refuse(Status::not_found("export 1 does not exist"));
    let heard = world.ask("GET", &format!("{EXPORTS}/{EXPORT}/events"), None).await;
    assert_eq!(
        (heard.status, heard.body.as_str()),
        (404, r#"{"detail":"export 1 does not exist"}"#)
    );
    assert_eq!(
        world.ask_as(&[], "GET", &format!("{EXPORTS}/{EXPORT}/events"), None).await.status,
        401
    );
}

#[tokio::test]
async fn a_client_that_goes_ends_its_watch() {
    let world = world().await;
    let events = Events::begin(&world, "").await;
    let watch = world.fake.watch().await;
    drop(events);
    watch.closed().await;
}
