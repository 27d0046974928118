//! What goes wrong on the other side of the wire: seeded dice that ClickHouse and S3 throw for
//! every request.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

use crate::trace::Trace;

/// What happens to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultKind {
    /// Nothing.
    None,
    /// Refused before anything was done.
    Refused,
    /// Asked to slow down, before anything was done.
    Throttled,
    /// Done, and the answer is an error.
    AnswerLost,
    /// The answer ends in its middle.
    Cut,
    /// The answer turns into an error in its middle.
    Broken,
}

struct FaultState {
    rng: StdRng,
    /// How much of what could go wrong does; 0 is fair weather.
    share: f64,
    faults: u64,
}

/// The dice of one server.
#[derive(Clone)]
pub struct FaultInjector {
    server: &'static str,
    fault_state: Arc<Mutex<FaultState>>,
    trace: Trace,
}

impl FaultInjector {
    /// Dice for `server`: `share` of its requests meet trouble.
    pub fn new(server: &'static str, seed: u64, share: f64, trace: Trace) -> Self {
        let fault_state = FaultState { rng: StdRng::seed_from_u64(seed), share, faults: 0 };
        Self { server, fault_state: Arc::new(Mutex::new(fault_state)), trace }
    }

    fn fault_state(&self) -> MutexGuard<'_, FaultState> {
        self.fault_state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on nothing goes wrong.
    pub fn clear(&self) {
        self.fault_state().share = 0.0;
    }

    /// How often something went wrong.
    pub fn faults(&self) -> u64 {
        self.fault_state().faults
    }

    /// What happens to this request: nothing, or one of `possible`.
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

    /// Takes the time that an answer takes: mostly a little, at times a lot.
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
