//! Faults of the servers: for every request, ClickHouse and S3 draw one from a seeded random number
//! generator.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

use crate::trace::Trace;

/// What happens to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultKind {
    /// No fault.
    None,
    /// Rejected without any effect.
    Refused,
    /// Throttled without any effect.
    Throttled,
    /// Done, but the response is an error.
    AnswerLost,
    /// The response is cut off in the middle.
    Cut,
    /// The response turns into an error in the middle.
    Broken,
}

struct FaultState {
    rng: StdRng,
    /// The fraction of requests that fail; 0 disables faults.
    share: f64,
    faults: u64,
}

/// Injects the faults of one server.
#[derive(Clone)]
pub struct FaultInjector {
    server: &'static str,
    fault_state: Arc<Mutex<FaultState>>,
    trace: Trace,
}

impl FaultInjector {
    /// A fault injector for `server`: faults hit the fraction `share` of its requests.
    pub fn new(server: &'static str, seed: u64, share: f64, trace: Trace) -> Self {
        let fault_state = FaultState { rng: StdRng::seed_from_u64(seed), share, faults: 0 };
        Self { server, fault_state: Arc::new(Mutex::new(fault_state)), trace }
    }

    fn fault_state(&self) -> MutexGuard<'_, FaultState> {
        self.fault_state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Disables faults from now on.
    pub fn clear(&self) {
        self.fault_state().share = 0.0;
    }

    /// The number of faults so far.
    pub fn faults(&self) -> u64 {
        self.fault_state().faults
    }

    /// Draws the fault of a request: none, or one of `possible`.
    pub fn throw(&self, what: &str, possible: &[FaultKind]) -> FaultKind {
        let mut fault_state = self.fault_state();
        let share = fault_state.share;
        if !fault_state.rng.random_bool(share) {
            return FaultKind::None;
        }
        fault_state.faults += 1;
        let fault = possible[fault_state.rng.random_range(0..possible.len())];
        drop(fault_state);
        self.trace.line(format_args!("FAULT {} {what}: {fault:?}", self.server));
        fault
    }

    /// Delays a response: usually briefly, occasionally for long.
    pub async fn delay(&self) {
        let millis = {
            let mut fault_state = self.fault_state();
            let share = fault_state.share;
            if share > 0.0 && fault_state.rng.random_bool(0.02) {
                fault_state.rng.random_range(500..8_000)
            } else {
                fault_state.rng.random_range(0..15)
            }
        };
        tokio::time::sleep(Duration::from_millis(millis)).await;
    }
}
