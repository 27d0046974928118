//! The real binary, in front of a control plane that says what the test wants.

use std::{
    net::SocketAddr,
    process::{Output, Stdio},
};

use tokio::process::Command;
use tracelift_proto::v1;
use tracelift_runtime::tasks::Owned;
pub(crate) use tracelift_test_grpc::EXPORT as ID;
use tracelift_test_grpc::{Change, FakeControlPlane};

pub(crate) const ACCESS_KEY_ID: &str = "AKIA";
pub(crate) const SECRET_ACCESS_KEY: &str = "hunter2";

pub(crate) struct World {
    address: SocketAddr,
    pub(crate) fake: FakeControlPlane,
    _server: Owned<()>,
}

/// A fake that is served.
pub(crate) async fn world() -> World {
    let fake = FakeControlPlane::default();
    let (address, server) = fake.serve().await;
    World { fake, address, _server: server }
}

impl World {
    /// The binary with an environment of its own.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        command(&format!("http://{}", self.address), args)
    }

    pub(crate) async fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().await.unwrap()
    }
}

pub(crate) fn command(server: &str, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tracelift"));
    command
        .env_clear()
        .env("TRACELIFT_GRPC", server)
        .env("TRACELIFT_API_KEY", "tl_key")
        .env("TRACELIFT_ADMIN_TOKEN", "admin");
    command.env("S3_ACCESS_KEY_ID", ACCESS_KEY_ID).env("S3_SECRET_ACCESS_KEY", SECRET_ACCESS_KEY);
    command
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// For snapshots: the exit code and both outputs.
pub(crate) fn shown(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    format!(
        "exit {:?}\n--- out\n{}--- err\n{}",
        output.status.code(),
        text(&output.stdout),
        text(&output.stderr)
    )
}

pub(crate) fn export(status: v1::ExportStatus, rows: u64) -> v1::Export {
    v1::Export {
        id: ID.into(),
        status: status.into(),
        progress: Some(v1::ExportProgress {
            runs_total: 2,
            rows_written: rows,
            rows_total_estimate: Some(100),
            ..Default::default()
        }),
        ..Default::default()
    }
}

pub(crate) fn change(status: v1::ExportStatus, rows: u64) -> Change {
    Ok(v1::WatchExportResponse { export: Some(export(status, rows)) })
}
