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
Secrets are read from the environment or from files, never from the value of an option:
  TRACELIFT_API_KEY      the API key, or --api-key-file
  TRACELIFT_ADMIN_TOKEN  for `key`, `tenant` and `audit --operator`, or --admin-token-file
  S3_ACCESS_KEY_ID, S3_SECRET_ACCESS_KEY, S3_SESSION_TOKEN
                         for `destination create`, or --credentials-file";

const EXIT_CODES: &str = "\
Exit code of a watch: 0 completed, 1 failed or timed out, 3 cancelled, 130 watch interrupted.";

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
    /// Workspace; optional with an API key, which belongs to one
    #[arg(long, env = "TRACELIFT_TENANT_ID", value_name = "ID", global = true)]
    pub tenant: Option<Uuid>,
    /// File with the API key, instead of TRACELIFT_API_KEY
    #[arg(long, env = "TRACELIFT_API_KEY_FILE", value_name = "FILE", global = true)]
    pub api_key_file: Option<PathBuf>,
    /// File with the admin token, instead of TRACELIFT_ADMIN_TOKEN
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
    /// Exports of a project's traces, or of all experiments
    #[command(subcommand, arg_required_else_help = true)]
    Export(Export),
    /// Runs of exports, one per time partition
    #[command(subcommand, arg_required_else_help = true)]
    Runs(Runs),
    /// Show limits and current usage
    Limits,
    /// Filters that select the rows of an export
    #[command(subcommand, arg_required_else_help = true)]
    Filter(Filter),
    /// Audit log: what was done and what was refused, by whom (needs a key with the admin permission)
    #[command(subcommand, arg_required_else_help = true)]
    Audit(Audit),
    /// API keys (needs the admin token, or a key with the admin permission)
    #[command(subcommand, arg_required_else_help = true)]
    Key(Key),
    /// Workspaces (needs the admin token)
    #[command(subcommand, arg_required_else_help = true)]
    Tenant(Tenant),
    /// Print shell completions
    Completions {
        /// Shell
        shell: clap_complete::Shell,
    },
}

/// About buckets.
#[derive(Debug, Clone, Subcommand)]
pub enum Destination {
    /// Check a bucket by writing to it, then save it as a destination
    #[command(after_help = SECRETS)]
    Create(Box<DestinationCreate>),
    /// List all destinations, newest first
    List,
    /// Show one destination
    Get {
        /// ID
        id: Uuid,
    },
    /// Replace the credentials or the role of a destination, after checking the bucket with the
    /// new ones
    #[command(after_help = SECRETS)]
    Update {
        /// ID
        id: Uuid,
        /// Authentication
        #[command(flatten)]
        identity: Identity,
    },
    /// Delete a destination and its credentials; nothing in the bucket changes
    Delete {
        /// ID
        id: Uuid,
    },
}

/// How to authenticate to a bucket.
#[derive(Debug, Clone, Args)]
pub struct Identity {
    /// JSON file with access_key_id, secret_access_key and, optionally, session_token
    #[arg(long, value_name = "FILE", group = "identity")]
    pub credentials_file: Option<PathBuf>,
    /// AWS role to assume instead of using keys
    #[arg(long, value_name = "ARN", group = "identity")]
    pub aws_role_arn: Option<String>,
    /// Use the ambient credentials of the service, if its operator allows that
    #[arg(long, group = "identity")]
    pub environment_credentials: bool,
}

/// A bucket as typed.
#[derive(Debug, Clone, Args)]
pub struct DestinationCreate {
    /// Display name: letters, digits, spaces, - _ '
    #[arg(long)]
    pub name: String,
    /// Name of the bucket
    #[arg(long)]
    pub bucket: String,
    /// Prefix of every key
    #[arg(long, default_value = "", hide_default_value = true)]
    pub prefix: String,
    /// Region; required for AWS
    #[arg(long, default_value = "", hide_default_value = true)]
    pub region: String,
    /// URL of the store; required for everything but AWS
    #[arg(long, default_value = "", hide_default_value = true, value_name = "URL")]
    pub endpoint_url: String,
    /// Where the bucket appears in a request: host (virtual) or path
    #[arg(long, value_parser = PossibleValuesParser::new(["auto", "virtual", "path"]))]
    pub addressing_style: Option<String>,
    /// Extra argument of every write, e.g. StorageClass=STANDARD_IA; repeatable
    #[arg(long = "option", value_name = "K=V", value_parser = key_value)]
    pub options: Vec<(String, String)>,
    /// Use AWS Transfer Acceleration
    #[arg(long)]
    pub use_accelerate_endpoint: bool,
    /// Whether to sign the body of a write
    #[arg(long, value_name = "true|false")]
    pub payload_signing_enabled: Option<bool>,
    /// Which host to use for us-east-1
    #[arg(long, value_parser = PossibleValuesParser::new(["regional", "legacy"]))]
    pub us_east_1_regional_endpoint: Option<String>,
    /// The host of --endpoint-url already begins with the bucket name
    #[arg(long)]
    pub bucket_is_in_endpoint: bool,
    /// Idempotency key, valid for 24 hours: a repeated request creates nothing new
    #[arg(long, value_name = "KEY")]
    pub idempotency_key: Option<String>,
    /// Authentication
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
        /// ID
        id: Uuid,
    },
    /// List exports, newest first
    List {
        /// Number of exports to list, 1 to 1000
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
        limit: u32,
        /// Number of exports to skip
        #[arg(long, default_value_t = 0)]
        offset: u32,
        /// Only exports with this status; repeatable
        #[arg(long = "status", value_parser = PossibleValuesParser::new(ExportStatus::ALL.iter().map(|value| value.as_str())))]
        statuses: Vec<String>,
        /// Only exports to this destination
        #[arg(long, value_name = "ID")]
        destination: Option<Uuid>,
        /// Only exports of this project
        #[arg(long, value_name = "ID")]
        project: Option<Uuid>,
    },
    /// List the runs of an export, one per time partition
    Runs {
        /// ID of the export
        id: Uuid,
    },
    /// List the runs of every export that a schedule has started
    ScheduleRuns {
        /// ID of the schedule
        id: Uuid,
    },
    /// Cancel an export for good; completed files stay. A cancelled schedule starts no more
    /// exports, those it has started continue
    Cancel {
        /// ID
        id: Uuid,
    },
    /// Watch an export until it ends; a schedule ends when it is cancelled
    #[command(after_help = EXIT_CODES)]
    Watch {
        /// ID
        id: Uuid,
    },
}

/// About runs.
#[derive(Debug, Clone, Subcommand)]
pub enum Runs {
    /// Retry a run that failed or timed out; it resumes after its completed files
    Retry {
        /// ID of the export
        export: Uuid,
        /// ID of the run
        run: Uuid,
    },
}

/// An export as typed.
#[derive(Debug, Clone, Args)]
pub struct ExportCreate {
    /// Destination to write to
    #[arg(long, value_name = "ID")]
    pub destination: Uuid,
    /// Tracing project to export
    #[arg(long, value_name = "ID", required_unless_present = "all_experiments")]
    pub project: Option<Uuid>,
    /// Export every project with a reference dataset, as found when the export starts
    #[arg(long, conflicts_with = "project")]
    pub all_experiments: bool,
    /// Earliest start time, inclusive; UTC unless a zone is given
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub start: Timestamp,
    /// Latest start time, exclusive; UTC unless a zone is given
    #[arg(long, value_name = "TIME", value_parser = time, required_unless_present = "every")]
    pub end: Option<Timestamp>,
    /// Create a schedule: export each window of this many hours (1 to 168), from --start on, until
    /// it is cancelled
    #[arg(long, value_name = "HOURS", value_parser = clap::value_parser!(u32).range(1..=168), conflicts_with = "end")]
    pub every: Option<u32>,
    /// Codec of the columns [default: zstandard, unless the operator has set another]
    #[arg(long, value_parser = PossibleValuesParser::new(Compression::ALL.iter().map(|value| value.as_str())))]
    pub compression: Option<String>,
    /// Layout and types of the files [default: v1]
    #[arg(long, value_parser = PossibleValuesParser::new(FormatVersion::ALL.iter().map(|value| value.as_str())))]
    pub format_version: Option<String>,
    /// Column to export; repeatable [default: all except feedbacks]
    #[arg(long = "field", value_name = "NAME")]
    pub fields: Vec<String>,
    /// Idempotency key, valid for 24 hours: a repeated request creates nothing new
    #[arg(long, value_name = "KEY")]
    pub idempotency_key: Option<String>,
    /// Filter that selects rows, e.g. 'and(eq(run_type, "llm"), gt(latency, "5s"))' [default: all]
    #[arg(long, default_value = "", hide_default_value = true)]
    pub filter: String,
    /// Watch the export until it ends
    #[arg(long)]
    pub watch: bool,
}

/// About filters.
#[derive(Debug, Clone, Subcommand)]
pub enum Filter {
    /// Check whether a filter is valid; exits with 1 and says what is wrong if it is not
    Check {
        /// Filter, e.g. 'and(eq(run_type, "llm"), gt(latency, "5s"))'
        filter: String,
    },
}

/// About the audit log.
#[derive(Debug, Clone, Subcommand)]
pub enum Audit {
    /// List records, newest first
    List {
        /// Not before this time, inclusive; UTC unless a zone is given
        #[arg(long, value_name = "TIME", value_parser = time)]
        start: Option<Timestamp>,
        /// Not after this time, inclusive; UTC unless a zone is given
        #[arg(long, value_name = "TIME", value_parser = time)]
        end: Option<Timestamp>,
        /// Only records of this action, e.g. create_bulk_export; repeatable
        #[arg(long = "action", value_name = "NAME")]
        actions: Vec<String>,
        /// Number of records to list, 1 to 1000
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
        limit: u32,
        /// Whose records
        #[command(flatten)]
        whose: Whose,
    },
    /// Recompute the hash chain over all records; exits with 1 and names the record that breaks it
    Verify {
        /// Whose records
        #[command(flatten)]
        whose: Whose,
    },
}

/// Whose records to read.
#[derive(Debug, Clone, Copy, Args)]
pub struct Whose {
    /// Authenticate with the admin token: the records of the workspace of --tenant, or without it
    /// those about no workspace
    #[arg(long)]
    pub operator: bool,
}

/// About API keys.
#[derive(Debug, Clone, Subcommand)]
pub enum Key {
    /// Create an API key for the workspace of --tenant; it is shown once
    Create {
        /// Display name
        #[arg(long)]
        name: String,
        /// Permission
        #[arg(long, default_value = "manage", value_parser = PossibleValuesParser::new(["read", "manage", "admin"]))]
        permission: String,
        /// When it expires; UTC unless a zone is given [default: never]
        #[arg(long, value_name = "TIME", value_parser = time)]
        expires: Option<Timestamp>,
    },
    /// List the API keys of the workspace of --tenant, newest first
    List,
    /// Create a key with the rights of an old one, which expires after the overlap; it is shown once
    Rotate {
        /// ID of the old key
        id: Uuid,
        /// Seconds until the old key expires
        #[arg(long, default_value_t = 86_400, value_name = "SECONDS")]
        overlap: u32,
        /// When the new key expires; UTC unless a zone is given [default: never]
        #[arg(long, value_name = "TIME", value_parser = time)]
        expires: Option<Timestamp>,
    },
    /// Revoke an API key at once
    Revoke {
        /// ID
        id: Uuid,
    },
}

/// About workspaces.
#[derive(Debug, Clone, Subcommand)]
pub enum Tenant {
    /// Create a workspace
    Create {
        /// Display name
        #[arg(long)]
        name: String,
        /// ID [default: chosen by the control plane]
        #[arg(long)]
        id: Option<Uuid>,
    },
    /// List all workspaces, newest first
    List,
    /// Refuse the calls of a workspace and start nothing of it, until it is resumed; what is in
    /// progress continues
    Suspend {
        /// ID
        id: Uuid,
    },
    /// Let a suspended workspace continue
    Resume {
        /// ID
        id: Uuid,
    },
    /// Delete a workspace for good: its keys, credentials, schedules and exports in progress; files
    /// in its buckets stay
    Delete {
        /// ID
        id: Uuid,
        /// The same ID again, to confirm
        #[arg(long, value_name = "ID")]
        confirm: Uuid,
    },
}

impl DestinationCreate {
    /// The requested addressing style.
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
