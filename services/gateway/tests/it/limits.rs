//! Size, time and number of requests.

use tracelift_test_grpc::{DESTINATION, PROJECT};

use crate::talk::{EXPORTS, world, world_with};

fn body_of(bytes: usize) -> String {
    let body = format!(
        r#"{{"bulk_export_destination_id": "{DESTINATION}", "session_id": "{PROJECT}",
            "start_time": "2024-01-01T00:00:00Z", "end_time": "2024-01-02T00:00:00Z"}}"#
    );
    let padding = bytes - body.len();
    body + &" ".repeat(padding)
}

#[tokio::test]
async fn a_body_of_exactly_the_limit_is_taken_and_one_byte_more_is_not() {
    let world = world().await;
    assert_eq!(world.ask("POST", EXPORTS, Some(&body_of(1 << 20))).await.status, 200);
    insta::assert_snapshot!(
        world.ask("POST", EXPORTS, Some(&body_of((1 << 20) + 1))).await.shown()
    );
    assert_eq!(world.fake.asked().len(), 1);
}

#[tokio::test]
async fn a_caller_that_sends_far_too_much_still_hears_why() {
    let world = world().await;
    assert_eq!(world.ask("POST", EXPORTS, Some(&body_of(8 << 20))).await.status, 413);
}

#[tokio::test]
async fn a_request_that_takes_too_long_is_a_504() {
    let world = world_with(|settings| settings.request_timeout = 1).await;
    world.fake.hang();
    insta::assert_snapshot!(world.ask("GET", EXPORTS, None).await.shown());
}

#[tokio::test]
async fn more_requests_than_the_limit_are_sent_away_but_probes_are_not() {
    let world = world_with(|settings| settings.concurrency = 1).await;
    world.fake.hang();
    let second = async {
        world.fake.entered.notified().await;
        assert_eq!(world.ask("GET", "/healthz", None).await.status, 200);
        world.ask("GET", EXPORTS, None).await.shown()
    };
    let shown = tokio::select! {
        _ = world.ask("GET", EXPORTS, None) => panic!("the first request was answered"),
        shown = second => shown,
    };
    insta::assert_snapshot!(shown);
}
