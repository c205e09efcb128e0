//! What an agent is given to trust and to show.

use std::path::PathBuf;

use super::address::host;

/// A CA, a server certificate and a token, in files.
pub(crate) struct Pki {
    dir: tempfile::TempDir,
    pub(super) certificate: String,
    pub(super) key: String,
}

impl Pki {
    pub(crate) fn new() -> Self {
        // The first test of the process installs it.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let ca_key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, "neap-ca");
        let ca = params.self_signed(&ca_key).unwrap();
        let issuer = rcgen::Issuer::new(params, ca_key);
        let key = rcgen::KeyPair::generate().unwrap();
        let leaf = rcgen::CertificateParams::new(vec![host().to_string()]).unwrap();
        let certificate = leaf.signed_by(&key, &issuer).unwrap().pem();
        let pki = Self {
            dir: tempfile::tempdir().unwrap(),
            certificate,
            key: key.serialize_pem(),
        };
        pki.put_ca(&ca.pem());
        pki.put_token("first-token");
        pki
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// As a kubelet does it: the new file replaces the old one at once.
    fn put(&self, name: &str, content: &str) {
        std::fs::write(self.path("next"), content).unwrap();
        std::fs::rename(self.path("next"), self.path(name)).unwrap();
    }

    pub(crate) fn put_token(&self, token: &str) {
        self.put("token", token);
    }

    pub(crate) fn ca(&self) -> String {
        std::fs::read_to_string(self.path("ca.crt")).unwrap()
    }

    pub(crate) fn put_ca(&self, ca: &str) {
        self.put("ca.crt", ca);
    }

    pub(crate) fn take_ca(&mut self) -> String {
        let ca = self.ca();
        std::fs::remove_file(self.path("ca.crt")).unwrap();
        ca
    }
}
