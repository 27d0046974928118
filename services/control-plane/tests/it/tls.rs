//! TLS and mTLS by settings.

use std::{fs, path::PathBuf, sync::Arc};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tempfile::TempDir;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tracelift_control_plane::store::Store;
use tracelift_runtime::tls::{ClientTls, ServerTls};

use crate::plane::{Plane, plane_over, plane_with, soon};

/// A folder of certificates: two authorities, a server of the first, a client of each.
struct Papers(TempDir);

impl Papers {
    fn new() -> Self {
        let papers = Self(TempDir::new().unwrap());
        for (ca, names) in [("ours", &["server", "client"][..]), ("theirs", &["stranger"])] {
            let mut params = CertificateParams::new(Vec::new()).unwrap();
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            let key = KeyPair::generate().unwrap();
            papers.write(ca, "crt", &params.self_signed(&key).unwrap().pem());
            let issuer = Issuer::new(params, key);
            for name in names {
                let key = KeyPair::generate().unwrap();
                let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
                papers.write(name, "crt", &params.signed_by(&key, &issuer).unwrap().pem());
                papers.write(name, "key", &key.serialize_pem());
            }
        }
        papers
    }

    fn write(&self, name: &str, kind: &str, text: &str) {
        fs::write(self.path(name, kind), text).unwrap();
    }

    fn path(&self, name: &str, kind: &str) -> PathBuf {
        self.0.path().join(format!("{name}.{kind}"))
    }

    fn server(&self, client_ca: Option<&str>) -> ServerTls {
        ServerTls {
            insecure_listen: false,
            tls_cert: Some(self.path("server", "crt")),
            tls_key: Some(self.path("server", "key")),
            tls_client_ca: client_ca.map(|ca| self.path(ca, "crt")),
        }
    }

    fn client(&self, ca: &str, cert: Option<&str>) -> ClientTls {
        ClientTls {
            ca: Some(self.path(ca, "crt")),
            client_cert: cert.map(|name| self.path(name, "crt")),
            client_key: cert.map(|name| self.path(name, "key")),
        }
    }
}

/// Whether a call of that client comes through.
async fn reaches(plane: &Plane, scheme: &str, tls: &ClientTls) -> bool {
    let channel = tls.channel(&format!("{scheme}://{}", plane.address)).unwrap();
    soon(HealthClient::new(channel).check(HealthCheckRequest { service: String::new() }))
        .await
        .is_ok()
}

#[tokio::test]
async fn with_a_certificate_only_tls_is_spoken() {
    let papers = Papers::new();
    let plane = plane_with(|settings| settings.tls = papers.server(None)).await;
    assert!(reaches(&plane, "https", &papers.client("ours", None)).await);
    assert!(
        !reaches(&plane, "https", &papers.client("theirs", None)).await,
        "the client does not know that authority"
    );
    assert!(!reaches(&plane, "http", &ClientTls::default()).await, "plain text");
}

#[tokio::test]
async fn with_an_authority_for_clients_each_must_show_a_certificate_of_it() {
    let papers = Papers::new();
    let plane = plane_with(|settings| settings.tls = papers.server(Some("ours"))).await;
    assert!(!reaches(&plane, "https", &papers.client("ours", None)).await, "no certificate");
    assert!(
        !reaches(&plane, "https", &papers.client("ours", Some("stranger"))).await,
        "another authority's"
    );
    assert!(reaches(&plane, "https", &papers.client("ours", Some("client"))).await);
}

#[tokio::test]
async fn a_missing_certificate_is_named() {
    let papers = Papers::new();
    let mut tls = papers.server(None);
    tls.tls_cert = Some(papers.path("nobody", "crt"));
    let store = Arc::new(Store::in_memory().unwrap());
    let plane = plane_over(store, Arc::default(), |settings| settings.tls = tls).await;
    let error = plane.err().unwrap().to_string();
    assert!(error.starts_with("cannot read ") && error.contains("nobody.crt"), "{error}");
}
