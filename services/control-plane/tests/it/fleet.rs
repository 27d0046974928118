//! The stream: who is let in, and the way of a run from assignment to manifest.

use std::fmt::Write as _;

use tonic::Code;
use tracelift_core::time::Timestamp;
use tracelift_proto::{
    fleet::v1::{
        self, assignment::Kind, connect_request::Message as ExporterMessage,
        connect_response::Message as Answer, report::Event,
    },
    time_to, v1 as api,
};

use crate::{
    exporter::{Exporter, failed, file, file_done, finished, hello, open, published, report},
    plane::{plane, shown, spec},
};

#[tokio::test]
async fn who_does_not_say_hello_properly_is_refused() {
    let plane = plane().await;
    let mut text = String::new();
    for (what, first) in [
        (
            "an older protocol",
            Some(ExporterMessage::Hello(v1::Hello {
                protocol_min: 1,
                protocol_max: 1,
                ..hello("a", 1)
            })),
        ),
        (
            "a newer protocol",
            Some(ExporterMessage::Hello(v1::Hello {
                protocol_min: 5,
                protocol_max: 7,
                ..hello("a", 1)
            })),
        ),
        (
            "no protocol",
            Some(ExporterMessage::Hello(v1::Hello {
                protocol_min: 0,
                protocol_max: 0,
                ..hello("a", 1)
            })),
        ),
        (
            "a range upside down",
            Some(ExporterMessage::Hello(v1::Hello {
                protocol_min: 3,
                protocol_max: 1,
                ..hello("a", 1)
            })),
        ),
        ("a heartbeat", Some(ExporterMessage::Heartbeat(v1::Heartbeat::default()))),
        ("an empty message", None),
        ("no name", Some(ExporterMessage::Hello(hello("", 1)))),
        ("a name with a space", Some(ExporterMessage::Hello(hello("a b", 1)))),
        (
            "no incarnation",
            Some(ExporterMessage::Hello(v1::Hello { incarnation: String::new(), ..hello("a", 1) })),
        ),
    ] {
        let _ = writeln!(text, "{what}: {}", shown(open(&plane, first).await));
    }
    insta::assert_snapshot!(text);
}

#[tokio::test]
async fn a_hello_with_a_lease_that_is_none_ends_the_session() {
    let plane = plane().await;
    let held = vec![v1::HeldLease { task_id: "x".into(), fence: 1 }];
    let mut session =
        open(&plane, Some(ExporterMessage::Hello(v1::Hello { held, ..hello("a", 1) })))
            .await
            .unwrap();
    let status = session.hear().await.unwrap_err();
    assert_eq!(
        (status.code(), status.message()),
        (Code::InvalidArgument, "task_id: must be a UUID")
    );
}

#[tokio::test]
async fn a_welcome_has_the_terms_of_leases() {
    let plane = plane().await;
    let welcome = Exporter::connect(&plane, "a", 1).await.welcome;
    let seconds = |duration: Option<prost_types::Duration>| duration.unwrap().seconds;
    assert_eq!(
        (welcome.protocol, seconds(welcome.heartbeat_interval), seconds(welcome.lease_time)),
        (4, 5, 30)
    );
    assert_eq!(welcome.verdicts, []);
}

#[tokio::test]
async fn a_run_travels_from_assignment_to_manifest() {
    let plane = plane().await;
    let mine = plane.workspace(1).await;
    let mut exporter = Exporter::connect(&plane, "a", 1).await;
    let export = mine.export(&plane, 1).await; // told to the waiting exporter

    let task = exporter.assignment().await;
    assert_eq!((task.export_id.as_str(), task.fence, task.attempt), (export.id.as_str(), 1, 0));
    assert_eq!(
        (task.tenant_id.as_str(), &task.spec),
        (mine.tenant.to_string().as_str(), &export.spec)
    );
    let Some(Kind::Partition(slice)) = &task.kind else { panic!("{task:?}") };
    let (spec, partition) = (export.spec.as_ref().unwrap(), slice.partition.as_ref().unwrap());
    assert_eq!((partition.start_time, partition.end_time), (spec.start_time, spec.end_time));
    assert_eq!(
        (&slice.cursor, slice.next_file, slice.rows_before, &slice.unresolved),
        (&None, 0, 0, &None)
    );

    exporter
        .say(ExporterMessage::Accepted(v1::Accepted { task_id: task.task_id.clone(), fence: 1 }))
        .await;
    let intent = v1::FileIntent { key: "k".into(), token: "t".into(), ..Default::default() };
    exporter.report(1, report(&task, 1, Event::FileIntent(intent))).await;
    exporter.report(2, file_done(&task, 2, 0)).await;
    exporter.report(2, file_done(&task, 2, 0)).await; // its answer was lost
    exporter.report(3, finished(&task, 3, 1)).await;
    let Answer::Publish(publish) = exporter.hear().await else { panic!("no list of files") };
    assert_eq!((&publish.task_id, publish.fence), (&task.task_id, 1));
    let frozen = publish.files.unwrap();
    assert_eq!((frozen.partition, frozen.files), (slice.partition.clone(), vec![file(&task, 0)]));
    exporter.report(4, published(&task, 4)).await;

    let last = exporter.assignment().await;
    let Some(Kind::Finalize(finalize)) = &last.kind else { panic!("{last:?}") };
    assert_eq!(
        (finalize.partitions.len(), finalize.partitions[0].rows, &finalize.partitions[0].task_id,),
        (1, 10, &task.task_id)
    );
    assert_eq!(mine.get(&export.id).await.status(), api::ExportStatus::Running);
    exporter.report(5, published(&last, 5)).await;
    exporter.report(5, published(&last, 5)).await;

    let ended = mine.get(&export.id).await;
    assert_eq!(
        (ended.status(), ended.progress.unwrap().rows_written),
        (api::ExportStatus::Completed, 10)
    );
    let shown = mine.tasks(&export.id).await.remove(0);
    assert_eq!((shown.status(), shown.exporter_id.as_str()), (api::RunStatus::Completed, "a"));
    assert_eq!(shown.result.unwrap().exported_files, ["traces/root/data-00000.parquet"]);
}

#[tokio::test]
async fn experiments_are_found_by_an_exporter_and_each_of_their_days_is_a_run() {
    let plane = plane().await;
    let mine = plane.workspace(1).await;
    let destination = plane.destination(&mine).await.to_string();
    let all = api::ExportSpec {
        session_id: String::new(),
        all_experiments: true,
        ..spec(&destination, "2024-01-01", "2024-01-04")
    };
    let export = mine.create(all).await.unwrap();
    assert_eq!(
        (export.status(), export.progress.unwrap().runs_total),
        (api::ExportStatus::Created, 0)
    );

    let mut exporter = Exporter::connect(&plane, "a", 1).await;
    let finder = exporter.assignment().await;
    assert_eq!(finder.kind, Some(Kind::FindExperiments(v1::FindExperiments {})));
    assert_eq!(finder.spec, export.spec);
    let at = |text: &str| Some(time_to(Timestamp::parse("t", text).unwrap()));
    let session_id = "0190d1a2-0000-7000-8000-0000000000e1".to_owned();
    let found = v1::Experiment {
        session_id: session_id.clone(),
        first_start_time: at("2024-01-02T06:00:00Z"),
        last_start_time: at("2024-01-02T07:00:00Z"),
    };
    let said = report(
        &finder,
        1,
        Event::ExperimentsFound(v1::ExperimentsFound { experiments: vec![found] }),
    );
    exporter.report(1, said.clone()).await;
    let task = exporter.assignment().await;
    let Some(Kind::Partition(slice)) = &task.kind else { panic!("{task:?}") };
    let partition = v1::Partition {
        session_id: session_id.clone(),
        start_time: at("2024-01-02"),
        end_time: at("2024-01-03"),
    };
    assert_eq!(slice.partition.as_ref(), Some(&partition));
    exporter.report(1, said).await; // its answer was lost
    let shown = mine.tasks(&export.id).await;
    assert_eq!((shown.len(), &shown[0].id, &shown[0].session_id), (1, &task.task_id, &session_id));

    exporter.report(2, file_done(&task, 2, 0)).await;
    exporter.report(3, finished(&task, 3, 1)).await;
    let Answer::Publish(publish) = exporter.hear().await else { panic!("no list of files") };
    assert_eq!(publish.files.unwrap().partition.as_ref(), Some(&partition));
    exporter.report(4, published(&task, 4)).await;
    let last = exporter.assignment().await;
    let Some(Kind::Finalize(finalize)) = &last.kind else { panic!("{last:?}") };
    assert_eq!(finalize.partitions.len(), 1);
    assert_eq!(finalize.partitions[0].partition, Some(partition));
    exporter.report(5, published(&last, 5)).await;
    let shown = mine.tasks(&export.id).await.remove(0).result.unwrap();
    let path = format!(
        "traces/root/export_id={}/tenant_id={}/session_id={session_id}/runs",
        export.id, mine.tenant
    );
    assert_eq!(shown.export_path, path);
}

#[tokio::test]
async fn experiments_that_make_no_sense_end_the_session() {
    let plane = plane().await;
    let mine = plane.workspace(1).await;
    let destination = plane.destination(&mine).await.to_string();
    let all = api::ExportSpec {
        session_id: String::new(),
        all_experiments: true,
        ..spec(&destination, "2024-01-01", "2024-01-04")
    };
    let export = mine.create(all).await.unwrap();
    let time = Some(prost_types::Timestamp { seconds: 1_704_067_200, nanos: 0 });
    let good = v1::Experiment {
        session_id: export.id.clone(),
        first_start_time: time,
        last_start_time: time,
    };
    for (name, experiments, told) in [
        ("a", vec![v1::Experiment::default()], "experiment.session_id: must be a UUID"),
        (
            "b",
            vec![v1::Experiment { last_start_time: None, ..good.clone() }],
            "experiment.last_start_time: is required",
        ),
        ("c", vec![good.clone(); 4002], "experiments: must name at most 4001"),
    ] {
        let mut exporter = Exporter::connect(&plane, name, 1).await;
        let finder = exporter.assignment().await;
        let found = Event::ExperimentsFound(v1::ExperimentsFound { experiments });
        exporter.say(report(&finder, 1, found)).await;
        let status = exporter.end().await.unwrap_err();
        assert_eq!((status.code(), status.message()), (Code::InvalidArgument, told));
        plane.clock_past_lease().await;
    }
    assert!(mine.tasks(&export.id).await.is_empty());
}

#[tokio::test]
async fn a_run_past_its_commit_point_is_given_to_the_next_with_its_files() {
    let plane = plane().await;
    let mine = plane.workspace(1).await;
    mine.export(&plane, 1).await;
    let mut first = Exporter::connect(&plane, "a", 1).await;
    let task = first.assignment().await;
    first.report(1, file_done(&task, 1, 0)).await;
    first.report(2, finished(&task, 2, 1)).await;
    first.leave().await;
    plane.clock_past_lease().await;
    let again = Exporter::connect(&plane, "b", 1).await.assignment().await;
    assert_eq!((&again.task_id, again.fence, again.attempt), (&task.task_id, 2, 1));
    let Some(Kind::Publish(publish)) = again.kind else { panic!("{again:?}") };
    assert_eq!(publish.files, [file(&task, 0)]);
}

#[tokio::test]
async fn rows_that_do_not_add_up_fail_the_run_loudly() {
    let plane = plane().await;
    let mine = plane.workspace(1).await;
    let export = mine.export(&plane, 1).await;
    let mut exporter = Exporter::connect(&plane, "a", 1).await;
    let task = exporter.assignment().await;
    exporter.report(1, file_done(&task, 1, 0)).await;
    exporter.report(2, finished(&task, 2, 2)).await;
    assert_eq!(
        exporter.hear().await,
        Answer::Revoked(v1::Revoked { task_id: task.task_id.clone(), fence: 1 })
    );
    let ended = mine.get(&export.id).await;
    assert_eq!(ended.status(), api::ExportStatus::Failed);
    insta::assert_snapshot!(ended.error.replace(&task.task_id, "[run]"));
}

#[tokio::test]
async fn a_failure_is_tried_again_when_its_wait_is_over_and_its_kind_allows() {
    let plane = plane().await;
    let mine = plane.workspace(1).await;
    let export = mine.export(&plane, 1).await;
    let mut exporter = Exporter::connect(&plane, "a", 1).await;
    let task = exporter.assignment().await;
    exporter.report(1, file_done(&task, 1, 0)).await;
    exporter.report(2, failed(&task, 2, v1::FailureClass::SourceTransient)).await;
    plane.clock.advance(1);
    let again = exporter.assignment().await;
    assert_eq!((&again.task_id, again.fence, again.attempt), (&task.task_id, 2, 1));
    let Some(Kind::Partition(slice)) = &again.kind else { panic!("{again:?}") };
    assert_eq!(
        (slice.next_file, slice.rows_before, &slice.cursor),
        (1, 10, &file(&task, 0).cursor)
    );

    exporter.report(3, failed(&again, 3, v1::FailureClass::CustomerConfig)).await;
    let ended = mine.get(&export.id).await;
    assert_eq!(ended.status(), api::ExportStatus::Failed);
    let shown = mine.tasks(&export.id).await.remove(0);
    assert_eq!((shown.status(), shown.retry_number), (api::RunStatus::Failed, 1));
    insta::assert_snapshot!(shown.errors.join("\n"));
}

#[tokio::test]
async fn what_is_declined_or_handed_back_costs_no_attempt() {
    let plane = plane().await;
    let mine = plane.workspace(1).await;
    mine.export(&plane, 1).await;
    let mut exporter = Exporter::connect(&plane, "a", 1).await;
    let task = exporter.assignment().await;
    let (task_id, reason) = (task.task_id.clone(), "no room".to_owned());
    exporter
        .say(ExporterMessage::Declined(v1::Declined { task_id: task_id.clone(), fence: 1, reason }))
        .await;
    exporter
        .say(ExporterMessage::Heartbeat(v1::Heartbeat { held: Vec::new(), capacity: None }))
        .await;
    assert!(matches!(exporter.hear().await, Answer::HeartbeatReply(_)), "the run waits");
    plane.clock.advance(2);
    let task = exporter.assignment().await;
    assert_eq!((task.fence, task.attempt), (2, 0));
    exporter
        .say(ExporterMessage::Heartbeat(v1::Heartbeat {
            held: Vec::new(),
            capacity: Some(v1::Capacity { tasks: 0 }),
        }))
        .await;
    assert!(matches!(exporter.hear().await, Answer::HeartbeatReply(_)));
    exporter.report(9, report(&task, 9, Event::HandedBack(v1::HandedBack {}))).await;
    // It wants nothing any more: the next one gets it.
    let task = Exporter::connect(&plane, "b", 1).await.assignment().await;
    assert_eq!((task.fence, task.attempt), (3, 0));
}
