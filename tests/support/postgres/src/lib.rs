//! A PostgreSQL server of a test's own: a private cluster in a temporary folder, on a free port of
//! this machine.
//!
//! It needs the server's programs only (Debian: `postgresql`), runs as the user `postgres` when the
//! tests run as root, and goes with the process that started it, however that one ends.

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

/// The superuser's password. Everybody must give one, so that tests see what a wrong one does.
pub const PASSWORD: &str = "p4ss-w0rd";

/// Waits for its input to end, which it does with the process that holds it, then ends the server
/// and takes its folder away.
const WATCH: &str = r#"
cat >/dev/null
pid=$(head -n 1 "$1/data/postmaster.pid" 2>/dev/null) && kill -QUIT "$pid" 2>/dev/null && kill -CONT "$pid" && while kill -0 "$pid" 2>/dev/null; do sleep 0.05; done
rm -rf "$1"
"#;

/// A cluster. It ends when it is dropped, and with this process.
#[derive(Debug)]
pub struct Postgres {
    programs: PathBuf,
    folder: PathBuf,
    port: u16,
    databases: AtomicU32,
    watch: Child,
}

impl Postgres {
    /// Makes a cluster and starts it. What is written is not forced to the disk: a test's data need
    /// not outlive the machine. It must outlive a crash of the server, so a commit is still
    /// written before it is answered (synchronous_commit).
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

    /// Starts the server again, on the same port and data.
    pub fn start(&self) {
        let options = format!(
            "-p {} -k '' -c listen_addresses=127.0.0.1 -c max_connections=300 -c shared_buffers=32MB -c fsync=off",
            self.port
        );
        self.control(&["start", "--wait", "--timeout=60", "--options", &options]);
    }

    /// Stops the server in good order: its clients are sent away.
    pub fn stop(&self) {
        self.control(&["stop", "--wait", "--mode=fast"]);
    }

    /// Ends the server at once, as a crash does.
    pub fn kill(&self) {
        self.control(&["stop", "--wait", "--mode=immediate"]);
    }

    /// Sends a signal, `STOP` or `CONT`, to the server and all its processes.
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill")
            .arg(format!("-{name}"))
            .args(self.processes())
            .stderr(Stdio::null())
            .status();
        status.expect("kill"); // one of its processes may just have ended
    }

    /// Ends all its processes in no order at all, with nothing said or written any more.
    pub fn vanish(&self) {
        self.signal("KILL");
        // Nobody may have reaped the server, whose number would then look as if it still ran.
        let _ = fs::remove_file(self.data().join("postmaster.pid"));
    }

    fn processes(&self) -> Vec<String> {
        let file = fs::read_to_string(self.data().join("postmaster.pid")).unwrap_or_default();
        let Some(server) = file.lines().next() else { return Vec::new() };
        let children = fs::read_to_string(format!("/proc/{server}/task/{server}/children"))
            .unwrap_or_default();
        std::iter::once(server).chain(children.split_whitespace()).map(str::to_owned).collect()
    }

    /// An address of this server's database of that name, with user and password.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://postgres:{PASSWORD}@127.0.0.1:{}/{database}", self.port)
    }

    /// A new, empty database; its address.
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

    /// A program of the server, as a user that it accepts: it refuses root.
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
        // To a file and not a pipe: the server would hold the pipe open for ever.
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

/// Runs statements on a connection of their own.
pub async fn execute(url: &str, sql: &str) {
    let (client, connection) =
        tokio_postgres::connect(url, NoTls).await.unwrap_or_else(|error| panic!("{error:?}"));
    let _speaking = Owned(tasks::start("connection", connection));
    client.batch_execute(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
}

/// Below those that the system gives to connections: while the server is down nobody else gets its
/// port, nor does a client that tries it again and again at last meet itself there.
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

/// Where the newest server's programs are.
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

/// The user and group that the server runs as when this process is root's.
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
