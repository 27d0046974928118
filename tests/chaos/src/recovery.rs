//! Measures the time from killing the busiest exporter until one of its runs makes progress
//! elsewhere.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::{Instant, sleep};
use tracelift_proto::v1::{ExportRun, RunStatus};

use crate::{caller::Caller, fleet::Fleet, parts, plan::Action, plan::Role};

const POLL: Duration = Duration::from_millis(50);
/// How long it takes until the last reports of a killed exporter are stored.
const SETTLED: Duration = Duration::from_millis(300);
/// Timeout for work to start, and for it to continue after the kill.
const PATIENCE: Duration = Duration::from_secs(30);

/// Rows and bytes in a run's complete files, and rows in files being written.
type Written = [u64; 3];

fn written(run: &ExportRun) -> Written {
    let (rows, bytes) =
        run.result.as_ref().map_or((0, 0), |result| (result.rows_written, result.bytes_written));
    [rows, bytes, run.progress.as_ref().map_or(0, |progress| progress.rows.saturating_sub(rows))]
}

/// Kills the busiest of `exporters` exporters as soon as one is busy. Returns how long its runs
/// stood still, if any continued. The exporter stays down.
pub(crate) async fn measure(
    fleet: &mut Fleet,
    caller: &Caller,
    exporters: usize,
) -> Option<(usize, Option<Duration>)> {
    let (number, held) = busiest(caller, exporters).await?;
    let part = fleet.find(Role::Exporter, number);
    fleet.harm(part, Action::Kill).await;
    let killed = Instant::now();
    println!("    {} killed, which held {} runs", fleet.name(part), held.len());
    sleep(SETTLED).await;
    Some((part, moved(caller, &held, killed).await))
}

async fn running(caller: &Caller) -> Vec<ExportRun> {
    let mut runs = Vec::new();
    for export in caller.list().await.unwrap_or_default() {
        if export.finished_at.is_none() {
            runs.extend(caller.runs(&export.id).await.unwrap_or_default());
        }
    }
    runs.retain(|run| run.status() == RunStatus::Running);
    runs
}

async fn busiest(caller: &Caller, exporters: usize) -> Option<(usize, Vec<ExportRun>)> {
    let began = Instant::now();
    while began.elapsed() < PATIENCE {
        let mut held: BTreeMap<usize, Vec<ExportRun>> = BTreeMap::new();
        for run in running(caller).await {
            let number =
                (0..exporters).find(|number| parts::exporter_id(*number) == run.exporter_id);
            if let Some(number) = number.filter(|_| run.stage != "queued" && written(&run)[2] > 0) {
                held.entry(number).or_default().push(run);
            }
        }
        if let Some(most) = held.into_iter().max_by_key(|(_, runs)| runs.len()) {
            return Some(most);
        }
        sleep(POLL).await;
    }
    None
}

async fn moved(caller: &Caller, held: &[ExportRun], killed: Instant) -> Option<Duration> {
    let mut last: BTreeMap<String, Written> = BTreeMap::new();
    while killed.elapsed() < PATIENCE {
        for export in
            held.iter().map(|run| &run.export_id).collect::<std::collections::BTreeSet<_>>()
        {
            for run in caller.runs(export).await.unwrap_or_default() {
                if !held.iter().any(|held| held.id == run.id) {
                    continue;
                }
                let now = written(&run);
                let before = last.insert(run.id.clone(), now);
                // The next exporter resumes after the last complete file, so the rows in files
                // being written may decrease; only an increase counts as progress.
                let more = before.is_some_and(|before| {
                    before.iter().zip(&now).any(|(before, now)| now > before)
                });
                if more {
                    return Some(killed.elapsed());
                }
            }
        }
        sleep(POLL).await;
    }
    None
}
