//! Names, addresses and certificates of the members.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use neap_consensus::{Bootstrap, Config, PeerConfig, PeerTls};
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use tokio::sync::watch;

/// Outgoing connections come from 127.0.0.1, and no other process has this one's id: nothing takes
/// a port of this address.
fn host() -> Ipv4Addr {
    let [_, high, middle, low] = std::process::id().to_be_bytes();
    Ipv4Addr::new(127, 64 | high, middle, low)
}

fn address() -> SocketAddr {
    static PORT: AtomicU16 = AtomicU16::new(20_000);
    (host(), PORT.fetch_add(1, Ordering::Relaxed)).into()
}

/// The configurations of a cluster of `count`, with their data below `root`.
pub(crate) fn configs(root: &Path, count: usize) -> Vec<Config> {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let key = KeyPair::generate().unwrap();
    let ca = params.self_signed(&key).unwrap().pem();
    let issuer = Issuer::new(params, key);
    let members: Vec<(String, SocketAddr)> = (0..count)
        .map(|seat| (format!("neap-coordinator-{seat}"), address()))
        .collect();
    let named: Vec<(String, String)> = members
        .iter()
        .map(|(name, address)| (name.clone(), address.to_string()))
        .collect();
    let config = |(name, listen): (String, SocketAddr)| {
        let mut leaf = CertificateParams::new(vec![host().to_string()]).unwrap();
        leaf.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let key = KeyPair::generate().unwrap();
        let tls = PeerTls {
            ca: ca.clone(),
            certificate: leaf.signed_by(&key, &issuer).unwrap().pem(),
            key: key.serialize_pem(),
        };
        Config {
            peer: Some(PeerConfig {
                name: name.clone(),
                listen,
                advertise: listen.to_string(),
                bootstrap: Bootstrap {
                    members: named.clone(),
                    leaving: Vec::new(),
                    form_without_minority_after: Duration::MAX,
                },
                tls: watch::Sender::new(Arc::new(tls)).subscribe(),
            }),
            ..Config::single(root.join(name), neap_coordinator::decide::FORMAT)
        }
    };
    members.into_iter().map(config).collect()
}
