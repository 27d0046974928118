//! The stream: who is let in, and the way of a run from assignment to manifest.

use std::fmt::Write as _;

use tonic::Code;
use tracelift_core::time::Timestamp;
use tracelift_proto::{
    fleet::v1::{
        self, assignment::Work, connect_request::Message as Said,
        connect_response::Message as Answer,
    },
    time_to, v1 as api,
};

use crate::{
    exporter::{Exporter, failed, file_done, finished, hello, open, published},
    plane::{plane, shown, spec},
};

#[tokio::test]
async fn who_does_not_say_hello_properly_is_refused() {
    let plane = plane().await;
    let mut text = String::new();
    for (what, first) in [
        (
            "an older protocol",
            Some(Said::Hello(v1::Hello { protocol_min: 1, protocol_max: 1, ..hello("a", 1) })),
        ),
        (
            "a newer protocol",
            Some(Said::Hello(v1::Hello { protocol_min: 4, protocol_max: 7, ..hello("a", 1) })),
        ),
        (
            "no protocol",
            Some(Said::Hello(v1::Hello { protocol_min: 0, protocol_max: 0, ..hello("a", 1) })),
        ),
        (
            "a range upside down",
            Some(Said::Hello(v1::Hello { protocol_min: 3, protocol_max: 1, ..hello("a", 1) })),
        ),
        ("a heartbeat", Some(Said::Heartbeat(v1::Heartbeat::default()))),
        ("an empty message", None),
        ("no name", Some(Said::Hello(hello("", 1)))),
        ("a name with a space", Some(Said::Hello(hello("a b", 1)))),
        (
            "no incarnation",
            Some(Said::Hello(v1::Hello { incarnation: String::new(), ..hello("a", 1) })),
        ),
    ] {
        let _ = writeln!(text, "{what}: {}", shown(open(&plane, first).await));
    }
    insta::assert_snapshot!(text);
}

#[tokio::test]
async fn a_hello_with_a_lease_that_is_none_ends_the_session() {
    let plane = plane().await;
    let held = vec![v1::HeldLease { run_id: "x".into(), fence: 1 }];
    let (_say, mut hear) =
        open(&plane, Some(Said::Hello(v1::Hello { held, ..hello("a", 1) }))).await.unwrap();
    let status = hear.message().await.unwrap_err();
    assert_eq!(
        (status.code(), status.message()),
        (Code::InvalidArgument, "run_id: must be a UUID")
    );
}

#[tokio::test]
async fn a_welcome_has_the_terms_of_leases() {
    let plane = plane().await;
    let welcome = Exporter::connect(&plane, "a", 1).await.welcome;
    let seconds = |duration: Option<prost_types::Duration>| duration.unwrap().seconds;
    assert_eq!(
        (welcome.protocol, seconds(welcome.heartbeat_interval), seconds(welcome.lease_time)),
        (3, 5, 30)
    );
    assert_eq!(welcome.verdicts, []);
}

#[tokio::test]
async fn a_run_travels_from_assignment_to_manifest() {
    let plane = plane().await;
    let mine = plane.workspace(1).await;
    let mut exporter = Exporter::connect(&plane, "a", 1).await;
    let export = mine.export(&plane, 1).await; // told to the waiting exporter

    let run = exporter.assignment().await;
    assert_eq!((run.export_id.as_str(), run.fence, run.attempt), (export.id.as_str(), 1, 0));
    assert_eq!(
        (run.tenant_id.as_str(), &run.spec),
        (mine.tenant.to_string().as_str(), &export.spec)
    );
    let Some(Work::Slice(slice)) = &run.work else { panic!("{run:?}") };
    let spec = export.spec.as_ref().unwrap();
    assert_eq!((slice.start_time, slice.end_time), (spec.start_time, spec.end_time));
    assert_eq!(
        (&slice.cursor, slice.next_file, slice.rows_before, &slice.unresolved),
        (&None, 0, 0, &None)
    );

    exporter.say(Said::Accepted(v1::Accepted { run_id: run.run_id.clone(), fence: 1 })).await;
    let intent = v1::FileIntent {
        run_id: run.run_id.clone(),
        fence: 1,
        seq: 1,
        key: "k".into(),
        token: "t".into(),
        ..Default::default()
    };
    exporter.report(1, Said::FileIntent(intent)).await;
    exporter.report(2, Said::FileDone(file_done(&run, 2, 0))).await;
    exporter.report(2, Said::FileDone(file_done(&run, 2, 0))).await; // its answer was lost
    exporter.report(3, finished(&run, 3, 1)).await;
    let Answer::Publish(publish) = exporter.hear().await else { panic!("no list of files") };
    assert_eq!(
        (&publish.run_id, publish.fence, publish.start_time),
        (&run.run_id, 1, slice.start_time)
    );
    assert_eq!(publish.files, [file_done(&run, 2, 0).file.unwrap()]);
    exporter.report(4, published(&run, 4)).await;

    let last = exporter.assignment().await;
    let Some(Work::Finalise(finalise)) = &last.work else { panic!("{last:?}") };
    assert_eq!(
        (finalise.runs.len(), finalise.runs[0].rows, &finalise.runs[0].run_id),
        (1, 10, &run.run_id)
    );
    assert_eq!(mine.get(&export.id).await.status(), api::ExportStatus::Running);
    exporter.report(5, published(&last, 5)).await;
    exporter.report(5, published(&last, 5)).await;

    let ended = mine.get(&export.id).await;
    assert_eq!(
        (ended.status(), ended.progress.unwrap().rows_written),
        (api::ExportStatus::Completed, 10)
    );
    let shown = mine.runs(&export.id).await.remove(0);
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
    assert_eq!(finder.work, Some(Work::FindExperiments(v1::FindExperiments {})));
    assert_eq!(finder.spec, export.spec);
    let at = |text: &str| Some(time_to(Timestamp::parse("t", text).unwrap()));
    let session_id = "0190d1a2-0000-7000-8000-0000000000e1".to_owned();
    let found = v1::Experiment {
        session_id: session_id.clone(),
        first_start_time: at("2024-01-02T06:00:00Z"),
        last_start_time: at("2024-01-02T07:00:00Z"),
    };
    let said = v1::ExperimentsFound {
        run_id: finder.run_id.clone(),
        fence: finder.fence,
        seq: 1,
        experiments: vec![found],
    };
    exporter.report(1, Said::ExperimentsFound(said.clone())).await;
    let run = exporter.assignment().await;
    let Some(Work::Slice(slice)) = &run.work else { panic!("{run:?}") };
    assert_eq!(
        (&slice.session_id, slice.start_time, slice.end_time),
        (&session_id, at("2024-01-02"), at("2024-01-03"))
    );
    exporter.report(1, Said::ExperimentsFound(said)).await; // its answer was lost
    let shown = mine.runs(&export.id).await;
    assert_eq!((shown.len(), &shown[0].id, &shown[0].session_id), (1, &run.run_id, &session_id));

    exporter.report(2, Said::FileDone(file_done(&run, 2, 0))).await;
    exporter.report(3, finished(&run, 3, 1)).await;
    let Answer::Publish(publish) = exporter.hear().await else { panic!("no list of files") };
    assert_eq!(publish.session_id, session_id);
    exporter.report(4, published(&run, 4)).await;
    let last = exporter.assignment().await;
    let Some(Work::Finalise(finalise)) = &last.work else { panic!("{last:?}") };
    assert_eq!((finalise.runs.len(), &finalise.runs[0].session_id), (1, &session_id));
    exporter.report(5, published(&last, 5)).await;
    let shown = mine.runs(&export.id).await.remove(0).result.unwrap();
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
        let said = v1::ExperimentsFound {
            run_id: finder.run_id,
            fence: finder.fence,
            seq: 1,
            experiments,
        };
        exporter.say(Said::ExperimentsFound(said)).await;
        let status = exporter.end().await.unwrap_err();
        assert_eq!((status.code(), status.message()), (Code::InvalidArgument, told));
        plane.clock_past_lease().await;
    }
    assert!(mine.runs(&export.id).await.is_empty());
}

#[tokio::test]
async fn a_run_past_its_commit_point_is_given_to_the_next_with_its_files() {
    let plane = plane().await;
    let mine = plane.workspace(1).await;
    mine.export(&plane, 1).await;
    let mut first = Exporter::connect(&plane, "a", 1).await;
    let run = first.assignment().await;
    first.report(1, Said::FileDone(file_done(&run, 1, 0))).await;
    first.report(2, finished(&run, 2, 1)).await;
    first.leave().await;
    plane.clock_past_lease().await;
    let again = Exporter::connect(&plane, "b", 1).await.assignment().await;
    assert_eq!((&again.run_id, again.fence, again.attempt), (&run.run_id, 2, 1));
    let Some(Work::Publish(publish)) = again.work else { panic!("{again:?}") };
    assert_eq!((publish.fence, publish.files), (2, vec![file_done(&run, 1, 0).file.unwrap()]));
}

#[tokio::test]
async fn rows_that_do_not_add_up_fail_the_run_loudly() {
    let plane = plane().await;
    let mine = plane.workspace(1).await;
    let export = mine.export(&plane, 1).await;
    let mut exporter = Exporter::connect(&plane, "a", 1).await;
    let run = exporter.assignment().await;
    exporter.report(1, Said::FileDone(file_done(&run, 1, 0))).await;
    exporter.report(2, finished(&run, 2, 2)).await;
    assert_eq!(
        exporter.hear().await,
        Answer::Revoked(v1::Revoked { run_id: run.run_id.clone(), fence: 1 })
    );
    let ended = mine.get(&export.id).await;
    assert_eq!(ended.status(), api::ExportStatus::Failed);
    insta::assert_snapshot!(ended.error.replace(&run.run_id, "[run]"));
}

#[tokio::test]
async fn a_failure_is_tried_again_when_its_wait_is_over_and_its_kind_allows() {
    let plane = plane().await;
    let mine = plane.workspace(1).await;
    let export = mine.export(&plane, 1).await;
    let mut exporter = Exporter::connect(&plane, "a", 1).await;
    let run = exporter.assignment().await;
    exporter.report(1, Said::FileDone(file_done(&run, 1, 0))).await;
    exporter.report(2, failed(&run, 2, v1::FailureClass::SourceTransient)).await;
    plane.clock.advance(1);
    let again = exporter.assignment().await;
    assert_eq!((&again.run_id, again.fence, again.attempt), (&run.run_id, 2, 1));
    let Some(Work::Slice(slice)) = &again.work else { panic!("{again:?}") };
    assert_eq!(
        (slice.next_file, slice.rows_before, &slice.cursor),
        (1, 10, &file_done(&run, 1, 0).file.unwrap().cursor)
    );

    exporter.report(3, failed(&again, 3, v1::FailureClass::CustomerConfig)).await;
    let ended = mine.get(&export.id).await;
    assert_eq!(ended.status(), api::ExportStatus::Failed);
    let shown = mine.runs(&export.id).await.remove(0);
    assert_eq!((shown.status(), shown.retry_number), (api::RunStatus::Failed, 1));
    insta::assert_snapshot!(shown.errors.join("\n"));
}

#[tokio::test]
async fn what_is_declined_or_handed_back_costs_no_attempt() {
    let plane = plane().await;
    let mine = plane.workspace(1).await;
    mine.export(&plane, 1).await;
    let mut exporter = Exporter::connect(&plane, "a", 1).await;
    let run = exporter.assignment().await;
    let (run_id, reason) = (run.run_id.clone(), "no room".to_owned());
    exporter.say(Said::Declined(v1::Declined { run_id: run_id.clone(), fence: 1, reason })).await;
    exporter.say(Said::Heartbeat(v1::Heartbeat { held: Vec::new(), capacity: None })).await;
    assert!(matches!(exporter.hear().await, Answer::HeartbeatReply(_)), "the run waits");
    plane.clock.advance(2);
    let run = exporter.assignment().await;
    assert_eq!((run.fence, run.attempt), (2, 0));
    exporter
        .say(Said::Heartbeat(v1::Heartbeat {
            held: Vec::new(),
            capacity: Some(v1::Capacity { runs: 0 }),
        }))
        .await;
    assert!(matches!(exporter.hear().await, Answer::HeartbeatReply(_)));
    exporter.report(9, Said::HandedBack(v1::HandedBack { run_id, fence: 2, seq: 9 })).await;
    // It wants nothing any more: the next one gets it.
    let run = Exporter::connect(&plane, "b", 1).await.assignment().await;
    assert_eq!((run.fence, run.attempt), (3, 0));
}
