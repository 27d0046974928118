//! An exporter that slept past its lease wakes up and tries everything it can: the bucket does not
//! change.

use std::{collections::BTreeMap, process::Command};

use aws_sdk_s3::{
    Client,
    config::{BehaviorVersion, Credentials, Region, retry::RetryConfig},
    primitives::ByteStream,
    types::{CompletedMultipartUpload, CompletedPart},
};
use s3s::S3ErrorCode;
use tonic::{Code, transport::Endpoint};
use tracelift_proto::{
    fleet::v1::{
        self, connect_response::Message as ControlMessage,
        fleet_service_client::FleetServiceClient, report::Event,
    },
    v1::ExportStatus,
};
use tracelift_test_grpc::{
    Bearer,
    fleet::{self, FleetSession},
};
use tracelift_test_support::{
    s3::{ACCESS_KEY_ID, Operation, SECRET_ACCESS_KEY},
    world::{DESTINATION_BUCKET, FLEET_TOKEN, SOURCE_BUCKET, World},
};

use crate::{all, binaries, ids, offloaded};

const ROWS: u128 = 200;

async fn world() -> World {
    let world = World::start().await;
    (1..=ROWS).for_each(|n| {
        world.s3.put(
            SOURCE_BUCKET,
            &format!("blobs/{n}"),
            format!("\"{}\"", "x".repeat(100)).as_bytes(),
        )
    });
    world.insert(&offloaded(ROWS)).await;
    world
}

/// Everything of an export that stands in the bucket.
fn contents(world: &World, export: &str) -> BTreeMap<String, Vec<u8>> {
    let keys = world.s3.keys(DESTINATION_BUCKET).into_iter().filter(|key| key.contains(export));
    keys.map(|key| (key.clone(), world.s3.get(DESTINATION_BUCKET, &key).unwrap())).collect()
}

fn signal(child: &std::process::Child, name: &str) {
    assert!(
        Command::new("kill")
            .arg(format!("-{name}"))
            .arg(child.id().to_string())
            .status()
            .unwrap()
            .success()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs chDB: make test"]
async fn a_process_that_was_frozen_with_a_write_on_its_way_changes_nothing() {
    frozen(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs chDB: make test"]
async fn nor_does_it_where_the_bucket_does_not_let_it_look() {
    frozen(true).await;
}

async fn frozen(blind: bool) {
    let world = world().await;
    let gate = world.s3.faults.hold(Operation::PutObject, "-00001.parquet");
    let mut zombie = binaries::exporter(&world);
    let export = world.export("2024-01-01", "2024-01-02").await;
    gate.reached().await;
    signal(&zombie, "STOP");
    world.s3.faults.clear();
    let mut settings = world.exporter_settings("exporter-2");
    (settings.limits.batch_bytes, settings.limits.row_group_bytes, settings.limits.file_bytes) =
        (10_000, 1, 1);
    let successor = world.start_exporter(&settings);
    assert_eq!(world.ended(&export).await.status(), ExportStatus::Completed);
    world.reconciled(&export).await;
    successor.stop().await;
    let before = contents(&world, &export);

    if blind {
        world.s3.faults.refuse(
            Operation::HeadObject,
            ".parquet",
            S3ErrorCode::AccessDenied,
            u64::MAX,
        );
    }
    gate.open(); // its write arrives now
    signal(&zombie, "CONT");
    // It comes back, and is as good as any: when it has done another export it has long been
    // through with the first one.
    let other = world.export("2024-01-01", "2024-01-02").await;
    assert_eq!(world.ended(&other).await.status(), ExportStatus::Completed);
    assert_eq!(ids(&world.rows(&other)), all(ROWS));
    assert_eq!(contents(&world, &export), before);
    assert_eq!(ids(&world.rows(&export)), all(ROWS));
    assert_eq!(world.s3.open_uploads(), []);
    zombie.kill().unwrap();
    zombie.wait().unwrap();
}

/// A client with the destination's own keys.
fn bucket_client(world: &World) -> Client {
    let config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .credentials_provider(Credentials::new(
            ACCESS_KEY_ID,
            SECRET_ACCESS_KEY,
            None,
            None,
            "zombie",
        ))
        .region(Region::new("us-east-1"))
        .endpoint_url(world.s3.url())
        .force_path_style(true)
        .retry_config(RetryConfig::disabled())
        .http_client(aws_smithy_http_client::Builder::new().build_http());
    Client::from_conf(config.build())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs chDB: make test"]
async fn one_that_heeds_no_clock_and_tries_everything_changes_nothing() {
    let world = world().await;
    world.s3.faults.allow_small_parts();
    let mut settings = world.exporter_settings("exporter-1");
    (settings.limits.batch_bytes, settings.limits.row_group_bytes, settings.limits.file_bytes) =
        (10_000, 1, 1);
    settings.limits.part_bytes = 2000;
    let gate = world.s3.faults.hold(Operation::CompleteMultipartUpload, "-00001.parquet");
    let first = world.start_exporter(&settings);
    let export = world.export("2024-01-01", "2024-01-02").await;
    gate.reached().await;
    first.crash().await;
    let (key, upload_id) = world.s3.open_uploads().remove(0);
    let run = world.runs(&export).await.remove(0).id;
    // This bucket does not even let the successor abort.
    world.s3.faults.clear();
    world.s3.faults.refuse(
        Operation::AbortMultipartUpload,
        &key,
        S3ErrorCode::AccessDenied,
        u64::MAX,
    );
    let successor = world.start_exporter(&tracelift_exporter::Settings {
        exporter_id: Some("exporter-2".into()),
        ..settings
    });
    assert_eq!(world.ended(&export).await.status(), ExportStatus::Completed);
    world.reconciled(&export).await;
    let before = contents(&world, &export);

    let s3 = bucket_client(&world);
    let part =
        s3.upload_part().bucket(DESTINATION_BUCKET).key(&key).upload_id(&upload_id).part_number(1);
    let part = part.body(ByteStream::from_static(b"old")).send().await.unwrap();
    let parts = CompletedPart::builder().part_number(1).set_e_tag(part.e_tag).build();
    let parts = CompletedMultipartUpload::builder().parts(parts).build();
    let complete =
        s3.complete_multipart_upload().bucket(DESTINATION_BUCKET).key(&key).upload_id(&upload_id);
    assert!(
        complete.multipart_upload(parts).if_none_match("*").send().await.is_err(),
        "an exporter completes under this condition"
    );
    let put = s3
        .put_object()
        .bucket(DESTINATION_BUCKET)
        .key(&key)
        .if_none_match("*")
        .body(ByteStream::from_static(b"old"));
    assert!(put.send().await.is_err());

    let token = "t".to_owned();
    let intent = v1::FileIntent { number: 2, key, upload_id, token, whole: None };
    let finished = v1::Finished { files: 1, rows: 1, ..Default::default() };
    let mut hello = fleet::hello("exporter-1", "the old one", 0);
    hello.held = vec![fleet::held(&run, 1)];
    let channel = Endpoint::from_shared(world.grpc.clone()).unwrap().connect_lazy();
    let mut client = FleetServiceClient::with_interceptor(channel, Bearer::new(FLEET_TOKEN));
    let (mut session, welcome) = FleetSession::connect(client.clone(), hello).await.unwrap();
    assert_eq!(welcome.verdicts[0].verdict(), v1::Verdict::Revoked);
    for (seq, event) in [
        (1, Event::FileIntent(intent)),
        (2, Event::Finished(finished)),
        (3, Event::Published(v1::Published {})),
    ] {
        session.say(fleet::report(&run, 1, seq, event)).await.unwrap();
        let told = session.hear().await.unwrap();
        assert!(matches!(told, Some(ControlMessage::Revoked(_))), "a zombie was told {told:?}");
    }
    assert_eq!(session.leave().await.unwrap(), []);
    let access = v1::GetDestinationAccessRequest {
        task_id: run,
        fence: 1,
        exporter_id: "exporter-1".into(),
        incarnation: "the old one".into(),
    };
    assert_eq!(
        client.get_destination_access(access).await.unwrap_err().code(),
        Code::PermissionDenied
    );

    assert_eq!(contents(&world, &export), before);
    assert_eq!(ids(&world.rows(&export)), all(ROWS));
    successor.stop().await;
}
