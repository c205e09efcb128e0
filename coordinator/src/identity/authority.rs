//! The certificate authority of one installation, and the certificates it signs.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

/// How long a new authority lives.
pub(super) const AUTHORITY_LIFE: Duration = Duration::from_secs(2 * 365 * 86_400);
/// How long a server or peer certificate lives.
pub(super) const LEAF_LIFE: Duration = Duration::from_secs(30 * 86_400);
/// How far before "now" a certificate's life begins: clocks of nodes differ.
pub(super) const BACKDATE: Duration = Duration::from_secs(3_600);

const COMMON_NAME: &str = "neap-ca";

/// Why a certificate could not be made or read.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// Making or signing failed.
    #[error("cannot make a certificate: {0}")]
    Make(#[from] rcgen::Error),
    /// The text is no certificate in PEM.
    #[error("{field}: not a certificate in PEM form: {reason}")]
    Certificate {
        /// Where it stood.
        field: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// The certificate is not one of an authority.
    #[error(
        "{field}: the certificate is not that of a certificate authority (basicConstraints CA:TRUE is missing)"
    )]
    NotAnAuthority {
        /// Where it stood.
        field: &'static str,
    },
    /// The text is no private key in PEM, or of a kind that cannot sign.
    #[error("{field}: not a private key in PEM (PKCS #8) form")]
    Key {
        /// Where it stood.
        field: &'static str,
    },
    /// Key and certificate do not belong together.
    #[error("tls.key does not belong to tls.crt")]
    KeyMismatch,
    /// A time beyond what a certificate can hold.
    #[error("the time {0} cannot stand in a certificate")]
    Time(Timestamp),
}

/// What a certificate is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CertificateKind {
    /// Servers that agents and interceptors connect to.
    Server,
    /// Coordinators among themselves: server and client at once.
    Peer,
}

/// A certificate authority with its private key.
pub struct Authority {
    certificate: CertificateDer<'static>,
    certificate_pem: String,
    key_pem: String,
    issuer: Issuer<'static, KeyPair>,
    not_before: Timestamp,
    not_after: Timestamp,
}

/// A certificate with its private key, ready for rustls.
pub struct LeafCertificate {
    /// The certificate alone; clients know the authority.
    pub certificate: CertificateDer<'static>,
    /// The same in PEM form.
    pub certificate_pem: String,
    /// Its private key.
    pub key: PrivateKeyDer<'static>,
    /// The same in PEM form.
    pub key_pem: String,
    /// Start of its life.
    pub not_before: Timestamp,
    /// End of its life.
    pub not_after: Timestamp,
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority")
            .field("not_before", &self.not_before)
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for LeafCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LeafCertificate")
            .field("not_before", &self.not_before)
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}

impl Authority {
    /// Makes a new one with an ECDSA P-256 key, valid from an hour ago for [`AUTHORITY_LIFE`].
    ///
    /// # Errors
    /// [`AuthorityError::Make`] or [`AuthorityError::Time`].
    pub fn generate(now: Timestamp) -> Result<Self, AuthorityError> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params
            .distinguished_name
            .push(DnType::CommonName, COMMON_NAME);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.not_before = certificate_time(now - BACKDATE)?;
        params.not_after = certificate_time(now + AUTHORITY_LIFE)?;
        let certificate = params.self_signed(&key)?;
        Self::from_pem(&certificate.pem(), &key.serialize_pem())
    }

    /// Reads one from the two entries of a TLS Secret. Of several certificates the first counts.
    ///
    /// # Errors
    /// What is wrong with which entry.
    pub fn from_pem(certificate_pem: &str, key_pem: &str) -> Result<Self, AuthorityError> {
        let certificate = first_certificate(certificate_pem, "tls.crt")?;
        let key =
            KeyPair::from_pem(key_pem).map_err(|_| AuthorityError::Key { field: "tls.key" })?;
        let facts = CertificateFacts::read(&certificate, "tls.crt")?;
        if !facts.is_authority {
            return Err(AuthorityError::NotAnAuthority { field: "tls.crt" });
        }
        if facts.public_key != rcgen::PublicKeyData::subject_public_key_info(&key) {
            return Err(AuthorityError::KeyMismatch);
        }
        let pem = first_block(certificate_pem).unwrap_or_default();
        let issuer = Issuer::from_ca_cert_der(&certificate, KeyPair::from_pem(key_pem)?)?;
        Ok(Self {
            certificate,
            certificate_pem: pem,
            key_pem: key.serialize_pem(),
            issuer,
            not_before: facts.not_before,
            not_after: facts.not_after,
        })
    }

    /// Signs a new certificate with a key of its own for these DNS names and addresses. Its life
    /// is [`LEAF_LIFE`], or what is left of the authority's if that is less.
    ///
    /// # Errors
    /// [`AuthorityError::Make`] or [`AuthorityError::Time`].
    pub fn sign(
        &self,
        kind: CertificateKind,
        names: &[String],
        addresses: &[IpAddr],
        now: Timestamp,
    ) -> Result<LeafCertificate, AuthorityError> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(names.to_vec())?;
        params
            .subject_alt_names
            .extend(addresses.iter().copied().map(SanType::IpAddress));
        if let Some(first) = names.first() {
            params
                .distinguished_name
                .push(DnType::CommonName, first.as_str());
        }
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = match kind {
            CertificateKind::Server => vec![ExtendedKeyUsagePurpose::ServerAuth],
            CertificateKind::Peer => {
                vec![
                    ExtendedKeyUsagePurpose::ServerAuth,
                    ExtendedKeyUsagePurpose::ClientAuth,
                ]
            }
        };
        params.use_authority_key_identifier_extension = true;
        let not_before = (now - BACKDATE).max(self.not_before);
        let not_after = (now + LEAF_LIFE).min(self.not_after);
        params.not_before = certificate_time(not_before)?;
        params.not_after = certificate_time(not_after)?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok(LeafCertificate {
            certificate: certificate.der().clone(),
            certificate_pem: certificate.pem(),
            key_pem: key.serialize_pem(),
            key: PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())),
            not_before,
            not_after,
        })
    }

    /// The certificate in PEM form.
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// The certificate.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// The private key in PEM form, for the Secret and for nothing else.
    pub(super) fn key_pem(&self) -> &str {
        &self.key_pem
    }

    /// Start of its life.
    pub fn not_before(&self) -> Timestamp {
        self.not_before
    }

    /// End of its life.
    pub fn not_after(&self) -> Timestamp {
        self.not_after
    }
}

/// When two thirds of a life are over: the time to renew.
pub(super) fn renewal_time(not_before: Timestamp, not_after: Timestamp) -> Timestamp {
    let life = not_before.duration_until(not_after);
    not_before + life / 3 * 2
}

/// What of a certificate is asked for.
pub(super) struct CertificateFacts {
    pub(super) not_before: Timestamp,
    pub(super) not_after: Timestamp,
    pub(super) is_authority: bool,
    pub(super) public_key: Vec<u8>,
}

impl CertificateFacts {
    pub(super) fn read(
        certificate: &CertificateDer<'_>,
        field: &'static str,
    ) -> Result<Self, AuthorityError> {
        let refuse = |reason: String| AuthorityError::Certificate { field, reason };
        let (_, parsed) = x509_parser::parse_x509_certificate(certificate)
            .map_err(|error| refuse(error.to_string()))?;
        // What has no end ends on the last day of the year 9999 (RFC 5280, 4.1.2.5), which is beyond the range.
        let time = |seconds: i64| {
            let (min, max) = (Timestamp::MIN, Timestamp::MAX);
            let seconds = seconds.clamp(min.as_second(), max.as_second());
            Timestamp::from_second(seconds).unwrap_or(max)
        };
        Ok(Self {
            not_before: time(parsed.validity().not_before.timestamp()),
            not_after: time(parsed.validity().not_after.timestamp()),
            is_authority: parsed.is_ca(),
            public_key: parsed.public_key().raw.to_vec(),
        })
    }
}

pub(super) fn first_certificate(
    pem: &str,
    field: &'static str,
) -> Result<CertificateDer<'static>, AuthorityError> {
    CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|error| AuthorityError::Certificate {
        field,
        reason: error.to_string(),
    })
}

/// All certificates of a PEM text.
#[cfg(test)]
pub(super) fn all_certificates(
    pem: &str,
    field: &'static str,
) -> Result<Vec<CertificateDer<'static>>, AuthorityError> {
    CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|error| AuthorityError::Certificate {
            field,
            reason: error.to_string(),
        })
}

/// The first certificate of a PEM text, with its markers and a line end.
fn first_block(pem: &str) -> Option<String> {
    const END: &str = "-----END CERTIFICATE-----";
    let start = pem.find("-----BEGIN CERTIFICATE-----")?;
    let block = pem.get(start..)?;
    let end = block.find(END)? + END.len();
    Some(format!("{}\n", block.get(..end)?))
}

fn certificate_time(at: Timestamp) -> Result<time::OffsetDateTime, AuthorityError> {
    time::OffsetDateTime::from_unix_timestamp(at.as_second()).map_err(|_| AuthorityError::Time(at))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-11-22T10:00:00Z".parse().unwrap()
    }

    #[test]
    fn an_authority_survives_its_secret() {
        let made = Authority::generate(now()).unwrap();
        let read = Authority::from_pem(made.certificate_pem(), made.key_pem()).unwrap();
        assert_eq!(read.certificate(), made.certificate());
        assert_eq!(read.not_before(), "2026-11-22T09:00:00Z".parse().unwrap());
        assert_eq!(read.not_after(), now() + AUTHORITY_LIFE);
        assert_eq!(read.certificate_pem(), made.certificate_pem());
        assert!(!format!("{read:?}").contains("PRIVATE"));
    }

    #[test]
    fn what_is_wrong_with_a_secret_is_named() {
        let one = Authority::generate(now()).unwrap();
        let other = Authority::generate(now()).unwrap();
        let refused = |certificate: &str, key: &str| {
            Authority::from_pem(certificate, key)
                .unwrap_err()
                .to_string()
        };
        assert!(refused("hello", one.key_pem()).starts_with("tls.crt: not a certificate"));
        assert!(refused(one.certificate_pem(), "hello").starts_with("tls.key: not a private key"));
        assert_eq!(
            refused(one.certificate_pem(), other.key_pem()),
            "tls.key does not belong to tls.crt"
        );
        let leaf = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        assert!(
            refused(&leaf.cert.pem(), &leaf.signing_key.serialize_pem())
                .contains("not that of a certificate authority")
        );
    }

    #[test]
    fn a_leaf_does_not_outlive_its_authority() {
        let authority = Authority::generate(now()).unwrap();
        let late = authority.not_after() - Duration::from_secs(86_400);
        let leaf = authority
            .sign(CertificateKind::Peer, &["a.b".into()], &[], late)
            .unwrap();
        assert_eq!(leaf.not_after, authority.not_after());
        let facts = CertificateFacts::read(&leaf.certificate, "leaf").unwrap();
        assert_eq!(facts.not_after, leaf.not_after);
        assert!(!facts.is_authority);
    }

    #[test]
    fn renewal_is_due_at_two_thirds() {
        let start = now();
        assert_eq!(
            renewal_time(start, start + Duration::from_secs(30 * 86_400)),
            start + Duration::from_secs(20 * 86_400)
        );
    }
}
