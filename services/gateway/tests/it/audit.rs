//! The audit log.

use crate::talk::world;

const LOGS: &str = "/api/v1/audit-logs";

#[tokio::test]
async fn records_are_events_of_ocsf_with_what_is_stored() {
    let world = world().await;
    insta::assert_snapshot!(world.ask("GET", LOGS, None).await.shown());
    assert_eq!(world.fake.metadata("x-api-key").as_deref(), Some("tl_visible_secret"));
}

#[tokio::test]
async fn what_is_asked_for_reaches_the_control_plane_and_a_cursor_leads_on() {
    let world = world().await;
    let query = "?start_time=2024-01-01T00:00:00Z&end_time=1704153600&operations=create_tenant&operations=refuse_login&limit=1";
    let page = world.ask("GET", &format!("{LOGS}{query}"), None).await;
    assert!(page.body.contains(r#""next_cursor":"more""#), "{}", page.body);
    let last = world.ask("GET", &format!("{LOGS}{query}&cursor=more"), None).await;
    assert!(last.body.contains(r#""next_cursor":null"#), "{}", last.body);
    insta::assert_snapshot!(world.fake.asked().join("\n"));
}

#[tokio::test]
async fn every_wrong_parameter_is_named() {
    let world = world().await;
    let query = "?start_time=yesterday&end_time=never&limit=0&workspace_id=mine";
    insta::assert_snapshot!(world.ask("GET", &format!("{LOGS}{query}"), None).await.shown());
    assert!(world.fake.asked().is_empty());
}
