//! Limits concurrent requests to a store (AIMD): unlimited until it throttles, then half as many as
//! were in flight, and one more per round of responses.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// The requests to one store.
#[derive(Debug, Default)]
pub(super) struct Flow {
    state: Mutex<State>,
    room: Notify,
}

#[derive(Debug)]
struct State {
    /// Maximum requests in flight.
    most: f64,
    under_way: u32,
    /// Requests started so far, and how many had been started when the limit was last reduced.
    /// Throttling of those older requests is no reason to reduce it again.
    begun: u64,
    begun_before: u64,
}

impl Default for State {
    fn default() -> Self {
        Self { most: f64::INFINITY, under_way: 0, begun: 0, begun_before: 0 }
    }
}

impl State {
    fn has_room_for(&self, more: u32) -> bool {
        f64::from(self.under_way + more) <= self.most
    }
}

impl Flow {
    /// Waits until another request may start.
    pub(super) async fn enter(&self) -> UnderWay<'_> {
        loop {
            if let Some(request) = self.try_enter() {
                return request;
            }
            self.room.notified().await;
        }
    }

    fn try_enter(&self) -> Option<UnderWay<'_>> {
        let mut state = self.state();
        if !state.has_room_for(1) {
            return None;
        }
        state.under_way += 1;
        state.begun += 1;
        Some(UnderWay { flow: self, number: state.begun })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request in flight; dropping it ends it.
#[derive(Debug)]
pub(super) struct UnderWay<'a> {
    flow: &'a Flow,
    number: u64,
}

impl UnderWay<'_> {
    /// The store accepted the request.
    pub(super) fn taken(&self) {
        let mut state = self.flow.state();
        state.most += 1.0 / state.most;
    }

    /// The store throttled the request.
    pub(super) fn refused(&self) {
        let mut state = self.flow.state();
        if self.number > state.begun_before {
            state.begun_before = state.begun;
            state.most = (state.most.min(f64::from(state.under_way)) / 2.0).max(1.0);
        }
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        let mut state = self.flow.state();
        state.under_way -= 1;
        let (for_one, for_another) = (state.has_room_for(1), state.has_room_for(2));
        drop(state);
        if for_one {
            self.flow.room.notify_one();
        }
        // The limit may have grown, leaving room for a second request.
        if for_another {
            self.flow.room.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    fn begin(flow: &Flow, count: usize) -> Vec<UnderWay<'_>> {
        (0..count).map_while(|_| flow.enter().now_or_never()).collect()
    }

    #[test]
    fn any_number_may_be_under_way_until_the_store_asks_to_slow_down() {
        let flow = Flow::default();
        let mut requests = begin(&flow, 64);
        requests.iter().take(40).for_each(UnderWay::refused); // all from the same wave
        requests.iter().skip(40).for_each(UnderWay::taken);
        requests.truncate(31);
        assert_eq!(begin(&flow, 64).len(), 1);
        drop(requests);
        assert_eq!(begin(&flow, 64).len(), 32);
    }

    #[test]
    fn each_wave_of_refusals_halves_them_down_to_one_and_rounds_of_answers_add_some() {
        let (flow, mut waves) = (Flow::default(), Vec::new());
        for refused in [true, true, true, true, true, false, false, false, true] {
            let requests = begin(&flow, 10);
            waves.push(requests.len());
            requests
                .iter()
                .for_each(|request| if refused { request.refused() } else { request.taken() });
        }
        assert_eq!(waves, [10, 5, 2, 1, 1, 1, 2, 2, 3]);
    }

    #[tokio::test]
    async fn who_waits_goes_on_when_another_ends() {
        let flow = Flow::default();
        let first = flow.enter().await;
        first.refused();
        let mut waiting = Box::pin(flow.enter());
        assert!((&mut waiting).now_or_never().is_none());
        drop(first);
        assert!((&mut waiting).now_or_never().is_some());
    }
}
