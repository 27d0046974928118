//! Logging to standard error: text for people, JSON for machines. Secrets cannot get here, because
//! their types do not print.

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;

/// The shape of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum LogFormat {
    /// Lines for people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// How to log.
#[derive(Debug, Clone, clap::Args)]
pub struct LogSettings {
    /// Log filter, e.g. `info` or `info,tracelift_exporter=debug`
    #[arg(long, env = "TRACELIFT_LOG", default_value = "info", global = true)]
    pub log: String,
    /// Format of the log
    #[arg(long, env = "TRACELIFT_LOG_FORMAT", value_enum, default_value_t, global = true)]
    pub log_format: LogFormat,
}

/// Initialises logging for the whole process. Further calls have no effect.
pub fn init(settings: &LogSettings) {
    let filter = EnvFilter::try_new(&settings.log).unwrap_or_else(|_| EnvFilter::new("info"));
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(true);
    let _ = match settings.log_format {
        LogFormat::Text => {
            lines.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).try_init()
        }
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    };
}
