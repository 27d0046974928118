//! What the simulated exporters have seen: written by all of them, read by the phases.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use crate::Outcome;

/// A run that arrived at an exporter.
#[derive(Debug)]
pub(crate) struct Arrival {
    /// When it arrived.
    pub(crate) at: Instant,
    /// How long the slot it fills had been free, when it was used before in this phase.
    pub(crate) waited: Option<Duration>,
    /// Whether it is a partition, and not something that callers do not see.
    pub(crate) partition: bool,
}

/// What was seen since the phase began.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// Every assignment.
    pub(crate) arrivals: Vec<Arrival>,
    /// Exports whose run was stopped, and when its holder heard of it.
    pub(crate) stops: Vec<(String, Instant)>,
    /// Partitions at work or published.
    pub(crate) partitions: usize,
    /// Runs that came while no slot was free.
    pub(crate) declined: usize,
    /// Runs of any kind whose last report is stored.
    pub(crate) ended: usize,
    /// How long each exporter took from its connection to its welcome.
    pub(crate) welcomes: Vec<Duration>,
    /// Why an exporter gave up.
    failed: Option<String>,
}

/// The one book of the fleet.
#[derive(Debug, Default)]
pub(crate) struct Ledger(Mutex<Seen>);

/// Between two looks.
const LOOK: Duration = Duration::from_millis(10);
/// A control plane that does nothing for that long has stopped.
const PATIENCE: Duration = Duration::from_secs(120);

impl Ledger {
    pub(crate) fn write(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn fail(&self, why: String) {
        self.write().failed.get_or_insert(why);
    }

    /// Everything seen until now; the next phase begins.
    pub(crate) fn take(&self) -> Seen {
        std::mem::take(&mut *self.write())
    }

    /// Waits until enough was seen.
    pub(crate) async fn until(&self, what: &str, enough: impl Fn(&Seen) -> bool) -> Outcome<()> {
        let (mut last, mut moved) = (0, Instant::now());
        loop {
            {
                let seen = self.write();
                if let Some(why) = &seen.failed {
                    return Err(why.clone().into());
                }
                if enough(&seen) {
                    return Ok(());
                }
                let done =
                    seen.welcomes.len() + seen.arrivals.len() + seen.stops.len() + seen.ended;
                if done != last {
                    (last, moved) = (done, Instant::now());
                } else if moved.elapsed() > PATIENCE {
                    let (arrived, ended) = (seen.arrivals.len(), seen.ended);
                    return Err(format!("{what}: nothing has happened for {PATIENCE:?}; {arrived} runs arrived, {ended} ended").into());
                }
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}
