//! How each program is started: which binary, with which settings.

use std::{
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    process::Command,
};

use tracelift_test_support::{
    clickhouse,
    s3::{ACCESS_KEY_ID, SECRET_ACCESS_KEY},
    world::{FLEET_TOKEN, SOURCE_BUCKET},
};

use crate::fleet::{ADMIN_TOKEN, HEARTBEAT_SECONDS, LEASE_SECONDS, PROGRESS_SECONDS};

const MASTER_KEYS: &str = "chaos:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

/// All ports and folders, fixed for the lifetime of the harness.
#[derive(Debug, Clone)]
pub(crate) struct Places {
    pub(crate) dir: PathBuf,
    pub(crate) bucket: u16,
    pub(crate) clickhouse: u16,
    pub(crate) control_planes: Vec<u16>,
}

impl Places {
    pub(crate) fn new(dir: &Path, control_planes: usize) -> Self {
        let mut ports =
            (0..control_planes + 2).map(|_| free_port()).collect::<Vec<_>>().into_iter();
        let mut next = || ports.next().expect("as many as were made");
        Self {
            dir: dir.to_owned(),
            bucket: next(),
            clickhouse: next(),
            control_planes: (0..control_planes).map(|_| next()).collect(),
        }
    }

    pub(crate) fn url(port: u16) -> String {
        format!("http://127.0.0.1:{port}")
    }
}

/// A port below the ephemeral range: while a part is down, nobody else may get its port.
fn free_port() -> u16 {
    loop {
        let port = fastrand::u16(15_000..32_000);
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}

fn program(name: &str) -> Command {
    Command::new(std::env::current_exe().expect("this program").with_file_name(name))
}

/// The MinIO binary, if installed: on the path, or by `make servers`.
pub(crate) fn minio() -> Option<PathBuf> {
    let on_the_path = std::env::var_os("PATH")
        .into_iter()
        .flat_map(|path| std::env::split_paths(&path).collect::<Vec<_>>());
    let installed = std::env::var_os("TRACELIFT_MINIO").map(PathBuf::from);
    on_the_path
        .map(|folder| folder.join("minio"))
        .chain(installed)
        .find(|program| program.is_file())
}

pub(crate) fn bucket(places: &Places, minio: Option<&Path>) -> Command {
    let path = places.dir.join("s3");
    let Some(minio) = minio else {
        let mut command = program("s3-server");
        command.arg("--path").arg(path).args(["--port", &places.bucket.to_string()]);
        return command;
    };
    let mut command = Command::new(minio);
    command
        .args(["server", "--quiet", "--address", &format!("127.0.0.1:{}", places.bucket)])
        .arg("--certs-dir");
    command
        .arg(places.dir.join("certs"))
        .arg(path)
        .env("MINIO_BROWSER", "off")
        .env("MINIO_UPDATE", "off");
    command.env("MINIO_ROOT_USER", ACCESS_KEY_ID).env("MINIO_ROOT_PASSWORD", SECRET_ACCESS_KEY);
    command
}

pub(crate) fn clickhouse(places: &Places) -> Command {
    clickhouse::command(&places.dir.join("clickhouse"), places.clickhouse)
}

pub(crate) fn control_plane(places: &Places, number: usize, database: &str) -> Command {
    let mut command = program("tracelift-control-plane");
    command
        .env("TRACELIFT_LISTEN", format!("127.0.0.1:{}", places.control_planes[number]))
        .env("TRACELIFT_DATABASE", database)
        .env("TRACELIFT_MASTER_KEYS", MASTER_KEYS)
        .env("TRACELIFT_ADMIN_TOKEN", ADMIN_TOKEN)
        .env("TRACELIFT_FLEET_TOKEN", FLEET_TOKEN)
        .env("TRACELIFT_ENDPOINTS_ALLOW", "127.0.0.1")
        .env("TRACELIFT_HEARTBEAT_SECONDS", HEARTBEAT_SECONDS.to_string())
        .env("TRACELIFT_LEASE_SECONDS", LEASE_SECONDS.to_string())
        .env("TRACELIFT_PROGRESS_SECONDS", PROGRESS_SECONDS.to_string())
        .env("TRACELIFT_STOP_SECONDS", "2");
    command
}

/// Each exporter has a different file size, so that one finishes what another began, in a single
/// write or in parts. Few objects are fetched at once, so that exports take long enough to be
/// disturbed.
pub(crate) fn exporter(places: &Places, number: usize) -> Command {
    let file_bytes = [600_000, 6_000_000, 12_000_000][number % 3];
    let control_plane = places.control_planes[number % places.control_planes.len()];
    let mut command = program("tracelift-exporter");
    command
        .env("TRACELIFT_CONTROL_PLANE", Places::url(control_plane))
        .env("TRACELIFT_EXPORTER_ID", exporter_id(number))
        .env("TRACELIFT_FLEET_TOKEN", FLEET_TOKEN)
        .env("TRACELIFT_ENDPOINTS_ALLOW", "127.0.0.1")
        .env("TRACELIFT_DRAIN_SECONDS", "3")
        .env("TRACELIFT_EXPORTER_SLOTS", "3")
        .env("TRACELIFT_BATCH_BYTES", "200000")
        .env("TRACELIFT_ROW_GROUP_BYTES", "500000")
        .env("TRACELIFT_PART_BYTES", (5 << 20).to_string())
        .env("TRACELIFT_FILE_BYTES", file_bytes.to_string())
        .env("CLICKHOUSE_URL", Places::url(places.clickhouse))
        .env("BLOB_CONCURRENCY", "2")
        .env("BLOB_ENDPOINT", Places::url(places.bucket))
        .env("BLOB_BUCKET", SOURCE_BUCKET)
        .env("BLOB_ACCESS_KEY_ID", ACCESS_KEY_ID)
        .env("BLOB_SECRET_ACCESS_KEY", SECRET_ACCESS_KEY);
    command
}

pub(crate) fn exporter_id(number: usize) -> String {
    format!("exporter-{}", number + 1)
}
