//! A certificate authority, a server's certificate for this machine and a client's certificate, in PEM.

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair,
};

/// What one side needs.
pub(crate) struct Signed {
    pub(crate) cert: String,
    pub(crate) key: String,
}

/// An authority with a server and a client.
pub(crate) struct Authority {
    pub(crate) ca: String,
    pub(crate) server: Signed,
    pub(crate) client: Signed,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.distinguished_name = called("neap test authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("key");
        let ca = params.self_signed(&key).expect("certificate").pem();
        let issuer = Issuer::new(params, key);
        let signed = |names: Vec<String>, purpose: ExtendedKeyUsagePurpose| {
            let mut params = CertificateParams::new(names.clone()).expect("names");
            params.distinguished_name = called(&names[0]);
            params.extended_key_usages = vec![purpose];
            let key = KeyPair::generate().expect("key");
            Signed {
                cert: params.signed_by(&key, &issuer).expect("certificate").pem(),
                key: key.serialize_pem(),
            }
        };
        let hosts = vec!["127.0.0.1".to_owned(), super::host().to_string()];
        let server = signed(hosts, ExtendedKeyUsagePurpose::ServerAuth);
        let client = signed(vec!["neap".to_owned()], ExtendedKeyUsagePurpose::ClientAuth);
        Self { ca, server, client }
    }
}

/// OpenSSL takes a certificate with its issuer's name for self-signed.
fn called(name: &str) -> DistinguishedName {
    let mut names = DistinguishedName::new();
    names.push(DnType::CommonName, name);
    names
}
