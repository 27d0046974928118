//! The command: starts everything, runs the rounds, prints a summary line.

use std::{collections::BTreeSet, path::Path, process::ExitCode};

use tempfile::TempDir;

use crate::{
    fleet::{Fleet, HEARTBEAT_SECONDS, LEASE_SECONDS, PROGRESS_SECONDS},
    parts::{self, Places},
    plan::{Plan, Shape},
    report::Report,
    round,
};

/// Where the control planes keep their state
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Store {
    Sqlite,
    Postgres,
}

/// The real programs under kills, freezes and restarts, and every exported row compared with its
/// source
#[derive(Debug, clap::Parser)]
pub struct Command {
    /// How many rounds
    #[arg(long, default_value_t = 2)]
    rounds: u64,
    /// Where the control planes keep their state
    #[arg(long, value_enum, default_value_t = Store::Sqlite)]
    store: Store,
    /// How many control planes; 1 on SQLite and 2 on PostgreSQL without it
    #[arg(long)]
    replicas: Option<usize>,
    /// What the plans of the rounds are made from; a fresh one without it
    #[arg(long)]
    seed: Option<u64>,
    /// Rows of the data set
    #[arg(long, default_value_t = 30_000)]
    rows: u64,
}

const EXPORTERS: usize = 3;

impl Command {
    /// Runs the rounds; fails if an invariant was violated.
    pub async fn run(self) -> ExitCode {
        let postgres = self.store == Store::Postgres;
        let control_planes = self.replicas.unwrap_or(if postgres { 2 } else { 1 }).max(1);
        if control_planes > 1 && !postgres {
            eprintln!("error: several control planes need --store postgres");
            return ExitCode::FAILURE;
        }
        let shape = Shape { exporters: EXPORTERS, control_planes, postgres };
        let seed = self.seed.unwrap_or_else(|| fastrand::u64(..1_000_000_000));
        let stopping = tracelift_runtime::shutdown::on_signal().expect("signals");
        let mut dir = TempDir::with_prefix("tracelift-chaos-").expect("a folder");
        dir.disable_cleanup(true); // a panic leaves it behind
        let good = tokio::select! {
            good = self.rounds(shape, seed, dir.path()) => Some(good),
            () = stopping.cancelled() => None,
        };
        dir.disable_cleanup(good == Some(false));
        if good == Some(true) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }

    async fn rounds(&self, shape: Shape, seed: u64, dir: &Path) -> bool {
        let server = if parts::minio().is_some() { "MinIO" } else { "s3s" };
        println!(
            "chaos from seed {seed}: heartbeat {HEARTBEAT_SECONDS} s, lease {LEASE_SECONDS} s, progress {PROGRESS_SECONDS} s, {server}"
        );
        let (mut fleet, world) =
            Fleet::start(&Places::new(dir, shape.control_planes), shape, self.rows).await;
        let (mut report, mut known) = (Report::default(), BTreeSet::new());
        for number in 1..=self.rounds {
            println!("  round {number}");
            round::run(
                Plan::new(seed, number, shape),
                shape,
                &mut fleet,
                &world,
                &mut report,
                &mut known,
            )
            .await;
        }
        report.failures.extend(fleet.panics());
        if !report.good() {
            println!(
                "{}\n{}\nlogs and data are in {}",
                report.leftovers.join("\n"),
                report.failures.join("\n"),
                dir.display()
            );
        }
        let store = if shape.postgres { "PostgreSQL" } else { "SQLite" };
        println!(
            "chaos: {report} (lease {LEASE_SECONDS} s); {store}, {} control planes, {server}; seed {seed}",
            shape.control_planes
        );
        report.good()
    }
}
