//! Handles an exporter's messages about its tasks: a report is acknowledged once it is stored.

use std::{collections::HashMap, time::Duration};

use tokio::time::Instant;
use tonic::Status;
use tracelift_core::{
    failure::{Failure, FailureClass, Step},
    id::TaskId,
    task::{Event, Fence, Finished, IllegalEvent, Report, Task, TaskReport},
};
use tracelift_proto::fleet::v1::{
    self, connect_request::Message as ExporterMessage, connect_response::Message as ControlMessage,
};

use super::{MAX_CAPACITY, Session, SessionEnd, assignment::frozen, held, with_verdicts};
use crate::store::{ReportError, ReportOutcome};

impl Session {
    pub(super) async fn handle(&mut self, message: ExporterMessage) -> Result<(), SessionEnd> {
        match message {
            ExporterMessage::Hello(_) => {
                let status =
                    Status::failed_precondition("a session has one Hello, its first message");
                Err(SessionEnd::Refused(status))
            }
            ExporterMessage::Heartbeat(heartbeat) => self.heartbeat(&heartbeat).await,
            ExporterMessage::Accepted(accepted) => {
                tracing::debug!(task = accepted.task_id, "task accepted");
                Ok(())
            }
            ExporterMessage::Declined(declined) => {
                tracing::info!(task = declined.task_id, reason = declined.reason, "task declined");
                self.apply((&declined).try_into()?, Event::Declined, None).await
            }
            ExporterMessage::Progress(progress) => self.progress(&progress).await,
            ExporterMessage::Report(report) => self.report(TaskReport::try_from(&report)?).await,
        }
    }

    async fn report(&mut self, report: TaskReport) -> Result<(), SessionEnd> {
        let TaskReport { task, fence, seq, report } = report;
        match report {
            Report::Finished(finished) => self.finished((task, fence), seq, finished).await,
            Report::Counted { rows } => {
                match self.applied((task, fence), Event::Counted { rows }, Some(seq)).await? {
                    Some(task) => {
                        self.compare(&task).await?;
                        self.assign().await
                    }
                    None => Ok(()),
                }
            }
            report => {
                if let Report::Failed(failure) = &report {
                    tracing::warn!(%task, %failure, "task failed");
                }
                self.apply((task, fence), report.event(self.terms.max_retries), Some(seq)).await
            }
        }
    }

    async fn heartbeat(&mut self, heartbeat: &v1::Heartbeat) -> Result<(), SessionEnd> {
        if let Some(capacity) = heartbeat.capacity {
            self.capacity = capacity.tasks.min(MAX_CAPACITY);
        }
        let (held, now) = (held(&heartbeat.held)?, self.store.now().await?);
        let verdicts = self.store.heartbeat(self.lease(now), held.clone(), now).await?;
        let verdicts = with_verdicts(&held, verdicts);
        self.send(ControlMessage::HeartbeatReply(v1::HeartbeatReply { verdicts })).await?;
        // A slot also becomes free when its lease has lapsed, or when the exporter raises its
        // capacity.
        if self.room { Ok(()) } else { self.assign().await }
    }

    async fn progress(&mut self, message: &v1::Progress) -> Result<(), SessionEnd> {
        let (task, fence, progress) = message.try_into()?;
        // Never so rarely that a task would appear stalled.
        let interval = self
            .dispatcher
            .progress_interval()
            .min(Duration::from_secs(u64::from(self.terms.progress_seconds / 3)));
        if !is_due(&mut self.progress_due, task, interval, Instant::now()) {
            return Ok(()); // the next report includes this one
        }
        match self
            .store
            .progress(Some(self.holder()), task, fence, progress, self.store.now().await?)
            .await?
        {
            ReportOutcome::Applied(_) => Ok(()),
            ReportOutcome::Stale => self.refuse(task, fence).await,
        }
    }

    /// All files are complete: passes the commit point, or fails the task with an internal error if
    /// the rows do not add up.
    async fn finished(
        &mut self,
        (task, fence): (TaskId, Fence),
        seq: u64,
        finished: Finished,
    ) -> Result<(), SessionEnd> {
        let (event, now) = (Event::Finished(finished), self.store.now().await?);
        match self
            .store
            .report(Some(self.holder()), task, fence, event, self.terms.grace_seconds, now)
            .await
        {
            Ok(ReportOutcome::Applied(done)) => {
                let partition = done.kind.partition().ok_or_else(|| {
                    Status::internal("a task that is no partition has passed the commit point")
                });
                let partition = partition.map_err(SessionEnd::Refused)?;
                let files = frozen(&done, partition, self.store.files(task).await?);
                self.send(ControlMessage::Ack(v1::Ack { seq })).await?;
                self.send(ControlMessage::Publish(v1::Publish {
                    task_id: task.to_string(),
                    fence: fence.0,
                    files: Some((&files).into()),
                }))
                .await
            }
            Ok(ReportOutcome::Stale) => self.refuse(task, fence).await,
            Err(ReportError::Illegal(error @ IllegalEvent::Totals { .. })) => {
                tracing::error!(%task, %error, "rows do not add up");
                let failure = Failure {
                    step: Step::Publish,
                    class: FailureClass::Internal,
                    detail: error.to_string(),
                };
                let event = Event::Failed { failure, max_retries: self.terms.max_retries };
                self.apply((task, fence), event, Some(seq)).await?;
                self.refuse(task, fence).await
            }
            Err(ReportError::Illegal(error)) => Err(out_of_order(&error)),
            Err(ReportError::Store(error)) => Err(error.into()),
        }
    }

    /// Applies an event. A task that ends with it frees a slot for the next one.
    async fn apply(
        &mut self,
        about: (TaskId, Fence),
        event: Event,
        seq: Option<u64>,
    ) -> Result<(), SessionEnd> {
        let calmly = matches!(event, Event::Failed { .. } | Event::Declined);
        match self.applied(about, event, seq).await? {
            Some(task) if task.lease().is_some() => Ok(()),
            // An exporter that fails or declines tasks gets no new ones sooner than others do.
            Some(_) if calmly => {
                self.room = true;
                Ok(())
            }
            Some(_) => self.assign().await,
            None => Ok(()),
        }
    }

    /// The task after a report has been stored and acknowledged; `None` if the report is stale.
    async fn applied(
        &self,
        (task, fence): (TaskId, Fence),
        event: Event,
        seq: Option<u64>,
    ) -> Result<Option<Task>, SessionEnd> {
        match self
            .store
            .report(
                Some(self.holder()),
                task,
                fence,
                event,
                self.terms.grace_seconds,
                self.store.now().await?,
            )
            .await
        {
            Ok(ReportOutcome::Applied(task)) => {
                if let Some(seq) = seq {
                    self.send(ControlMessage::Ack(v1::Ack { seq })).await?;
                }
                Ok(Some(*task))
            }
            Ok(ReportOutcome::Stale) => self.refuse(task, fence).await.map(|()| None),
            Err(ReportError::Illegal(error)) => Err(out_of_order(&error)),
            Err(ReportError::Store(error)) => Err(error.into()),
        }
    }

    /// Reports rows that arrived late, or vanished, after an export was completed and reconciled.
    async fn compare(&self, task: &Task) -> Result<(), SessionEnd> {
        let Some(view) = self.store.export(task.tenant, task.export).await? else { return Ok(()) };
        let exported = view.rows + view.undecided + view.decided_against;
        let now = view.reconciled.map_or(exported, |(rows, _)| rows);
        metrics::counter!("tracelift_exports_reconciled_total").increment(1);
        metrics::counter!("tracelift_late_rows_total").increment(now.saturating_sub(exported));
        metrics::counter!("tracelift_vanished_rows_total").increment(exported.saturating_sub(now));
        if exported == now {
            tracing::debug!(export = %task.export, rows = now, "the trace store holds what was exported");
        } else {
            tracing::warn!(export = %task.export, exported, in_source = now, "the trace store does not hold what was exported any more");
        }
        Ok(())
    }

    async fn refuse(&self, task: TaskId, fence: Fence) -> Result<(), SessionEnd> {
        tracing::info!(%task, fence = fence.0, "stale report");
        self.send(ControlMessage::Revoked((task, fence).into())).await
    }
}

/// Whether to store a task's progress now; if so, it is next due an interval later. Each task has
/// its own offset within the interval, so that tasks that start together are not all stored at
/// once.
fn is_due(
    due: &mut HashMap<TaskId, Instant>,
    task: TaskId,
    interval: Duration,
    now: Instant,
) -> bool {
    due.retain(|_, due| *due + SILENCE > now);
    let place = f64::from(task.0.as_bytes()[15]) / 256.0;
    let due = due.entry(task).or_insert_with(|| now + interval.mul_f64(place));
    if *due > now {
        return false;
    }
    *due = now + interval;
    true
}

/// A task without progress reports for this long has ended, at least on this control plane.
const SILENCE: Duration = Duration::from_secs(60);

fn out_of_order(error: &IllegalEvent) -> SessionEnd {
    SessionEnd::Refused(Status::failed_precondition(error.to_string()))
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
            for task in 0..256 {
                stored[second as usize / 5] += usize::from(is_due(
                    &mut due,
                    TaskId(Uuid::from_u128(task)),
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
            TaskId(Uuid::from_u128(255)),
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
                TaskId(Uuid::max()),
                Duration::ZERO,
                began + Duration::from_secs(second),
            )
        });
        assert_eq!(said.collect::<Vec<_>>(), [true; 3]);
    }
}
