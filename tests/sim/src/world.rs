//! One world: everything that a seed decides, its hosts, and the simulation from chaos to rest.

use std::{
    collections::BTreeMap,
    panic,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use bytes::Bytes;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use tracelift_control_plane::store::{Store, sqlite::SqliteEngine};
use turmoil::Sim;

use crate::{
    bucket::{Bucket, Object, SOURCE},
    caller::{Caller, PlannedExport},
    chaos::Chaos,
    checker::Checker,
    clickhouse,
    data::{self, Data},
    faults::FaultInjector,
    hosts::{self, Stopping},
    net::{Network, Wires},
    trace::Trace,
};

/// The result of one seed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    pub seed: u64,
    pub steps: u64,
    pub faults: u64,
    /// How often the invariants were checked.
    pub judged: u64,
    /// Virtual time until the world was at rest.
    pub took: Duration,
    pub violations: Vec<String>,
    /// SHA-256 of the trace, and its number of lines.
    pub trace: (String, u64),
    /// The last lines of the trace.
    pub last: String,
}

/// The length of a step in virtual time: every host runs for this long, one after another.
const TICK: Duration = Duration::from_millis(10);
/// How long after the last fault everything must be at rest: the longest retry delay, plus the
/// attempt.
const REST: Duration = Duration::from_secs(900);
/// How long work may continue after the last run has ended: a clean-up, or the last reports of a
/// stopped exporter.
const SETTLING: Duration = Duration::from_secs(30);

/// Everything that a seed decides.
struct Plan {
    control_planes: Vec<String>,
    exporters: Vec<String>,
    data: Data,
    wishes: Vec<PlannedExport>,
    /// How long new faults may start.
    chaos: Duration,
    /// Probability per step that a fault starts.
    crashes: f64,
    /// Probability that a request fails.
    troubles: f64,
    /// Maximum latency of a message.
    latency: Duration,
}

impl Plan {
    fn new(seed: u64, fair: bool) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let data = Data::new(rng.random());
        let names =
            |kind: &str, count: u32| (1..=count).map(|number| format!("{kind}-{number}")).collect();
        let chaos = Duration::from_secs(rng.random_range(5..20));
        // Every other export in every fifth world. This draws no random numbers, so that the other
        // worlds stay the same.
        let of_experiments = |number: u32| seed % 5 == 2 && number.is_multiple_of(2);
        let wishes = (0..rng.random_range(1..=4))
            .map(|number| PlannedExport {
                all_experiments: of_experiments(number),
                ..planned(&mut rng, data.days, chaos)
            })
            .collect();
        Self {
            control_planes: names("control", rng.random_range(1..=2)),
            exporters: names("exporter", rng.random_range(1..=3)),
            data,
            wishes,
            chaos: if fair { Duration::ZERO } else { chaos },
            crashes: if fair { 0.0 } else { [0.0, 0.004, 0.015, 0.03][rng.random_range(0..4)] },
            troubles: if fair { 0.0 } else { [0.0, 0.01, 0.05, 0.15][rng.random_range(0..4)] },
            latency: Duration::from_millis([2, 10, 60][rng.random_range(0..3)]),
        }
    }
}

/// An export created during the chaos.
fn planned(rng: &mut StdRng, days: i64, chaos: Duration) -> PlannedExport {
    let (first, span) = (data::start(), days * 86_400_000_000);
    let window = if rng.random_bool(0.6) {
        (first, first + span)
    } else {
        (first + rng.random_range(0..span / 3), first + span - rng.random_range(0..span / 3))
    };
    PlannedExport {
        after: chaos.mul_f64(rng.random_range(0.0..0.8)),
        window,
        compression: rng.random_range(0..=4),
        all_experiments: false,
        all_columns: rng.random_bool(0.3),
        cancelled_after: rng
            .random_bool(0.25)
            .then(|| Duration::from_millis(rng.random_range(0..4_000))),
    }
}

/// Runs the world of a seed. `fair` disables all faults; `echo` prints the trace.
pub fn run(seed: u64, fair: bool, echo: bool) -> Outcome {
    let trace = Trace::new(echo);
    listen_to(&trace);
    let plan = Plan::new(seed, fair);
    let mut builder = turmoil::Builder::new();
    builder
        .rng_seed(seed)
        .tick_duration(TICK)
        .simulation_duration(Duration::from_secs(1 << 20))
        .enable_random_order();
    builder
        .tcp_capacity(1 << 12)
        .min_message_latency(Duration::from_millis(1))
        .max_message_latency(plan.latency);
    let mut sim = builder.build();
    let mut world = World::new(seed, plan, trace.clone(), &mut sim);
    world.live(&mut sim);
    let steps = world.steps;
    let faults = world.chaos.faults() + world.faults.iter().map(FaultInjector::faults).sum::<u64>();
    let outcome = Outcome {
        seed,
        steps,
        faults,
        judged: world.checker.judged,
        took: sim.elapsed(),
        violations: trace.violations(),
        trace: trace.digest(),
        last: trace.last(),
    };
    drop(sim);
    outcome
}

/// Records the services' log lines and panics in the trace; a panic is a violation.
fn listen_to(trace: &Trace) {
    let lines = tracing_subscriber::fmt()
        .with_env_filter("warn,aws_smithy_runtime=off,tracelift_runtime=off,tracelift_control_plane=info,tracelift_exporter=info");
    let _ = lines.with_ansi(false).without_time().with_writer(trace.clone()).try_init(); // the first world of a process
    let trace = trace.clone();
    panic::set_hook(Box::new(move |panic| trace.violation(format_args!("NothingPanics: {panic}"))));
}

struct World {
    checker: Checker,
    chaos: Chaos,
    faults: [FaultInjector; 2],
    caller: Arc<AtomicBool>,
    data: Arc<Data>,
    until: Duration,
    trace: Trace,
    steps: u64,
}

impl World {
    fn new(seed: u64, plan: Plan, trace: Trace, sim: &mut Sim<'_>) -> Self {
        let network = Network { wires: Wires::default() };
        let data = Arc::new(plan.data);
        let faults = [("clickhouse", 1), ("s3", 2)].map(|(name, salt)| {
            FaultInjector::new(name, seed ^ salt, plan.troubles, trace.clone())
        });
        let bucket = Bucket::new(faults[1].clone(), trace.clone());
        fill(&bucket, &data);
        let store =
            Store::from(SqliteEngine::open(Path::new(hosts::DATABASE)).expect("a database"));

        let mut services = BTreeMap::new();
        for name in &plan.control_planes {
            let (stopping, network) = (Stopping::default(), network.clone());
            services.insert(name.clone(), stopping.clone());
            sim.host(name.as_str(), move || {
                hosts::control_plane(network.clone(), stopping.clone())
            });
        }
        for (name, index) in plan.exporters.iter().zip(0..) {
            let (stopping, network, name) = (Stopping::default(), network.clone(), name.clone());
            services.insert(name.clone(), stopping.clone());
            let control_plane = plan.control_planes[index % plan.control_planes.len()].clone();
            sim.host(name.clone().as_str(), move || {
                hosts::exporter(
                    network.clone(),
                    stopping.clone(),
                    name.clone(),
                    control_plane.clone(),
                )
            });
        }
        let (served, over, weathers) = (data.clone(), network.clone(), faults[0].clone());
        sim.host("clickhouse", move || {
            clickhouse::serve(over.clone(), served.clone(), weathers.clone())
        });
        let (disk, over) = (bucket.clone(), network.clone());
        sim.host("s3", move || disk.clone().serve(over.clone()));
        let content = Arc::new(AtomicBool::new(false));
        let caller = Caller {
            network: network.clone(),
            control_planes: plan.control_planes.clone(),
            wishes: plan.wishes,
            trace: trace.clone(),
            content: content.clone(),
        };
        sim.client("caller", caller.run());

        let pairs = pairs(&plan.control_planes, &plan.exporters);
        let mut hosts: Vec<_> =
            services.into_iter().map(|(name, stopping)| (name, Some(stopping))).collect();
        hosts.extend(["clickhouse", "s3"].map(|name| (name.to_owned(), None)));
        Self {
            checker: Checker::new(store, bucket, trace.clone()),
            chaos: Chaos::new(seed ^ 3, plan.crashes, hosts, pairs, network.wires, trace.clone()),
            faults,
            caller: content,
            data,
            until: plan.chaos,
            trace,
            steps: 0,
        }
    }

    /// Runs with faults, then without until the world is at rest, then makes the final checks.
    fn live(&mut self, sim: &mut Sim<'_>) {
        while sim.elapsed() < self.until && self.step(sim) {
            self.chaos.step(sim);
        }
        self.chaos.calm(sim);
        self.faults.iter().for_each(FaultInjector::clear);
        self.trace.line(format_args!("calm from {:?} on", sim.elapsed()));
        let patience = sim.elapsed() + REST;
        while !(self.caller.load(SeqCst) && self.checker.at_rest()) {
            if !self.step(sim) {
                return;
            }
            self.chaos.revive(sim);
            if sim.elapsed() > patience {
                self.trace.violation(format_args!(
                    "EverythingComesToRest: it has not\n{}",
                    self.checker.describe()
                ));
                return;
            }
        }
        let settled = sim.elapsed() + SETTLING;
        while sim.elapsed() < settled && self.step(sim) {}
        self.checker.rest(&self.data);
    }

    /// Runs one step. Returns whether to continue.
    fn step(&mut self, sim: &mut Sim<'_>) -> bool {
        self.steps += 1;
        if let Err(error) = sim.step() {
            self.trace.violation(format_args!("ServicesGoOn: {error}"));
        }
        self.checker.step();
        self.trace.violations().is_empty()
    }
}

/// The pairs of hosts that communicate.
fn pairs(control_planes: &[String], exporters: &[String]) -> Vec<(String, String)> {
    let mut pairs = Vec::new();
    for control_plane in control_planes {
        pairs.extend(exporters.iter().map(|exporter| (exporter.clone(), control_plane.clone())));
        pairs.push(("caller".to_owned(), control_plane.clone()));
        pairs.push((control_plane.clone(), "s3".to_owned()));
    }
    for exporter in exporters {
        pairs.extend(["clickhouse", "s3"].map(|server| (exporter.clone(), server.to_owned())));
    }
    pairs
}

/// Stores the objects that rows point to before the world starts.
fn fill(bucket: &Bucket, data: &Data) {
    let mut disk = bucket.disk();
    for (key, text) in data.objects() {
        let object = Object {
            content: Bytes::copy_from_slice(text.as_bytes()),
            metadata: None,
            etag: "source".to_owned(),
            write: 0,
        };
        disk.objects.insert((SOURCE.to_owned(), key.to_owned()), object);
    }
}
