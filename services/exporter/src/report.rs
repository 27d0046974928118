//! Reports that must not be lost: each waits until the control plane has stored it, however often
//! the stream breaks.

use tokio::sync::{mpsc, oneshot};
use tracelift_core::{
    assignment::Frozen,
    file::{File, FileIntent},
    plan::Experiment,
    task::{Finished, Report},
};

use crate::lease::{JobError, Lease, StopReason};

/// A report on its way to the control plane, without a sequence number yet.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub(crate) lease: Lease,
    pub(crate) report: Report,
    pub(crate) stored: oneshot::Sender<Stored>,
}

/// The control plane has stored a report.
#[derive(Debug)]
pub(crate) enum Stored {
    /// Nothing else to deliver.
    Done,
    /// The commit point has passed; this is the frozen content of the task.
    Frozen(Frozen),
}

/// Accepts the reports of jobs.
#[derive(Debug, Clone)]
pub(crate) struct Reporter {
    sink: mpsc::Sender<Outgoing>,
}

impl Reporter {
    /// Creates a reporter and the channel its reports arrive on. Jobs wait while `room` reports are
    /// queued.
    pub(crate) fn new(room: usize) -> (Self, mpsc::Receiver<Outgoing>) {
        let (sink, reports) = mpsc::channel(room);
        (Self { sink }, reports)
    }

    pub(crate) async fn file_intent(
        &self,
        lease: &Lease,
        intent: &FileIntent,
    ) -> Result<(), JobError> {
        self.report(lease, Report::FileIntent(intent.clone())).await.map(drop)
    }

    pub(crate) async fn file_done(&self, lease: &Lease, file: &File) -> Result<(), JobError> {
        self.report(lease, Report::FileDone(file.clone())).await.map(drop)
    }

    /// Passes the commit point; returns the frozen file list.
    pub(crate) async fn finished(
        &self,
        lease: &Lease,
        finished: Finished,
    ) -> Result<Frozen, JobError> {
        match self.report(lease, Report::Finished(finished)).await? {
            Stored::Frozen(frozen) => Ok(frozen),
            Stored::Done => Err(JobError::Stopped(StopReason::Revoked)),
        }
    }

    pub(crate) async fn published(&self, lease: &Lease) -> Result<(), JobError> {
        self.report(lease, Report::Published).await.map(drop)
    }

    pub(crate) async fn cleaned_up(
        &self,
        lease: &Lease,
        adopted: Option<File>,
    ) -> Result<(), JobError> {
        let adopted = adopted.map(Box::new);
        self.report(lease, Report::CleanedUp { adopted }).await.map(drop)
    }

    pub(crate) async fn experiments_found(
        &self,
        lease: &Lease,
        found: Vec<Experiment>,
    ) -> Result<(), JobError> {
        self.report(lease, Report::ExperimentsFound(found)).await.map(drop)
    }

    pub(crate) async fn counted(&self, lease: &Lease, rows: u64) -> Result<(), JobError> {
        self.report(lease, Report::Counted { rows }).await.map(drop)
    }

    async fn report(&self, lease: &Lease, report: Report) -> Result<Stored, JobError> {
        let (sender, stored) = oneshot::channel();
        let outgoing = Outgoing { lease: lease.clone(), report, stored: sender };
        // Hand the report in before checking the lease: an existing file is reported even if its
        // export was just cancelled.
        let revoked = || JobError::Stopped(lease.stopped().unwrap_or(StopReason::Revoked));
        self.sink.send(outgoing).await.map_err(|_| JobError::Stopped(StopReason::Revoked))?;
        tokio::select! {
            biased;
            stored = stored => stored.map_err(|_| revoked()),
            why = lease.halted() => Err(JobError::Stopped(why)),
        }
    }
}
