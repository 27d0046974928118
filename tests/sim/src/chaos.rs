//! Faults of hosts and of the network between them: crashes, stops, partitions, held messages.
//! Every fault that starts also ends.

use std::{collections::BTreeMap, time::Duration};

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng, seq::IndexedRandom as _};
use turmoil::Sim;

use crate::{hosts::Stopping, net::Wires, trace::Trace};

/// A fault, which determines how it ends.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum FaultKind {
    /// The host is down.
    Down(String),
    /// No messages are delivered between the two hosts.
    Cut(String, String),
    /// No messages are delivered from the first host to the second.
    CutOneWay(String, String),
    /// All messages are held.
    Held(String, String),
}

/// The faults of one seed.
pub struct Chaos {
    rng: StdRng,
    /// Probability per step that a fault starts.
    share: f64,
    under_way: BTreeMap<FaultKind, Duration>,
    /// Every host that can crash, and how to stop it gracefully, if possible.
    hosts: Vec<(String, Option<Stopping>)>,
    pairs: Vec<(String, String)>,
    wires: Wires,
    trace: Trace,
    faults: u64,
}

impl Chaos {
    /// Faults of these hosts and of the pairs that communicate.
    pub fn new(
        seed: u64,
        share: f64,
        hosts: Vec<(String, Option<Stopping>)>,
        pairs: Vec<(String, String)>,
        wires: Wires,
        trace: Trace,
    ) -> Self {
        Self {
            rng: StdRng::seed_from_u64(seed),
            share,
            under_way: BTreeMap::new(),
            hosts,
            pairs,
            wires,
            trace,
            faults: 0,
        }
    }

    /// The number of faults so far.
    pub fn faults(&self) -> u64 {
        self.faults
    }

    fn say(&self, sim: &Sim<'_>, text: &str) {
        let at = sim.elapsed().as_millis();
        self.trace.line(format_args!("{:>7}.{:03} FAULT {text}", at / 1000, at % 1000));
    }

    /// Runs before each step: ends expired faults, and may start a new one.
    pub fn step(&mut self, sim: &mut Sim<'_>) {
        let now = sim.elapsed();
        let over: Vec<_> = self
            .under_way
            .iter()
            .filter(|(_, until)| **until <= now)
            .map(|(fault, _)| fault.clone())
            .collect();
        for fault in over {
            self.end(sim, &fault);
        }
        self.revive(sim);
        if self.rng.random_bool(self.share) {
            self.begin(sim);
        }
    }

    /// Ends all faults.
    pub fn calm(&mut self, sim: &mut Sim<'_>) {
        self.share = 0.0;
        for fault in self.under_way.clone().into_keys() {
            self.end(sim, &fault);
        }
    }

    /// Restarts hosts that have stopped gracefully.
    pub fn revive(&mut self, sim: &mut Sim<'_>) {
        let down = |chaos: &Self, name: &String| {
            chaos.under_way.contains_key(&FaultKind::Down(name.clone()))
        };
        let ended: Vec<_> = self
            .hosts
            .iter()
            .map(|(name, _)| name.clone())
            .filter(|name| !down(self, name))
            .collect();
        for name in ended {
            if !sim.is_host_running(name.as_str()) {
                self.say(sim, &format!("{name} starts again"));
                sim.bounce(name.as_str());
            }
        }
    }

    fn begin(&mut self, sim: &mut Sim<'_>) {
        let kind = self.rng.random_range(0..10);
        let fault = if kind < 4 {
            let (name, stopping) = self.hosts.choose(&mut self.rng).expect("hosts").clone();
            if self.under_way.contains_key(&FaultKind::Down(name.clone())) {
                return;
            }
            if let (Some(stopping), true) = (stopping, self.rng.random_bool(0.3)) {
                self.faults += 1;
                self.say(sim, &format!("{name} is told to stop"));
                stopping.stop();
                return;
            }
            sim.crash(name.as_str());
            FaultKind::Down(name)
        } else {
            let (one, other) = self.pairs.choose(&mut self.rng).expect("pairs").clone();
            if self.under_way.keys().any(|fault| fault.is_between(&one, &other)) {
                return;
            }
            match kind {
                4..=5 => {
                    sim.partition(one.as_str(), other.as_str());
                    FaultKind::Cut(one, other)
                }
                6..=7 => {
                    let (one, other) =
                        if self.rng.random_bool(0.5) { (one, other) } else { (other, one) };
                    sim.partition_oneway(one.as_str(), other.as_str());
                    FaultKind::CutOneWay(one, other)
                }
                _ => {
                    sim.hold(one.as_str(), other.as_str());
                    FaultKind::Held(one, other)
                }
            }
        };
        self.faults += 1;
        let most = if self.rng.random_bool(0.2) { 12_000 } else { 3_000 };
        let until = sim.elapsed() + Duration::from_millis(self.rng.random_range(50..most));
        self.say(sim, &format!("{fault:?} until {until:?}"));
        self.under_way.insert(fault, until);
    }

    fn end(&mut self, sim: &mut Sim<'_>, fault: &FaultKind) {
        self.under_way.remove(fault);
        self.say(sim, &format!("over: {fault:?}"));
        match fault {
            FaultKind::Down(name) => sim.bounce(name.as_str()),
            FaultKind::Cut(one, other) => {
                sim.repair(one.as_str(), other.as_str());
                self.reset(sim, one, other);
            }
            FaultKind::CutOneWay(one, other) => {
                sim.repair_oneway(one.as_str(), other.as_str());
                self.reset(sim, one, other);
            }
            FaultKind::Held(one, other) => sim.release(one.as_str(), other.as_str()),
        }
    }

    fn reset(&self, sim: &Sim<'_>, one: &str, other: &str) {
        self.wires.reset(sim.lookup(one), sim.lookup(other));
    }
}

impl FaultKind {
    fn is_between(&self, here: &str, there: &str) -> bool {
        match self {
            Self::Down(_) => false,
            Self::Cut(one, other) | Self::CutOneWay(one, other) | Self::Held(one, other) => {
                (one == here && other == there) || (one == there && other == here)
            }
        }
    }
}
