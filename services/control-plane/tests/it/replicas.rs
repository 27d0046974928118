//! Two control planes over one PostgreSQL: what is said to one is known to the other.

use std::sync::{Arc, LazyLock};

use secrecy::SecretString;
use tonic::Code;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tracelift_control_plane::{
    ControlPlane,
    store::{
        Store,
        postgres::{PostgresEngine, PostgresSettings},
    },
};
use tracelift_postgres_server::Postgres;
use tracelift_proto::{
    fleet::v1::{
        self, connect_request::Message as ExporterMessage, connect_response::Message as Answer,
    },
    v1 as api,
};

use crate::{
    exporter::{Exporter, file_done, finished, held, hello, published},
    plane::{HandClock, Plane, Workspace, plane_over, settings, shown, soon},
};

/// One server for all tests that leave it running.
static SERVER: LazyLock<Postgres> = LazyLock::new(Postgres::start_new);

async fn replica(url: &str) -> Plane {
    let settings = PostgresSettings::new(&SecretString::from(url), None, None, 4).unwrap();
    let store = Arc::new(Store::from(PostgresEngine::open(&settings).await.unwrap()));
    plane_over(store, Arc::new(HandClock::default()), |_| {}).await.unwrap()
}

async fn replicas() -> (Plane, Plane, String) {
    let server = tokio::task::spawn_blocking(|| &*SERVER).await.unwrap();
    let url = server.new_database().await;
    let (a, b) = tokio::join!(replica(&url), replica(&url));
    (a, b, url)
}

impl Workspace {
    /// The same workspace, asking another control plane.
    fn at(&self, plane: &Plane) -> Self {
        Self {
            tenant: self.tenant,
            manage: self.manage.at(plane),
            read: self.read.at(plane),
            admin: self.admin.at(plane),
        }
    }
}

#[tokio::test]
#[ignore = "needs PostgreSQL: make test"]
async fn an_exporter_at_one_replica_is_told_of_a_cancel_given_to_the_other() {
    let (a, b, _) = replicas().await;
    let mine = a.workspace(1).await;
    let mut exporter = Exporter::connect(&a, "a", 1).await;
    let export = mine.at(&b).export(&b, 1).await;
    let task = exporter.assignment().await;
    mine.at(&b).cancel(&export.id).await.unwrap();
    assert_eq!(
        exporter.hear().await,
        Answer::Cancel(v1::Cancel { task_id: task.task_id, fence: task.fence })
    );
}

#[tokio::test]
#[ignore = "needs PostgreSQL: make test"]
async fn a_caller_at_one_replica_watches_a_run_done_through_the_other() {
    let (a, b, _) = replicas().await;
    let mine = a.workspace(1).await;
    let mut exporter = Exporter::connect(&a, "a", 1).await;
    let export = mine.export(&a, 1).await;
    let request = api::WatchExportRequest { id: export.id.clone() };
    let mut watch = mine.at(&b).read.exports().watch_export(request).await.unwrap().into_inner();

    let task = exporter.assignment().await;
    exporter.report(1, file_done(&task, 1, 0)).await;
    exporter.report(2, finished(&task, 2, 1)).await;
    exporter.hear().await;
    exporter.report(3, published(&task, 3)).await;
    let last = exporter.assignment().await;
    exporter.report(4, published(&last, 4)).await;

    let mut seen = None;
    while let Some(answer) = soon(watch.message()).await.unwrap() {
        seen = answer.export;
    }
    let seen = seen.unwrap();
    assert_eq!(
        (seen.status(), seen.progress.unwrap().rows_written),
        (api::ExportStatus::Completed, 10)
    );
}

#[tokio::test]
#[ignore = "needs PostgreSQL: make test"]
async fn an_exporter_that_connects_to_one_replica_ends_its_session_at_the_other() {
    let (a, b, _) = replicas().await;
    let mine = a.workspace(1).await;
    let mut older = Exporter::connect(&a, "a", 1).await;
    mine.export(&a, 1).await;
    let task = older.assignment().await;
    let again = v1::Hello { held: vec![held(&task)], ..hello("a", 1) };
    let mut newer = Exporter::connect_as(&b, again).await;
    assert_eq!(newer.welcome.verdicts[0].verdict(), v1::Verdict::Keep);
    assert_eq!(shown(older.end().await), "Aborted: the exporter has connected anew");
    newer.report(1, file_done(&task, 1, 0)).await;
}

#[tokio::test]
#[ignore = "needs PostgreSQL: make test"]
async fn leases_outlive_a_restart_of_every_replica() {
    let (a, b, url) = replicas().await;
    let mine = a.workspace(1).await;
    mine.export(&a, 1).await;
    let mut exporter = Exporter::connect(&a, "a", 1).await;
    let task = exporter.assignment().await;
    for plane in [a, b] {
        plane.stop();
        plane.stopped().await.unwrap();
    }
    let (a, b) = tokio::join!(replica(&url), replica(&url));
    // The other exporter has room, and gets nothing: nothing lapses in the first lease time.
    let _idle = Exporter::connect(&a, "idle", 1).await;
    let again = v1::Hello { held: vec![held(&task)], ..hello("a", 1) };
    let mut exporter = Exporter::connect_as(&b, again).await;
    assert_eq!(exporter.welcome.verdicts[0].verdict(), v1::Verdict::Keep);
    exporter.report(1, file_done(&task, 1, 0)).await;
}

/// Waits until the health service says so.
async fn becomes(plane: &Plane, expected: ServingStatus) {
    let mut health = HealthClient::new(plane.caller(&[]).channel);
    let mut watch =
        health.watch(HealthCheckRequest { service: String::new() }).await.unwrap().into_inner();
    soon(async { while watch.message().await.unwrap().unwrap().status() != expected {} }).await;
}

#[tokio::test]
#[ignore = "needs PostgreSQL: make test"]
async fn a_database_that_goes_away_is_told_and_found_again() {
    let server = Arc::new(tokio::task::spawn_blocking(Postgres::start_new).await.unwrap());
    let url = server.new_database().await;
    let (a, b) = tokio::join!(replica(&url), replica(&url));
    let mine = a.workspace(1).await;
    let export = mine.export(&a, 1).await;
    let mut exporter = Exporter::connect(&b, "a", 1).await;
    let task = exporter.assignment().await;

    let stopped = server.clone();
    tokio::task::spawn_blocking(move || stopped.stop()).await.unwrap();
    for (plane, mine) in [(&a, mine.at(&a)), (&b, mine.at(&b))] {
        let status = mine
            .read
            .exports()
            .get_export(api::GetExportRequest { id: export.id.clone() })
            .await
            .unwrap_err();
        assert_eq!(
            (status.code(), status.message()),
            (Code::Unavailable, "the control plane's database is not available; try again shortly")
        );
        assert!(!status.details().is_empty(), "it says when");
        becomes(plane, ServingStatus::NotServing).await;
    }
    exporter
        .say(ExporterMessage::Heartbeat(v1::Heartbeat { held: vec![held(&task)], capacity: None }))
        .await;
    assert_eq!(exporter.end().await.unwrap_err().code(), Code::Unavailable);
    let mut settings = settings();
    settings.database = url.parse().unwrap();
    let error = ControlPlane::bind(settings).await.unwrap_err().to_string();
    assert!(
        error.starts_with("the database is not available: PostgreSQL at 127.0.0.1:"),
        "{error}"
    );

    let started = server.clone(); // the test keeps one: with the last, the server goes
    tokio::task::spawn_blocking(move || started.start()).await.unwrap();
    for plane in [&a, &b] {
        becomes(plane, ServingStatus::Serving).await;
    }
    let again = v1::Hello { held: vec![held(&task)], ..hello("a", 1) };
    let mut exporter = Exporter::connect_as(&b, again).await;
    assert_eq!(exporter.welcome.verdicts[0].verdict(), v1::Verdict::Keep);
    exporter.report(1, file_done(&task, 1, 0)).await;
    // News is heard again too, at the other replica.
    mine.at(&a).cancel(&export.id).await.unwrap();
    assert_eq!(
        exporter.hear().await,
        Answer::Cancel(v1::Cancel { task_id: task.task_id, fence: task.fence })
    );
}
