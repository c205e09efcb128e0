//! Projected ServiceAccount tokens, signed as an API server signs them by default: RS256.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use jsonwebtoken::jwk::{Jwk, JwkSet};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use neap_coordinator::clock::{Clock, SystemClock};
use serde_json::{Value, json};

use super::names::{NAMESPACE, node};

/// Whom the tokens are of.
pub(super) const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";
const KEY_ID: &str = "load";
const LIFE: Duration = Duration::from_secs(3_600);
/// Before the PKCS #1 key inside a PKCS #8 one of 2,048 bits stands a header of this length.
const PKCS8_HEADER: usize = 26;

/// Signs tokens.
pub struct Tokens {
    key: EncodingKey,
    header: Header,
}

impl Tokens {
    /// With a new key.
    ///
    /// # Errors
    /// When no key can be made.
    pub fn new() -> Result<Self> {
        let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256)?;
        let der = pair.serialize_der();
        let mut header = Header::new(Algorithm::RS256);
        header.kid = Some(KEY_ID.to_owned());
        Ok(Self {
            key: EncodingKey::from_rsa_der(der.get(PKCS8_HEADER..).unwrap_or_default()),
            header,
        })
    }

    /// What `/openid/v1/jwks` answers.
    pub(super) fn keys(&self) -> Result<Value> {
        let mut key = Jwk::from_encoding_key(&self.key, Algorithm::RS256)?;
        key.common.key_id = Some(KEY_ID.to_owned());
        Ok(serde_json::to_value(JwkSet { keys: vec![key] })?)
    }

    /// Writes the token of the agent on each of `count` nodes.
    ///
    /// # Errors
    /// When one cannot be signed or written.
    pub fn write(&self, root: &Path, count: usize) -> Result<()> {
        let now = SystemClock.wall().as_second();
        let until = now + i64::try_from(LIFE.as_secs())?;
        for index in 0..count {
            let node = node(index);
            let claims = json!({
                "aud": ["neap"], "exp": until, "iat": now, "nbf": now, "iss": ISSUER,
                "sub": format!("system:serviceaccount:{NAMESPACE}:neap-agent"),
                "kubernetes.io": {
                    "namespace": NAMESPACE,
                    "node": {"name": node, "uid": format!("uid-of-{node}")},
                    "pod": {"name": format!("neap-agent-{index}"), "uid": format!("uid-of-agent-{index}")},
                    "serviceaccount": {"name": "neap-agent", "uid": "uid-of-account"},
                },
            });
            let token = jsonwebtoken::encode(&self.header, &claims, &self.key)?;
            std::fs::write(file(root, index), token)?;
        }
        Ok(())
    }
}

/// Where a token lies.
pub(super) fn file(root: &Path, index: usize) -> PathBuf {
    root.join(format!("token-{index}"))
}
