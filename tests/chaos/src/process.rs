//! A program as a child process, and the watch that kills all of them when this process ends.

use std::{
    collections::BTreeMap,
    fs,
    io::Write as _,
    os::unix::process::CommandExt as _,
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
};

/// A program that can be restarted; its output is appended to one file.
pub(crate) struct Process {
    command: Box<dyn Fn() -> Command + Send + Sync>,
    log: PathBuf,
    child: Option<Child>,
}

impl Process {
    pub(crate) fn new(log: PathBuf, command: impl Fn() -> Command + Send + Sync + 'static) -> Self {
        Self { command: Box::new(command), log, child: None }
    }

    pub(crate) fn start(&mut self) {
        let log = fs::File::options().create(true).append(true).open(&self.log).expect("a log");
        let mut command = (self.command)();
        // Ctrl-C is for the harness only, which stops the others itself.
        command
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log"))
            .stderr(log);
        let child = command.spawn();
        self.child = Some(child.unwrap_or_else(|error| {
            panic!("{command:?} cannot be started: {error}; run `make build`")
        }));
    }

    pub(crate) fn id(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    pub(crate) fn signal(&self, name: &str) {
        if let Some(id) = self.id() {
            let status = Command::new("kill")
                .arg(format!("-{name}"))
                .arg(id.to_string())
                .stderr(Stdio::null())
                .status();
            status.expect("kill"); // it may just have exited by itself
        }
    }

    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill(); // it may just have exited by itself
            child.wait().expect("a child of this process");
        }
    }

    /// The exit status, returned once.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        let status = self.child.as_mut()?.try_wait().expect("a child of this process")?;
        self.child = None;
        Some(status)
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Reads lists of process ids, and kills those on the last list when its input closes: when this
/// process ends, however that happens.
const WATCH: &str =
    r#"while read -r line; do ids=$line; done; [ -z "$ids" ] || kill -KILL $ids 2>/dev/null"#;

pub(crate) struct Watch {
    child: Child,
    told: BTreeMap<usize, u32>,
}

impl Watch {
    pub(crate) fn start() -> Self {
        let child = Command::new("sh")
            .args(["-c", WATCH])
            .stdin(Stdio::piped())
            .process_group(0)
            .spawn()
            .expect("sh");
        Self { child, told: BTreeMap::new() }
    }

    /// Records the process of a part, or that it has none.
    pub(crate) fn tell(&mut self, part: usize, id: Option<u32>) {
        match id {
            Some(id) => self.told.insert(part, id),
            None => self.told.remove(&part),
        };
        let ids: Vec<_> = self.told.values().map(u32::to_string).collect();
        writeln!(self.child.stdin.as_ref().expect("piped"), "{}", ids.join(" "))
            .expect("the watch listens");
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}
