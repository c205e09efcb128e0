//! Tokens for tests, signed as the API server signs them.

use std::time::Duration;

use jiff::Timestamp;
use jsonwebtoken::jwk::{Jwk, JwkSet};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header};
use serde_json::{Value, json};

/// The issuer that these tokens name.
pub(crate) const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

/// Signs tokens with one key.
pub(crate) struct TokenMaker {
    key: EncodingKey,
    jwk: Jwk,
    header: Header,
}

/// The PKCS #1 key inside a PKCS #8 one of 2,048 bits, whose header has a fixed length.
fn pkcs1(pkcs8: &[u8]) -> &[u8] {
    const HEADER: usize = 26;
    &pkcs8[HEADER..]
}

/// A token before it is signed.
pub(crate) struct Draft<'a> {
    maker: &'a TokenMaker,
    claims: Value,
}

impl TokenMaker {
    pub(crate) fn es256(kid: &str) -> Self {
        Self::new(kid, Algorithm::ES256, &rcgen::PKCS_ECDSA_P256_SHA256)
    }

    pub(crate) fn es384(kid: &str) -> Self {
        Self::new(kid, Algorithm::ES384, &rcgen::PKCS_ECDSA_P384_SHA384)
    }

    pub(crate) fn rs256(kid: &str) -> Self {
        Self::new(kid, Algorithm::RS256, &rcgen::PKCS_RSA_SHA256)
    }

    fn new(kid: &str, algorithm: Algorithm, kind: &'static rcgen::SignatureAlgorithm) -> Self {
        let pair = rcgen::KeyPair::generate_for(kind).unwrap();
        let key = match algorithm {
            Algorithm::RS256 => EncodingKey::from_rsa_der(pkcs1(&pair.serialize_der())),
            _ => EncodingKey::from_ec_der(&pair.serialize_der()),
        };
        let mut jwk = Jwk::from_encoding_key(&key, algorithm).unwrap();
        jwk.common.key_id = Some(kid.to_owned());
        let mut header = Header::new(algorithm);
        header.kid = Some(kid.to_owned());
        Self { key, jwk, header }
    }

    pub(crate) fn decoding_key(&self) -> DecodingKey {
        DecodingKey::from_jwk(&self.jwk).unwrap()
    }

    /// What `/openid/v1/jwks` answers.
    pub(crate) fn jwks(makers: &[&Self]) -> Value {
        serde_json::to_value(JwkSet {
            keys: makers.iter().map(|maker| maker.jwk.clone()).collect(),
        })
        .unwrap()
    }

    /// The token of the agent on `node`, good for an hour from `now`.
    pub(crate) fn agent(&self, node: &str, now: Timestamp) -> Draft<'_> {
        let claims = json!({
            "aud": ["neap"],
            "exp": (now + Duration::from_secs(3_600)).as_second(),
            "iat": now.as_second(),
            "nbf": now.as_second(),
            "iss": ISSUER,
            "sub": "system:serviceaccount:neap:neap-agent",
            "kubernetes.io": {
                "namespace": "neap",
                "node": {"name": node, "uid": format!("uid-of-{node}")},
                "pod": {"name": format!("neap-agent-{node}"), "uid": format!("uid-of-agent-{node}")},
                "serviceaccount": {"name": "neap-agent", "uid": "uid-of-account"},
            },
        });
        Draft {
            maker: self,
            claims,
        }
    }
}

impl Draft<'_> {
    /// Replaces the claim at a JSON pointer.
    pub(crate) fn set(mut self, pointer: &str, value: impl Into<Value>) -> Self {
        *self.claims.pointer_mut(pointer).unwrap() = value.into();
        self
    }

    /// Removes a claim.
    pub(crate) fn remove(mut self, claim: &str) -> Self {
        self.claims.as_object_mut().unwrap().remove(claim).unwrap();
        self
    }

    pub(crate) fn sign(self) -> String {
        jsonwebtoken::encode(&self.maker.header, &self.claims, &self.maker.key).unwrap()
    }
}
