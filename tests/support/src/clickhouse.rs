//! The embedded ClickHouse server, as a child process that dies with its parent.

use std::{
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use clickhouse::{Client, Compression};

use crate::{python, repository};

/// Timeout for a killed query to end: hundreds of times what it takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running server.
pub struct ClickHouse {
    child: Child,
    pub url: String,
    profile: PathBuf,
}

impl ClickHouse {
    /// Starts a server on `path` and a port, where 0 picks a free one. Returns an error message on
    /// failure.
    pub fn start(path: &Path, port: u16) -> Result<Self, String> {
        let mut child =
            command(path, port).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().map_err(
                |error| {
                    format!("{} cannot be started: {error}; run `make install`", python().display())
                },
            )?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("piped"))
            .read_line(&mut line)
            .map_err(|error| error.to_string())?;
        match line.trim().strip_prefix("listening on ") {
            Some(url) => Ok(Self { child, url: url.to_owned(), profile: profile(path) }),
            None => Err("the embedded ClickHouse did not start".to_owned()),
        }
    }

    /// Sets the default query settings of the server's only user.
    pub fn set_profile(&self, settings: &[(&str, &str)]) {
        let settings: serde_json::Map<_, _> =
            settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).into())).collect();
        std::fs::write(&self.profile, serde_json::Value::Object(settings).to_string())
            .expect("a profile");
    }

    /// A client of the default database.
    pub fn client(&self) -> Client {
        client(&self.url)
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Runs statements one after another.
    pub async fn execute(&self, sql: &str) {
        for statement in sql.split(";\n").map(str::trim).filter(|statement| !statement.is_empty()) {
            self.client().query_raw(statement).execute().await.expect(statement);
        }
    }

    /// The number of running queries whose id has this prefix.
    pub async fn running(&self, prefix: &str) -> usize {
        let all: Vec<String> = self
            .client()
            .query_raw("SELECT query_id FROM system.processes")
            .fetch_all()
            .await
            .expect("processes");
        all.iter().filter(|id| id.starts_with(prefix)).count()
    }

    /// Waits until no such query is running: ClickHouse ends a query a moment after it was killed.
    /// Panics if one does not end.
    pub async fn ended(&self, prefix: &str) {
        let ended = async { while self.running(prefix).await > 0 {} };
        tokio::time::timeout(PATIENCE, ended).await.expect("every query ends that was killed");
    }

    /// Kills the server.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for ClickHouse {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A client of a server's default database.
pub fn client(url: &str) -> Client {
    Client::default().with_url(url).with_database("default").with_compression(Compression::None)
}

/// The server command, which prints `listening on` and its address once it accepts requests, and
/// exits when its parent does.
pub fn command(path: &Path, port: u16) -> Command {
    let mut command = Command::new(python());
    command.arg(repository().join("tests/support/clickhouse/server.py")).args([
        "--die-with-parent",
        "--port",
        &port.to_string(),
    ]);
    command
        .arg("--path")
        .arg(path)
        .arg("--profile")
        .arg(profile(path))
        .arg("--schema")
        .arg(repository().join("deploy/clickhouse/schema.sql"));
    command
}

/// The path of the user's settings profile.
fn profile(path: &Path) -> PathBuf {
    path.with_extension("profile.json")
}
