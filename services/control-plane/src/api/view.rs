//! Exports and runs as callers see them. Pure: the time is passed in.

use tracelift_core::{
    destination::Bucket,
    file::{FileIntent, HydrationMiss},
    layout::Layout,
    task::{Progress, State, Task},
    time::Timestamp,
};
use tracelift_proto::{time_to, v1};

use crate::store::{ExportView, RunView};

/// An export with its progress.
pub(crate) fn export(view: &ExportView, now: Timestamp) -> v1::Export {
    let reconciliation = view.reconciled.map(|(rows_in_source, at)| v1::Reconciliation {
        rows_exported: view.rows,
        rows_in_source,
        reconciled_at: Some(time_to(at)),
        rows_undecided: view.undecided,
        rows_decided_against: view.decided_against,
    });
    v1::Export {
        progress: Some(progress(view, now)),
        reconciliation,
        read_at: view.read_at.map(time_to),
        window_open: view.window_open,
        ..(&view.export).into()
    }
}

fn progress(view: &ExportView, now: Timestamp) -> v1::ExportProgress {
    let estimate = estimate(view);
    v1::ExportProgress {
        runs_total: view.runs_total,
        runs_completed: view.runs_completed,
        rows_written: view.rows,
        bytes_written: view.bytes,
        files_written: view.files,
        rows_total_estimate: estimate,
        eta_seconds: estimate.and_then(|rows| eta(view, rows, now)),
        rows_undecided: view.undecided,
    }
}

/// Estimated rows of the whole export: the rows counted so far, scaled up to all partitions.
fn estimate(view: &ExportView) -> Option<u64> {
    let (rows, counted, total) =
        (view.rows_counted, u64::from(view.runs_counted), u64::from(view.runs_total));
    let scaled = rows.checked_mul(total)?.checked_div(counted)?;
    Some(scaled.max(view.rows))
}

/// Seconds until the remaining rows are written at the mean speed so far; `None` while there is no
/// such speed, and after the end.
fn eta(view: &ExportView, rows_total: u64, now: Timestamp) -> Option<u64> {
    if view.export.status.ended() {
        return None;
    }
    let seconds = u64::try_from(now.seconds_since(view.started_at?)).ok()?.max(1);
    let rows_since = view.rows.saturating_sub(view.rows_before);
    (rows_total.saturating_sub(view.rows) * seconds).checked_div(rows_since)
}

/// A run with its result and progress.
pub(crate) fn run(view: &RunView) -> v1::ExportRun {
    let RunView { task: run, export, bucket, reported, .. } = view;
    let partition = run.kind.partition();
    let window = partition.map_or(export.spec.window, |partition| partition.window);
    v1::ExportRun {
        id: run.id.to_string(),
        export_id: run.export.to_string(),
        session_id: partition.map(|partition| partition.session.to_string()).unwrap_or_default(),
        status: v1::RunStatus::from(run.status()).into(),
        retry_number: run.attempt,
        errors: newest(&run.errors),
        created_at: Some(time_to(run.created_at)),
        updated_at: Some(time_to(run.updated_at)),
        finished_at: run.finished_at().map(time_to),
        start_time: Some(time_to(window.start())),
        end_time: Some(time_to(window.end())),
        prefix: bucket.prefix.clone(),
        result: result(view),
        stage: stage(run, reported).to_owned(),
        progress: Some(run_progress(run, reported)),
        exporter_id: view.exporter.clone().unwrap_or_default(),
    }
}

fn result(view: &RunView) -> Option<v1::RunResult> {
    let RunView { task: run, export, bucket, keys, .. } = view;
    if run.totals.files == 0 && run.intent.is_none() && !matches!(run.state, State::Completed(_)) {
        return None;
    }
    let layout = Layout {
        prefix: &bucket.prefix,
        export: run.export,
        tenant: run.tenant,
        version: export.spec.format_version,
        format: export.spec.format,
    };
    let path = run.kind.partition().map_or_else(
        || layout.export_path(export.spec.projects),
        |part| layout.project_path(part.session),
    );
    Some(v1::RunResult {
        rows_written: run.totals.rows,
        bytes_written: run.totals.bytes,
        exported_files: first(keys.iter().map(|key| format!("{}/{key}", bucket.name))),
        files: run.totals.files,
        export_path: format!("{}/{}", bucket.name, path),
        latest_cursor: run.cursor.map(|cursor| cursor.to_string()).unwrap_or_default(),
        hydrated_objects: run.totals.hydrated_objects,
        hydration_misses: run.totals.hydration_misses,
        pending_upload: run.intent.as_ref().map(|intent| pending(bucket, intent)),
        undecided: run.totals.undecided,
        decided_against: run.totals.decided_against,
        undecided_fields: run.undecided.iter().take(MAX_UNDECIDED_FIELDS).map(undecided).collect(),
    })
}

/// Most fields named in a run's result; its manifest names more.
const MAX_UNDECIDED_FIELDS: usize = 100;

fn undecided(field: &HydrationMiss) -> v1::UndecidedField {
    v1::UndecidedField {
        id: field.row_id.to_string(),
        column: field.column.clone(),
        reason: field.reason.clone(),
    }
}

/// Most bytes of files, and of errors, shown with a run, so that a run always fits into a page.
const SHOWN_BYTES: usize = 1 << 20;

/// The first files, as many as fit.
fn first(files: impl Iterator<Item = String>) -> Vec<String> {
    let mut room = SHOWN_BYTES;
    files
        .take_while(|file| room.checked_sub(file.len()).map(|left| room = left).is_some())
        .collect()
}

/// The errors in their order; if they do not all fit, the oldest are left empty.
fn newest(errors: &[String]) -> Vec<String> {
    let mut room = SHOWN_BYTES;
    let shown = errors.iter().rev().map(|error| {
        room = room.saturating_sub(error.len());
        if room > 0 { error.clone() } else { String::new() }
    });
    let mut shown: Vec<_> = shown.collect();
    shown.reverse();
    shown
}

fn pending(bucket: &Bucket, intent: &FileIntent) -> v1::PendingUpload {
    let whole = intent.whole.as_ref();
    v1::PendingUpload {
        target_cursor: whole.map(|file| file.cursor.to_string()).unwrap_or_default(),
        file_path: format!("{}/{}", bucket.name, intent.key),
        rows_count: whole.map_or(0, |file| file.rows),
    }
}

fn stage<'a>(run: &Task, reported: &'a Progress) -> &'a str {
    match run.state {
        State::Leased(_) => &reported.stage,
        State::Queued { .. } if run.attempt > 0 => "waiting to be tried again",
        State::Queued { .. } => "queued",
        State::Completed(_) => "completed",
        State::Failed(_) => "failed",
        State::Cancelled(_) => "cancelled",
        State::TimedOut(_) => "timed out",
    }
}

fn run_progress(run: &Task, reported: &Progress) -> v1::RunProgress {
    let [read, hydrate, encode, upload] = reported.stage_seconds;
    v1::RunProgress {
        rows: reported.rows.max(run.totals.rows),
        bytes: reported.bytes.max(run.totals.bytes),
        files: run.totals.files,
        rows_estimate: reported.rows_estimate,
        hydrated_objects: reported.hydrated_objects.max(run.totals.hydrated_objects),
        hydration_misses: reported.hydration_misses.max(run.totals.hydration_misses),
        stage_seconds: Some(v1::StageSeconds { read, hydrate, encode, upload }),
    }
}

#[cfg(test)]
mod tests {
    use tracelift_core::{
        column::Columns,
        export::{Compression, ExportSpec, FileFormat, FormatVersion, Projects},
        id::{DestinationId, SessionId, TenantId},
        time::Window,
    };
    use uuid::Uuid;

    use super::*;
    use crate::planning::planned;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::EPOCH.plus_seconds(seconds)
    }

    /// Half of 200 rows are written, after a hundred seconds of work.
    fn half_done() -> ExportView {
        let spec = ExportSpec {
            destination: DestinationId(Uuid::nil()),
            projects: Projects::One(SessionId(Uuid::nil())),
            window: Window::new(at(0), at(60)).unwrap(),
            every: None,
            filter: None,
            compression: Compression::default(),
            format: FileFormat::default(),
            format_version: FormatVersion::default(),
            columns: Columns::parse("export_fields", &[] as &[&str]).unwrap(),
        };
        let (export, runs) = planned(TenantId(Uuid::nil()), spec, None, at(0));
        let view = ExportView::planned(export, &runs);
        ExportView {
            rows: 100,
            runs_counted: 1,
            rows_counted: 200,
            started_at: Some(at(0)),
            ..view
        }
    }

    #[test]
    fn a_run_is_shown_with_as_many_files_and_errors_as_fit() {
        let text = |n: usize| format!("{n:0>1000}");
        let files = first((0..2000).map(text));
        assert_eq!((files.len(), files.last()), (1048, Some(&text(1047))));
        let errors = newest(&(0..2000).map(text).collect::<Vec<_>>());
        assert_eq!(
            (errors.len(), errors.iter().position(|error| !error.is_empty())),
            (2000, Some(952))
        );
        assert_eq!(errors[1999], text(1999), "each stands in its place");
        assert_eq!(newest(&["a".to_owned()]), ["a"]);
    }

    #[test]
    fn what_waits_has_no_time_of_its_end_and_a_retry_is_judged_by_its_own_speed() {
        let eta = |view: ExportView, now| progress(&view, at(now)).eta_seconds;
        assert_eq!(eta(half_done(), 100), Some(100));
        assert_eq!(
            eta(ExportView { started_at: None, ..half_done() }, 100),
            None,
            "nobody works on it"
        );
        let anew = ExportView { started_at: Some(at(1000)), rows_before: 80, ..half_done() };
        assert_eq!(eta(anew.clone(), 1100), Some(500), "20 rows in 100 seconds");
        assert_eq!(eta(ExportView { rows_before: 100, ..anew }, 1100), None, "nothing new yet");
    }
}
