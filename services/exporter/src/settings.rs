//! The operator's settings: flags or environment variables. Secrets come from variables or files
//! only.

use std::{path::PathBuf, time::Duration};

use clap::{CommandFactory as _, FromArgMatches as _, Parser};
use secrecy::SecretString;
use tracelift_bucket::EndpointSettings;
use tracelift_core::task::Identity;
use tracelift_runtime::{
    metrics::MetricsSettings,
    renamed,
    secret::{self, SecretError},
    telemetry::LogSettings,
    tls::ClientTls,
};

use crate::blob::KeyPrefix;

/// Tracelift's exporter: reads trace rows from ClickHouse, restores offloaded fields, writes
/// Parquet to customers' buckets
#[derive(Debug, Clone, Parser)]
#[command(name = "tracelift-exporter", version)]
pub struct Settings {
    /// Address of the control plane
    #[arg(long, env = "TRACELIFT_CONTROL_PLANE", default_value = "http://127.0.0.1:7700")]
    pub control_plane: String,
    /// Name of this exporter, unique in the fleet and stable across restarts; default: the host
    /// name
    #[arg(long, env = "TRACELIFT_EXPORTER_ID")]
    pub exporter_id: Option<String>,
    /// Token of the exporters
    #[arg(skip)]
    pub fleet_token: Option<SecretString>,
    /// File with the shared secret that authenticates exporters, instead of TRACELIFT_FLEET_TOKEN;
    /// required
    #[arg(long, env = "TRACELIFT_FLEET_TOKEN_FILE")]
    pub fleet_token_file: Option<PathBuf>,
    /// Where the trace rows are
    #[command(flatten)]
    pub clickhouse: ClickHouse,
    /// Where their offloaded fields are
    #[command(flatten)]
    pub blobs: Blobs,
    /// How much of the machine to use
    #[command(flatten)]
    pub limits: Limits,
    /// Which endpoints destinations may have
    #[command(flatten)]
    pub endpoints: EndpointSettings,
    /// Seconds to finish the files in progress when the process is told to stop
    #[arg(long, env = "TRACELIFT_DRAIN_SECONDS", default_value_t = 25)]
    pub drain_seconds: u64,
    /// TLS to the control plane
    #[command(flatten)]
    pub tls: ClientTls,
    /// Figures
    #[command(flatten)]
    pub metrics: MetricsSettings,
    /// Logging
    #[command(flatten)]
    pub log: LogSettings,
}

/// The trace store.
#[derive(Debug, Clone, clap::Args)]
pub struct ClickHouse {
    /// URL of ClickHouse's HTTP interface
    #[arg(long, env = "CLICKHOUSE_URL", default_value = "http://127.0.0.1:8123")]
    pub clickhouse_url: String,
    /// ClickHouse user
    #[arg(long, env = "CLICKHOUSE_USER", default_value = "default")]
    pub clickhouse_user: String,
    /// Password
    #[arg(skip)]
    pub clickhouse_password: Option<SecretString>,
    /// File with the ClickHouse password, instead of CLICKHOUSE_PASSWORD
    #[arg(long, env = "CLICKHOUSE_PASSWORD_FILE")]
    pub clickhouse_password_file: Option<PathBuf>,
    /// ClickHouse database
    #[arg(long, env = "CLICKHOUSE_DATABASE", default_value = "default")]
    pub clickhouse_database: String,
    /// Compression of rows in transit: use lz4 when the network to ClickHouse is slow or metered,
    /// at the cost of CPU time on both sides
    #[arg(long, env = "CLICKHOUSE_COMPRESSION", value_enum, default_value_t = TransportCompression::None)]
    pub clickhouse_compression: TransportCompression,
    /// Table of the trace rows
    #[arg(long, env = "CLICKHOUSE_RUNS_TABLE", default_value = "runs", value_parser = identifier)]
    pub runs_table: String,
    /// Table of the feedback
    #[arg(long, env = "CLICKHOUSE_FEEDBACKS_TABLE", default_value = "feedbacks", value_parser = identifier)]
    pub feedbacks_table: String,
    /// What an export holds once: an id, in its newest version, or an id at one start time, for
    /// sources where the search for ids ingested again with another start time costs too much
    #[arg(long, env = "CLICKHOUSE_UNIQUE_BY", value_enum, default_value_t = UniqueBy::Id)]
    pub unique_by: UniqueBy,
}

/// What an export has once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum UniqueBy {
    /// An id, in its newest version, whatever its start time.
    Id,
    /// An id at one start time.
    IdAndStartTime,
}

impl From<UniqueBy> for Identity {
    fn from(unique_by: UniqueBy) -> Self {
        match unique_by {
            UniqueBy::Id => Self::Id,
            UniqueBy::IdAndStartTime => Self::IdAndStartTime,
        }
    }
}

/// How ClickHouse packs its answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum TransportCompression {
    /// No compression.
    None,
    /// LZ4, column by column.
    Lz4,
}

impl TransportCompression {
    /// The value of ClickHouse's setting.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Lz4 => "lz4_frame",
        }
    }
}

/// The bucket of the offloaded fields.
#[derive(Debug, Clone, clap::Args)]
pub struct Blobs {
    /// Bucket of the offloaded objects, for pointers that do not name one
    #[arg(long, env = "BLOB_BUCKET", default_value = "traces")]
    pub blob_bucket: String,
    /// URL of the store of the offloaded objects; default: AWS
    #[arg(long, env = "BLOB_ENDPOINT")]
    pub blob_endpoint: Option<String>,
    /// Region of the offloaded objects
    #[arg(long, env = "BLOB_REGION", default_value = "us-east-1")]
    pub blob_region: String,
    /// Access key id
    #[arg(skip)]
    pub blob_access_key_id: Option<SecretString>,
    /// File with the access key id for the offloaded objects, instead of BLOB_ACCESS_KEY_ID;
    /// required
    #[arg(long, env = "BLOB_ACCESS_KEY_ID_FILE")]
    pub blob_access_key_id_file: Option<PathBuf>,
    /// Secret access key
    #[arg(skip)]
    pub blob_secret_access_key: Option<SecretString>,
    /// File with the secret access key for the offloaded objects, instead of
    /// BLOB_SECRET_ACCESS_KEY; required
    #[arg(long, env = "BLOB_SECRET_ACCESS_KEY_FILE")]
    pub blob_secret_access_key_file: Option<PathBuf>,
    /// Objects fetched at once for one run, 1 to 1024
    #[arg(long, env = "BLOB_CONCURRENCY", default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub blob_concurrency: u16,
    /// Largest object that is restored, in bytes, at most 1 GiB; a larger one is exported as null
    /// and counted as a miss
    #[arg(long, env = "BLOB_MAX_BYTES", default_value_t = 256 << 20, value_parser = clap::value_parser!(u64).range(1..=1 << 30))]
    pub blob_max_bytes: u64,
    /// Prefixes that keys of offloaded objects have, separated by commas, with the ids of the row
    /// that points to them, as in traces/{tenant_id}/{session_id}/; a pointer to another key is
    /// exported as null and counted as a miss. Default: every key may be read, so whoever writes
    /// the pointer columns is trusted with all of them
    #[arg(long, env = "BLOB_KEY_PREFIX", value_delimiter = ',')]
    pub blob_key_prefix: Vec<KeyPrefix>,
}

/// How much of the machine to use.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct Limits {
    /// Slots: tasks in progress at once, 1 to 64, as far as they fit into the memory
    #[arg(long, env = "TRACELIFT_EXPORTER_SLOTS", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub exporter_slots: u32,
    /// Bytes of memory for all work in progress together; decides how much of it fits at once
    #[arg(long, env = "TRACELIFT_MEMORY_BYTES", default_value_t = 384 << 20)]
    pub memory_bytes: u64,
    /// Size in bytes at which a file is closed
    #[arg(long, env = "TRACELIFT_FILE_BYTES", default_value_t = 256 << 20)]
    pub file_bytes: u64,
    /// Size in bytes, before encoding, at which a row group is closed: what a reader holds in
    /// memory
    #[arg(long, env = "TRACELIFT_ROW_GROUP_BYTES", default_value_t = 64 << 20)]
    pub row_group_bytes: u64,
    /// Size of an upload part in bytes, 5 MiB to 1 GiB
    #[arg(long, env = "TRACELIFT_PART_BYTES", default_value_t = 8 << 20, value_parser = clap::value_parser!(u64).range(5 << 20..=1 << 30))]
    pub part_bytes: u64,
    /// Parts of one file uploaded at once, 1 to 64
    #[arg(long, env = "TRACELIFT_PARTS_IN_FLIGHT", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub parts_in_flight: u32,
    /// Size in bytes at which a batch of rows is closed
    #[arg(long, env = "TRACELIFT_BATCH_BYTES", default_value_t = 8 << 20)]
    pub batch_bytes: u64,
    /// Timeouts for slow connections to a destination
    #[arg(skip)]
    pub patience: Patience,
}

/// Timeouts for slow connections to a destination. Not configurable; tests shorten them.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// A request is aborted when no data has moved for this long.
    pub silence: Duration,
    /// Slowest tolerated throughput, in bytes per second: data handed over may take that long to
    /// arrive without any sign of progress.
    pub slowest: u64,
    /// If a part takes longer than this, fewer are sent at once.
    pub slow_part: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            silence: Duration::from_secs(60),
            slowest: 16 << 10,
            slow_part: Duration::from_secs(30),
        }
    }
}

/// Batches of one task held at once: one being read (and looked up) with its objects being fetched,
/// one being filled in, one waiting, one being encoded.
const BATCHES: u64 = 4;

impl Limits {
    /// Most bytes a task holds, provided that no single value exceeds a batch.
    #[must_use]
    pub fn bytes_per_task(&self) -> u64 {
        self.batch_bytes * BATCHES
            + self.row_group_bytes
            + self.part_bytes * (u64::from(self.parts_in_flight) + 1)
    }

    /// How many tasks fit at once; at least one.
    #[must_use]
    pub fn slots(&self) -> u32 {
        let fit = u32::try_from(self.memory_bytes / self.bytes_per_task()).unwrap_or(u32::MAX);
        fit.clamp(1, self.exporter_slots)
    }
}

fn identifier(text: &str) -> Result<String, String> {
    let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if plain {
        Ok(text.to_owned())
    } else {
        Err("must be letters, digits and underscores".to_owned())
    }
}

/// Settings that were renamed in 0.2.0.
pub const RENAMED: &[renamed::Setting] = &[renamed::Setting {
    id: "exporter_slots",
    old_flag: "max-runs",
    old_env: "TRACELIFT_MAX_RUNS",
    new_env: "TRACELIFT_EXPORTER_SLOTS",
}];

impl Settings {
    /// Reads the command line and the environment. Invalid settings end the process with a usage
    /// message.
    #[must_use]
    pub fn read() -> Self {
        let matches = renamed::accept(Self::command(), RENAMED).get_matches();
        let mut settings = Self::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
        settings.fleet_token = secret::from_env("TRACELIFT_FLEET_TOKEN");
        settings.clickhouse.clickhouse_password = secret::from_env("CLICKHOUSE_PASSWORD");
        settings.blobs.blob_access_key_id = secret::from_env("BLOB_ACCESS_KEY_ID");
        settings.blobs.blob_secret_access_key = secret::from_env("BLOB_SECRET_ACCESS_KEY");
        settings
    }

    /// All defaults, as a starting point for tests.
    #[must_use]
    pub fn defaults() -> Self {
        Self::parse_from(["tracelift-exporter"])
    }

    pub(crate) fn fleet_token(&self) -> Result<SecretString, SecretError> {
        secret::Source {
            name: "the fleet token",
            env: "TRACELIFT_FLEET_TOKEN",
            flag: "--fleet-token-file",
            value: self.fleet_token.as_ref(),
            file: self.fleet_token_file.as_ref(),
        }
        .required()
    }
}

impl Blobs {
    /// The access key id and the secret access key.
    pub(crate) fn keys(&self) -> Result<(SecretString, SecretString), SecretError> {
        let id = secret::Source {
            name: "the access key id of the blob bucket",
            env: "BLOB_ACCESS_KEY_ID",
            flag: "--blob-access-key-id-file",
            value: self.blob_access_key_id.as_ref(),
            file: self.blob_access_key_id_file.as_ref(),
        };
        let secret = secret::Source {
            name: "the secret access key of the blob bucket",
            env: "BLOB_SECRET_ACCESS_KEY",
            flag: "--blob-secret-access-key-file",
            value: self.blob_secret_access_key.as_ref(),
            file: self.blob_secret_access_key_file.as_ref(),
        };
        Ok((id.required()?, secret.required()?))
    }
}

impl ClickHouse {
    pub(crate) fn password(&self) -> Result<Option<SecretString>, SecretError> {
        secret::Source {
            name: "ClickHouse's password",
            env: "CLICKHOUSE_PASSWORD",
            flag: "--clickhouse-password-file",
            value: self.clickhouse_password.as_ref(),
            file: self.clickhouse_password_file.as_ref(),
        }
        .optional()
    }
}
