//! The lease on one task, as its job sees it: a stop signal with a reason.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracelift_core::{
    assignment::Assignment,
    failure::Failure,
    id::{ExportId, TaskId, TenantId},
    task::Fence,
};

/// Why a job must stop before its task is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StopReason {
    /// The export was cancelled: clean up.
    Cancelled,
    /// Another exporter holds the task: touch nothing.
    Revoked,
    /// This process is shutting down: finish the current file and hand the task back.
    Drained,
}

/// Until when this process may rely on its leases, whatever happens to its stream. Well before they
/// could lapse.
#[derive(Debug, Default)]
pub(crate) struct LeaseGuard(Mutex<Option<Instant>>);

impl LeaseGuard {
    /// Extends the deadline after a heartbeat was answered.
    pub(crate) fn extend(&self, until: Instant) {
        let mut trusted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *trusted = (*trusted).max(Some(until));
    }

    /// Whether another exporter may hold the tasks by now.
    pub(crate) fn is_over(&self) -> bool {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_some_and(|until| Instant::now() >= until)
    }
}

/// Why a job ended before its task was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum JobError {
    /// Something failed; the control plane decides what to do.
    Failed(Failure),
    /// The job was told to stop.
    Stopped(StopReason),
}

impl From<Failure> for JobError {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// A held lease.
#[derive(Debug, Clone)]
pub(crate) struct Lease {
    pub(crate) task: TaskId,
    pub(crate) fence: Fence,
    pub(crate) export: ExportId,
    pub(crate) tenant: TenantId,
    signal: Arc<Signal>,
    guard: Arc<LeaseGuard>,
}

#[derive(Debug, Default)]
struct Signal {
    /// Cancelled or revoked: stop immediately.
    halt: CancellationToken,
    why: OnceLock<StopReason>,
    /// Draining: stop reading.
    drain: CancellationToken,
}

impl Lease {
    pub(crate) fn of(assignment: &Assignment, guard: Arc<LeaseGuard>) -> Self {
        let Assignment { task, fence, export, tenant, .. } = *assignment;
        Self { task, fence, export, tenant, signal: Arc::default(), guard }
    }

    /// Whether the lease may have lapsed. Checked before each write, because a process that was
    /// suspended may reach its next write before it stops its jobs.
    pub(crate) fn may_have_lapsed(&self) -> bool {
        self.guard.is_over()
    }

    /// Whether the task may have been worked on before: the first claim sets the fence to 1.
    pub(crate) fn is_of_a_later_attempt(&self) -> bool {
        self.fence > Fence(1)
    }

    /// Tells the job to stop. The first reason wins.
    pub(crate) fn stop(&self, why: StopReason) {
        if why == StopReason::Drained {
            self.signal.drain.cancel();
            return;
        }
        let _ = self.signal.why.set(why); // an earlier reason wins
        self.signal.halt.cancel();
    }

    /// Why the job must stop immediately; `None` if it may continue.
    pub(crate) fn stopped(&self) -> Option<StopReason> {
        self.signal
            .halt
            .is_cancelled()
            .then(|| self.signal.why.get().copied().unwrap_or(StopReason::Revoked))
    }

    /// Waits until the job must stop immediately.
    pub(crate) async fn halted(&self) -> StopReason {
        self.signal.halt.cancelled().await;
        self.stopped().unwrap_or(StopReason::Revoked)
    }

    /// Cancelled when no more rows should be read.
    pub(crate) fn drain(&self) -> &CancellationToken {
        &self.signal.drain
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_lease_is_trusted_until_its_last_answered_heartbeat_runs_out() {
        let guard = LeaseGuard::default();
        assert!(!guard.is_over(), "nothing was promised yet");
        let begin = Instant::now();
        guard.extend(begin + Duration::from_secs(20));
        guard.extend(begin + Duration::from_secs(10)); // a late reply does not shorten the time
        tokio::time::advance(Duration::from_secs(19)).await;
        assert!(!guard.is_over());
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(guard.is_over());
        guard.extend(begin + Duration::from_secs(40));
        assert!(!guard.is_over());
    }
}
