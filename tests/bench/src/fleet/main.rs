//! Many exporters of the benchmark, simulated over the real stream, and the callers that give them
//! work: what a control plane can do with them, phase by phase. Prints one JSON object a phase.
//!
//! Nothing is read from ClickHouse and nothing is written to a bucket: what is measured is the
//! control plane alone.

mod caller;
mod exporter;
mod ledger;
mod metrics;
mod phases;

use std::{
    io::{BufRead as _, stdin},
    process::ExitCode,
    sync::Arc,
};

use clap::Parser;
use tokio::{
    sync::{Semaphore, watch},
    task::JoinSet,
};
use tonic::transport::Endpoint;
use tracelift_runtime::tasks;
use tracelift_test_grpc::Bearer;

use crate::{
    caller::Caller,
    exporter::{Exporter, Play},
    ledger::Ledger,
    phases::Bench,
};

/// A simulated fleet and its callers. The callers come on the standard input, a line each: an API
/// key, a blank, the id of a destination. The exporters' token comes from TRACELIFT_FLEET_TOKEN
#[derive(Debug, Clone, Parser)]
struct Options {
    /// The control plane's address
    #[arg(long, env = "TRACELIFT_GRPC", default_value = "http://127.0.0.1:7700")]
    control_plane: String,
    /// Exporters, each with a connection of its own
    #[arg(long, default_value_t = 1000)]
    exporters: usize,
    /// Runs that an exporter holds at once
    #[arg(long, default_value_t = 1)]
    capacity: u32,
    /// Runs of the saturated phase
    #[arg(long, default_value_t = 20_000)]
    runs: usize,
    /// Days, and so runs, of one export
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=365))]
    days: u32,
    /// Seconds in which nothing happens
    #[arg(long, default_value_t = 10)]
    idle_seconds: u64,
    /// Exports that the idle fleet is given, one after the other
    #[arg(long, default_value_t = 50)]
    calm_exports: usize,
    /// Days of each of them
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=365))]
    calm_days: u32,
    /// Runs a second of the paced phase; half of what the saturated phase had, when that is less
    #[arg(long, default_value_t = 200.0)]
    backoff: f64,
    /// Seconds of the paced phase
    #[arg(long, default_value_t = 30)]
    paced_seconds: u32,
    /// Most exports cancelled in a second
    #[arg(long, default_value_t = 50)]
    cancels: u32,
}

type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Exporters that connect at the same time.
const CONNECTING: usize = 32;
/// Open files beside the exporters' connections.
const OTHER_FILES: usize = 64;

#[tokio::main]
async fn main() -> ExitCode {
    match run(Options::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(options: Options) -> Outcome<()> {
    enough_files(options.exporters)?;
    let endpoint = Endpoint::from_shared(options.control_plane.clone())?.tcp_nodelay(true);
    let callers = callers(&endpoint).await?;
    let token = std::env::var("TRACELIFT_FLEET_TOKEN").map_err(|_| "set TRACELIFT_FLEET_TOKEN")?;
    let (ledger, connecting) = (Arc::new(Ledger::default()), Arc::new(Semaphore::new(CONNECTING)));
    let (play, played) = watch::channel(Play::AtOnce);
    let mut bench = Bench { options, callers, ledger: ledger.clone(), play };
    let mut exporters = JoinSet::new();
    for number in 0..bench.options.exporters {
        let exporter = Exporter {
            name: format!("simulated-{number}"),
            endpoint: endpoint.clone(),
            token: Bearer::new(&token),
            capacity: bench.options.capacity,
            connecting: connecting.clone(),
            play: played.clone(),
            ledger: ledger.clone(),
        };
        tasks::start_in(&mut exporters, "exporter", exporter.run());
    }
    let outcome = bench.all().await;
    exporters.shutdown().await;
    outcome
}

async fn callers(endpoint: &Endpoint) -> Outcome<Vec<Caller>> {
    let mut callers = Vec::new();
    for line in stdin().lock().lines() {
        let line = line?;
        let (key, destination) = line.split_once(' ').ok_or("a line must be `key destination`")?;
        callers.push(Caller::connect(endpoint, key, destination).await?);
    }
    if callers.is_empty() {
        Err("no callers came on the standard input".into())
    } else {
        Ok(callers)
    }
}

/// A connection is an open file, here and in the control plane.
fn enough_files(exporters: usize) -> Outcome<()> {
    let needed = exporters + OTHER_FILES;
    let limits = std::fs::read_to_string("/proc/self/limits")?;
    let line =
        limits.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap_or_default();
    let allowed =
        line.split_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or(usize::MAX);
    if allowed >= needed {
        return Ok(());
    }
    let words = format!(
        "{exporters} exporters need {needed} open files and this shell allows {allowed}: run `ulimit -n {needed}`, then start the \
         control plane and this program from there"
    );
    Err(words.into())
}
