//! Reports that must not be lost: each waits until the control plane has stored it, however often
//! the stream breaks.

use tokio::sync::{mpsc, oneshot};
use tracelift_core::{
    file::{File, FileIntent},
    plan::Experiment,
    run::Finished,
};
use tracelift_proto::fleet::v1::{self, connect_request::Message as Said};

use crate::{job::Halt, lease::Lease, lease::Stop};

/// A report on its way out, without its number, which the agent gives it.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub(crate) lease: Lease,
    pub(crate) said: Said,
    pub(crate) answer: oneshot::Sender<Stored>,
}

/// The control plane has stored a report.
#[derive(Debug)]
pub(crate) enum Stored {
    /// Nothing more to say.
    Done,
    /// The commit point has passed; these are the run's files.
    Frozen(v1::Publish),
}

/// Where jobs hand their reports to.
#[derive(Debug, Clone)]
pub(crate) struct Reporter {
    sink: mpsc::Sender<Outgoing>,
}

impl Reporter {
    /// A reporter and where its reports come out. Jobs wait while `room` reports are on their way.
    pub(crate) fn new(room: usize) -> (Self, mpsc::Receiver<Outgoing>) {
        let (sink, reports) = mpsc::channel(room);
        (Self { sink }, reports)
    }

    pub(crate) async fn file_intent(&self, lease: &Lease, intent: &FileIntent) -> Result<(), Halt> {
        let said = Said::FileIntent(v1::FileIntent {
            run_id: lease.run.to_string(),
            fence: lease.fence.0,
            ..intent.into()
        });
        self.report(lease, said).await.map(drop)
    }

    pub(crate) async fn file_done(&self, lease: &Lease, file: &File) -> Result<(), Halt> {
        let said = v1::FileDone {
            run_id: lease.run.to_string(),
            fence: lease.fence.0,
            seq: 0,
            file: Some(file.into()),
        };
        self.report(lease, Said::FileDone(said)).await.map(drop)
    }

    /// Passes the commit point: the answer is the frozen file list.
    pub(crate) async fn finished(
        &self,
        lease: &Lease,
        finished: &Finished,
    ) -> Result<v1::Publish, Halt> {
        let said = v1::RunFinished {
            run_id: lease.run.to_string(),
            fence: lease.fence.0,
            seq: 0,
            files: finished.files,
            rows: finished.rows,
            rest: Some((&finished.rest).into()),
            identity: v1::Identity::from(finished.identity).into(),
        };
        match self.report(lease, Said::RunFinished(said)).await? {
            Stored::Frozen(publish) => Ok(publish),
            Stored::Done => Err(Halt::Stopped(Stop::Revoked)),
        }
    }

    pub(crate) async fn published(&self, lease: &Lease) -> Result<(), Halt> {
        let said = v1::RunPublished { run_id: lease.run.to_string(), fence: lease.fence.0, seq: 0 };
        self.report(lease, Said::RunPublished(said)).await.map(drop)
    }

    pub(crate) async fn cleaned_up(
        &self,
        lease: &Lease,
        adopted: Option<&File>,
    ) -> Result<(), Halt> {
        let said = v1::CleanedUp {
            run_id: lease.run.to_string(),
            fence: lease.fence.0,
            seq: 0,
            adopted: adopted.map(Into::into),
        };
        self.report(lease, Said::CleanedUp(said)).await.map(drop)
    }

    pub(crate) async fn experiments_found(
        &self,
        lease: &Lease,
        found: &[Experiment],
    ) -> Result<(), Halt> {
        let experiments = found.iter().map(Into::into).collect();
        let said = v1::ExperimentsFound {
            run_id: lease.run.to_string(),
            fence: lease.fence.0,
            seq: 0,
            experiments,
        };
        self.report(lease, Said::ExperimentsFound(said)).await.map(drop)
    }

    pub(crate) async fn counted(&self, lease: &Lease, rows: u64) -> Result<(), Halt> {
        let said =
            v1::Counted { run_id: lease.run.to_string(), fence: lease.fence.0, seq: 0, rows };
        self.report(lease, Said::Counted(said)).await.map(drop)
    }

    async fn report(&self, lease: &Lease, said: Said) -> Result<Stored, Halt> {
        let (answer, stored) = oneshot::channel();
        let outgoing = Outgoing { lease: lease.clone(), said, answer };
        // Handed over first, whatever happens then: a file that exists is reported even when its
        // run was just cancelled.
        self.sink.send(outgoing).await.map_err(|_| Halt::Stopped(Stop::Revoked))?;
        tokio::select! {
            biased;
            stored = stored => stored.map_err(|_| Halt::Stopped(lease.stopped().unwrap_or(Stop::Revoked))),
            why = lease.halted() => Err(Halt::Stopped(why)),
        }
    }
}
