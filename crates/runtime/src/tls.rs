//! TLS from settings. A server speaks plaintext h2c unless it has a certificate, and requires
//! client certificates if it has a CA for them.

use std::{fs, io, path::PathBuf};

use tonic::transport::{
    Certificate, Channel, ClientTlsConfig, Endpoint, Identity, ServerTlsConfig,
};

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
    /// The certificate and key were rejected.
    #[error("the TLS settings are not usable: {0}")]
    Tls(#[from] tonic::transport::Error),
}

fn read(path: &PathBuf) -> Result<Vec<u8>, TlsError> {
    fs::read(path).map_err(|source| TlsError::File { path: path.clone(), source })
}

impl ServerTls {
    /// tonic's TLS configuration; `None` for plaintext h2c.
    pub fn config(&self) -> Result<Option<ServerTlsConfig>, TlsError> {
        let (Some(cert), Some(key)) = (&self.tls_cert, &self.tls_key) else { return Ok(None) };
        let mut config =
            ServerTlsConfig::new().identity(Identity::from_pem(read(cert)?, read(key)?));
        if let Some(ca) = &self.tls_client_ca {
            config = config.client_ca_root(Certificate::from_pem(read(ca)?));
        }
        Ok(Some(config))
    }
}

impl ClientTls {
    /// An endpoint for `url` with HTTP/2 and TCP keepalive. Does not connect yet.
    pub fn endpoint(&self, url: &str) -> Result<Endpoint, TlsError> {
        let bad_url = || TlsError::Url { url: url.to_owned() };
        if !url.starts_with("http://") && !url.starts_with("https://") {
            return Err(bad_url());
        }
        let endpoint = Endpoint::from_shared(url.to_owned()).map_err(|_| bad_url())?;
        let endpoint = endpoint
            .connect_timeout(std::time::Duration::from_secs(5))
            .http2_keep_alive_interval(std::time::Duration::from_secs(10))
            .keep_alive_timeout(std::time::Duration::from_secs(10))
            .tcp_nodelay(true);
        if !url.starts_with("https://") {
            return Ok(endpoint);
        }
        let mut tls = ClientTlsConfig::new();
        tls = match &self.ca {
            Some(ca) => tls.ca_certificate(Certificate::from_pem(read(ca)?)),
            None => tls.with_native_roots(),
        };
        if let (Some(cert), Some(key)) = (&self.client_cert, &self.client_key) {
            tls = tls.identity(Identity::from_pem(read(cert)?, read(key)?));
        }
        Ok(endpoint.tls_config(tls)?)
    }

    /// A channel that connects on first use and reconnects as needed.
    pub fn channel(&self, url: &str) -> Result<Channel, TlsError> {
        Ok(self.endpoint(url)?.connect_lazy())
    }
}
