//! TLS of a client. The files are read for each connection, so a certificate that was renewed is used
//! by the next one.

use std::{io, sync::Arc};

use http::Uri;
use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{PrivateKeyDer, ServerName, pem::PemObject as _},
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{ClientTls, TlsError, certificates};

/// Port of addresses without one.
const PORT: u16 = 443;

impl ClientTls {
    /// Connects to the control plane at `uri`.
    pub(super) async fn dial(&self, uri: &Uri) -> io::Result<TokioIo<TlsStream<TcpStream>>> {
        let config = self.config().map_err(io::Error::other)?;
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let socket = TcpStream::connect((host.as_str(), uri.port_u16().unwrap_or(PORT))).await?;
        socket.set_nodelay(true)?;
        let name = ServerName::try_from(host).map_err(io::Error::other)?;
        let stream = TlsConnector::from(config).connect(name, socket).await?;
        Ok(TokioIo::new(stream))
    }

    /// What the files hold now.
    pub(super) fn config(&self) -> Result<Arc<ClientConfig>, TlsError> {
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(self.roots()?);
        let mut config = match (&self.client_cert, &self.client_key) {
            (Some(cert), Some(key)) => {
                let unusable = |reason: String| TlsError::Pem { path: key.clone(), reason };
                let private = PrivateKeyDer::from_pem_slice(&super::read(key)?)
                    .map_err(|error| unusable(error.to_string()))?;
                builder.with_client_auth_cert(certificates(cert)?, private)?
            }
            _ => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Arc::new(config))
    }

    fn roots(&self) -> Result<RootCertStore, TlsError> {
        let mut roots = RootCertStore::empty();
        match &self.ca {
            Some(ca) => {
                for root in certificates(ca)? {
                    let unusable = |reason: String| TlsError::Pem { path: ca.clone(), reason };
                    roots.add(root).map_err(|error| unusable(error.to_string()))?;
                }
            }
            None => drop(
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs),
            ),
        }
        Ok(roots)
    }
}
