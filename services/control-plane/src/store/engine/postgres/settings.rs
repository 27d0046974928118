//! Where PostgreSQL is and how to connect to it. The password never appears in printed output.

use std::{fmt, fs, path::Path, sync::Arc, time::Duration};

use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, pem::PemObject as _},
};
use secrecy::{ExposeSecret as _, SecretString};
use tokio_postgres::{
    Config,
    config::{Host, SslMode},
};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::store::StoreError;

/// How long connecting, and each wait for a connection, may take.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A connection that stays silent for this long is considered lost.
const SILENCE: Duration = Duration::from_secs(10);
/// Our statements take milliseconds. One that takes longer than this blocks everyone else, and so
/// does a transaction whose control plane has gone silent.
const LIMITS: &str =
    "-c statement_timeout=10s -c lock_timeout=5s -c idle_in_transaction_session_timeout=15s";
/// Every frequent statement finds its few rows through one index, in index order. A plan made while
/// a table was new, when a sequential scan cost nothing, stays in use long after the table has
/// grown; and a bitmap of all queued tasks, of which one row is wanted, costs as much as reading
/// them all.
const PLANS: &str = "-c enable_seqscan=off -c enable_bitmapscan=off";

/// A PostgreSQL database, and how many connections to keep.
#[derive(Clone)]
pub struct PostgresSettings {
    config: Config,
    roots: Arc<RootCertStore>,
    pub(super) connections: usize,
}

impl fmt::Debug for PostgresSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PostgresSettings").field(&self.place()).finish()
    }
}

impl PostgresSettings {
    /// From `postgres://user@host:port/database?sslmode=…`, a separately supplied password, and the
    /// CA of the database's certificate if it is not in the system's trust store.
    ///
    /// `sslmode` is `disable`, `require` or `verify-full`; the last two mean the same here: a
    /// certificate is always verified. Without `sslmode`, TLS is required unless the database is on
    /// this machine.
    pub fn new(
        url: &SecretString,
        password: Option<&SecretString>,
        ca: Option<&Path>,
        connections: usize,
    ) -> Result<Self, StoreError> {
        let (url, mode) = without_mode(url.expose_secret());
        let mut config: Config = url.parse().map_err(|_| StoreError::Address(FORM.to_owned()))?;
        if config.get_hosts().is_empty() || config.get_dbname().is_none() {
            return Err(StoreError::Address(FORM.to_owned()));
        }
        if let Some(password) = password {
            config.password(password.expose_secret());
        }
        let encrypted = match mode.as_deref() {
            Some("require" | "verify-full") => true,
            Some("disable") => false,
            None => !config.get_hosts().iter().all(is_here),
            Some(_) => {
                return Err(StoreError::Address(
                    "sslmode must be disable, require or verify-full".to_owned(),
                ));
            }
        };
        config.ssl_mode(if encrypted { SslMode::Require } else { SslMode::Disable });
        config.connect_timeout(CONNECT_TIMEOUT).tcp_user_timeout(SILENCE);
        config.keepalives_idle(SILENCE).keepalives_interval(SILENCE / 4).keepalives_retries(3);
        let roots = Arc::new(if encrypted { roots(ca)? } else { RootCertStore::empty() });
        Ok(Self { config, roots, connections })
    }

    /// A human-readable location.
    pub(super) fn place(&self) -> String {
        let hosts = self.config.get_hosts().iter().map(|host| match host {
            Host::Tcp(name) => name.clone(),
            Host::Unix(path) => path.display().to_string(),
        });
        let ports: Vec<_> = self.config.get_ports().iter().map(u16::to_string).collect();
        let hosts: Vec<_> = hosts.collect();
        let port = if ports.is_empty() { "5432".to_owned() } else { ports.join(",") };
        format!(
            "PostgreSQL at {}:{port}/{}",
            hosts.join(","),
            self.config.get_dbname().unwrap_or_default()
        )
    }

    /// For a connection dedicated to one purpose, without the timeouts of transactions.
    pub(super) fn dedicated(&self, work: &str) -> Config {
        let mut config = self.config.clone();
        config.application_name(format!("tracelift {work}"));
        config
    }

    /// For the connections that run transactions.
    pub(super) fn pooled(&self) -> Config {
        let mut config = self.dedicated("transactions");
        let given = config.get_options().map(|options| format!("{options} ")).unwrap_or_default();
        config.options(format!("{given}{LIMITS} {PLANS}"));
        config
    }

    pub(super) fn tls(&self) -> MakeRustlsConnect {
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
        #[allow(clippy::expect_used, reason = "ring has the default versions")]
        let config = config.with_safe_default_protocol_versions().expect("ring has them");
        MakeRustlsConnect::new(
            config.with_root_certificates(self.roots.clone()).with_no_client_auth(),
        )
    }
}

const FORM: &str = "it must look like postgres://user@host:5432/database?sslmode=require";

/// The address without `sslmode`, and the value of `sslmode`: tokio-postgres does not support all
/// of its values.
fn without_mode(url: &str) -> (String, Option<String>) {
    let Some((base, query)) = url.split_once('?') else { return (url.to_owned(), None) };
    let mut mode = None;
    let rest = query.split('&').filter(|pair| match pair.split_once('=') {
        Some(("sslmode", value)) => {
            mode = Some(value.to_owned());
            false
        }
        _ => !pair.is_empty(),
    });
    let rest: Vec<_> = rest.collect();
    let url = if rest.is_empty() { base.to_owned() } else { format!("{base}?{}", rest.join("&")) };
    (url, mode)
}

fn is_here(host: &Host) -> bool {
    match host {
        Host::Unix(_) => true,
        Host::Tcp(name) => {
            name == "localhost"
                || name.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback())
        }
    }
}

fn roots(ca: Option<&Path>) -> Result<RootCertStore, StoreError> {
    let mut roots = RootCertStore::empty();
    let Some(path) = ca else {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        return Ok(roots);
    };
    let unusable = |reason: String| {
        StoreError::Address(format!("the CA in {} cannot be used: {reason}", path.display()))
    };
    let text = fs::read(path).map_err(|error| unusable(error.to_string()))?;
    for certificate in CertificateDer::pem_slice_iter(&text) {
        let certificate = certificate.map_err(|error| unusable(error.to_string()))?;
        roots.add(certificate).map_err(|error| unusable(error.to_string()))?;
    }
    if roots.is_empty() {
        Err(unusable("there is no certificate in it".to_owned()))
    } else {
        Ok(roots)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(url: &str) -> Result<PostgresSettings, StoreError> {
        PostgresSettings::new(
            &SecretString::from(url),
            Some(&SecretString::from("hunter2")),
            None,
            4,
        )
    }

    #[test]
    fn tls_is_required_unless_the_database_is_here_or_it_was_turned_off() {
        for (url, mode) in [
            ("postgres://u@db.example.com/t", SslMode::Require),
            ("postgres://u@db.example.com/t?sslmode=verify-full", SslMode::Require),
            ("postgres://u@db.example.com/t?application_name=x&sslmode=disable", SslMode::Disable),
            ("postgres://u@127.0.0.1:5433/t", SslMode::Disable),
            ("postgres://u@localhost/t?sslmode=require", SslMode::Require),
            ("postgresql://u@localhost,db.example.com/t", SslMode::Require),
        ] {
            assert_eq!(settings(url).unwrap().config.get_ssl_mode(), mode, "{url}");
        }
    }

    #[test]
    fn a_password_is_never_shown() {
        let given = settings("postgres://u:hunter2@db.example.com/t").unwrap();
        assert_eq!(
            format!("{given:?}"),
            "PostgresSettings(\"PostgreSQL at db.example.com:5432/t\")"
        );
        for wrong in [
            "postgres://u:hunter2@db.example.com",
            "postgres://u:hunter2@:x/t",
            "postgres://u:hunter2@db.example.com/t?sslmode=prefer",
            "postgres://u:hunter2@db.example.com/t?colour=hunter2",
        ] {
            let error = settings(wrong).unwrap_err();
            assert!(matches!(error, StoreError::Address(_)), "{wrong}: {error}");
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn a_ca_that_is_none_is_named() {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("ca.pem");
        fs::write(&path, "no certificate").unwrap();
        let url = SecretString::from("postgres://u@db.example.com/t");
        let error = PostgresSettings::new(&url, None, Some(&path), 4).unwrap_err().to_string();
        assert!(error.contains("ca.pem cannot be used: there is no certificate in it"), "{error}");
    }
}
