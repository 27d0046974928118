//! The command: runs one world in this process, or many, each in its own process, because the
//! clock, the random numbers and all other per-process state belong to one world.

use std::{
    io,
    process::{Child, Command as Process, ExitCode, Stdio},
    time::SystemTime,
};

use rand::{SeedableRng as _, rngs::StdRng};

use crate::world::{self, Outcome};

/// The real services in simulated worlds, one for each seed
#[derive(Debug, clap::Parser)]
pub struct Command {
    /// The first seed; a fresh one without it
    #[arg(long)]
    seed: Option<u64>,
    /// How many seeds, one after the other
    #[arg(long, default_value_t = 1)]
    count: u64,
    /// Worlds at once; as many as there are processors without it
    #[arg(long)]
    jobs: Option<usize>,
    /// Leave out every fault
    #[arg(long)]
    fair: bool,
    /// Print the trace of each world
    #[arg(long)]
    trace: bool,
    /// Run the one world here and print a line for the parent
    #[arg(long, hide = true)]
    one: bool,
}

/// Runs one world in this process; nothing else may run in it.
pub fn one(seed: u64, fair: bool, trace: bool) -> Outcome {
    *mad_turmoil_rng() = StdRng::seed_from_u64(seed);
    fastrand::seed(seed);
    let _clocks = mad_turmoil::time::SimClocksGuard::init();
    world::run(seed, fair, trace)
}

fn mad_turmoil_rng() -> std::sync::MutexGuard<'static, StdRng> {
    if mad_turmoil::rand::try_rng().is_none() {
        mad_turmoil::rand::set_rng(StdRng::seed_from_u64(0));
    }
    mad_turmoil::rand::get_rng()
}

/// The line a world prints for its parent: seed, steps, faults, checks, virtual milliseconds,
/// violations, trace.
fn told(outcome: &Outcome) -> String {
    let Outcome { seed, steps, faults, judged, took, violations, trace: (digest, lines), .. } =
        outcome;
    format!(
        "world {seed} {steps} {faults} {judged} {} {} {digest} {lines}",
        took.as_millis(),
        violations.len()
    )
}

impl Command {
    /// Runs the worlds; fails if an invariant was violated.
    pub fn run(self) -> ExitCode {
        if self.one {
            let outcome = one(self.seed.unwrap_or_default(), self.fair, self.trace);
            if !outcome.violations.is_empty() {
                eprintln!(
                    "{}\nseed {} broke:\n{}",
                    outcome.last,
                    outcome.seed,
                    outcome.violations.join("\n")
                );
            }
            println!("{}", told(&outcome));
            return if outcome.violations.is_empty() {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            };
        }
        match self.many() {
            Ok(code) => code,
            Err(error) => {
                eprintln!("the simulation cannot run: {error}");
                ExitCode::FAILURE
            }
        }
    }

    fn many(&self) -> io::Result<ExitCode> {
        let first = self.seed.map_or_else(fresh, Ok)?;
        eprintln!("simulating seeds {first} to {}", first + self.count.saturating_sub(1));
        let began = now()?;
        let jobs = self
            .jobs
            .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
        let (mut sum, mut broken) = ([0_u64; 3], Vec::new());
        let mut running = std::collections::VecDeque::new();
        for seed in first..first + self.count {
            if running.len() == jobs {
                finish(running.pop_front(), &mut sum, &mut broken)?;
            }
            running.push_back((seed, self.start(seed)?));
        }
        while !running.is_empty() {
            finish(running.pop_front(), &mut sum, &mut broken)?;
        }
        let took = now()?.duration_since(began).unwrap_or_default();
        println!(
            "simulated {} seeds from {first}: {} steps, {} faults, {} judgements, {} seeds with violations{}; {:.1} s, {:.2} s a seed",
            self.count,
            sum[0],
            sum[1],
            sum[2],
            broken.len(),
            if broken.is_empty() { String::new() } else { format!(" {broken:?}") },
            took.as_secs_f64(),
            took.as_secs_f64() * jobs as f64 / self.count.max(1) as f64,
        );
        Ok(if broken.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    fn start(&self, seed: u64) -> io::Result<Child> {
        let mut process = Process::new(std::env::current_exe()?);
        process.args(["--one", "--seed", &seed.to_string()]).stdout(Stdio::piped());
        if self.fair {
            process.arg("--fair");
        }
        if self.trace {
            process.arg("--trace");
        }
        process.spawn()
    }
}

fn finish(
    running: Option<(u64, Child)>,
    sum: &mut [u64; 3],
    broken: &mut Vec<u64>,
) -> io::Result<()> {
    let Some((seed, child)) = running else { return Ok(()) };
    let ended = child.wait_with_output()?;
    let told = String::from_utf8_lossy(&ended.stdout);
    for (sum, said) in sum.iter_mut().zip(told.split(' ').skip(2)) {
        *sum += said.parse::<u64>().unwrap_or_default();
    }
    if !ended.status.success() {
        eprintln!("=== seed {seed}: again with `make sim SEED={seed} COUNT=1`");
        broken.push(seed);
    }
    Ok(())
}

/// A random seed.
fn fresh() -> io::Result<u64> {
    getrandom::u32().map(u64::from).map_err(io::Error::other)
}

/// The time according to the file system: this process's own clock is virtual.
fn now() -> io::Result<SystemTime> {
    let file = tempfile::NamedTempFile::new()?;
    file.as_file().metadata()?.modified()
}
