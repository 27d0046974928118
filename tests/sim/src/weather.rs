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
pub enum Trouble {
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

struct Sky {
    rng: StdRng,
    /// How much of what could go wrong does; 0 is fair weather.
    share: f64,
    faults: u64,
}

/// The dice of one server.
#[derive(Clone)]
pub struct Weather {
    server: &'static str,
    sky: Arc<Mutex<Sky>>,
    trace: Trace,
}

impl Weather {
    /// Dice for `server`: `share` of its requests meet trouble.
    pub fn new(server: &'static str, seed: u64, share: f64, trace: Trace) -> Self {
        let sky = Sky { rng: StdRng::seed_from_u64(seed), share, faults: 0 };
        Self { server, sky: Arc::new(Mutex::new(sky)), trace }
    }

    fn sky(&self) -> MutexGuard<'_, Sky> {
        self.sky.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on nothing goes wrong.
    pub fn clear(&self) {
        self.sky().share = 0.0;
    }

    /// How often something went wrong.
    pub fn faults(&self) -> u64 {
        self.sky().faults
    }

    /// What happens to this request: nothing, or one of `possible`.
    pub fn throw(&self, what: &str, possible: &[Trouble]) -> Trouble {
        let mut sky = self.sky();
        let share = sky.share;
        if !sky.rng.random_bool(share) {
            return Trouble::None;
        }
        sky.faults += 1;
        let trouble = possible[sky.rng.random_range(0..possible.len())];
        drop(sky);
        self.trace.line(format_args!("FAULT {} {what}: {trouble:?}", self.server));
        trouble
    }

    /// Takes the time that an answer takes: mostly a little, at times a lot.
    pub async fn delay(&self) {
        let millis = {
            let mut sky = self.sky();
            let share = sky.share;
            if share > 0.0 && sky.rng.random_bool(0.02) {
                sky.rng.random_range(500..8_000)
            } else {
                sky.rng.random_range(0..15)
            }
        };
        tokio::time::sleep(Duration::from_millis(millis)).await;
    }
}
