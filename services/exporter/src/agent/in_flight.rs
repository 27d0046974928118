//! An exporter's work in flight: its jobs, and the reports that are not stored yet.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use tokio::{sync::oneshot, task::JoinSet, time::Instant};
use tracelift_core::{
    assignment::Frozen,
    id::TaskId,
    task::{Fence, Report, TaskReport, Verdict},
};
use tracelift_proto::fleet::v1;
use tracelift_runtime::tasks;
use tracing::Instrument as _;

use crate::{
    lease::{JobError, Lease, LeaseGuard, StopReason},
    meter::Meter,
    report::{Outgoing, Stored},
};

/// The jobs and pending reports of an exporter.
#[derive(Default)]
pub(crate) struct InFlight {
    jobs: HashMap<TaskId, Running>,
    outcomes: JoinSet<(Lease, Result<(), JobError>)>,
    /// Reports that are not stored yet, by sequence number.
    pending: BTreeMap<u64, Pending>,
    last_seq: u64,
    guard: Arc<LeaseGuard>,
}

/// A running job.
struct Running {
    lease: Lease,
    meter: Arc<Meter>,
}

/// A report that is resent on each connection until it is stored.
struct Pending {
    lease: Lease,
    report: Report,
    /// The job that waits for it.
    stored: Option<oneshot::Sender<Stored>>,
}

impl Pending {
    fn message(&self, seq: u64) -> v1::Report {
        let Lease { task, fence, .. } = self.lease;
        (&TaskReport { task, fence, seq, report: self.report.clone() }).into()
    }

    fn is_about(&self, task: TaskId, fence: Fence) -> bool {
        self.lease.task == task && self.lease.fence == fence
    }

    fn answer(self, stored: Stored) {
        if let Some(waiting) = self.stored {
            let _ = waiting.send(stored); // its job may have stopped
        }
    }
}

impl InFlight {
    pub(super) fn guard(&self) -> Arc<LeaseGuard> {
        self.guard.clone()
    }

    pub(super) fn is_idle(&self) -> bool {
        self.jobs.is_empty() && self.pending.is_empty()
    }

    pub(super) fn jobs(&self) -> usize {
        self.jobs.len()
    }

    /// The lease of the running job of a task.
    pub(super) fn lease(&self, task: TaskId) -> Option<&Lease> {
        self.jobs.get(&task).map(|running| &running.lease)
    }

    /// Every lease that is in use or has pending reports.
    pub(super) fn held(&self) -> Vec<v1::HeldLease> {
        let pending = self.pending.values().map(|pending| &pending.lease);
        let working = self.jobs.values().map(|running| &running.lease);
        let leases: BTreeSet<_> =
            working.chain(pending).map(|lease| (lease.task, lease.fence)).collect();
        leases.into_iter().map(Into::into).collect()
    }

    /// Starts a job.
    pub(super) fn start(
        &mut self,
        lease: Lease,
        meter: Arc<Meter>,
        job: impl Future<Output = Result<(), JobError>> + Send + 'static,
    ) {
        let Lease { task, export, fence, .. } = &lease;
        let span = tracing::info_span!("task", %task, %export, fence = fence.0);
        self.jobs.insert(lease.task, Running { lease: lease.clone(), meter });
        let job = async move { (lease, job.await) };
        tasks::start_in(&mut self.outcomes, "job", job.instrument(span));
    }

    /// The report of the next job that ends, if it has anything to report. Pends forever while no
    /// job runs.
    pub(super) async fn next_outcome(&mut self) -> Option<v1::Report> {
        match self.outcomes.join_next().await {
            Some(Ok((lease, outcome))) => self.ended(lease, outcome),
            Some(Err(panic)) => {
                tracing::error!(%panic, "a job died; its lease will lapse");
                None
            }
            None => std::future::pending().await,
        }
    }

    fn ended(&mut self, lease: Lease, outcome: Result<(), JobError>) -> Option<v1::Report> {
        if self.lease(lease.task).is_some_and(|held| held.fence == lease.fence) {
            self.jobs.remove(&lease.task);
        }
        match outcome {
            Ok(()) => {
                tracing::info!(task = %lease.task, "task done");
                None
            }
            Err(JobError::Failed(failure)) => {
                tracing::warn!(task = %lease.task, %failure, "task failed");
                Some(self.enqueue(lease, Report::Failed(failure), None))
            }
            Err(JobError::Stopped(StopReason::Drained)) => Some(self.hand_back(lease)),
            Err(JobError::Stopped(StopReason::Cancelled | StopReason::Revoked)) => None,
        }
    }

    /// Numbers a job's report.
    pub(super) fn outgoing(&mut self, outgoing: Outgoing) -> v1::Report {
        self.enqueue(outgoing.lease, outgoing.report, Some(outgoing.stored))
    }

    pub(super) fn hand_back(&mut self, lease: Lease) -> v1::Report {
        tracing::info!(task = %lease.task, "task handed back");
        self.enqueue(lease, Report::HandedBack, None)
    }

    fn enqueue(
        &mut self,
        lease: Lease,
        report: Report,
        stored: Option<oneshot::Sender<Stored>>,
    ) -> v1::Report {
        self.last_seq += 1;
        let pending = Pending { lease, report, stored };
        let message = pending.message(self.last_seq);
        self.pending.insert(self.last_seq, pending);
        message
    }

    /// Every report not known to be stored, in order. A new connection starts by sending these.
    pub(super) fn unacknowledged(&self) -> Vec<v1::Report> {
        self.pending.iter().map(|(seq, pending)| pending.message(*seq)).collect()
    }

    /// Marks every report up to `seq` as stored. A finished task keeps waiting for its file list.
    pub(super) fn stored_up_to(&mut self, seq: u64) {
        let waits = |pending: &Pending| matches!(pending.report, Report::Finished(_));
        let stored = self.pending.extract_if(..=seq, |_, pending| !waits(pending));
        stored.for_each(|(_, pending)| pending.answer(Stored::Done));
    }

    /// Delivers the frozen file list of a finished task.
    pub(super) fn frozen(&mut self, task: TaskId, fence: Fence, frozen: Frozen) {
        let seq = self.pending.iter().find_map(|(seq, pending)| {
            let finished = matches!(pending.report, Report::Finished(_));
            (finished && pending.is_about(task, fence)).then_some(*seq)
        });
        if let Some(pending) = seq.and_then(|seq| self.pending.remove(&seq)) {
            pending.answer(Stored::Frozen(frozen));
        }
    }

    /// Applies the control plane's verdicts. Leases that are kept are valid until `kept_until`.
    pub(super) fn obey(&mut self, verdicts: &[v1::LeaseVerdict], kept_until: Instant) {
        for verdict in verdicts {
            match verdict.try_into() {
                Ok((_, _, Verdict::Keep)) => {}
                Ok((task, fence, Verdict::HandBack)) => self.drain(task, fence),
                Ok((task, fence, Verdict::Cancel)) => self.stop(task, fence, StopReason::Cancelled),
                Ok((task, fence, Verdict::Revoked)) => self.stop(task, fence, StopReason::Revoked),
                Err(fault) => tracing::warn!(%fault, "a verdict cannot be read"),
            }
        }
        // This comes last: until here the old deadline holds off jobs whose lease is gone.
        self.guard.extend(kept_until);
    }

    pub(super) fn stop(&mut self, task: TaskId, fence: Fence, why: StopReason) {
        if let Some(lease) = self.lease(task)
            && lease.fence == fence
            && lease.stopped().is_none()
        {
            tracing::info!(%task, fence = fence.0, ?why, "task stopped");
            lease.stop(why);
        }
        // An existing file is reported even if its export was cancelled; all other reports are
        // obsolete.
        self.pending.retain(|_, pending| {
            let exists = matches!(pending.report, Report::FileDone(_));
            !pending.is_about(task, fence) || (why == StopReason::Cancelled && exists)
        });
    }

    /// Lets a job finish its current file and hand its task back. Its reports still count.
    fn drain(&self, task: TaskId, fence: Fence) {
        if let Some(lease) = self.lease(task).filter(|lease| lease.fence == fence) {
            lease.stop(StopReason::Drained);
        }
    }

    pub(super) fn stop_all(&self, why: StopReason) {
        for running in self.jobs.values() {
            running.lease.stop(why);
        }
    }

    /// Stops every job if its lease could lapse soon, because another exporter may then get the
    /// task.
    pub(super) fn stop_when_leases_could_lapse(&self) {
        if self.guard.is_over() && !self.jobs.is_empty() {
            tracing::warn!(
                jobs = self.jobs.len(),
                "no word from the control plane: the leases could lapse, the jobs are stopped"
            );
            self.stop_all(StopReason::Revoked);
        }
    }

    /// Progress of every running job.
    pub(super) fn progress(&self) -> Vec<v1::Progress> {
        let working = self.jobs.values().filter(|running| running.lease.stopped().is_none());
        let progress = working.map(|Running { lease, meter }| {
            v1::Progress::from((lease.task, lease.fence, &meter.progress()))
        });
        progress.collect()
    }

    /// Aborts all running jobs and waits for them.
    pub(super) async fn shut_down(&mut self) {
        self.stop_all(StopReason::Revoked);
        self.outcomes.shutdown().await;
    }
}
