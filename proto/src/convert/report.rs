//! fleet.proto: reports and progress.

use tracelift_core::{
    Invalid,
    file::File,
    id::TaskId,
    plan::{Experiment, MAX_PARTITIONS},
    task::{Fence, Progress, Report, TaskReport},
};

use super::{
    fleet::{plausible, under},
    required,
};
use crate::{
    fleet::v1::{self, report::Event as Wire},
    v1::{RunProgress, StageSeconds},
};

impl From<&TaskReport> for v1::Report {
    fn from(report: &TaskReport) -> Self {
        let event = match &report.report {
            Report::FileIntent(intent) => Wire::FileIntent(intent.into()),
            Report::FileDone(file) => Wire::FileDone(file.into()),
            Report::Finished(finished) => Wire::Finished(finished.into()),
            Report::Published => Wire::Published(v1::Published {}),
            Report::Failed(failure) => Wire::Failed(failure.into()),
            Report::HandedBack => Wire::HandedBack(v1::HandedBack {}),
            Report::CleanedUp { adopted } => {
                Wire::CleanedUp(v1::CleanedUp { adopted: adopted.as_deref().map(Into::into) })
            }
            Report::Counted { rows } => Wire::Counted(v1::Counted { rows: *rows }),
            Report::ExperimentsFound(found) => Wire::ExperimentsFound(v1::ExperimentsFound {
                experiments: found.iter().map(Into::into).collect(),
            }),
        };
        Self {
            task_id: report.task.to_string(),
            fence: report.fence.0,
            seq: report.seq,
            event: Some(event),
        }
    }
}

impl TryFrom<&v1::Report> for TaskReport {
    type Error = Invalid;

    fn try_from(report: &v1::Report) -> Result<Self, Invalid> {
        let (task, fence) = under(&report.task_id, report.fence)?;
        let event = match required("event", report.event.as_ref())? {
            Wire::FileIntent(intent) => Report::FileIntent(intent.try_into()?),
            Wire::FileDone(file) => Report::FileDone(file.try_into()?),
            Wire::Finished(finished) => Report::Finished(finished.try_into()?),
            Wire::Published(_) => Report::Published,
            Wire::Failed(failure) => Report::Failed(failure.try_into()?),
            Wire::HandedBack(_) => Report::HandedBack,
            Wire::CleanedUp(done) => Report::CleanedUp {
                adopted: done.adopted.as_ref().map(File::try_from).transpose()?.map(Box::new),
            },
            Wire::Counted(counted) => {
                plausible("rows", [counted.rows])?;
                Report::Counted { rows: counted.rows }
            }
            Wire::ExperimentsFound(found) => {
                Report::ExperimentsFound(experiments(&found.experiments)?)
            }
        };
        Ok(Self { task, fence, seq: report.seq, report: event })
    }
}

/// Converts the experiments found. One more than an export may have stands for any larger number.
fn experiments(found: &[v1::Experiment]) -> Result<Vec<Experiment>, Invalid> {
    if found.len() > MAX_PARTITIONS + 1 {
        let message = format!("must name at most {}", MAX_PARTITIONS + 1);
        return Err(Invalid::new("experiments", message));
    }
    found.iter().map(Experiment::try_from).collect()
}

/// Maximum characters of a stage; the rest is cut off.
const MAX_STAGE: usize = 64;

impl From<(TaskId, Fence, &Progress)> for v1::Progress {
    fn from((task, fence, progress): (TaskId, Fence, &Progress)) -> Self {
        Self {
            task_id: task.to_string(),
            fence: fence.0,
            stage: progress.stage.clone(),
            progress: Some(progress.into()),
        }
    }
}

impl From<&Progress> for RunProgress {
    fn from(progress: &Progress) -> Self {
        let [read, hydrate, encode, upload] = progress.stage_seconds;
        Self {
            rows: progress.rows,
            bytes: progress.bytes,
            files: progress.files,
            rows_estimate: progress.rows_estimate,
            hydrated_objects: progress.hydrated_objects,
            hydration_misses: progress.hydration_misses,
            stage_seconds: Some(StageSeconds { read, hydrate, encode, upload }),
        }
    }
}

impl TryFrom<&v1::Progress> for (TaskId, Fence, Progress) {
    type Error = Invalid;

    fn try_from(message: &v1::Progress) -> Result<Self, Invalid> {
        let (task, fence) = under(&message.task_id, message.fence)?;
        let said = message.progress.unwrap_or_default();
        let seconds = said.stage_seconds.unwrap_or_default();
        let stage_seconds = [seconds.read, seconds.hydrate, seconds.encode, seconds.upload];
        let estimate = said.rows_estimate.unwrap_or_default();
        plausible(
            "progress",
            [said.rows, said.bytes, estimate, said.hydrated_objects, said.hydration_misses],
        )?;
        if !stage_seconds.iter().all(|seconds| seconds.is_finite()) {
            // JSON cannot represent others.
            return Err(Invalid::new("progress.stage_seconds", "must be finite numbers"));
        }
        let progress = Progress {
            stage: message.stage.chars().take(MAX_STAGE).collect(),
            rows: said.rows,
            bytes: said.bytes,
            files: said.files,
            rows_estimate: said.rows_estimate,
            hydrated_objects: said.hydrated_objects,
            hydration_misses: said.hydration_misses,
            stage_seconds,
        };
        Ok((task, fence, progress))
    }
}
