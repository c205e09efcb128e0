//! Names, addresses and certificates of the members.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use neap_consensus::{Bootstrap, Config, PeerConfig, PeerTls};
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use tokio::sync::watch;

const FIRST_PORT: u16 = 20_000;

/// The configurations of a cluster of `count`, with their data below `root`.
///
/// # Errors
/// When a certificate cannot be made.
pub(crate) fn configs(root: &Path, count: u16) -> Result<Vec<Config>> {
    // Outgoing connections come from 127.0.0.1, and no other process has this one's id: nothing takes
    // a port of this address.
    let [_, high, middle, low] = std::process::id().to_be_bytes();
    let host = Ipv4Addr::new(127, 64 | high, middle, low);
    let mut params = CertificateParams::new(Vec::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let key = KeyPair::generate()?;
    let ca = params.self_signed(&key)?.pem();
    let issuer = Issuer::new(params, key);
    let members: Vec<(String, SocketAddr)> = (0..count)
        .map(|seat| (format!("member-{seat}"), (host, FIRST_PORT + seat).into()))
        .collect();
    let named: Vec<(String, String)> = members
        .iter()
        .map(|(name, address)| (name.clone(), address.to_string()))
        .collect();
    let config = |(name, listen): (String, SocketAddr)| -> Result<Config> {
        let mut leaf = CertificateParams::new(vec![host.to_string()])?;
        leaf.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let key = KeyPair::generate()?;
        let tls = PeerTls {
            ca: ca.clone(),
            certificate: leaf.signed_by(&key, &issuer)?.pem(),
            key: key.serialize_pem(),
        };
        Ok(Config {
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
        })
    };
    members.into_iter().map(config).collect()
}
