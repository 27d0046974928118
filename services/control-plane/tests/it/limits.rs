//! Size and number of calls.

use std::convert::Infallible;

use bytes::Bytes;
use futures::stream;
use http_body_util::StreamBody;
use hyper::{body::Frame, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{net::TcpStream, task::JoinSet};
use tonic::Code;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tonic_types::StatusExt as _;
use tracelift_proto::{fleet, v1};
use tracelift_runtime::tasks;

use crate::plane::{Plane, Workspace, plane, plane_with, shown, soon};

#[tokio::test]
async fn a_message_over_one_mebibyte_is_refused() {
    let plane = plane().await;
    let mine = plane.workspace(1).await;
    let mut spec =
        v1::ExportSpec { destination_id: "x".repeat((1 << 20) - 100), ..v1::ExportSpec::default() };
    let small = mine.create(spec.clone()).await.unwrap_err();
    assert_eq!(small.code(), Code::InvalidArgument, "it was read, and found wrong");
    spec.destination_id = "x".repeat(1 << 20);
    let large = mine.create(spec).await.unwrap_err();
    assert_eq!(large.code(), Code::OutOfRange, "{large:?}");
}

#[tokio::test]
async fn a_message_of_an_exporter_that_is_too_large_ends_its_session_and_leaves_its_run_alone() {
    let plane = plane().await;
    let mine = plane.workspace(1).await;
    let mut exporter = crate::exporter::Exporter::connect(&plane, "a", 1).await;
    let export = mine.export(&plane, 1).await;
    let task = exporter.assignment().await;
    let before = mine.tasks(&export.id).await;
    let key = "k".repeat(tracelift_proto::MAX_FLEET_BYTES);
    let intent = fleet::v1::FileIntent { key, token: "t".into(), ..Default::default() };
    let intent = fleet::v1::report::Event::FileIntent(intent);
    exporter.say(crate::exporter::report(&task, 1, intent)).await;
    exporter.end().await.ok(); // however the stream breaks for it
    assert_eq!(mine.tasks(&export.id).await, before);
}

#[tokio::test]
async fn more_calls_than_the_limit_are_refused_at_once() {
    let plane = plane_with(|settings| settings.max_calls = 1).await;
    plane.workspace(1).await;
    // An exporter that has not said hello is a call under way. Both go over one connection, so they
    // arrive in this order.
    let caller = plane.fleet();
    let (mut fleet, mut second) = (caller.fleet(), caller.fleet());
    let waiting = fleet.connect(tokio_stream::pending());
    let access = fleet::v1::GetDestinationAccessRequest::default;
    let refused = async {
        let refused = second.get_destination_access(access()).await;
        assert_eq!(refused.as_ref().unwrap_err().code(), Code::ResourceExhausted);
        shown(refused)
    };
    let words = soon(async {
        tokio::select! {
            biased;
            _ = waiting => panic!("it was answered without a hello"),
            words = refused => words,
        }
    });
    insta::assert_snapshot!(words.await);
    // It was cut with its caller: there is room again.
    let mut admin = plane.admin().admin();
    soon(admin.list_tenants(v1::ListTenantsRequest::default())).await.unwrap();
}

#[tokio::test]
async fn an_exporters_stream_and_a_watch_are_no_calls_under_way() {
    let plane = plane_with(|settings| settings.max_calls = 1).await;
    let mine = plane.workspace(1).await;
    let _exporter = crate::exporter::Exporter::connect(&plane, "a", 1).await;
    let export = mine.export(&plane, 1).await;
    let watch = mine
        .read
        .exports()
        .watch_export(v1::WatchExportRequest { id: export.id.clone() })
        .await
        .unwrap();
    soon(watch.into_inner().message()).await.unwrap();
    assert_eq!(mine.get(&export.id).await.id, export.id);
}

#[tokio::test]
async fn more_watches_than_the_limit_are_refused_and_one_that_ends_makes_room() {
    let plane = plane_with(|settings| settings.max_watches = 1).await;
    let mine = plane.workspace(1).await;
    let export = mine.export(&plane, 1).await;
    let watch = async || {
        mine.read.exports().watch_export(v1::WatchExportRequest { id: export.id.clone() }).await
    };
    let mut first = watch().await.unwrap().into_inner();
    soon(first.message()).await.unwrap();
    let refused = watch().await;
    insta::assert_snapshot!(shown(refused.map(drop)));
    mine.manage
        .exports()
        .cancel_export(v1::CancelExportRequest { id: export.id.clone() })
        .await
        .unwrap();
    while soon(first.message()).await.unwrap().is_some() {}
    assert!(watch().await.is_ok());
}

/// Begins so many health checks, without a key, that never send their request.
async fn begin_health_checks(plane: &Plane, number: usize) -> JoinSet<()> {
    let socket = TcpStream::connect(plane.address).await.unwrap();
    let handshake = http2::handshake(TokioExecutor::new(), TokioIo::new(socket));
    let (mut sender, connection) = handshake.await.unwrap();
    let mut calls = JoinSet::new();
    tasks::start_in(&mut calls, "connection", async move { drop(connection.await) });
    for _ in 0..number {
        let endless = stream::pending::<Result<Frame<Bytes>, Infallible>>();
        let request = http::Request::post("http://plane/grpc.health.v1.Health/Check")
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(StreamBody::new(endless))
            .unwrap();
        let answer = sender.send_request(request);
        tasks::start_in(&mut calls, "call", async move { drop(answer.await) });
    }
    sender.ready().await.unwrap();
    calls
}

#[tokio::test]
async fn unfinished_calls_without_a_key_hold_up_no_call_with_one() {
    let plane = plane_with(|settings| settings.max_calls = 1).await;
    let mine = plane.workspace(1).await;
    let _calls = begin_health_checks(&plane, 70).await;
    let mut exports = mine.read.exports();
    soon(exports.list_exports(v1::ListExportsRequest::default())).await.unwrap();
    let mut health = HealthClient::new(plane.caller(&[]).channel);
    let refused = soon(health.check(HealthCheckRequest::default())).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted, "their own places are taken");
}

#[tokio::test]
async fn a_workspace_makes_only_so_many_calls_a_second_and_others_do_not_wait_for_it() {
    let plane = plane_with(|settings| settings.max_calls_per_second = 1).await;
    let (mine, other) = (plane.workspace(1).await, plane.workspace(2).await);
    let list = async |workspace: &Workspace| {
        workspace.read.exports().list_exports(v1::ListExportsRequest::default()).await
    };
    let refused = loop {
        if let Err(refused) = list(&mine).await {
            break refused;
        }
    };
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert!(refused.get_details_retry_info().is_some());
    list(&other).await.unwrap();
}
