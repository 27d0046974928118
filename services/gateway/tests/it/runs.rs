//! Operations 5, 10, 11.

use tracelift_test_grpc::{EXPORT, RUN};

use crate::talk::{EXPORTS, world};

#[tokio::test]
async fn runs_are_listed_with_their_results() {
    let world = world().await;
    let all = world.ask("GET", &format!("{EXPORTS}/{EXPORT}/runs"), None).await;
    insta::assert_snapshot!(all.shown());
    let one = world.ask("GET", &format!("{EXPORTS}/{EXPORT}/runs/{RUN}"), None).await;
    assert!(all.body.starts_with(&format!("[{}", one.body)));
    world.ask("GET", &format!("{EXPORTS}/{EXPORT}/runs?limit=2&offset=1"), None).await;
    insta::assert_snapshot!(world.fake.asked().join("\n"));
}

#[tokio::test]
async fn a_list_has_everything_whatever_the_pages_of_the_control_plane_hold() {
    let world = world().await;
    world.fake.page();
    let listed = async |query: &str| {
        let heard = world.ask("GET", &format!("{EXPORTS}/{EXPORT}/runs{query}"), None).await;
        serde_json::from_str::<Vec<serde_json::Value>>(&heard.body).unwrap().len()
    };
    assert_eq!(
        (listed("").await, listed("?limit=2").await, listed("?limit=4&offset=7").await),
        (4, 2, 4)
    );
    insta::assert_snapshot!(world.fake.asked().join("\n"));
}

#[tokio::test]
async fn a_run_of_very_many_files_is_shown_with_all_of_them() {
    let world = world().await;
    world.fake.many_files();
    let one = world.ask("GET", &format!("{EXPORTS}/{EXPORT}/runs/{RUN}"), None).await;
    assert!(one.body.contains(r#""exported_files":["bucket/","bucket/second"]"#), "{}", one.body);
    let all = world.ask("GET", &format!("{EXPORTS}/{EXPORT}/runs"), None).await;
    assert!(all.body.starts_with(&format!("[{}", one.body)), "{}", all.body);
}

#[tokio::test]
async fn runs_of_a_schedule_need_its_id() {
    let world = world().await;
    let heard =
        world.ask("GET", &format!("{EXPORTS}/runs?source_bulk_export_id={EXPORT}"), None).await;
    assert_eq!((heard.status, heard.body.as_str()), (200, "[]"));
    let without = world.ask("GET", &format!("{EXPORTS}/runs?limit=x"), None).await;
    insta::assert_snapshot!(without.shown());
}

#[tokio::test]
async fn wrong_ids_and_pages_are_named() {
    let world = world().await;
    let paths = [
        "/nope",
        "/nope/runs",
        "/1/runs/2",
        "/destinations/nope",
        "?limit=0",
        "?limit=1001&offset=-1",
        "?limit=ten&offset=1.5",
    ];
    let mut shown = Vec::new();
    for path in paths {
        shown.push(format!(
            "{path}\n{}",
            world.ask("GET", &format!("{EXPORTS}{path}"), None).await.shown()
        ));
    }
    insta::assert_snapshot!(shown.join("\n\n"));
    assert!(world.fake.asked().is_empty());
}
