//! The exporter process.

use std::process::ExitCode;

use tracelift_exporter::{Error, Exporter, METRICS, RENAMED, Settings};
use tracelift_runtime::{metrics, process_limits, renamed, shutdown, telemetry};

/// Returns freed memory to the system: the encoder allocates and frees tens of megabytes at a time
/// on many threads.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> ExitCode {
    let settings = Settings::read();
    telemetry::init(&settings.log);
    process_limits::adjust();
    renamed::warn(RENAMED);
    settings.endpoints.warn();
    match work(&settings).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn work(settings: &Settings) -> Result<(), Error> {
    metrics::serve(&settings.metrics)?;
    metrics::describe(METRICS);
    let exporter = Exporter::new(settings).await?;
    exporter.run(shutdown::on_signal()?).await;
    Ok(())
}
