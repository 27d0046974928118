//! Output of a watch: a progress bar on a terminal, lines otherwise, JSON for scripts.

use std::{
    io::{self, IsTerminal as _, Write as _},
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tracelift_proto::v1;

use crate::{json, show};

/// Minimum interval between plain lines, unless the status changes.
const LINE_EVERY: Duration = Duration::from_secs(1);

/// Shows an export as it changes.
#[derive(Debug)]
pub(super) struct View {
    form: Form,
    changes: u64,
    pace: Pace,
}

#[derive(Debug)]
enum Form {
    Bar(ProgressBar),
    Lines { last: Option<(Instant, v1::ExportStatus)> },
    Json,
}

impl View {
    pub(super) fn new(json: bool) -> Self {
        let form = if json {
            Form::Json
        } else if io::stdout().is_terminal() && io::stderr().is_terminal() {
            Form::Bar(bar())
        } else {
            Form::Lines { last: None }
        };
        Self { form, changes: 0, pace: Pace::default() }
    }

    /// The number of changes shown.
    pub(super) fn changes(&self) -> u64 {
        self.changes
    }

    pub(super) fn change(&mut self, export: &v1::Export) -> io::Result<()> {
        self.changes += 1;
        let now = Instant::now();
        let progress = export.progress.unwrap_or_default();
        let rate = self.pace.rate(now, progress.rows_written);
        match &mut self.form {
            Form::Json => write(&json::export(export).to_string()),
            Form::Lines { last } => {
                let due = last.is_none_or(|(at, status)| {
                    status != export.status() || now.duration_since(at) >= LINE_EVERY
                });
                if !due {
                    return Ok(());
                }
                *last = Some((now, export.status()));
                write(&line(export, rate))
            }
            Form::Bar(bar) => {
                bar.set_length(
                    progress
                        .rows_total_estimate
                        .unwrap_or_default()
                        .max(progress.rows_written)
                        .max(1),
                );
                bar.set_position(progress.rows_written);
                bar.set_message(line(export, rate));
                Ok(())
            }
        }
    }

    /// Prints a note between changes.
    pub(super) fn note(&self, text: &str) {
        match &self.form {
            Form::Bar(bar) => bar.println(text),
            Form::Lines { .. } | Form::Json => eprintln!("{text}"),
        }
    }

    /// Removes the progress bar from the terminal.
    pub(super) fn clear(&self) {
        if let Form::Bar(bar) = &self.form {
            bar.finish_and_clear();
        }
    }

    /// Prints the final state; lines and JSON have already shown it.
    pub(super) fn end(&mut self, export: &v1::Export) -> io::Result<()> {
        if let Form::Bar(_) = self.form {
            write(&line(
                export,
                self.pace.rate(Instant::now(), export.progress.unwrap_or_default().rows_written),
            ))?;
        }
        if !export.error.is_empty() {
            eprintln!("error: {}", show::plain(&export.error));
        }
        Ok(())
    }
}

fn bar() -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(1), ProgressDrawTarget::stderr());
    if let Ok(style) = ProgressStyle::with_template("[{bar:20}] {wide_msg}") {
        bar.set_style(style.progress_chars("=> "));
    }
    bar
}

fn write(line: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}

/// Rows per second since the first change seen; `None` during the first second, when the rate would
/// mean little.
#[derive(Debug, Default)]
struct Pace {
    first: Option<(Instant, u64)>,
}

impl Pace {
    #[allow(clippy::cast_precision_loss, reason = "a rate for people")]
    fn rate(&mut self, now: Instant, rows: u64) -> Option<f64> {
        let (at, first) = *self.first.get_or_insert((now, rows));
        let seconds = now.duration_since(at).as_secs_f64();
        (seconds >= 1.0 && rows > first).then(|| (rows - first) as f64 / seconds)
    }
}

/// `Running  1,000 of ~3,000 rows (33%)  120.56 KiB  2 files  runs 1/3  500 rows/s  ETA 4s`
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a rate is positive and smaller than 2^64"
)]
fn line(export: &v1::Export, rate: Option<f64>) -> String {
    if export.status() == v1::ExportStatus::IntervalScheduled {
        let every = export.spec.as_ref().map_or(0, |spec| spec.interval_hours);
        return format!("{}  an export every {every}h", export.status().word());
    }
    let progress = export.progress.unwrap_or_default();
    let total = show::total(&progress);
    let percent =
        total.map(|total| format!(" ({}%)", progress.rows_written.saturating_mul(100) / total));
    let mut parts = vec![
        export.status().word().to_owned(),
        format!("{} rows{}", show::rows(&progress), percent.unwrap_or_default()),
        show::bytes(progress.bytes_written),
        show::counted(progress.files_written.into(), "file"),
        format!("runs {}/{}", progress.runs_completed, progress.runs_total),
    ];
    parts.extend(rate.map(|rate| format!("{} rows/s", show::count(rate.round() as u64))));
    parts.extend(progress.eta_seconds.map(|seconds| format!("ETA {}", show::seconds(seconds))));
    parts.join("  ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_what_is_known() {
        let mut export =
            v1::Export { status: v1::ExportStatus::Created.into(), ..Default::default() };
        let mut lines = vec![line(&export, None)];
        export.status = v1::ExportStatus::Running.into();
        export.progress = Some(v1::ExportProgress {
            runs_total: 3,
            runs_completed: 1,
            rows_written: 100_000,
            bytes_written: 52_428_800,
            files_written: 1,
            rows_total_estimate: Some(300_000),
            eta_seconds: Some(65),
            rows_undecided: 0,
        });
        lines.push(line(&export, Some(12_345.6)));
        export.status = v1::ExportStatus::Completed.into();
        export.progress = export.progress.map(|progress| v1::ExportProgress {
            rows_total_estimate: Some(0),
            eta_seconds: None,
            ..progress
        });
        lines.push(line(&export, None));
        insta::assert_snapshot!(lines.join("\n"));
    }

    #[test]
    fn the_rate_is_that_since_the_first_change() {
        let (mut pace, start) = (Pace::default(), Instant::now());
        assert_eq!(pace.rate(start, 100), None);
        assert_eq!(pace.rate(start + Duration::from_secs(2), 1100), Some(500.0));
        assert_eq!(pace.rate(start + Duration::from_secs(4), 100), None);
    }
}
