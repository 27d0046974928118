//! What can be typed.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, builder::PossibleValuesParser};
use tracelift_core::{
    destination::Addressing,
    export::{Compression, ExportStatus, FormatVersion},
    time::Timestamp,
};
use tracelift_runtime::tls::ClientTls;
use uuid::Uuid;

const SECRETS: &str = "\
Secrets come from the environment or from files, never from an option's value:
  TRACELIFT_API_KEY      the API key, or --api-key-file
  TRACELIFT_ADMIN_TOKEN  for `key` and `tenant`, or --admin-token-file
  S3_ACCESS_KEY_ID, S3_SECRET_ACCESS_KEY, S3_SESSION_TOKEN
                         for `destination create`, or --credentials-file";

const EXIT_CODES: &str = "\
Exit code of a watch: 0 completed, 1 failed or timed out, 3 cancelled, 130 stopped watching.";

/// Bulk export of LLM traces to your own bucket
#[derive(Debug, Clone, Parser)]
#[command(name = "tracelift", version, arg_required_else_help = true, after_help = SECRETS)]
pub struct Cli {
    #[allow(missing_docs, reason = "a doc comment would replace the text of --help")]
    #[command(flatten)]
    pub global: Global,
    #[allow(missing_docs, reason = "a doc comment would replace the text of --help")]
    #[command(subcommand)]
    pub command: Command,
}

/// Where to ask, and as whom.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// Address of the control plane
    #[arg(long, env = "TRACELIFT_GRPC", default_value = "http://127.0.0.1:7700", global = true)]
    pub server: String,
    /// Workspace; may be left out when the API key belongs to one
    #[arg(long, env = "TRACELIFT_TENANT_ID", value_name = "ID", global = true)]
    pub tenant: Option<Uuid>,
    /// File that holds the API key
    #[arg(long, env = "TRACELIFT_API_KEY_FILE", value_name = "FILE", global = true)]
    pub api_key_file: Option<PathBuf>,
    /// File that holds the operator's token
    #[arg(long, env = "TRACELIFT_ADMIN_TOKEN_FILE", value_name = "FILE", global = true)]
    pub admin_token_file: Option<PathBuf>,
    /// Print JSON, with the field names of the REST API
    #[arg(long, global = true)]
    pub json: bool,
    #[allow(missing_docs, reason = "a doc comment would replace the text of --help")]
    #[command(flatten)]
    pub tls: ClientTls,
}

/// The commands.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Buckets that exports are written to
    #[command(subcommand, arg_required_else_help = true)]
    Destination(Destination),
    /// Copies of a project's traces, or of all experiments'
    #[command(subcommand, arg_required_else_help = true)]
    Export(Export),
    /// Runs of exports, one per time partition
    #[command(subcommand, arg_required_else_help = true)]
    Runs(Runs),
    /// Show what the workspace may have, and has
    Limits,
    /// Conditions that say which rows an export has
    #[command(subcommand, arg_required_else_help = true)]
    Filter(Filter),
    /// API keys (needs the operator's token)
    #[command(subcommand, arg_required_else_help = true)]
    Key(Key),
    /// Workspaces (needs the operator's token)
    #[command(subcommand, arg_required_else_help = true)]
    Tenant(Tenant),
    /// Print completions for a shell
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
}

/// About buckets.
#[derive(Debug, Clone, Subcommand)]
pub enum Destination {
    /// Check a bucket by writing to it, and save it
    #[command(after_help = SECRETS)]
    Create(Box<DestinationCreate>),
    /// List all destinations, newest first
    List,
    /// Show one destination
    Get {
        /// Its id
        id: Uuid,
    },
    /// Replace the keys of a destination, or the role, once the bucket was checked with the new
    /// ones
    #[command(after_help = SECRETS)]
    Update {
        /// Its id
        id: Uuid,
        /// By what the bucket lets us in
        #[command(flatten)]
        identity: Identity,
    },
    /// Forget a destination and its keys; nothing in the bucket changes
    Delete {
        /// Its id
        id: Uuid,
    },
}

/// By what a bucket lets us in.
#[derive(Debug, Clone, Args)]
pub struct Identity {
    /// JSON file with access_key_id, secret_access_key and perhaps session_token
    #[arg(long, value_name = "FILE", group = "identity")]
    pub credentials_file: Option<PathBuf>,
    /// Role to assume instead of using keys
    #[arg(long, value_name = "ARN", group = "identity")]
    pub aws_role_arn: Option<String>,
    /// Use the rights of the service itself, where its operator allows that
    #[arg(long, group = "identity")]
    pub environment_credentials: bool,
}

/// A bucket as typed.
#[derive(Debug, Clone, Args)]
pub struct DestinationCreate {
    /// What to call it: letters, digits, space, - _ '
    #[arg(long)]
    pub name: String,
    /// Name of the bucket
    #[arg(long)]
    pub bucket: String,
    /// Root of everything written
    #[arg(long, default_value = "", hide_default_value = true)]
    pub prefix: String,
    /// Region; needed for AWS
    #[arg(long, default_value = "", hide_default_value = true)]
    pub region: String,
    /// Address of the store; needed for anything but AWS
    #[arg(long, default_value = "", hide_default_value = true, value_name = "URL")]
    pub endpoint_url: String,
    /// How the bucket appears in a request's address
    #[arg(long, value_parser = PossibleValuesParser::new(["auto", "virtual", "path"]))]
    pub addressing_style: Option<String>,
    /// Extra argument of every write, e.g. StorageClass=STANDARD_IA; may be repeated
    #[arg(long = "option", value_name = "K=V", value_parser = key_value)]
    pub options: Vec<(String, String)>,
    /// Through AWS's edge locations
    #[arg(long)]
    pub use_accelerate_endpoint: bool,
    /// Whether the body of a write is signed
    #[arg(long, value_name = "true|false")]
    pub payload_signing_enabled: Option<bool>,
    /// Which host us-east-1 has
    #[arg(long, value_parser = PossibleValuesParser::new(["regional", "legacy"]))]
    pub us_east_1_regional_endpoint: Option<String>,
    /// Say that the host of --endpoint-url begins with the bucket's name already
    #[arg(long)]
    pub bucket_is_in_endpoint: bool,
    /// A text of your choice: asked again with the same within a day, nothing new is made
    #[arg(long, value_name = "KEY")]
    pub idempotency_key: Option<String>,
    /// By what the bucket lets us in
    #[command(flatten)]
    pub identity: Identity,
}

/// About exports.
#[derive(Debug, Clone, Subcommand)]
pub enum Export {
    /// Start an export
    #[command(after_help = EXIT_CODES)]
    Create(ExportCreate),
    /// Show one export
    Get {
        /// Its id
        id: Uuid,
    },
    /// List exports, newest first
    List {
        /// How many, 1 to 1000
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
        limit: u32,
        /// How many to skip
        #[arg(long, default_value_t = 0)]
        offset: u32,
        /// Only those with this status; may be repeated
        #[arg(long = "status", value_parser = PossibleValuesParser::new(ExportStatus::ALL.iter().map(|value| value.as_str())))]
        statuses: Vec<String>,
        /// Only those to this destination
        #[arg(long, value_name = "ID")]
        destination: Option<Uuid>,
        /// Only those of this project
        #[arg(long, value_name = "ID")]
        project: Option<Uuid>,
    },
    /// List the runs of an export, one per time partition
    Runs {
        /// The export's id
        id: Uuid,
    },
    /// List the runs of every export that a schedule has spawned
    ScheduleRuns {
        /// The schedule's id
        id: Uuid,
    },
    /// Stop an export for good; completed files stay. A schedule spawns nothing more, what it
    /// spawned goes on
    Cancel {
        /// Its id
        id: Uuid,
    },
    /// Follow an export until it has ended; a schedule ends when it is cancelled
    #[command(after_help = EXIT_CODES)]
    Watch {
        /// Its id
        id: Uuid,
    },
}

/// About runs.
#[derive(Debug, Clone, Subcommand)]
pub enum Runs {
    /// Queue a run again that has failed or timed out; it goes on behind its complete files
    Retry {
        /// The export's id
        export: Uuid,
        /// The run's id
        run: Uuid,
    },
}

/// An export as typed.
#[derive(Debug, Clone, Args)]
pub struct ExportCreate {
    /// Where to write
    #[arg(long, value_name = "ID")]
    pub destination: Uuid,
    /// Whose traces: the tracing project
    #[arg(long, value_name = "ID", required_unless_present = "all_experiments")]
    pub project: Option<Uuid>,
    /// Instead of a project: every one with a reference dataset, as found when the export starts
    #[arg(long, conflicts_with = "project")]
    pub all_experiments: bool,
    /// Earliest start time, inclusive; without a zone it is UTC
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub start: Timestamp,
    /// Latest start time, exclusive; without a zone it is UTC
    #[arg(long, value_name = "TIME", value_parser = time, required_unless_present = "every")]
    pub end: Option<Timestamp>,
    /// Make a schedule instead: an export of every so many hours from --start on, 1 to 168, until
    /// it is cancelled
    #[arg(long, value_name = "HOURS", value_parser = clap::value_parser!(u32).range(1..=168), conflicts_with = "end")]
    pub every: Option<u32>,
    /// Codec of the columns [default: the service's, zstandard unless its operator has set
    /// another]
    #[arg(long, value_parser = PossibleValuesParser::new(Compression::ALL.iter().map(|value| value.as_str())))]
    pub compression: Option<String>,
    /// Layout and types of the files [default: v1]
    #[arg(long, value_parser = PossibleValuesParser::new(FormatVersion::ALL.iter().map(|value| value.as_str())))]
    pub format_version: Option<String>,
    /// A column to export; may be repeated [default: all but feedbacks]
    #[arg(long = "field", value_name = "NAME")]
    pub fields: Vec<String>,
    /// A text of your choice: asked again with the same within a day, nothing new is made
    #[arg(long, value_name = "KEY")]
    pub idempotency_key: Option<String>,
    /// Which rows, e.g. 'and(eq(run_type, "llm"), gt(latency, "5s"))' [default: all]
    #[arg(long, default_value = "", hide_default_value = true)]
    pub filter: String,
    /// Follow it until it has ended
    #[arg(long)]
    pub watch: bool,
}

/// About filters.
#[derive(Debug, Clone, Subcommand)]
pub enum Filter {
    /// Say whether a filter is valid, and what is wrong with it; exits with 1 when it is not
    Check {
        /// The filter, e.g. 'and(eq(run_type, "llm"), gt(latency, "5s"))'
        filter: String,
    },
}

/// About API keys.
#[derive(Debug, Clone, Subcommand)]
pub enum Key {
    /// Make an API key for the workspace of --tenant; it is shown once
    Create {
        /// What to call it
        #[arg(long)]
        name: String,
        /// What it may do
        #[arg(long, default_value = "manage", value_parser = PossibleValuesParser::new(["read", "manage"]))]
        permission: String,
    },
}

/// About workspaces.
#[derive(Debug, Clone, Subcommand)]
pub enum Tenant {
    /// Make a workspace
    Create {
        /// What to call it
        #[arg(long)]
        name: String,
        /// Its id; chosen by the control plane otherwise
        #[arg(long)]
        id: Option<Uuid>,
    },
}

impl DestinationCreate {
    /// The addressing style that was asked for.
    pub(crate) fn addressing(&self) -> Addressing {
        let word = self.addressing_style.as_deref().unwrap_or("auto");
        Addressing::parse("addressing_style", word).unwrap_or_default()
    }
}

fn time(text: &str) -> Result<Timestamp, String> {
    Timestamp::parse("", text).map_err(|fault| fault.message)
}

fn key_value(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("write it as NAME=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}
