//! Certificates that someone else makes and renews, in the files of a mounted Secret: cert-manager's
//! `tls.crt`, `tls.key` and `ca.crt`.
//!
//! A set is used whole or not at all, and only if agents and other coordinators would take it: they
//! are asked by the very checks that they make.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::CryptoProvider;
use rustls::server::WebPkiClientVerifier;
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio::io::AsyncReadExt;

use super::authority::CertificateFacts;
use super::bundle::MAX_AUTHORITIES;
use super::process::IdentityConfig;
use super::renewal::Expiry;

const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";
const AUTHORITIES: &str = "ca.crt";
/// What the kubelet exchanges as a whole when the Secret changes.
const MOUNTED: &str = "..data";
/// Longer files are none of these.
const MAX_BYTES: u64 = 256 * 1024;

/// Why a set is not used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {found}; needed: {needed}", .path.display())]
pub(super) struct Refused {
    path: PathBuf,
    found: String,
    needed: String,
}

/// What stands in the files.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Texts {
    pub(super) certificate: String,
    pub(super) key: String,
    pub(super) authorities: String,
}

/// A set that can be used.
pub(super) struct CertificateSet {
    pub(super) texts: Texts,
    /// Certificate, those between it and the authority, and key.
    pub(super) server: Arc<CertifiedKey>,
    /// The authority of `ca.crt` that the certificate is signed by.
    pub(super) signer: CertificateDer<'static>,
    pub(super) expiry: Expiry,
}

/// Reads and checks the files of one directory.
pub(super) struct CertificateFiles {
    dir: PathBuf,
    provider: Arc<CryptoProvider>,
    /// The names that agents and other coordinators ask for.
    names: [String; 2],
    /// The same in words.
    needed: String,
}

impl CertificateFiles {
    pub(super) fn new(dir: &Path, config: &IdentityConfig, provider: Arc<CryptoProvider>) -> Self {
        let names = config.verified_names();
        let needed = format!(
            "DNS names {} and *.{}.{}.svc, usages server auth and client auth",
            names[0], config.peers_service, config.namespace
        );
        Self {
            dir: dir.to_owned(),
            provider,
            names,
            needed,
        }
    }

    /// Reads the three files, all from before or all from after a change of the Secret.
    pub(super) async fn read(&self) -> Result<Texts, Refused> {
        let mounted = tokio::fs::canonicalize(self.dir.join(MOUNTED)).await;
        let dir = mounted.unwrap_or_else(|_| self.dir.clone());
        Ok(Texts {
            certificate: self.text(&dir, CERTIFICATE).await?,
            key: self.text(&dir, KEY).await?,
            authorities: self.text(&dir, AUTHORITIES).await?,
        })
    }

    async fn text(&self, dir: &Path, name: &str) -> Result<String, Refused> {
        let mut text = String::new();
        let read = async {
            let file = tokio::fs::File::open(dir.join(name)).await?;
            file.take(MAX_BYTES + 1).read_to_string(&mut text).await
        };
        let read = read.await;
        match read {
            Ok(length) if length as u64 > MAX_BYTES => {
                Err(self.refused(name, format!("longer than {MAX_BYTES} bytes")))
            }
            Ok(_) => Ok(text),
            Err(error) => Err(self.refused(name, error.to_string())),
        }
    }

    /// Whether agents and other coordinators would take this set at `now`.
    pub(super) fn check(&self, texts: Texts, now: Timestamp) -> Result<CertificateSet, Refused> {
        let chain = self.certificates(CERTIFICATE, &texts.certificate)?;
        let authorities = self.certificates(AUTHORITIES, &texts.authorities)?;
        if authorities.len() > MAX_AUTHORITIES {
            return Err(self.refused(AUTHORITIES, format!("{} certificates", authorities.len())));
        }
        let Some((leaf, between)) = chain.split_first() else {
            return Err(self.refused(CERTIFICATE, "no certificate in PEM form".to_owned()));
        };
        let facts = CertificateFacts::read(leaf, CERTIFICATE)
            .map_err(|error| self.refused(CERTIFICATE, error.to_string()))?;
        if now >= facts.not_after {
            let found = format!("it expired at {}", facts.not_after);
            return Err(self.refused(CERTIFICATE, found));
        }
        if now < facts.not_before {
            let found = format!("it is not valid before {}", facts.not_before);
            return Err(self.refused(CERTIFICATE, found));
        }
        let key = PrivateKeyDer::from_pem_slice(texts.key.as_bytes())
            .map_err(|_| self.refused(KEY, "not a private key in PEM form".to_owned()))?;
        let server = CertifiedKey::from_der(chain.clone(), key, &self.provider);
        let server = server.map_err(|error| {
            let found = match error {
                rustls::Error::InconsistentKeys(_) => {
                    format!("it does not belong to {CERTIFICATE}")
                }
                other => other.to_string(),
            };
            self.refused(KEY, found)
        })?;
        self.verify(&authorities, leaf, between, now)?;
        let (signer, signer_ends) = self.signer(&authorities, leaf, between, now)?;
        Ok(CertificateSet {
            texts,
            server: Arc::new(server),
            signer,
            expiry: Expiry {
                coordinator: facts.not_after,
                authority: signer_ends,
            },
        })
    }

    /// Verifies as agents do under the Service's name, as other coordinators do under this one's, and
    /// as those do whom this one calls.
    fn verify(
        &self,
        authorities: &[CertificateDer<'static>],
        leaf: &CertificateDer<'static>,
        between: &[CertificateDer<'static>],
        now: Timestamp,
    ) -> Result<(), Refused> {
        let mut roots = RootCertStore::empty();
        for authority in authorities {
            roots
                .add(authority.clone())
                .map_err(|error| self.refused(AUTHORITIES, error.to_string()))?;
        }
        let roots = Arc::new(roots);
        let unusable = |error: &dyn std::fmt::Display| self.refused(AUTHORITIES, error.to_string());
        let server =
            WebPkiServerVerifier::builder_with_provider(roots.clone(), self.provider.clone())
                .build()
                .map_err(|error| unusable(&error))?;
        let client = WebPkiClientVerifier::builder_with_provider(roots, self.provider.clone())
            .build()
            .map_err(|error| unusable(&error))?;
        let refused = |error: rustls::Error| self.refused(CERTIFICATE, reason(error));
        let at = unix(now);
        for name in &self.names {
            let asked = ServerName::try_from(name.clone())
                .map_err(|error| self.refused(CERTIFICATE, format!("{name}: {error}")))?;
            server
                .verify_server_cert(leaf, between, &asked, &[], at)
                .map_err(refused)?;
        }
        client
            .verify_client_cert(leaf, between, at)
            .map_err(refused)?;
        Ok(())
    }

    /// The authority that the certificate is signed by, and its end: the last to end, if several
    /// could be.
    fn signer(
        &self,
        authorities: &[CertificateDer<'static>],
        leaf: &CertificateDer<'static>,
        between: &[CertificateDer<'static>],
        now: Timestamp,
    ) -> Result<(CertificateDer<'static>, Timestamp), Refused> {
        let signers = authorities.iter().filter(|authority| {
            let alone = std::slice::from_ref(*authority);
            self.verify(alone, leaf, between, now).is_ok()
        });
        let ends = signers.filter_map(|signer| {
            let facts = CertificateFacts::read(signer, AUTHORITIES).ok()?;
            Some((signer.clone(), facts.not_after))
        });
        ends.max_by_key(|(_, ends)| *ends).ok_or_else(|| {
            self.refused(
                CERTIFICATE,
                format!("not signed by an authority of {AUTHORITIES}"),
            )
        })
    }

    fn certificates(
        &self,
        name: &'static str,
        pem: &str,
    ) -> Result<Vec<CertificateDer<'static>>, Refused> {
        let parsed: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
        match parsed {
            Ok(parsed) if parsed.is_empty() => {
                Err(self.refused(name, "no certificate in PEM form".to_owned()))
            }
            Ok(parsed) => Ok(parsed),
            Err(error) => {
                let found = format!("not certificates in PEM form: {error}");
                Err(self.refused(name, found))
            }
        }
    }

    fn refused(&self, name: &str, found: String) -> Refused {
        let needed = match name {
            KEY => format!("the private key of {CERTIFICATE} in PEM form"),
            AUTHORITIES => format!(
                "1 to {MAX_AUTHORITIES} certificates in PEM form, among them the authority of {CERTIFICATE}"
            ),
            _ => format!(
                "a certificate in PEM form that is valid now and signed by {AUTHORITIES}, {}",
                self.needed
            ),
        };
        Refused {
            path: self.dir.join(name),
            found,
            needed,
        }
    }
}

/// What a verifier says, in words that do not change from second to second.
fn reason(error: rustls::Error) -> String {
    use CertificateError::{
        BadSignature, Expired, ExpiredContext, NotValidYet, NotValidYetContext, UnknownIssuer,
    };
    match error {
        // Another authority may have the same name.
        rustls::Error::InvalidCertificate(UnknownIssuer | BadSignature) => {
            format!("not signed by an authority of {AUTHORITIES}")
        }
        rustls::Error::InvalidCertificate(
            Expired | ExpiredContext { .. } | NotValidYet | NotValidYetContext { .. },
        ) => "a certificate between it and its authority is not valid now".to_owned(),
        rustls::Error::InvalidCertificate(other) => other.to_string(),
        other => other.to_string(),
    }
}

fn unix(now: Timestamp) -> UnixTime {
    let seconds = u64::try_from(now.as_second()).unwrap_or(0);
    UnixTime::since_unix_epoch(Duration::from_secs(seconds))
}
