//! Backoff per destination: all calls of a task wait after the store has throttled one.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::{Instant, sleep_until};

/// Wait after the first throttled call, before jitter, and the longest wait.
const FIRST: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_secs(30);

/// The backoff shared by all calls to a store. The wait doubles with each throttled call and halves
/// with each success.
#[derive(Debug, Default)]
pub(crate) struct Backoff(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    wait: Duration,
    /// Earliest time of the next call.
    until: Option<Instant>,
}

impl Backoff {
    /// Waits until the next call is due.
    pub(crate) async fn turn(&self) {
        let until = self.0.lock().unwrap_or_else(PoisonError::into_inner).until;
        if let Some(until) = until {
            sleep_until(until).await;
        }
    }

    /// Records a throttled call. `share`, from 0 to 1, picks the random part of the wait, so that
    /// calls do not resume together.
    pub(crate) fn slower(&self, share: f64) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.wait = (state.wait * 2).clamp(FIRST, LONGEST);
        let wait = state.wait.mul_f64(0.5 + share.clamp(0.0, 1.0) / 2.0);
        state.until = state.until.max(Some(Instant::now() + wait));
    }

    /// Records a success.
    pub(crate) fn faster(&self) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !state.wait.is_zero() {
            state.wait = if state.wait <= FIRST { Duration::ZERO } else { state.wait / 2 };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn each_refusal_doubles_the_wait_and_each_answer_halves_it() {
        let backoff = Backoff::default();
        let mut waits = Vec::new();
        let mut refused = async |backoff: &Backoff| {
            backoff.slower(1.0);
            let before = Instant::now();
            backoff.turn().await;
            waits.push(before.elapsed().as_millis());
        };
        for _ in 0..8 {
            refused(&backoff).await;
        }
        (0..3).for_each(|_| backoff.faster());
        refused(&backoff).await;
        (0..10).for_each(|_| backoff.faster());
        refused(&backoff).await;
        assert_eq!(waits, [500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000, 7500, 500]);
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_a_store_that_answers() {
        let (backoff, before) = (Backoff::default(), Instant::now());
        backoff.turn().await;
        assert_eq!(before.elapsed(), Duration::ZERO);
    }
}
