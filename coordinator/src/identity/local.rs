//! Identity without a cluster: an authority that lives as long as the process, and one agent with
//! one token.

use std::time::Duration;

use jiff::Timestamp;
use rcgen::KeyPair;

use super::authority::{Authority, AuthorityError, CertificateKind};
use super::caller::{Caller, CallerError};
use super::credentials::Credentials;
use super::process::{IdentityConfig, IdentityError};
use super::token::TokenError;

/// A token is good this long; the process seldom lives as long.
const TOKEN_LIFE: Duration = Duration::from_secs(365 * 86_400);

/// The one agent that may call.
pub(super) struct LocalAgent {
    token: String,
    caller: Caller,
}

/// What the agent of the same process needs.
pub struct LocalCredentials {
    /// The authority's certificate in PEM form.
    pub ca_pem: String,
    /// The token that the agent shows.
    pub token: String,
}

/// The token stays out of logs.
impl std::fmt::Debug for LocalCredentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LocalCredentials").finish_non_exhaustive()
    }
}

impl LocalAgent {
    /// Makes an authority and signs the server's certificate with it, and makes a token for the agent of
    /// `node`.
    pub(super) fn make(
        node: &str,
        credentials: &Credentials,
        now: Timestamp,
    ) -> Result<(Self, LocalCredentials), IdentityError> {
        let authority = Authority::generate(now)?;
        let names = ["localhost".to_owned()];
        let addresses = IdentityConfig::addresses();
        let server = authority.sign(CertificateKind::Server, &names, &addresses, now)?;
        credentials.set_server(server)?;
        // A fresh key's public half: 256 bits from the provider's generator that nobody can guess.
        let token: String = KeyPair::generate()
            .map_err(AuthorityError::Make)?
            .public_key_raw()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let caller = Caller {
            node_name: node.to_owned(),
            node_uid: node.to_owned(),
            service_account: "local/neap-agent".to_owned(),
            pod: "local/neap-agent".to_owned(),
            pod_uid: "local".to_owned(),
            expires: now + TOKEN_LIFE,
        };
        let shown = LocalCredentials {
            ca_pem: authority.certificate_pem().to_owned(),
            token: token.clone(),
        };
        Ok((Self { token, caller }, shown))
    }

    /// Whose token it is.
    pub(super) fn verify(&self, token: &str) -> Result<Caller, CallerError> {
        // Every byte is looked at, so that the time taken tells nothing of how many were right.
        let differ = self
            .token
            .bytes()
            .zip(token.bytes())
            .fold(self.token.len() ^ token.len(), |differ, (a, b)| {
                differ | usize::from(a ^ b)
            });
        if differ == 0 {
            Ok(self.caller.clone())
        } else {
            Err(TokenError::Signature.into())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use crate::identity::Identity;

    #[tokio::test]
    async fn only_the_token_that_was_made_is_taken() {
        let (identity, shown) = Identity::local("n1", Arc::new(crate::clock::SystemClock)).unwrap();
        assert_eq!(identity.verify(&shown.token).await.unwrap().node_name, "n1");
        let mut wrong = shown.token.clone();
        wrong.replace_range(0..1, if wrong.starts_with('0') { "1" } else { "0" });
        for token in ["", "0", &wrong, &format!("{}0", shown.token)] {
            assert!(identity.verify(token).await.is_err(), "{token:?}");
        }
        assert!(shown.ca_pem.starts_with("-----BEGIN CERTIFICATE"));
        assert!(!format!("{shown:?}").contains(&shown.token));
    }
}
