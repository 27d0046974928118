//! What an exporter says of its runs, and what it is answered: a report is acknowledged once it is
//! stored.

use std::{collections::HashMap, time::Duration};

use tokio::time::Instant;
use tonic::Status;
use tracelift_core::{
    Invalid,
    failure::{Failure, FailureClass, Step},
    file::{File, FileIntent},
    id::RunId,
    plan::{Experiment, MAX_PARTITIONS},
    run::{Event, Fence, Finished, IllegalEvent, Run},
};
use tracelift_proto::{
    fleet::v1::{self, connect_request::Message as Said, connect_response::Message as Answer},
    under,
};

use super::{End, Session, assignment::publish, held, with_verdicts};
use crate::store::{Heard, ReportError, Reported};

impl Session {
    pub(super) async fn hear(&mut self, said: Said) -> Result<(), End> {
        match said {
            Said::Hello(_) => {
                Err(End::Refused(Status::failed_precondition("hello was said already")))
            }
            Said::Heartbeat(heartbeat) => self.heartbeat(heartbeat).await,
            Said::Accepted(accepted) => {
                tracing::debug!(run = accepted.run_id, "run accepted");
                Ok(())
            }
            Said::Declined(declined) => {
                tracing::info!(run = declined.run_id, reason = declined.reason, "run declined");
                self.report(under(&declined.run_id, declined.fence)?, Event::Declined, None).await
            }
            Said::Progress(progress) => self.progress(progress).await,
            Said::FileIntent(intent) => {
                let event = Event::FileIntent(FileIntent::try_from(&intent)?);
                self.report(under(&intent.run_id, intent.fence)?, event, Some(intent.seq)).await
            }
            Said::FileDone(done) => {
                let file = done.file.as_ref().ok_or_else(|| Invalid::new("file", "is required"))?;
                plausible(
                    "file",
                    [file.rows, file.bytes, file.hydrated_objects, file.hydration_misses],
                )?;
                file.oversized
                    .values()
                    .try_for_each(|count| plausible("file.oversized", [*count]))?;
                file.left_out.iter().try_for_each(|rows| {
                    plausible("file.left_out", [rows.undecided, rows.decided_against])
                })?;
                let event = Event::FileDone(File::try_from(file)?);
                self.report(under(&done.run_id, done.fence)?, event, Some(done.seq)).await
            }
            Said::RunFinished(finished) => self.finished(finished).await,
            Said::RunPublished(published) => {
                self.report(
                    under(&published.run_id, published.fence)?,
                    Event::Published,
                    Some(published.seq),
                )
                .await
            }
            Said::RunFailed(failed) => {
                let failure = failed
                    .failure
                    .as_ref()
                    .ok_or_else(|| Invalid::new("failure", "is required"))?;
                let failure = Failure::try_from(failure)?;
                tracing::warn!(run = failed.run_id, %failure, "run failed");
                let event = Event::Failed { failure, max_retries: self.terms.max_retries };
                self.report(under(&failed.run_id, failed.fence)?, event, Some(failed.seq)).await
            }
            Said::CleanedUp(cleaned) => {
                let adopted =
                    cleaned.adopted.as_ref().map(File::try_from).transpose()?.map(Box::new);
                self.report(
                    under(&cleaned.run_id, cleaned.fence)?,
                    Event::CleanedUp { adopted },
                    Some(cleaned.seq),
                )
                .await
            }
            Said::ExperimentsFound(found) => {
                let event = Event::ExperimentsFound(experiments(&found.experiments)?);
                self.report(under(&found.run_id, found.fence)?, event, Some(found.seq)).await
            }
            Said::Counted(counted) => {
                plausible("rows", [counted.rows])?;
                let about = under(&counted.run_id, counted.fence)?;
                match self
                    .heard(about, Event::Counted { rows: counted.rows }, Some(counted.seq))
                    .await?
                {
                    Some(run) => {
                        self.compare(&run).await?;
                        self.assign().await
                    }
                    None => Ok(()),
                }
            }
            Said::HandedBack(back) => {
                self.report(under(&back.run_id, back.fence)?, Event::HandedBack, Some(back.seq))
                    .await
            }
        }
    }

    async fn heartbeat(&mut self, heartbeat: v1::Heartbeat) -> Result<(), End> {
        if let Some(capacity) = heartbeat.capacity {
            self.capacity = capacity.runs;
        }
        let now = self.store.now().await?;
        let verdicts = self.store.heartbeat(self.lease(now), held(&heartbeat.held)?, now).await?;
        self.send(Answer::HeartbeatReply(v1::HeartbeatReply {
            verdicts: with_verdicts(heartbeat.held, verdicts),
        }))
        .await?;
        // A slot is free too when its lease has lapsed, or when the exporter can do more than
        // before.
        if self.room { Ok(()) } else { self.assign().await }
    }

    async fn progress(&mut self, progress: v1::Progress) -> Result<(), End> {
        let (run, fence) = under(&progress.run_id, progress.fence)?;
        // Never so rarely that a run would seem to stand still.
        let interval = self
            .desk
            .progress_interval()
            .min(Duration::from_secs(u64::from(self.terms.progress_seconds / 3)));
        if !is_due(&mut self.progress_due, run, interval, Instant::now()) {
            return Ok(()); // the next one says this too
        }
        match self.store.progress(run, fence, reported(progress)?, self.store.now().await?).await? {
            Heard::Yes(_) => Ok(()),
            Heard::Stale => self.refuse(run, fence).await,
        }
    }

    /// All files are done: past the commit point, or a fault of ours when the rows do not add up.
    async fn finished(&mut self, finished: v1::RunFinished) -> Result<(), End> {
        let (run, fence) = under(&finished.run_id, finished.fence)?;
        let rest =
            finished.rest.as_ref().map_or([0, 0], |rest| [rest.undecided, rest.decided_against]);
        plausible("rest", rest)?;
        let event = Event::Finished(Finished::try_from(&finished)?);
        match self
            .store
            .report(run, fence, event, self.terms.grace_seconds, self.store.now().await?)
            .await
        {
            Ok(Heard::Yes(done)) => {
                let files = self.store.files(run).await?;
                self.send(Answer::Ack(v1::Ack { seq: finished.seq })).await?;
                self.send(Answer::Publish(publish(&done, &files))).await
            }
            Ok(Heard::Stale) => self.refuse(run, fence).await,
            Err(ReportError::Illegal(error @ IllegalEvent::Totals { .. })) => {
                tracing::error!(%run, %error, "rows do not add up");
                let failure = Failure {
                    step: Step::Publish,
                    class: FailureClass::Internal,
                    detail: error.to_string(),
                };
                let event = Event::Failed { failure, max_retries: self.terms.max_retries };
                self.report((run, fence), event, Some(finished.seq)).await?;
                self.refuse(run, fence).await
            }
            Err(ReportError::Illegal(error)) => Err(out_of_order(&error)),
            Err(ReportError::Store(error)) => Err(error.into()),
        }
    }

    /// Stores a report. A run that has ended with it makes room for the next one.
    async fn report(
        &mut self,
        about: (RunId, Fence),
        event: Event,
        seq: Option<u64>,
    ) -> Result<(), End> {
        let calmly = matches!(event, Event::Failed { .. } | Event::Declined);
        match self.heard(about, event, seq).await? {
            Some(run) if run.lease().is_some() => Ok(()),
            // One that cannot do its runs, or has no room, does not get the next ones faster than
            // others.
            Some(_) if calmly => {
                self.room = true;
                Ok(())
            }
            Some(_) => self.assign().await,
            None => Ok(()),
        }
    }

    /// The run after a report, once it is stored and acknowledged; `None` when it is somebody
    /// else's now.
    async fn heard(
        &self,
        (run, fence): (RunId, Fence),
        event: Event,
        seq: Option<u64>,
    ) -> Result<Option<Run>, End> {
        match self
            .store
            .report(run, fence, event, self.terms.grace_seconds, self.store.now().await?)
            .await
        {
            Ok(Heard::Yes(run)) => {
                if let Some(seq) = seq {
                    self.send(Answer::Ack(v1::Ack { seq })).await?;
                }
                Ok(Some(*run))
            }
            Ok(Heard::Stale) => self.refuse(run, fence).await.map(|()| None),
            Err(ReportError::Illegal(error)) => Err(out_of_order(&error)),
            Err(ReportError::Store(error)) => Err(error.into()),
        }
    }

    /// Shows what arrived late, or is gone, after an export was completed and counted.
    async fn compare(&self, run: &Run) -> Result<(), End> {
        let Some(view) = self.store.export(run.tenant, run.export).await? else { return Ok(()) };
        let exported = view.rows + view.undecided + view.decided_against;
        let now = view.reconciled.map_or(exported, |(rows, _)| rows);
        metrics::counter!("tracelift_exports_reconciled_total").increment(1);
        metrics::counter!("tracelift_late_rows_total").increment(now.saturating_sub(exported));
        metrics::counter!("tracelift_vanished_rows_total").increment(exported.saturating_sub(now));
        if exported == now {
            tracing::debug!(export = %run.export, rows = now, "the trace store holds what was exported");
        } else {
            tracing::warn!(export = %run.export, exported, in_source = now, "the trace store does not hold what was exported any more");
        }
        Ok(())
    }

    async fn refuse(&self, run: RunId, fence: Fence) -> Result<(), End> {
        tracing::info!(%run, fence = fence.0, "stale report");
        self.send(Answer::Revoked(v1::Revoked { run_id: run.to_string(), fence: fence.0 })).await
    }
}

/// Whether a run's progress is to be stored now, and not for an interval again. Runs that began at
/// once take turns: each has a place of its own in the interval.
fn is_due(due: &mut HashMap<RunId, Instant>, run: RunId, interval: Duration, now: Instant) -> bool {
    due.retain(|_, due| *due + SILENCE > now);
    let place = f64::from(run.0.as_bytes()[15]) / 256.0;
    let due = due.entry(run).or_insert_with(|| now + interval.mul_f64(place));
    if *due > now {
        return false;
    }
    *due = now + interval;
    true
}

/// A run of which nothing was said for that long has ended, here at least.
const SILENCE: Duration = Duration::from_secs(60);

fn out_of_order(error: &IllegalEvent) -> End {
    End::Refused(Status::failed_precondition(error.to_string()))
}

/// More than one run can have of anything: sums over many runs stay within 63 bits.
const MOST: u64 = 1 << 50;

fn plausible<const N: usize>(field: &str, counts: [u64; N]) -> Result<(), Invalid> {
    if counts.into_iter().all(|count| count <= MOST) {
        Ok(())
    } else {
        Err(Invalid::new(field, "must not count more than 2^50"))
    }
}

/// What was found; one more than an export may have stands for all that are too many.
fn experiments(found: &[v1::Experiment]) -> Result<Vec<Experiment>, Invalid> {
    if found.len() > MAX_PARTITIONS + 1 {
        return Err(Invalid::new(
            "experiments",
            format!("must name at most {}", MAX_PARTITIONS + 1),
        ));
    }
    found.iter().map(Experiment::try_from).collect()
}

fn reported(progress: v1::Progress) -> Result<Reported, Invalid> {
    let said = progress.progress.unwrap_or_default();
    let spent = said.stage_seconds.unwrap_or_default();
    let stage_seconds = [spent.read, spent.hydrate, spent.encode, spent.upload];
    plausible(
        "progress",
        [
            said.rows,
            said.bytes,
            said.rows_estimate.unwrap_or_default(),
            said.hydrated_objects,
            said.hydration_misses,
        ],
    )?;
    if !stage_seconds.iter().all(|seconds| seconds.is_finite()) {
        return Err(Invalid::new("progress.stage_seconds", "must be finite numbers")); // JSON has no others
    }
    Ok(Reported {
        stage: progress.stage.chars().take(64).collect(),
        rows: said.rows,
        bytes: said.bytes,
        files: said.files,
        rows_estimate: said.rows_estimate,
        hydrated_objects: said.hydrated_objects,
        hydration_misses: said.hydration_misses,
        stage_seconds,
    })
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn progress_is_stored_once_an_interval_and_not_of_all_runs_at_once() {
        let (began, mut due) = (Instant::now(), HashMap::new());
        let mut stored = [0; 12];
        for second in 0..60 {
            let now = began + Duration::from_secs(second);
            for run in 0..256 {
                stored[second as usize / 5] += usize::from(is_due(
                    &mut due,
                    RunId(Uuid::from_u128(run)),
                    Duration::from_secs(5),
                    now,
                ));
            }
            let at_once = due.values().filter(|due| **due == now + Duration::from_secs(5)).count();
            assert!(at_once <= 52, "{at_once} of 256 in second {second}");
        }
        assert_eq!(stored[1..], [256; 11]);
        assert!(!is_due(
            &mut due,
            RunId(Uuid::from_u128(255)),
            Duration::from_secs(5),
            began + Duration::from_secs(200)
        ));
        assert_eq!(due.len(), 1, "runs that have ended are forgotten");
    }

    #[test]
    fn a_small_fleets_progress_is_stored_whenever_it_is_said() {
        let (began, mut due) = (Instant::now(), HashMap::new());
        let said = (0..3).map(|second| {
            is_due(
                &mut due,
                RunId(Uuid::max()),
                Duration::ZERO,
                began + Duration::from_secs(second),
            )
        });
        assert_eq!(said.collect::<Vec<_>>(), [true; 3]);
    }
}
