//! TLS of a server, over files that may change: a certificate that was renewed is taken in with the
//! next connection, without a restart. While the files make no sense, the ones before stay in use.

use std::{
    fs, io,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use rustls::{
    RootCertStore, ServerConfig,
    crypto::ring,
    pki_types::{PrivateKeyDer, pem::PemObject as _},
    server::WebPkiClientVerifier,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::Instant,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::{ServerTls, TlsError, certificates};

/// Longest time for a handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How often the files are looked at, at most.
const LOOK: Duration = Duration::from_secs(5);

/// Accepts TLS connections.
#[derive(Debug)]
pub struct Acceptor {
    files: Files,
    /// Names of protocols, preferred first.
    protocols: Vec<Vec<u8>>,
    current: Mutex<Current>,
}

#[derive(Debug, Clone)]
struct Files {
    cert: PathBuf,
    key: PathBuf,
    client_ca: Option<PathBuf>,
}

struct Current {
    config: Arc<ServerConfig>,
    changed: Vec<Option<SystemTime>>,
    looked: Instant,
}

impl std::fmt::Debug for Current {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Current").field("changed", &self.changed).finish_non_exhaustive()
    }
}

impl Acceptor {
    /// `None` if the settings name no certificate. `protocols` are the names that ALPN offers.
    pub fn new(settings: &ServerTls, protocols: &[&str]) -> Result<Option<Self>, TlsError> {
        let (Some(cert), Some(key)) = (&settings.tls_cert, &settings.tls_key) else {
            return Ok(None);
        };
        let files = Files {
            cert: cert.clone(),
            key: key.clone(),
            client_ca: settings.tls_client_ca.clone(),
        };
        let protocols: Vec<_> = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        let current = Current {
            changed: files.changed(),
            config: files.config(&protocols)?,
            looked: Instant::now(),
        };
        Ok(Some(Self { files, protocols, current: Mutex::new(current) }))
    }

    /// Does the handshake of a connection.
    pub async fn accept<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        socket: S,
    ) -> io::Result<TlsStream<S>> {
        let handshake = TlsAcceptor::from(self.config()).accept(socket);
        let late = || io::Error::new(io::ErrorKind::TimedOut, "no TLS handshake in time");
        tokio::time::timeout(HANDSHAKE, handshake).await.map_err(|_| late())?
    }

    /// The configuration of what the files hold now.
    fn config(&self) -> Arc<ServerConfig> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.looked.elapsed() >= LOOK {
            current.looked = Instant::now();
            let changed = self.files.changed();
            if changed != current.changed {
                match self.files.config(&self.protocols) {
                    Ok(config) => {
                        tracing::info!(cert = %self.files.cert.display(), "the TLS certificate has changed and is used");
                        (current.config, current.changed) = (config, changed);
                    }
                    Err(error) => {
                        tracing::warn!(%error, "the TLS certificate has changed but cannot be used; the one before stays");
                    }
                }
            }
        }
        current.config.clone()
    }
}

impl Files {
    fn changed(&self) -> Vec<Option<SystemTime>> {
        let all = [Some(&self.cert), Some(&self.key), self.client_ca.as_ref()];
        let modified = |path: &PathBuf| fs::metadata(path).and_then(|file| file.modified()).ok();
        all.into_iter().map(|path| path.and_then(modified)).collect()
    }

    fn config(&self, protocols: &[Vec<u8>]) -> Result<Arc<ServerConfig>, TlsError> {
        let chain = certificates(&self.cert)?;
        let key = PrivateKeyDer::from_pem_slice(&super::read(&self.key)?)
            .map_err(|error| TlsError::Pem { path: self.key.clone(), reason: error.to_string() })?;
        let provider = Arc::new(ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()?;
        let builder = match &self.client_ca {
            None => builder.with_no_client_auth(),
            Some(ca) => {
                let unusable = |reason: String| TlsError::Pem { path: ca.clone(), reason };
                let mut roots = RootCertStore::empty();
                for root in certificates(ca)? {
                    roots.add(root).map_err(|error| unusable(error.to_string()))?;
                }
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
                builder.with_client_cert_verifier(
                    verifier.map_err(|error| unusable(error.to_string()))?,
                )
            }
        };
        let mut config = builder.with_single_cert(chain, key)?;
        config.alpn_protocols = protocols.to_vec();
        Ok(Arc::new(config))
    }
}
