//! Mutual TLS from certificates that may change while the member runs.

use std::io;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::sync::watch;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::transport::Io;
use crate::config::PeerTls;

/// Certificates that cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    /// PEM that does not parse, or holds nothing.
    #[error("{part} of the peer certificates: {reason}")]
    Pem { part: &'static str, reason: String },
    /// What rustls says of them.
    #[error("peer certificates are refused: {0}")]
    Refused(String),
}

/// The configurations of the present certificates.
struct Built {
    from: Arc<PeerTls>,
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
}

/// Gives each new connection the present certificates. A new set that cannot be used is named in
/// the log once, and the last good one stays.
pub(crate) struct TlsSource {
    source: watch::Receiver<Arc<PeerTls>>,
    built: ArcSwap<Built>,
    /// The last set that could not be used.
    refused: ArcSwap<Option<Arc<PeerTls>>>,
}

impl TlsSource {
    /// Takes the first certificates, which must be usable.
    pub(crate) fn new(source: watch::Receiver<Arc<PeerTls>>) -> Result<Self, TlsError> {
        let first = source.borrow().clone();
        Ok(Self {
            source,
            built: ArcSwap::from_pointee(build(first)?),
            refused: ArcSwap::default(),
        })
    }

    fn present(&self) -> Arc<Built> {
        let wanted = self.source.borrow().clone();
        let built = self.built.load_full();
        let same = |other: &Arc<PeerTls>| Arc::ptr_eq(other, &wanted);
        if same(&built.from) || self.refused.load().as_ref().as_ref().is_some_and(same) {
            return built;
        }
        match build(wanted.clone()) {
            Ok(new) => {
                let new = Arc::new(new);
                self.built.store(new.clone());
                tracing::info!("new peer certificates are in use");
                new
            }
            Err(error) => {
                tracing::error!(%error, "new peer certificates cannot be used; the last ones stay");
                self.refused.store(Arc::new(Some(wanted)));
                built
            }
        }
    }

    /// Shakes hands as the client of the member at `address` (`host:port`); the host must be among
    /// the names of its certificate.
    pub(crate) async fn connect(&self, address: &str, io: Io) -> io::Result<Io> {
        let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        let connector = TlsConnector::from(self.present().client.clone());
        Ok(Box::new(connector.connect(name, io).await?))
    }

    /// Shakes hands as the server; the client must hold a certificate of the same authority.
    pub(crate) async fn accept(&self, io: Io) -> io::Result<Io> {
        let acceptor = TlsAcceptor::from(self.present().server.clone());
        Ok(Box::new(acceptor.accept(io).await?))
    }
}

fn build(from: Arc<PeerTls>) -> Result<Built, TlsError> {
    let refused = |error: rustls::Error| TlsError::Refused(error.to_string());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    for certificate in certificates("ca", &from.ca)? {
        roots.add(certificate).map_err(refused)?;
    }
    let roots = Arc::new(roots);
    let chain = certificates("certificate", &from.certificate)?;
    let key = || {
        let parsed = PrivateKeyDer::from_pem_slice(from.key.as_bytes());
        parsed.map_err(|error| TlsError::Pem {
            part: "key",
            reason: error.to_string(),
        })
    };
    let versions = [&rustls::version::TLS13];
    let mut client = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&versions)
        .map_err(refused)?
        .with_root_certificates(roots.clone())
        .with_client_auth_cert(chain.clone(), key()?)
        .map_err(refused)?;
    let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider.clone()).build();
    let verifier = verifier.map_err(|error| TlsError::Refused(error.to_string()))?;
    let mut server = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&versions)
        .map_err(refused)?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key()?)
        .map_err(refused)?;
    client.alpn_protocols = vec![b"h2".to_vec()];
    server.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Built {
        from,
        client: Arc::new(client),
        server: Arc::new(server),
    })
}

fn certificates(part: &'static str, pem: &str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let refuse = |reason: String| TlsError::Pem { part, reason };
    let parsed: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    let parsed = parsed.map_err(|error| refuse(error.to_string()))?;
    if parsed.is_empty() {
        return Err(refuse("holds no certificate".into()));
    }
    Ok(parsed)
}
