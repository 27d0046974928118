//! The right to work on one run, as its job sees it: a signal to stop, and why.

use std::sync::{Arc, OnceLock};

use tokio_util::sync::CancellationToken;
use tracelift_core::{
    id::{ExportId, RunId, TenantId},
    run::Fence,
};

/// Why a job must stop before its run is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    /// A caller cancelled the export: clean up.
    Cancelled,
    /// The run is somebody else's now: touch nothing.
    Revoked,
    /// This process stops: finish the file in hand and give the run back.
    Drained,
}

/// A held lease.
#[derive(Debug, Clone)]
pub(crate) struct Lease {
    pub(crate) run: RunId,
    pub(crate) fence: Fence,
    pub(crate) export: ExportId,
    pub(crate) tenant: TenantId,
    signal: Arc<Signal>,
}

#[derive(Debug, Default)]
struct Signal {
    /// Cancelled or revoked: stop at once.
    halt: CancellationToken,
    why: OnceLock<Stop>,
    /// Drained: read no further.
    drain: CancellationToken,
}

impl Lease {
    pub(crate) fn new(run: RunId, fence: Fence, export: ExportId, tenant: TenantId) -> Self {
        Self { run, fence, export, tenant, signal: Arc::default() }
    }

    /// Whether somebody may have worked on the run before: the first claim moves the fence to 1.
    pub(crate) fn is_of_a_later_attempt(&self) -> bool {
        self.fence > Fence(1)
    }

    /// Tells the job to stop; the first reason counts.
    pub(crate) fn stop(&self, why: Stop) {
        if why == Stop::Drained {
            self.signal.drain.cancel();
            return;
        }
        let _ = self.signal.why.set(why); // an earlier reason stays
        self.signal.halt.cancel();
    }

    /// Why the job must stop at once; `None` while it may go on.
    pub(crate) fn stopped(&self) -> Option<Stop> {
        self.signal.halt.is_cancelled().then(|| self.signal.why.get().copied().unwrap_or(Stop::Revoked))
    }

    /// Waits until the job must stop at once.
    pub(crate) async fn halted(&self) -> Stop {
        self.signal.halt.cancelled().await;
        self.stopped().unwrap_or(Stop::Revoked)
    }

    /// Cancelled when no further rows should be read.
    pub(crate) fn drain(&self) -> &CancellationToken {
        &self.signal.drain
    }
}
