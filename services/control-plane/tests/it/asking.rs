//! What callers may ask for: schedules, keys that repeat a request, limits, filters, runs anew.

use tonic::{Code, Status};
use tracelift_control_plane::store::{ClaimRequest, ExportFilter, Page};
use tracelift_core::{
    export::Compression,
    failure::{Failure, FailureClass, Step},
    id::ExporterId,
    limit::AtOnce,
    task::{Event, Lease, Task},
    time::Timestamp,
};
use tracelift_proto::{time_to, v1};
use tracelift_runtime::clock::Clock as _;

use crate::plane::{Plane, Workspace, plane, plane_with, shown, soon, spec};

async fn claim(plane: &Plane) -> Task {
    let now = plane.clock.now();
    let exporter = ExporterId::parse("e", "a").unwrap();
    let lease = Lease {
        exporter,
        incarnation: "first".into(),
        until: now.plus_seconds(30),
        progressed_at: now,
        patience: 600,
        asked_back: None,
    };
    plane
        .store
        .claim(vec![ClaimRequest { lease, capacity: 1 }], AtOnce::default(), now)
        .await
        .unwrap()
        .remove(0)
        .tasks
        .remove(0)
        .task
}

async fn pending(mine: &Workspace, spec: &v1::ExportSpec, key: &str) -> Result<v1::Export, Status> {
    let request =
        v1::CreateExportRequest { spec: Some(spec.clone()), idempotency_key: key.to_owned() };
    Ok(mine.manage.exports().create_export(request).await?.into_inner().export.unwrap())
}

async fn limits(mine: &Workspace) -> v1::Limits {
    mine.read
        .exports()
        .get_limits(v1::GetLimitsRequest {})
        .await
        .unwrap()
        .into_inner()
        .limits
        .unwrap()
}

#[tokio::test]
async fn a_schedule_has_no_end_no_runs_and_is_watched_until_it_is_cancelled() {
    let plane = plane().await;
    let mine = plane.workspace(1).await;
    let once = spec(&plane.destination(&mine).await.to_string(), "2024-06-02", "2024-06-03");
    let every = v1::ExportSpec { end_time: None, interval_hours: 24, ..once.clone() };
    let schedule = mine.create(every.clone()).await.unwrap();
    assert_eq!(schedule.status(), v1::ExportStatus::IntervalScheduled);
    assert_eq!(
        (schedule.spec.clone().unwrap().end_time, schedule.spec.as_ref().unwrap().interval_hours),
        (None, 24)
    );
    assert!(mine.tasks(&schedule.id).await.is_empty());
    let watch = mine
        .read
        .exports()
        .watch_export(v1::WatchExportRequest { id: schedule.id.clone() })
        .await
        .unwrap();
    let mut watch = watch.into_inner();
    assert_eq!(soon(watch.message()).await.unwrap().unwrap().export.unwrap(), schedule);
    mine.cancel(&schedule.id).await.unwrap();
    let last = soon(watch.message()).await.unwrap().unwrap().export.unwrap();
    assert_eq!(last.status(), v1::ExportStatus::Cancelled);
    assert!(soon(watch.message()).await.unwrap().is_none());

    let mut refused = Vec::new();
    for wrong in [
        v1::ExportSpec { interval_hours: 24, ..once.clone() },
        v1::ExportSpec { interval_hours: 169, ..every.clone() },
        v1::ExportSpec { interval_hours: 0, ..every },
    ] {
        refused.push(shown(mine.create(wrong).await));
    }
    insta::assert_snapshot!(refused.join("\n"));
}

#[tokio::test]
async fn a_schedule_that_starts_too_far_back_is_refused_with_the_limit_and_what_to_do() {
    let plane = plane_with(|settings| settings.max_schedule_days_back = 30).await;
    let mine = plane.workspace(1).await;
    let from = |start: Timestamp| {
        let mut spec = spec("", "2024-06-02", "2024-06-03");
        (spec.start_time, spec.end_time, spec.interval_hours) = (Some(time_to(start)), None, 1);
        spec
    };
    let (now, destination_id) = (plane.clock.now(), plane.destination(&mine).await.to_string());
    let bound = now.plus_seconds(-30 * 86_400);
    mine.create(v1::ExportSpec { destination_id: destination_id.clone(), ..from(bound) })
        .await
        .unwrap();
    let far = mine
        .create(v1::ExportSpec {
            destination_id: destination_id.clone(),
            ..from(bound.plus_seconds(-1))
        })
        .await;
    insta::assert_snapshot!(shown(far));
    let once = v1::ExportSpec { destination_id, ..spec("", "1970-01-01", "1970-01-02") };
    mine.create(once).await.unwrap();
}

#[tokio::test]
async fn a_repeated_request_makes_one_export() {
    let plane = plane().await;
    let mine = plane.workspace(1).await;
    let spec = spec(&plane.destination(&mine).await.to_string(), "2024-01-01", "2024-01-02");
    let first = pending(&mine, &spec, "once").await.unwrap();
    plane.clock.advance(60);
    // A default that is written out is the same request.
    let written = v1::ExportSpec { compression: v1::Compression::Zstandard.into(), ..spec.clone() };
    assert_eq!(pending(&mine, &written, "once").await.unwrap(), first);
    let other = v1::ExportSpec { compression: v1::Compression::Gzip.into(), ..spec.clone() };
    let refused = pending(&mine, &other, "once").await;
    assert_eq!(refused.as_ref().unwrap_err().code(), Code::AlreadyExists);
    let wrong =
        [pending(&mine, &spec, "with space").await, pending(&mine, &spec, &"k".repeat(256)).await];
    insta::assert_snapshot!(
        wrong.into_iter().chain([refused]).map(shown).collect::<Vec<_>>().join("\n")
    );
    assert_eq!(
        plane.store.exports(mine.tenant, ExportFilter::default(), Page::ALL).await.unwrap().len(),
        1
    );
    assert_ne!(
        pending(&mine, &spec, "").await.unwrap().id,
        first.id,
        "without a key each request is its own"
    );
}

#[tokio::test]
async fn an_export_that_names_no_codec_has_the_operators() {
    let plane = plane_with(|settings| settings.default_compression = Compression::Gzip).await;
    let mine = plane.workspace(1).await;
    let spec = spec(&plane.destination(&mine).await.to_string(), "2024-01-01", "2024-01-02");
    for (pending, made) in [
        (v1::Compression::Unspecified, v1::Compression::Gzip),
        (v1::Compression::Zstandard, v1::Compression::Zstandard),
        (v1::Compression::None, v1::Compression::None),
    ] {
        let export = mine
            .create(v1::ExportSpec { compression: pending.into(), ..spec.clone() })
            .await
            .unwrap();
        assert_eq!(export.spec.unwrap().compression(), made);
    }
}

#[tokio::test]
async fn a_used_up_limit_says_when_to_ask_again() {
    let plane =
        plane_with(|settings| (settings.max_exports_per_hour, settings.max_schedules) = (2, 1))
            .await;
    let mine = plane.workspace(1).await;
    let once = spec(&plane.destination(&mine).await.to_string(), "2024-01-01", "2024-01-02");
    let every = v1::ExportSpec { end_time: None, interval_hours: 24, ..once.clone() };
    mine.create(every.clone()).await.unwrap();
    plane.clock.advance(600);
    let schedules = mine.create(every).await.unwrap_err();
    mine.create(once.clone()).await.unwrap();
    plane.clock.advance(600);
    let exports = mine.create(once.clone()).await.unwrap_err();
    assert_eq!([schedules.code(), exports.code()], [Code::ResourceExhausted; 2]);
    insta::assert_snapshot!(format!("{}\n{}", schedules.message(), exports.message()));
    plane.clock.advance(2401);
    mine.create(once).await.unwrap();
}

#[tokio::test]
async fn limits_are_told_with_what_is_used() {
    let plane = plane_with(|settings| settings.max_running_exports = 7).await;
    let mine = plane.workspace(1).await;
    mine.export(&plane, 2).await;
    mine.export(&plane, 1).await;
    claim(&plane).await;
    insta::assert_snapshot!(format!("{:#?}", limits(&mine).await));
}

#[tokio::test]
async fn a_list_is_filtered_and_wrong_filters_are_named() {
    let plane = plane().await;
    let mine = plane.workspace(1).await;
    let (first, second) = (mine.export(&plane, 1).await, mine.export(&plane, 1).await);
    mine.cancel(&first.id).await.unwrap();
    let list = async |request: v1::ListExportsRequest| {
        let found = mine.read.exports().list_exports(request).await?.into_inner().exports;
        Ok::<_, Status>(found.into_iter().map(|export| export.id).collect::<Vec<_>>())
    };
    let statuses = vec![v1::ExportStatus::Created.into(), v1::ExportStatus::Running.into()];
    assert_eq!(
        list(v1::ListExportsRequest { statuses, ..Default::default() }).await.unwrap(),
        [second.id]
    );
    let destination_id = first.spec.unwrap().destination_id;
    assert_eq!(
        list(v1::ListExportsRequest { destination_id, ..Default::default() }).await.unwrap(),
        [first.id]
    );
    let wrong = v1::ListExportsRequest {
        statuses: vec![1, 0, 99],
        destination_id: "x".into(),
        session_id: "y".into(),
        ..Default::default()
    };
    insta::assert_snapshot!(shown(list(wrong).await).replace("; ", "\n"));
}

#[tokio::test]
async fn a_failed_run_is_asked_for_anew() {
    let plane = plane().await;
    let mine = plane.workspace(1).await;
    let export = mine.export(&plane, 1).await;
    let task = claim(&plane).await;
    let retry = async |by: &crate::plane::Caller, run_id: String| {
        let request = v1::RetryRunRequest { export_id: export.id.clone(), run_id };
        Ok::<_, Status>(by.exports().retry_run(request).await?.into_inner().run.unwrap())
    };
    let mut refused = vec![
        shown(retry(&mine.read, task.id.to_string()).await),
        shown(retry(&mine.manage, "x".into()).await),
    ];
    refused.push(
        shown(retry(&mine.manage, task.id.to_string()).await)
            .replace(&task.id.to_string(), "[run]"),
    );
    let failure = Failure {
        step: Step::Upload,
        class: FailureClass::CustomerConfig,
        detail: "Access denied".into(),
    };
    plane
        .store
        .report(
            None,
            task.id,
            task.fence,
            Event::Failed { failure, max_retries: 20 },
            0,
            plane.clock.now(),
        )
        .await
        .unwrap();
    assert_eq!(mine.get(&export.id).await.status(), v1::ExportStatus::Failed);

    let queued = retry(&mine.manage, task.id.to_string()).await.unwrap();
    assert_eq!(
        (queued.status(), queued.retry_number, queued.errors.len()),
        (v1::RunStatus::Running, 1, 1)
    );
    let open = mine.get(&export.id).await;
    assert_eq!(
        (open.status(), open.finished_at, open.error.as_str()),
        (v1::ExportStatus::Running, None, "")
    );
    assert_eq!(open.progress.unwrap().eta_seconds, None, "nobody works on it");
    mine.cancel(&export.id).await.unwrap();
    refused.push(
        shown(retry(&mine.manage, task.id.to_string()).await).replace(&export.id, "[export]"),
    );
    insta::assert_snapshot!(refused.join("\n"));
}
