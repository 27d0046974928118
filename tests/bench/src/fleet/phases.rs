//! What is measured, one phase after the other, each over the same connected fleet.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::{Value, json};
use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval, sleep},
};

use crate::{
    Options, Outcome,
    caller::Caller,
    exporter::Play,
    ledger::{Ledger, Seen},
    metrics::{rate, spread},
};

/// The fleet, its callers, and what was seen.
pub(crate) struct Bench {
    pub(crate) options: Options,
    pub(crate) callers: Vec<Caller>,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) play: watch::Sender<Play>,
}

/// Exports that are made at the same time.
const MAKING: usize = 4;
/// An export's runs that callers do not see: one finalises, one reconciles.
const UNSEEN: usize = 2;

impl Bench {
    pub(crate) async fn all(&mut self) -> Outcome<()> {
        say("connect", self.connect().await?);
        say("idle", self.idle().await);
        say("calm", self.calm().await?);
        let (metrics, reached) = self.saturated().await?;
        say("saturated", metrics);
        say("paced", self.paced(self.options.backoff.min(reached / 2.0)).await?);
        say("cancel", self.cancel().await?);
        Ok(())
    }

    async fn connect(&self) -> Outcome<Value> {
        let (began, exporters) = (Instant::now(), self.options.exporters);
        self.ledger.until("connecting", |seen| seen.welcomes.len() == exporters).await?;
        Ok(
            json!({ "exporters": exporters, "seconds": began.elapsed().as_secs_f64(), "welcome": spread(self.ledger.take().welcomes) }),
        )
    }

    /// All are connected and there is nothing to do.
    async fn idle(&self) -> Value {
        sleep(Duration::from_secs(self.options.idle_seconds)).await;
        json!({ "seconds": self.options.idle_seconds })
    }

    /// All slots are free, and an export is made: one after the other.
    async fn calm(&self) -> Outcome<Value> {
        let (mut since_asked, mut since_answered, mut calls) = (Vec::new(), Vec::new(), Vec::new());
        self.play.send_replace(Play::AtOnce);
        for caller in self.callers.iter().cycle().take(self.options.calm_exports) {
            let asked = Instant::now();
            caller.create(self.options.calm_days).await?;
            let answered = Instant::now();
            let all = self.options.calm_days as usize + UNSEEN;
            self.ledger
                .until("the idle fleet was given an export", |seen| seen.ended == all)
                .await?;
            let seen = self.ledger.take();
            calls.push(answered - asked);
            for arrival in seen.arrivals.iter().filter(|arrival| arrival.partition) {
                since_asked.push(arrival.at - asked);
                since_answered.push(arrival.at.saturating_duration_since(answered));
            }
        }
        Ok(json!({
            "create_call": spread(calls),
            "create_call_begun_to_assignment": spread(since_asked),
            "create_call_answered_to_assignment": spread(since_answered),
        }))
    }

    /// As fast as it goes: every slot is given back at once, and the queue is full from the start.
    async fn saturated(&self) -> Outcome<(Value, f64)> {
        let (exports, calls, time) = self.queue(self.options.runs, self.options.days).await?;
        let creates = rate(exports, time);
        let (seen, time) = self.work_off(exports, Play::AtOnce).await?;
        let reached = rate(seen.arrivals.len(), time);
        let metrics = json!({
            "runs": self.runs(exports),
            "exports": exports,
            "create_call": spread(calls),
            "creates_per_s": creates,
            "seconds": time.as_secs_f64(),
            "assignments_per_s": reached,
            "lost_leases": seen.stops.len(),
            "free_slot_to_assignment": spread(waits(&seen)),
        });
        Ok((metrics, reached))
    }

    /// The queue is full, and slots become free at a pace that the control plane can keep.
    async fn paced(&self, backoff: f64) -> Outcome<Value> {
        let slots = self.slots() as f64;
        let runs = (backoff * f64::from(self.options.paced_seconds)) as usize;
        let (exports, ..) = self.queue(runs.max(self.slots()), self.options.days).await?;
        let hold = Duration::from_secs_f64(slots / backoff);
        let (seen, time) = self.work_off(exports, Play::Hold(hold)).await?;
        Ok(json!({
            "runs": self.runs(exports),
            "held_s": hold.as_secs_f64(),
            "wanted_per_s": backoff,
            "assignments_per_s": rate(seen.arrivals.len(), time),
            "lost_leases": seen.stops.len(),
            "free_slot_to_assignment": spread(waits(&seen)),
        }))
    }

    /// Every exporter holds runs, and their exports, one a run, are cancelled one after the other.
    async fn cancel(&self) -> Outcome<Value> {
        let slots = self.slots();
        self.play.send_replace(Play::Keep);
        let made = self.make(slots, 1).await?.0;
        self.ledger.until("holding a run each", |seen| seen.partitions == slots).await?;
        let mut ticks = interval(Duration::from_secs(1) / self.options.cancels.max(1));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut asked, mut calls, began) = (HashMap::new(), Vec::new(), Instant::now());
        for (caller, export) in made {
            ticks.tick().await;
            let at = Instant::now();
            asked.insert(export.clone(), at);
            caller.cancel(export).await?;
            calls.push(at.elapsed());
        }
        let time = began.elapsed();
        self.ledger.until("being told of the cancels", |seen| seen.stops.len() == slots).await?;
        self.ledger.until("cleaning up", |seen| seen.ended == slots).await?;
        let seen = self.ledger.take();
        let told =
            seen.stops.iter().filter_map(|(export, at)| Some(*at - *asked.get(export)?)).collect();
        Ok(json!({
            "cancels": slots,
            "cancels_per_s": rate(slots, time),
            "declined": seen.declined,
            "cancel_call": spread(calls),
            "cancel_call_begun_to_delivery": spread(told),
        }))
    }

    fn slots(&self) -> usize {
        self.options.exporters * self.options.capacity as usize
    }

    fn runs(&self, exports: usize) -> usize {
        exports * self.options.days as usize
    }

    /// Has at least that many runs queued, of which every exporter holds as many as it can: how
    /// many exports they are of, how long each call took, and all of them.
    async fn queue(&self, runs: usize, days: u32) -> Outcome<(usize, Vec<Duration>, Duration)> {
        self.play.send_replace(Play::Keep);
        let (exports, began) = (runs.div_ceil(days as usize), Instant::now());
        let calls = self.make(exports, days).await?.1;
        let (time, held) = (began.elapsed(), self.slots().min(exports * days as usize));
        self.ledger.until("filling every slot", |seen| seen.partitions == held).await?;
        Ok((exports, calls, time))
    }

    /// Makes exports, by all callers in turns.
    async fn make(
        &self,
        exports: usize,
        days: u32,
    ) -> Outcome<(Vec<(&Caller, String)>, Vec<Duration>)> {
        let made =
            stream::iter(self.callers.iter().cycle().take(exports)).map(|caller| async move {
                let asked = Instant::now();
                let export = caller.create(days).await?;
                Outcome::Ok(((caller, export), asked.elapsed()))
            });
        Ok(made.buffer_unordered(MAKING).try_collect::<Vec<_>>().await?.into_iter().unzip())
    }

    /// Lets the fleet do all that is queued; what was seen meanwhile, and how long it took.
    async fn work_off(&self, exports: usize, play: Play) -> Outcome<(Seen, Duration)> {
        let (all, began) = (self.runs(exports) + UNSEEN * exports, Instant::now());
        self.ledger.write().arrivals.clear();
        self.play.send_replace(play);
        self.ledger.until("working the queue off", |seen| seen.ended == all).await?;
        let time = began.elapsed();
        Ok((self.ledger.take(), time))
    }
}

/// How long slots were free while there was something queued for them. What callers do not see was
/// not queued all the time.
fn waits(seen: &Seen) -> Vec<Duration> {
    seen.arrivals
        .iter()
        .filter(|arrival| arrival.partition)
        .filter_map(|arrival| arrival.waited)
        .collect()
}

fn say(phase: &str, metrics: Value) {
    println!("{}", json!({ phase: metrics }));
}
