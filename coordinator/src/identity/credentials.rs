//! The certificates in use, exchanged while connections live.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use neap_consensus::PeerTls;
use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::sync::watch;

use super::authority::LeafCertificate;

/// gRPC speaks HTTP/2 only.
const ALPN_H2: &[u8] = b"h2";

/// What this coordinator shows. Each new handshake uses what was set last; before anything was
/// set, handshakes fail.
#[derive(Debug)]
pub struct Credentials {
    provider: Arc<CryptoProvider>,
    server: ArcSwapOption<CertifiedKey>,
    peer: watch::Sender<Arc<PeerTls>>,
}

impl Credentials {
    /// Empty, on this provider.
    pub fn new(provider: Arc<CryptoProvider>) -> Self {
        let none = PeerTls {
            ca: String::new(),
            certificate: String::new(),
            key: String::new(),
        };
        Self {
            provider,
            server: ArcSwapOption::empty(),
            peer: watch::Sender::new(Arc::new(none)),
        }
    }

    /// Sets the certificate that agents see.
    ///
    /// # Errors
    /// When the key is not one that the provider can sign with.
    pub fn set_server(&self, leaf: LeafCertificate) -> Result<(), rustls::Error> {
        let key = self.provider.key_provider.load_private_key(leaf.key)?;
        let chain = vec![leaf.certificate];
        self.set_server_chain(Arc::new(CertifiedKey::new(chain, key)));
        Ok(())
    }

    /// Sets the certificate that agents see, with those between it and its authority.
    pub(super) fn set_server_chain(&self, chain: Arc<CertifiedKey>) {
        self.server.store(Some(chain));
    }

    /// Sets what other coordinators see and whom they have to be signed by. An equal set changes
    /// nothing: the peer network builds its settings anew for each one that it is given.
    pub fn set_peer(&self, peer: PeerTls) {
        self.peer.send_if_modified(|known| {
            let changed = **known != peer;
            if changed {
                *known = Arc::new(peer);
            }
            changed
        });
    }

    /// What other coordinators see, now and after each renewal.
    pub fn peer(&self) -> watch::Receiver<Arc<PeerTls>> {
        self.peer.subscribe()
    }

    /// Settings of the port that agents use: server certificate, no client certificate, TLS 1.3.
    ///
    /// # Errors
    /// When the crypto provider lacks TLS 1.3.
    pub fn node_server(self: &Arc<Self>) -> Result<Arc<ServerConfig>, rustls::Error> {
        let mut config = ServerConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(InForce(self.clone())));
        config.alpn_protocols = vec![ALPN_H2.to_vec()];
        // An agent reads the CA anew for each connection, and so resumes none.
        config.send_tls13_tickets = 0;
        Ok(Arc::new(config))
    }
}

/// Shows the server certificate in force.
#[derive(Debug)]
struct InForce(Arc<Credentials>);

impl ResolvesServerCert for InForce {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.server.load_full()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_equal_set_is_no_change() {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let credentials = Credentials::new(provider);
        let set = |ca: &str| {
            credentials.set_peer(PeerTls {
                ca: ca.to_owned(),
                certificate: "certificate".to_owned(),
                key: "key".to_owned(),
            });
        };
        let mut peer = credentials.peer();
        set("a");
        assert!(peer.has_changed().unwrap());
        let first = peer.borrow_and_update().clone();
        set("a");
        assert!(!peer.has_changed().unwrap());
        assert!(Arc::ptr_eq(&first, &peer.borrow()));
        set("b");
        assert!(peer.has_changed().unwrap());
    }
}
