//! A gateway with its fake, and a plain HTTP/1.1 caller that hides nothing.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_util::sync::CancellationToken;
use tracelift_gateway::{Gateway, Settings};
use tracelift_runtime::tasks::{self, Owned};
use tracelift_test_grpc::{FakeControlPlane, TENANT};

pub(crate) const EXPORTS: &str = "/api/v1/bulk-exports";
pub(crate) const DESTINATIONS: &str = "/api/v1/bulk-exports/destinations";

pub(crate) struct World {
    pub(crate) fake: FakeControlPlane,
    pub(crate) address: SocketAddr,
    _tasks: (Option<Owned<()>>, Owned<()>),
}

/// A gateway in front of a working fake.
pub(crate) async fn world() -> World {
    world_with(|_| {}).await
}

pub(crate) async fn world_with(change: impl FnOnce(&mut Settings)) -> World {
    let fake = FakeControlPlane::default();
    let (plane, server) = fake.serve().await;
    start(fake, format!("http://{plane}"), Some(server), change).await
}

/// A gateway whose control plane is away.
pub(crate) async fn lonely_world() -> World {
    start(FakeControlPlane::default(), "http://127.0.0.1:1".to_owned(), None, |_| {}).await
}

async fn start(
    fake: FakeControlPlane,
    plane: String,
    server: Option<Owned<()>>,
    change: impl FnOnce(&mut Settings),
) -> World {
    let mut settings = Settings::local(plane);
    change(&mut settings);
    let gateway = Gateway::bind(settings).await.unwrap();
    let address = gateway.address();
    let gateway =
        tasks::start(
            "gateway",
            async move { gateway.run(CancellationToken::new()).await.unwrap() },
        );
    World { fake, address, _tasks: (server, Owned(gateway)) }
}

pub(crate) struct Heard {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Heard {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines
            .into_iter()
            .find(|(given, _)| given.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    }

    /// For snapshots: the status, Retry-After, and the body with a line per key, in its own order.
    pub(crate) fn shown(&self) -> String {
        let retry = self
            .header("retry-after")
            .map(|seconds| format!("retry-after: {seconds}\n"))
            .unwrap_or_default();
        let json: serde_json::Value = serde_json::from_str(&self.body).unwrap();
        assert!(json.is_object() || json.is_array());
        assert_eq!(self.header("content-type"), Some("application/json"));
        format!("{}\n{retry}{}", self.status, lines(&self.body))
    }
}

/// A line per key of the JSON text.
fn lines(json: &str) -> String {
    let is_key =
        |text: &str| text[1..].find('"').is_some_and(|end| text[end + 2..].starts_with(':'));
    let mut lines = String::new();
    for (index, c) in json.char_indices() {
        let before = &json[..index];
        if (c == '"' && before.ends_with(',') && is_key(&json[index..]))
            || (c == '{' && before.ends_with("},"))
        {
            lines.push('\n');
        }
        lines.push(c);
    }
    lines
}

impl World {
    /// With the headers that every example of the guide has.
    pub(crate) async fn ask(&self, method: &str, path: &str, body: Option<&str>) -> Heard {
        let tenant = format!("X-Tenant-Id: {TENANT}");
        self.ask_as(&["X-API-Key: tl_visible_secret", &tenant], method, path, body).await
    }

    pub(crate) async fn ask_as(
        &self,
        headers: &[&str],
        method: &str,
        path: &str,
        body: Option<&str>,
    ) -> Heard {
        let length =
            body.map(|body| format!("Content-Length: {}\r\n", body.len())).unwrap_or_default();
        let headers: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n{headers}{length}\r\n"
        );
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(body.unwrap_or_default().as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Heard { status, head: head.to_owned(), body: body.to_owned() }
    }
}
