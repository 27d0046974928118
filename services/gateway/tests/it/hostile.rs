//! Clients that do not read, do not finish what they send, or send nothing.

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
};
use tracelift_proto::v1;
use tracelift_test_grpc::{EXPORT, Watch, export};

use crate::talk::{EXPORTS, World, world, world_with};

/// Follows an export and reads nothing of it.
async fn stalled(world: &World, key: &str) -> (TcpStream, Watch) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut stream = socket.connect(world.address).await.unwrap();
    let head = format!(
        "GET {EXPORTS}/{EXPORT}/events HTTP/1.1\r\nHost: gateway\r\nX-API-Key: {key}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    (stream, world.fake.watch().await)
}

/// A state with a filter as long as filters may be.
fn long() -> v1::WatchExportResponse {
    let mut export = export();
    let spec = export.spec.get_or_insert_default();
    spec.filter = "x".repeat(32 << 10);
    v1::WatchExportResponse { export: Some(export) }
}

#[tokio::test]
async fn readers_that_take_nothing_hold_up_no_other_call() {
    let world = world().await;
    let mut streams = Vec::new();
    for key in ["a", "b", "c", "d"] {
        let (stream, watch) = stalled(&world, key).await;
        for _ in 0..300 {
            watch.send(Ok(long())).await.unwrap();
        }
        streams.push((stream, watch));
    }
    assert_eq!(world.ask("GET", EXPORTS, None).await.status, 200);
}

#[tokio::test]
async fn an_api_key_has_a_share_of_the_event_streams() {
    let world = world_with(|settings| settings.event_streams = 4).await;
    let own = stalled(&world, "a").await;
    let path = format!("{EXPORTS}/{EXPORT}/events");
    let second = world.ask_as(&["X-API-Key: a"], "GET", &path, None).await;
    insta::assert_snapshot!(second.shown());
    let _other = stalled(&world, "b").await;
    drop(own);
}

#[tokio::test]
async fn bodies_that_do_not_end_take_no_place_of_a_call() {
    let world = world_with(|settings| settings.concurrency = 1).await;
    let mut unfinished = Vec::new();
    for _ in 0..8 {
        let mut stream = TcpStream::connect(world.address).await.unwrap();
        let head = format!(
            "POST {EXPORTS} HTTP/1.1\r\nHost: gateway\r\nX-API-Key: k\r\nContent-Length: 100\r\n\r\n{{"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        unfinished.push(stream);
    }
    assert_eq!(world.ask("GET", EXPORTS, None).await.status, 200);
}

#[tokio::test]
async fn a_connection_that_says_nothing_is_closed() {
    let world = world_with(|settings| (settings.idle_seconds, settings.connections) = (1, 1)).await;
    let mut silent = TcpStream::connect(world.address).await.unwrap();
    silent.write_all(b"GET / HTTP/1.1\r\nHost:").await.unwrap();
    assert_eq!(world.ask("GET", "/healthz", None).await.status, 200, "once it is closed");
    let mut rest = Vec::new();
    silent.read_to_end(&mut rest).await.unwrap();
}

#[tokio::test]
async fn responses_are_stored_by_nobody_and_run_nothing() {
    let world = world().await;
    for path in [EXPORTS, "/docs", "/healthz", "/nowhere"] {
        let heard = world.ask("GET", path, None).await;
        assert_eq!(heard.header("cache-control"), Some("no-store"), "{path}");
        assert_eq!(heard.header("x-content-type-options"), Some("nosniff"), "{path}");
        assert!(heard.header("content-security-policy").unwrap().starts_with("default-src 'none'"));
    }
}
