//! The trace: one line per event, with the virtual time. The same seed gives the same lines.

use std::{
    collections::VecDeque,
    fmt::Write as _,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use sha2::{Digest as _, Sha256};
use tracing_subscriber::fmt::MakeWriter;

/// How many lines are kept for the report of a violation.
const KEPT: usize = 120;

#[derive(Default)]
struct Lines {
    digest: Sha256,
    count: u64,
    last: VecDeque<String>,
    echo: bool,
    violations: Vec<String>,
}

/// The trace of one world.
#[derive(Clone, Default)]
pub struct Trace(Arc<Mutex<Lines>>);

impl Trace {
    /// A trace that prints its lines if `echo` is set.
    pub fn new(echo: bool) -> Self {
        let trace = Self::default();
        trace.lock().echo = echo;
        trace
    }

    fn lock(&self) -> MutexGuard<'_, Lines> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records a line. Within a host it has the host's time; elsewhere the caller must include the
    /// time.
    pub fn line(&self, text: impl std::fmt::Display) {
        let at = turmoil::sim_elapsed().map(|at| at.as_millis());
        let line = at.map_or_else(
            || format!("{text}\n"),
            |at| format!("{:>7}.{:03} {text}\n", at / 1000, at % 1000),
        );
        let mut lines = self.lock();
        lines.digest.update(&line);
        lines.count += 1;
        if lines.echo {
            eprint!("{line}");
        }
        if lines.last.len() == KEPT {
            lines.last.pop_front();
        }
        lines.last.push_back(line);
    }

    /// Records a violated invariant.
    pub fn violation(&self, text: impl std::fmt::Display) {
        self.line(format_args!("VIOLATION {text}"));
        self.lock().violations.push(text.to_string());
    }

    /// Every violation so far.
    pub fn violations(&self) -> Vec<String> {
        self.lock().violations.clone()
    }

    /// The SHA-256 of all lines, and their number.
    pub fn digest(&self) -> (String, u64) {
        let lines = self.lock();
        let digest = lines.digest.clone().finalize();
        let hex = digest.iter().fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        });
        (hex, lines.count)
    }

    /// The last lines.
    pub fn last(&self) -> String {
        self.lock().last.iter().cloned().collect()
    }
}

/// Captures the services' own log lines.
pub struct Line {
    trace: Trace,
    text: Vec<u8>,
}

impl io::Write for Line {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.text.extend_from_slice(data);
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.trace.line(String::from_utf8_lossy(&self.text).trim_end());
    }
}

impl MakeWriter<'_> for Trace {
    type Writer = Line;

    fn make_writer(&self) -> Line {
        Line { trace: self.clone(), text: Vec::new() }
    }
}
