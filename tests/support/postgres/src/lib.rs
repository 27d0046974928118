//! A private PostgreSQL server for tests: a cluster in a temporary folder, on a free local port.
//!
//! It needs only the server binaries (Debian: `postgresql`), runs as the user `postgres` if the
//! tests run as root, and ends with the process that started it, however that ends.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a harness fails loudly, where it stands"
)]

use std::{
    fs,
    net::TcpListener,
    os::unix::{
        fs::{MetadataExt as _, chown},
        process::CommandExt as _,
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
};

use tempfile::TempDir;
use tokio_postgres::NoTls;
use tracelift_runtime::tasks::{self, Owned};

/// The superuser's password. All connections require one, so that tests can use a wrong one.
pub const PASSWORD: &str = "p4ss-w0rd";

/// Waits for its input to close, which happens when the parent process ends, then stops the server
/// and removes its folder.
const WATCH: &str = r#"
cat >/dev/null
pid=$(head -n 1 "$1/data/postmaster.pid" 2>/dev/null) && kill -QUIT "$pid" 2>/dev/null && kill -CONT "$pid" && while kill -0 "$pid" 2>/dev/null; do sleep 0.05; done
rm -rf "$1"
"#;

/// A cluster. It is stopped when dropped, and when this process ends.
#[derive(Debug)]
pub struct Postgres {
    programs: PathBuf,
    folder: PathBuf,
    port: u16,
    databases: AtomicU32,
    watch: Child,
}

impl Postgres {
    /// Creates and starts a cluster. Writes are not flushed to disk (fsync): the data of a test
    /// need not survive a crash of the machine. They must survive a crash of the server, so a
    /// commit is still written before it is acknowledged (synchronous_commit).
    pub fn start_new() -> Self {
        let programs = programs();
        let folder = TempDir::with_prefix("tracelift-postgres-").expect("a folder").keep();
        let watch = Command::new("sh")
            .args(["-c", WATCH, "sh"])
            .arg(&folder)
            .stdin(Stdio::piped())
            .process_group(0)
            .spawn();
        let server = Self {
            programs,
            folder,
            port: free_port(),
            databases: AtomicU32::new(0),
            watch: watch.expect("sh"),
        };
        let password = server.folder.join("password");
        fs::write(&password, PASSWORD).expect("a file");
        if let Some((user, group)) = user() {
            for path in [&server.folder, &password] {
                chown(path, Some(user), Some(group)).expect("root may give a file away");
            }
        }
        let data = server.data();
        let arguments = [
            "--username=postgres",
            "--auth=scram-sha-256",
            "--no-sync",
            "--encoding=UTF8",
            "--locale=C.UTF-8",
        ];
        server.run(
            server
                .command("initdb")
                .args(arguments)
                .arg("--pwfile")
                .arg(&password)
                .arg("--pgdata")
                .arg(data),
        );
        server.start();
        server
    }

    /// Restarts the server on the same port and data.
    pub fn start(&self) {
        let options = format!(
            "-p {} -k '' -c listen_addresses=127.0.0.1 -c max_connections=300 -c shared_buffers=32MB -c fsync=off",
            self.port
        );
        self.control(&["start", "--wait", "--timeout=60", "--options", &options]);
    }

    /// Stops the server gracefully: clients are disconnected.
    pub fn stop(&self) {
        self.control(&["stop", "--wait", "--mode=fast"]);
    }

    /// Stops the server immediately, as in a crash.
    pub fn kill(&self) {
        self.control(&["stop", "--wait", "--mode=immediate"]);
    }

    /// Sends a signal, `STOP` or `CONT`, to all processes of the server.
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill")
            .arg(format!("-{name}"))
            .args(self.processes())
            .stderr(Stdio::null())
            .status();
        status.expect("kill"); // one of its processes may just have exited
    }

    /// Kills all its processes at once, so that nothing more is sent or written.
    pub fn vanish(&self) {
        self.signal("KILL");
        // If nobody has reaped the server, its pid would make it look as if it were still running.
        let _ = fs::remove_file(self.data().join("postmaster.pid"));
    }

    fn processes(&self) -> Vec<String> {
        let file = fs::read_to_string(self.data().join("postmaster.pid")).unwrap_or_default();
        let Some(server) = file.lines().next() else { return Vec::new() };
        let children = fs::read_to_string(format!("/proc/{server}/task/{server}/children"))
            .unwrap_or_default();
        std::iter::once(server).chain(children.split_whitespace()).map(str::to_owned).collect()
    }

    /// The URL of a database on this server, with user and password.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://postgres:{PASSWORD}@127.0.0.1:{}/{database}", self.port)
    }

    /// Creates an empty database and returns its URL.
    pub async fn new_database(&self) -> String {
        let name = format!("t{}", self.databases.fetch_add(1, Ordering::Relaxed));
        execute(&self.url("postgres"), &format!("CREATE DATABASE {name}")).await;
        self.url(&name)
    }

    fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    fn control(&self, arguments: &[&str]) {
        let (data, log) = (self.data(), self.folder.join("log"));
        self.run(
            self.command("pg_ctl")
                .args(arguments)
                .arg("--silent")
                .arg("--pgdata")
                .arg(data)
                .arg("--log")
                .arg(log),
        );
    }

    /// A server binary, run as a user that it accepts: it refuses to run as root.
    fn command(&self, program: &str) -> Command {
        let program = self.programs.join(program);
        let mut command = match user() {
            Some((user, group)) => {
                let mut command = Command::new("setpriv");
                command
                    .args([
                        format!("--reuid={user}"),
                        format!("--regid={group}"),
                        "--clear-groups".to_owned(),
                    ])
                    .arg(program);
                command
            }
            None => Command::new(program),
        };
        command.current_dir(&self.folder).process_group(0).stdin(Stdio::null());
        command
    }

    fn run(&self, command: &mut Command) {
        // Output goes to a file rather than a pipe, which the server would keep open forever.
        let words = self.folder.join("words");
        let file = fs::File::create(&words).expect("a file");
        let status = command.stdout(file.try_clone().expect("a file")).stderr(file).status();
        let status = status.unwrap_or_else(|error| panic!("{command:?} cannot be run: {error}"));
        let read = |path: &Path| fs::read_to_string(path).unwrap_or_default();
        assert!(
            status.success(),
            "{command:?} failed: {}\n{}",
            read(&words),
            read(&self.folder.join("log"))
        );
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        drop(self.watch.stdin.take());
        let _ = self.watch.wait();
    }
}

/// Runs statements on a separate connection.
pub async fn execute(url: &str, sql: &str) {
    let (client, connection) =
        tokio_postgres::connect(url, NoTls).await.unwrap_or_else(|error| panic!("{error:?}"));
    let _speaking = Owned(tasks::start("connection", connection));
    client.batch_execute(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
}

/// A port below the ephemeral range: while the server is down, nobody else gets its port, and a
/// client that keeps reconnecting cannot end up connected to itself.
fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        let port = 15_000
            + (std::process::id().wrapping_mul(101) + NEXT.fetch_add(1, Ordering::Relaxed))
                % 17_000;
        let port = u16::try_from(port).expect("it is below 32 000");
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// The folder with the binaries of the newest version.
fn programs() -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let versions = versions
        .map(|version| version.path().join("bin"))
        .filter(|bin| bin.join("initdb").exists());
    let number = |bin: &PathBuf| bin.parent()?.file_name()?.to_str()?.parse::<u32>().ok();
    let on_the_path = || {
        std::env::split_paths(&std::env::var_os("PATH")?).find(|bin| bin.join("initdb").exists())
    };
    versions
        .max_by_key(number)
        .or_else(on_the_path)
        .unwrap_or_else(|| panic!("PostgreSQL is not installed: run `scripts/needs.sh postgres` (Debian: apt-get install postgresql)"))
}

/// The user and group to run the server as if this process runs as root.
fn user() -> Option<(u32, u32)> {
    if fs::metadata("/proc/self").map_or(1, |process| process.uid()) != 0 {
        return None;
    }
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let line = users
        .lines()
        .find(|line| line.starts_with("postgres:"))
        .map(|line| line.split(':').collect::<Vec<_>>());
    let ids =
        line.and_then(|fields| Some((fields.get(2)?.parse().ok()?, fields.get(3)?.parse().ok()?)));
    Some(ids.expect("a server does not run as root, and there is no user postgres: install PostgreSQL by its package"))
}
