//! Leases over the wire: kept, lost, cancelled, and what a session says that makes no sense.

use tonic::Status;
use tracelift_core::{
    destination::{Identity, RoleArn},
    id::TaskId,
};
use tracelift_proto::{
    fleet::v1::{
        self, connect_request::Message as ExporterMessage, connect_response::Message as Answer,
        report::Event,
    },
    v1 as api,
};
use tracelift_runtime::clock::Clock as _;

use crate::{
    exporter::{Exporter, file_done, held, hello, keys, published, report},
    plane::{Plane, plane, shown, spec},
};

impl Plane {
    /// Every lease of before is over, and its run queued again.
    pub(crate) async fn clock_past_lease(&self) {
        self.clock.advance(31);
        self.store.lapse(20, self.clock.now()).await.unwrap();
    }
}

fn verdicts(answer: Answer) -> Vec<v1::Verdict> {
    let Answer::HeartbeatReply(reply) = answer else { panic!("{answer:?}") };
    reply.verdicts.iter().map(v1::LeaseVerdict::verdict).collect()
}

#[tokio::test]
async fn a_heartbeat_is_answered_with_a_verdict_per_lease() {
    let plane = plane().await;
    let mine = plane.workspace(1).await;
    let mut exporter = Exporter::connect(&plane, "a", 2).await;
    let stopped = mine.export(&plane, 1).await;
    let first = exporter.assignment().await;
    mine.export(&plane, 1).await;
    let second = exporter.assignment().await;
    let stale = v1::HeldLease { fence: 7, ..held(&second) };
    let capacity = Some(v1::Capacity { tasks: 1 }); // none is free when the first is cancelled: it cleans up after nobody
    let beat = v1::Heartbeat { held: vec![held(&first), held(&second), stale.clone()], capacity };

    exporter.say(ExporterMessage::Heartbeat(beat.clone())).await;
    assert_eq!(
        verdicts(exporter.hear().await),
        [v1::Verdict::Keep, v1::Verdict::Keep, v1::Verdict::Revoked]
    );
    mine.cancel(&stopped.id).await.unwrap();
    assert_eq!(
        exporter.hear().await,
        Answer::Cancel(v1::Cancel { task_id: first.task_id.clone(), fence: first.fence })
    );
    exporter.say(ExporterMessage::Heartbeat(beat.clone())).await;
    assert_eq!(
        verdicts(exporter.hear().await),
        [v1::Verdict::Cancel, v1::Verdict::Keep, v1::Verdict::Revoked]
    );

    // A heartbeat is what renews: 20 seconds twice, with one in between, lose nothing.
    for _ in 0..2 {
        plane.clock.advance(20);
        assert_eq!(plane.store.lapse(20, plane.clock.now()).await.unwrap(), 0);
        exporter.say(ExporterMessage::Heartbeat(beat.clone())).await;
        assert_eq!(verdicts(exporter.hear().await)[1], v1::Verdict::Keep);
    }
}

#[tokio::test]
async fn a_stale_report_is_answered_revoked() {
    let plane = plane().await;
    let mine = plane.workspace(1).await;
    let export = mine.export(&plane, 1).await;
    let mut lost = Exporter::connect(&plane, "a", 1).await;
    let task = lost.assignment().await;
    // It asks for no more work, so that the other one gets the run.
    lost.say(ExporterMessage::Heartbeat(v1::Heartbeat {
        held: vec![held(&task)],
        capacity: Some(v1::Capacity { tasks: 0 }),
    }))
    .await;
    lost.hear().await;
    plane.clock_past_lease().await;
    let again = Exporter::connect(&plane, "b", 1).await.assignment().await;
    assert_eq!((&again.task_id, again.fence), (&task.task_id, 2));

    let revoked = Answer::Revoked(v1::Revoked { task_id: task.task_id.clone(), fence: 1 });
    let progress = v1::Progress {
        task_id: task.task_id.clone(),
        fence: 1,
        stage: "reading".into(),
        progress: None,
    };
    for report in [file_done(&task, 1, 0), published(&task, 2), ExporterMessage::Progress(progress)]
    {
        lost.say(report).await;
        assert_eq!(lost.hear().await, revoked);
    }
    let shown = mine.tasks(&export.id).await.remove(0);
    assert_eq!(
        (shown.exporter_id.as_str(), shown.result, shown.stage.as_str()),
        ("b", None, "assigned")
    );
}

#[tokio::test]
async fn an_exporter_that_comes_back_keeps_what_it_holds_and_gets_again_what_it_never_got() {
    let plane = plane().await;
    let mine = plane.workspace(1).await;
    mine.export(&plane, 2).await;
    let mut exporter = Exporter::connect(&plane, "a", 2).await;
    let (kept, missed) = (exporter.assignment().await, exporter.assignment().await);
    exporter.leave().await;
    let again = v1::Hello { held: vec![held(&kept)], ..hello("a", 2) };
    let mut exporter = Exporter::connect_as(&plane, again).await;
    assert_eq!(exporter.welcome.verdicts.len(), 1);
    assert_eq!(exporter.welcome.verdicts[0].verdict(), v1::Verdict::Keep);
    let given = exporter.assignment().await;
    assert_eq!((&given.task_id, given.fence, given.attempt), (&missed.task_id, 2, 0));
    exporter.report(1, file_done(&kept, 1, 0)).await;
}

#[tokio::test]
async fn an_exporter_that_starts_anew_has_lost_its_runs() {
    let plane = plane().await;
    let mine = plane.workspace(1).await;
    let export = mine.export(&plane, 1).await;
    let mut exporter = Exporter::connect(&plane, "a", 1).await;
    let task = exporter.assignment().await;
    exporter.leave().await;
    let anew = v1::Hello { incarnation: "second".into(), ..hello("a", 1) };
    let given = Exporter::connect_as(&plane, anew).await.assignment().await;
    assert_eq!((&given.task_id, given.fence, given.attempt), (&task.task_id, 2, 1));
    insta::assert_snapshot!(mine.tasks(&export.id).await[0].errors.join("\n"));
}

#[tokio::test]
async fn a_report_that_makes_no_sense_ends_its_session_and_leaves_the_run_alone() {
    let plane = plane().await;
    let mine = plane.workspace(1).await;
    let export = mine.export(&plane, 1).await;
    let mut exporter = Exporter::connect(&plane, "a", 1).await;
    let task = exporter.assignment().await;
    let before = mine.tasks(&export.id).await;
    let file = |change: fn(&mut v1::File)| {
        let mut done = crate::exporter::file(&task, 0);
        change(&mut done);
        Some(report(&task, 1, Event::FileDone(done)))
    };
    let (task_id, fence) = (task.task_id.clone(), task.fence);
    let no_event = ExporterMessage::Report(v1::Report { task_id, fence, seq: 1, event: None });
    let progress = |progress| {
        Some(ExporterMessage::Progress(v1::Progress {
            progress: Some(progress),
            task_id: task.task_id.clone(),
            fence: 1,
            stage: "x".into(),
        }))
    };
    let spent = api::StageSeconds { read: f64::NAN, ..Default::default() };
    let senseless = [
        ("an empty message", None),
        ("hello again", Some(ExporterMessage::Hello(hello("a", 1)))),
        ("no run", Some(file_done(&v1::Assignment { task_id: "x".into(), ..task.clone() }, 1, 0))),
        ("no event", Some(no_event)),
        ("a file too far", file(|file| file.number = 1)),
        ("a file without rows", file(|file| file.rows = 0)),
        ("a file without checksum", file(|file| file.sha256.clear())),
        ("a file without cursor", file(|file| file.cursor = None)),
        ("more rows than there are", file(|file| file.rows = u64::MAX)),
        ("more bytes than there are", file(|file| file.bytes = 1 << 63)),
        (
            "progress beyond reason",
            progress(api::RunProgress { rows: u64::MAX, ..Default::default() }),
        ),
        (
            "seconds that are no number",
            progress(api::RunProgress { stage_seconds: Some(spent), ..Default::default() }),
        ),
        ("published before finished", Some(published(&task, 1))),
        ("no failure", Some(report(&task, 1, Event::Failed(v1::Failure::default())))),
        (
            "a held lease of no run",
            Some(ExporterMessage::Heartbeat(v1::Heartbeat {
                held: vec![v1::HeldLease::default()],
                capacity: None,
            })),
        ),
    ];
    let mut text = String::new();
    for (what, said) in senseless {
        exporter.send(said).await;
        let end: Result<(), Status> = exporter.end().await;
        text += &format!("{what}: {}\n", shown(end));
        assert_eq!(mine.tasks(&export.id).await, before, "{what}");
        let again = v1::Hello { held: vec![held(&task)], ..hello("a", 1) };
        exporter = Exporter::connect_as(&plane, again).await;
        assert_eq!(exporter.welcome.verdicts[0].verdict(), v1::Verdict::Keep, "{what}");
        assert_eq!(
            mine.tasks(&export.id).await,
            before,
            "the clock stands still, so a renewed lease shows no change"
        );
    }
    insta::assert_snapshot!(text);
    exporter.report(1, file_done(&task, 1, 0)).await;
}

#[tokio::test]
async fn a_right_that_the_operator_has_taken_back_is_given_to_nobody() {
    let plane = plane().await;
    let mine = plane.workspace(1).await;
    let role = RoleArn::parse("role", "arn:aws:iam::123456789012:role/exports").unwrap();
    for (exporter_id, identity) in [("a", Identity::Role(role)), ("b", Identity::Environment)] {
        let spec = spec(
            &plane.destination_by(&mine, identity).await.to_string(),
            "2024-01-01",
            "2024-01-02",
        );
        mine.create(spec).await.unwrap();
        let mut exporter = Exporter::connect(&plane, exporter_id, 1).await;
        let task = exporter.assignment().await;
        let (task_id, fence) = (task.task_id, task.fence);
        let right = v1::GetDestinationAccessRequest {
            task_id,
            fence,
            exporter_id: exporter_id.into(),
            incarnation: "first".into(),
        };
        let refused = shown(plane.fleet().fleet().get_destination_access(right).await);
        assert!(
            refused
                .starts_with("FailedPrecondition: the operator of this service no longer allows"),
            "{refused}"
        );
    }
}

#[tokio::test]
async fn only_the_holder_of_a_lease_gets_credentials() {
    let plane = plane().await;
    let mine = plane.workspace(1).await;
    let export = mine.export(&plane, 1).await;
    let mut exporter = Exporter::connect(&plane, "a", 1).await;
    let task = exporter.assignment().await;
    let right = v1::GetDestinationAccessRequest {
        task_id: task.task_id.clone(),
        fence: task.fence,
        exporter_id: "a".into(),
        incarnation: "first".into(),
    };
    let mut fleet = plane.fleet().fleet();
    let access = fleet.get_destination_access(right.clone()).await.unwrap().into_inner();
    let credentials = keys(access.clone());
    assert_eq!(
        (credentials.access_key_id.as_str(), credentials.secret_access_key.as_str()),
        ("AKIDTEST", "sk-test")
    );
    assert_eq!(access.config.unwrap().bucket_name, "traces");

    let wrong = [
        v1::GetDestinationAccessRequest { fence: 0, ..right.clone() },
        v1::GetDestinationAccessRequest { fence: 2, ..right.clone() },
        v1::GetDestinationAccessRequest { exporter_id: "b".into(), ..right.clone() },
        v1::GetDestinationAccessRequest { incarnation: "second".into(), ..right.clone() },
        v1::GetDestinationAccessRequest { task_id: crate::plane::UNKNOWN.into(), ..right.clone() },
    ];
    for request in wrong {
        let refused = shown(fleet.get_destination_access(request.clone()).await);
        assert_eq!(
            refused,
            "PermissionDenied: only the holder of the task's lease may see its destination",
            "{request:?}"
        );
    }
    mine.cancel(&export.id).await.unwrap();
    assert!(fleet.get_destination_access(right).await.is_err(), "the export was cancelled");
    let id = TaskId::parse("task_id", &task.task_id).unwrap();
    assert!(plane.store.files(id).await.unwrap().is_empty());
}
