//! The gateway process: reads settings, sets up logging, binds the port and runs until it is
//! stopped.

use std::process::ExitCode;

use clap::Parser as _;
use tracelift_gateway::{Gateway, Settings};
use tracelift_runtime::{process_limits, shutdown, telemetry};

#[tokio::main]
async fn main() -> ExitCode {
    let settings = Settings::parse();
    telemetry::init(&settings.log);
    process_limits::adjust();
    match serve(settings).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn serve(settings: Settings) -> Result<(), Box<dyn std::error::Error>> {
    let shutdown = shutdown::on_signal()?;
    Ok(Gateway::bind(settings).await?.run(shutdown).await?)
}
