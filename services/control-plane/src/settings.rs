//! The operator's settings: flags or environment variables. Secrets come only from environment
//! variables or files.

use std::{
    convert::Infallible,
    net::SocketAddr,
    path::{Path, PathBuf},
    str::FromStr,
};

use clap::Parser;
use secrecy::SecretString;
use tracelift_bucket::EndpointSettings;
use tracelift_core::{
    destination::Identity,
    export::{Compression, MAX_DAYS},
    failure::MAX_RETRIES,
    limit::{AtOnce, Quota},
    schedule::{GRACE_SECONDS, MAX_DAYS_BACK, MAX_UNDER_WAY},
};
use tracelift_runtime::{metrics::MetricsSettings, secret, telemetry::LogSettings, tls::ServerTls};

use crate::{
    admission, api::limits::Terms, dispatch::LeaseTerms, store::TimeLimits, sweep::Ageing,
};

/// Which database to use. The address of a PostgreSQL database may hold a password, so it is parsed
/// only where it is used.
#[derive(Debug, Clone)]
pub enum Database {
    /// SQLite, in this file.
    File(PathBuf),
    /// PostgreSQL, at this address.
    Postgres(SecretString),
}

/// How destinations may use the ambient credentials of this installation.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AmbientCredentials {
    /// To assume a role.
    pub(crate) roles: bool,
    /// As they are.
    pub(crate) environment: bool,
}

impl AmbientCredentials {
    /// Whether a destination may authenticate with this identity.
    pub(crate) fn allow(self, identity: &Identity) -> bool {
        match identity {
            Identity::Keys => true,
            Identity::Role(_) => self.roles,
            Identity::Environment => self.environment,
        }
    }
}

impl FromStr for Database {
    type Err = Infallible; // an error would quote the whole address

    fn from_str(text: &str) -> Result<Self, Infallible> {
        let is_address = text.starts_with("postgres://") || text.starts_with("postgresql://");
        Ok(if is_address {
            Self::Postgres(SecretString::from(text))
        } else {
            Self::File(PathBuf::from(text))
        })
    }
}

impl From<&Path> for Database {
    fn from(path: &Path) -> Self {
        Self::File(path.to_owned())
    }
}

/// Tracelift's control plane: destinations, exports, runs and leases, over gRPC
#[derive(Debug, Clone, Parser)]
#[command(name = "tracelift-control-plane", version)]
pub struct Settings {
    /// Address to listen on for gRPC, health checks and reflection; port 0 picks a free port
    #[arg(long, env = "TRACELIFT_LISTEN", default_value = "127.0.0.1:7700")]
    pub listen: SocketAddr,
    /// SQLite file, created if it does not exist, or the address of a PostgreSQL database:
    /// postgres://user@host:5432/database?sslmode=require
    #[arg(
        long,
        env = "TRACELIFT_DATABASE",
        default_value = "tracelift.db",
        hide_env_values = true
    )]
    pub database: Database,
    /// Password of the PostgreSQL database
    #[arg(skip)]
    pub database_password: Option<SecretString>,
    /// File with the password of the PostgreSQL database, instead of TRACELIFT_DATABASE_PASSWORD
    #[arg(long, env = "TRACELIFT_DATABASE_PASSWORD_FILE")]
    pub database_password_file: Option<PathBuf>,
    /// CA certificate (PEM) that verifies the PostgreSQL server; default: the system's trust store
    #[arg(long, env = "TRACELIFT_DATABASE_CA")]
    pub database_ca: Option<PathBuf>,
    /// PostgreSQL connections for transactions, 1 to 1000; one more listens for notifications
    #[arg(long, env = "TRACELIFT_DATABASE_CONNECTIONS", default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub database_connections: u16,
    /// Keys that seal credentials: ID:BASE64[,ID:BASE64...], 32 bytes each; the first one seals,
    /// all of them open
    #[arg(skip)]
    pub master_keys: Option<SecretString>,
    /// File with the master keys that encrypt stored credentials, instead of TRACELIFT_MASTER_KEYS:
    /// ID:BASE64[,ID:BASE64...], 32 bytes each; the first key encrypts, every key decrypts;
    /// required
    #[arg(long, env = "TRACELIFT_MASTER_KEYS_FILE")]
    pub master_keys_file: Option<PathBuf>,
    /// Token of the admin calls
    #[arg(skip)]
    pub admin_token: Option<SecretString>,
    /// File with the token that authenticates admin calls, instead of TRACELIFT_ADMIN_TOKEN, or with
    /// several, separated by commas; each may have a name for the audit log, as in NAME:TOKEN;
    /// without a token admin calls are disabled
    #[arg(long, env = "TRACELIFT_ADMIN_TOKEN_FILE")]
    pub admin_token_file: Option<PathBuf>,
    /// Token of the exporters
    #[arg(skip)]
    pub fleet_token: Option<SecretString>,
    /// File with the token that exporters authenticate with, instead of TRACELIFT_FLEET_TOKEN, or
    /// with several, separated by commas, while one replaces another; required
    #[arg(long, env = "TRACELIFT_FLEET_TOKEN_FILE")]
    pub fleet_token_file: Option<PathBuf>,
    /// Which endpoints destinations may have
    #[command(flatten)]
    pub endpoints: EndpointSettings,
    /// Allow destinations that name an AWS role instead of keys; the control plane and the
    /// exporters assume it with their own identity
    #[arg(long, env = "TRACELIFT_ALLOW_ROLES")]
    pub allow_roles: bool,
    /// Allow destinations without credentials; they use the ambient credentials of the control
    /// plane and the exporters, which every workspace then shares
    #[arg(long, env = "TRACELIFT_ALLOW_ENVIRONMENT_CREDENTIALS")]
    pub allow_environment_credentials: bool,
    /// Codec of exports that do not name one: none, gzip, snappy or zstandard
    #[arg(long, env = "TRACELIFT_DEFAULT_COMPRESSION", default_value = Compression::default().as_str(), value_parser = compression)]
    pub default_compression: Compression,
    /// Longest range of one export in UTC days, 1 to 3660
    #[arg(long, env = "TRACELIFT_MAX_EXPORT_DAYS", default_value_t = MAX_DAYS, value_parser = clap::value_parser!(u64).range(1..=3660))]
    pub max_export_days: u64,
    /// Seconds to wait for late rows before a schedule exports a closed window, and before the rows
    /// of any window are reconciled; at most 604800
    #[arg(long, env = "TRACELIFT_SCHEDULE_GRACE_SECONDS", default_value_t = GRACE_SECONDS, value_parser = clap::value_parser!(u32).range(0..=604_800))]
    pub schedule_grace_seconds: u32,
    /// How many days in the past a new schedule may start; 0 means no limit
    #[arg(long, env = "TRACELIFT_MAX_SCHEDULE_DAYS_BACK", default_value_t = MAX_DAYS_BACK)]
    pub max_schedule_days_back: u32,
    /// Exports of one schedule in progress at once; later windows wait until one has ended; 0 means
    /// no limit
    #[arg(long, env = "TRACELIFT_MAX_EXPORTS_PER_SCHEDULE", default_value_t = MAX_UNDER_WAY)]
    pub max_exports_per_schedule: u32,
    /// Retries of a run after failed attempts
    #[arg(long, env = "TRACELIFT_MAX_RETRIES", default_value_t = MAX_RETRIES)]
    pub max_retries: u32,
    /// Runs of one export in progress at once; the others wait; 0 means no limit
    #[arg(long, env = "TRACELIFT_MAX_RUNS_PER_EXPORT", default_value_t = AtOnce::default().runs_per_export)]
    pub max_runs_per_export: u32,
    /// Exports of one workspace in progress at once; the others wait; 0 means no limit
    #[arg(long, env = "TRACELIFT_MAX_RUNNING_EXPORTS", default_value_t = AtOnce::default().exports)]
    pub max_running_exports: u32,
    /// Exports that a workspace may create within an hour; 0 means no limit
    #[arg(long, env = "TRACELIFT_MAX_EXPORTS_PER_HOUR", default_value_t = 1000)]
    pub max_exports_per_hour: u32,
    /// Active schedules of a workspace; 0 means no limit
    #[arg(long, env = "TRACELIFT_MAX_SCHEDULES", default_value_t = 100)]
    pub max_schedules: u32,
    /// Seconds between the heartbeats of an exporter, 1 to 60
    #[arg(long, env = "TRACELIFT_HEARTBEAT_SECONDS", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=60))]
    pub heartbeat_seconds: u32,
    /// Seconds of silence after which an exporter's leases expire and its work is reassigned, 3 to
    /// 600; at least twice the heartbeat
    #[arg(long, env = "TRACELIFT_LEASE_SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u32).range(3..=600))]
    pub lease_seconds: u32,
    /// Seconds without progress after which a run is reassigned, even if its exporter still sends
    /// heartbeats; 3 to 86400
    #[arg(long, env = "TRACELIFT_PROGRESS_SECONDS", default_value_t = 600, value_parser = clap::value_parser!(u32).range(3..=86_400))]
    pub progress_seconds: u32,
    /// Seconds that a run may take, from its first assignment or its last retry by a caller; then
    /// it is TimedOut
    #[arg(long, env = "TRACELIFT_RUN_TIMEOUT_SECONDS", default_value_t = 4 * 3600, value_parser = clap::value_parser!(u32).range(1..))]
    pub run_timeout_seconds: u32,
    /// Seconds that an export may take, from the first assignment of a run or the last retry by a
    /// caller; then it is TimedOut
    #[arg(long, env = "TRACELIFT_EXPORT_TIMEOUT_SECONDS", default_value_t = 24 * 3600, value_parser = clap::value_parser!(u32).range(1..))]
    pub export_timeout_seconds: u32,
    /// Days after which the records of an ended export are deleted; its files stay; 0 keeps records
    /// forever
    #[arg(long, env = "TRACELIFT_RETENTION_DAYS", default_value_t = 0)]
    pub retention_days: u32,
    /// Days after which records of the audit log are deleted; 0 keeps them forever
    #[arg(long, env = "TRACELIFT_AUDIT_RETENTION_DAYS", default_value_t = 400)]
    pub audit_retention_days: u32,
    /// Seconds that a call may take; watches and exporter streams are exempt
    #[arg(long, env = "TRACELIFT_CALL_TIMEOUT_SECONDS", default_value_t = 60)]
    pub call_timeout_seconds: u64,
    /// Connections at once, 1 to 1048576; further ones wait until one closes
    #[arg(long, env = "TRACELIFT_MAX_CONNECTIONS", default_value_t = 8192, value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    pub max_connections: u32,
    /// Calls of workspaces in progress at once, and again as many of exporters and admins; further
    /// calls fail with RESOURCE_EXHAUSTED
    #[arg(long, env = "TRACELIFT_MAX_CALLS", default_value_t = 1024)]
    pub max_calls: usize,
    /// Largest share of calls and watches that one workspace may have in progress, in percent, 1 to
    /// 100
    #[arg(long, env = "TRACELIFT_WORKSPACE_SHARE", default_value_t = 25, value_parser = clap::value_parser!(u8).range(1..=100))]
    pub workspace_share: u8,
    /// Calls per second of one workspace, five times as many at once after a rest; further calls
    /// fail with RESOURCE_EXHAUSTED and the time to wait; 0 means no limit
    #[arg(long, env = "TRACELIFT_MAX_CALLS_PER_SECOND", default_value_t = 100)]
    pub max_calls_per_second: u32,
    /// Watches in progress at once; further watches fail with RESOURCE_EXHAUSTED
    #[arg(long, env = "TRACELIFT_MAX_WATCHES", default_value_t = 4096)]
    pub max_watches: usize,
    /// Seconds for calls in progress to finish when the process is told to stop
    #[arg(long, env = "TRACELIFT_STOP_SECONDS", default_value_t = 10)]
    pub stop_seconds: u64,
    /// TLS of this server
    #[command(flatten)]
    pub tls: ServerTls,
    /// Figures
    #[command(flatten)]
    pub metrics: MetricsSettings,
    /// Logging
    #[command(flatten)]
    pub log: LogSettings,
}

impl Settings {
    /// Reads the command line and the environment; exits with a usage message if they are invalid.
    #[must_use]
    pub fn read() -> Self {
        let mut settings = Self::parse();
        settings.database_password = secret::from_env("TRACELIFT_DATABASE_PASSWORD");
        settings.master_keys = secret::from_env("TRACELIFT_MASTER_KEYS");
        settings.admin_token = secret::from_env("TRACELIFT_ADMIN_TOKEN");
        settings.fleet_token = secret::from_env("TRACELIFT_FLEET_TOKEN");
        settings
    }

    /// Settings with every default, a starting point for tests.
    #[must_use]
    pub fn defaults() -> Self {
        Self::parse_from(["tracelift-control-plane"])
    }

    pub(crate) fn database_password(&self) -> Result<Option<SecretString>, secret::SecretError> {
        secret::Source {
            name: "the database's password",
            env: "TRACELIFT_DATABASE_PASSWORD",
            flag: "--database-password-file",
            value: self.database_password.as_ref(),
            file: self.database_password_file.as_ref(),
        }
        .optional()
    }

    pub(crate) fn master_keys(&self) -> Result<SecretString, secret::SecretError> {
        secret::Source {
            name: "the master key",
            env: "TRACELIFT_MASTER_KEYS",
            flag: "--master-keys-file",
            value: self.master_keys.as_ref(),
            file: self.master_keys_file.as_ref(),
        }
        .required()
    }

    pub(crate) fn admin_token(&self) -> Result<Option<SecretString>, secret::SecretError> {
        secret::Source {
            name: "the admin token",
            env: "TRACELIFT_ADMIN_TOKEN",
            flag: "--admin-token-file",
            value: self.admin_token.as_ref(),
            file: self.admin_token_file.as_ref(),
        }
        .optional()
    }

    pub(crate) fn fleet_token(&self) -> Result<SecretString, secret::SecretError> {
        secret::Source {
            name: "the fleet token",
            env: "TRACELIFT_FLEET_TOKEN",
            flag: "--fleet-token-file",
            value: self.fleet_token.as_ref(),
            file: self.fleet_token_file.as_ref(),
        }
        .required()
    }

    /// What others call this control plane: its host name and port.
    pub(crate) fn replica_name(&self) -> String {
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        format!("{}:{}", host.trim(), self.listen.port())
    }

    /// How many of so many one workspace may have at once.
    pub(crate) fn share_of(&self, total: usize) -> usize {
        (total * usize::from(self.workspace_share)).div_ceil(100)
    }

    pub(crate) fn admission(&self) -> admission::Terms {
        admission::Terms {
            calls: self.max_calls,
            calls_of_tenant: self.share_of(self.max_calls),
            rate_of_tenant: self.max_calls_per_second,
        }
    }

    pub(crate) fn own_rights(&self) -> AmbientCredentials {
        AmbientCredentials {
            roles: self.allow_roles,
            environment: self.allow_environment_credentials,
        }
    }

    pub(crate) fn lease_terms(&self) -> LeaseTerms {
        LeaseTerms {
            heartbeat_seconds: self.heartbeat_seconds,
            lease_seconds: self.lease_seconds,
            progress_seconds: self.progress_seconds,
            max_retries: self.max_retries,
            grace_seconds: self.schedule_grace_seconds,
        }
    }

    pub(crate) fn at_once(&self) -> AtOnce {
        AtOnce { runs_per_export: self.max_runs_per_export, exports: self.max_running_exports }
    }

    pub(crate) fn terms(&self) -> Terms {
        Terms {
            max_days: self.max_export_days,
            max_days_back: self.max_schedule_days_back,
            exports_per_schedule: self.max_exports_per_schedule,
            compression: self.default_compression,
            max_retries: self.max_retries,
            at_once: self.at_once(),
            quota: Quota {
                exports_per_hour: self.max_exports_per_hour,
                schedules: self.max_schedules,
            },
            times: self.ageing().limits,
        }
    }

    pub(crate) fn ageing(&self) -> Ageing {
        Ageing {
            limits: TimeLimits {
                task: self.run_timeout_seconds,
                export: self.export_timeout_seconds,
            },
            retention_days: self.retention_days,
            audit_retention_days: self.audit_retention_days,
            grace_seconds: self.schedule_grace_seconds,
            exports_per_schedule: self.max_exports_per_schedule,
            at_once: self.at_once(),
        }
    }
}

fn compression(word: &str) -> Result<Compression, String> {
    Compression::parse("", word).map_err(|fault| fault.message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_with_a_password_is_taken_and_never_shown() {
        let address = "postgres://u:hunter2@db.example.com/tracelift";
        let settings = Settings::parse_from(["tracelift-control-plane", "--database", address]);
        assert!(matches!(settings.database, Database::Postgres(_)));
        assert!(!format!("{settings:?}").contains("hunter2"));
        let settings =
            Settings::parse_from(["tracelift-control-plane", "--database", "postgres.db"]);
        assert!(
            matches!(settings.database, Database::File(path) if path == Path::new("postgres.db"))
        );
    }
}
