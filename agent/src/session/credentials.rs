//! What the agent shows and what it checks: read anew for each stream, so that a rotated
//! token or CA is used from the next one on.

use std::io;
use std::path::{Path, PathBuf};

use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::Certificate;

/// Larger files are not tokens and not CA bundles.
const MAX_BYTES: u64 = 1024 * 1024;

/// Why there are none.
#[derive(Debug, thiserror::Error)]
pub(super) enum CredentialsError {
    /// Neap's CA is not published yet, or not readable. No token travels without it.
    #[error(
        "cannot read the CA file {path}: waiting until the coordinator has published it (ConfigMap neap-ca)"
    )]
    Ca {
        /// --ca-file
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It holds no certificate.
    #[error("the CA file {path} holds no PEM certificate")]
    NotPem {
        /// --ca-file
        path: PathBuf,
    },
    /// The token cannot be read.
    #[error(
        "cannot read the token file {path} (a projected ServiceAccount token with audience neap)"
    )]
    Token {
        /// --token-file
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is no token.
    #[error("the token file {path} does not hold one line of text")]
    NotAToken {
        /// --token-file
        path: PathBuf,
    },
}

/// CA bundle and token.
pub(super) struct Credentials {
    /// Whom to believe.
    pub(super) ca: Certificate,
    /// Value of the `authorization` metadata. Never shown.
    pub(super) authorization: MetadataValue<Ascii>,
}

impl Credentials {
    /// Reads both files.
    ///
    /// # Errors
    /// [`CredentialsError`].
    pub(super) fn read(ca_file: &Path, token_file: &Path) -> Result<Self, CredentialsError> {
        let ca = read(ca_file).map_err(|source| CredentialsError::Ca {
            path: ca_file.to_owned(),
            source,
        })?;
        if !ca.windows(10).any(|window| window == b"-----BEGIN") {
            return Err(CredentialsError::NotPem {
                path: ca_file.to_owned(),
            });
        }
        let token = read(token_file).map_err(|source| CredentialsError::Token {
            path: token_file.to_owned(),
            source,
        })?;
        let mut authorization = std::str::from_utf8(&token)
            .ok()
            .map(str::trim)
            .filter(|token| !token.is_empty())
            .and_then(|token| MetadataValue::try_from(format!("Bearer {token}")).ok())
            .ok_or_else(|| CredentialsError::NotAToken {
                path: token_file.to_owned(),
            })?;
        authorization.set_sensitive(true);
        Ok(Self {
            ca: Certificate::from_pem(ca),
            authorization,
        })
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let length = std::fs::metadata(path)?.len();
    if length > MAX_BYTES {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("{length} bytes; at most {MAX_BYTES} are read"),
        ));
    }
    std::fs::read(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_bad_file_is_named_with_what_is_expected() {
        let dir = tempfile::tempdir().unwrap();
        let (ca, token) = (dir.path().join("ca.crt"), dir.path().join("token"));
        let read = || {
            Credentials::read(&ca, &token)
                .map(|_| ())
                .map_err(|error| error.to_string())
        };
        assert!(
            read()
                .unwrap_err()
                .contains("waiting until the coordinator has published it")
        );
        std::fs::write(&ca, "nonsense").unwrap();
        assert!(read().unwrap_err().contains("no PEM certificate"));
        std::fs::write(&ca, "-----BEGIN CERTIFICATE-----\n").unwrap();
        assert!(read().unwrap_err().contains("audience neap"));
        for bad in ["", " \n", "two\nlines", "\u{7}"] {
            std::fs::write(&token, bad).unwrap();
            assert!(read().unwrap_err().contains("one line of text"), "{bad:?}");
        }
        std::fs::write(&token, "abc.def.ghi\n").unwrap();
        read().unwrap();
        let credentials = Credentials::read(&ca, &token).unwrap();
        assert!(
            !format!("{:?}", credentials.authorization).contains("abc"),
            "a token is never shown"
        );
    }
}
