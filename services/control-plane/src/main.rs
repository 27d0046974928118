//! The control plane's process.

use std::process::ExitCode;

use tracelift_control_plane::{ControlPlane, Error, METRICS, Settings};
use tracelift_runtime::{metrics, process_limits, shutdown, telemetry};

#[tokio::main]
async fn main() -> ExitCode {
    let settings = Settings::read();
    telemetry::init(&settings.log);
    process_limits::adjust();
    settings.endpoints.warn();
    match serve(settings).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn serve(settings: Settings) -> Result<(), Error> {
    metrics::serve(&settings.metrics)?;
    metrics::describe(METRICS);
    let control_plane = ControlPlane::bind(settings).await?;
    control_plane.run(shutdown::on_signal()?).await
}
