//! TLS from settings. A server speaks plaintext h2c unless it has a certificate, and requires
//! client certificates if it has a CA for them.

mod acceptor;
mod dialer;

use std::{
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use http::Uri;
use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;

pub use acceptor::Acceptor;

/// A server's side.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct ServerTls {
    /// Certificate chain of this server (PEM); without it the server speaks plaintext
    #[arg(long, env = "TRACELIFT_TLS_CERT", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// Private key of this server (PEM)
    #[arg(long, env = "TRACELIFT_TLS_KEY", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// CA of client certificates (PEM); when set, every client must present one (mTLS)
    #[arg(long, env = "TRACELIFT_TLS_CLIENT_CA", requires = "tls_cert")]
    pub tls_client_ca: Option<PathBuf>,
    /// Listen in plaintext although others can reach the address; for a service mesh or a proxy
    /// that encrypts
    #[arg(long, env = "TRACELIFT_INSECURE_LISTEN")]
    pub insecure_listen: bool,
}

/// A client's side, for `https://` addresses of the control plane.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct ClientTls {
    /// CA certificate (PEM) that verifies the control plane; default: the system's trust store
    #[arg(long = "control-plane-ca", env = "TRACELIFT_CONTROL_PLANE_CA", global = true)]
    pub ca: Option<PathBuf>,
    /// Client certificate to present to the control plane (PEM)
    #[arg(
        long = "client-cert",
        env = "TRACELIFT_CLIENT_CERT",
        requires = "client_key",
        global = true
    )]
    pub client_cert: Option<PathBuf>,
    /// Private key of the client certificate (PEM)
    #[arg(
        long = "client-key",
        env = "TRACELIFT_CLIENT_KEY",
        requires = "client_cert",
        global = true
    )]
    pub client_key: Option<PathBuf>,
}

/// Invalid TLS settings or address.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// Not a URL.
    #[error("{url:?} is not an address such as http://127.0.0.1:7700")]
    Url {
        /// The given text.
        url: String,
    },
    /// A file does not hold what it should.
    #[error("{path} cannot be used: {reason}")]
    Pem {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The certificate does not go with the key.
    #[error("the TLS settings are not usable: {0}")]
    Rustls(#[from] rustls::Error),
    /// Secrets would cross the network in plaintext.
    #[error(
        "{address} can be reached from outside, and without TLS keys and tokens would travel in plaintext: give --tls-cert and --tls-key, listen on 127.0.0.1, or, behind a mesh or proxy that encrypts, --insecure-listen"
    )]
    Plaintext {
        /// The address to listen on.
        address: SocketAddr,
    },
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(path).map_err(|source| TlsError::File { path: path.to_owned(), source })
}

impl ServerTls {
    /// What accepts TLS connections; `None` for plaintext, which is refused where others can reach
    /// `address`, unless the settings say that they know.
    pub fn acceptor(
        &self,
        address: SocketAddr,
        protocols: &[&str],
    ) -> Result<Option<Acceptor>, TlsError> {
        let acceptor = Acceptor::new(self, protocols)?;
        if acceptor.is_none() && !address.ip().is_loopback() && !self.insecure_listen {
            return Err(TlsError::Plaintext { address });
        }
        Ok(acceptor)
    }
}

/// An endpoint for a plaintext `url`, with HTTP/2 and TCP keepalive. Does not connect yet.
pub fn endpoint(url: &str) -> Result<Endpoint, TlsError> {
    let bad_url = || TlsError::Url { url: url.to_owned() };
    if !url.starts_with("http://") {
        return Err(bad_url());
    }
    let endpoint = Endpoint::from_shared(url.to_owned()).map_err(|_| bad_url())?;
    Ok(endpoint
        .connect_timeout(Duration::from_secs(5))
        .http2_keep_alive_interval(Duration::from_secs(10))
        .keep_alive_timeout(Duration::from_secs(10))
        .tcp_nodelay(true))
}

impl ClientTls {
    /// A channel to `url` that connects on first use and reconnects as needed.
    pub fn channel(&self, url: &str) -> Result<Channel, TlsError> {
        let Some(rest) = url.strip_prefix("https://") else {
            return Ok(endpoint(url)?.connect_lazy());
        };
        self.config()?; // what cannot be used is an error now
        let origin = url.parse().map_err(|_| TlsError::Url { url: url.to_owned() })?;
        // The connector speaks TLS, so the endpoint must not.
        let endpoint = endpoint(&format!("http://{rest}"))?.origin(origin);
        let tls = self.clone();
        Ok(endpoint.connect_with_connector_lazy(service_fn(move |uri: Uri| {
            let tls = tls.clone();
            async move { tls.dial(&uri).await }
        })))
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let unusable = |reason: String| TlsError::Pem { path: path.to_owned(), reason };
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&read(path)?).collect();
    let found = found.map_err(|error| unusable(error.to_string()))?;
    if found.is_empty() {
        return Err(unusable("it holds no certificate".to_owned()));
    }
    Ok(found)
}
