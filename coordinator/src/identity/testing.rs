//! For tests: tokens, signed as the API server signs them; objects that it keeps; agents' handshakes.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::http::Method;
use jiff::Timestamp;
use jsonwebtoken::jwk::{Jwk, JwkSet};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::ServerName;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_stream::StreamExt;

use super::authority::all_certificates;
use super::listener::{ConnectionLimits, TlsIncoming};
use super::process::Identity;
use crate::testing::api_server::{ApiServer, Sent, status};

pub(crate) const SECRET: &str = "/api/v1/namespaces/neap/secrets/neap-ca";
pub(crate) const SECRETS: &str = "/api/v1/namespaces/neap/secrets";
pub(crate) const CONFIG_MAP: &str = "/api/v1/namespaces/neap/configmaps/neap-ca";
pub(crate) const CONFIG_MAPS: &str = "/api/v1/namespaces/neap/configmaps";

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

/// Keeps one object as the API server does: create, read, replace by version.
pub(crate) fn store(api: &ApiServer, collection: &str, path: &str) -> Arc<Mutex<Option<Value>>> {
    let object: Arc<Mutex<Option<Value>>> = Arc::default();
    let write = |object: &Mutex<Option<Value>>, sent: &Sent| {
        let mut held = object.lock().unwrap();
        let version = held.as_ref().map_or(1, |held| {
            held["metadata"]["resourceVersion"]
                .as_str()
                .unwrap()
                .parse::<u32>()
                .unwrap()
                + 1
        });
        let mut new = sent.body.clone();
        new["metadata"]["resourceVersion"] = json!(version.to_string());
        *held = Some(new.clone());
        (200, vec![], new)
    };
    let held = object.clone();
    api.handle(Method::POST, collection, move |sent| {
        if held.lock().unwrap().is_some() {
            return (409, vec![], status(409, "AlreadyExists", "it exists"));
        }
        write(&held, sent)
    });
    let held = object.clone();
    api.handle(Method::GET, path, move |_| {
        match held.lock().unwrap().clone() {
            Some(object) => (200, vec![], object),
            None => (404, vec![], status(404, "NotFound", "not found")),
        }
    });
    let held = object.clone();
    api.handle(Method::PUT, path, move |sent| {
        let known = held
            .lock()
            .unwrap()
            .as_ref()
            .map(|held| held["metadata"]["resourceVersion"].clone());
        if known != Some(sent.body["metadata"]["resourceVersion"].clone()) {
            return (
                409,
                vec![],
                status(409, "Conflict", "the object has been modified"),
            );
        }
        write(&held, sent)
    });
    object
}

fn client_config(bundle: &str) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    for certificate in all_certificates(bundle, "test").unwrap() {
        roots.add(certificate).unwrap();
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    Arc::new(config)
}

/// A handshake over a real socket; gives the server's certificate.
pub(crate) async fn handshake(
    identity: &Identity,
    bundle: &str,
    name: &str,
) -> std::io::Result<Vec<u8>> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut incoming = TlsIncoming::new(
        listener,
        identity.node_server_tls().unwrap(),
        ConnectionLimits::default(),
    );
    let stream = TcpStream::connect(address).await.unwrap();
    let connector = TlsConnector::from(client_config(bundle));
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let connected = connector.connect(name, stream).await?;
    assert!(incoming.next().await.unwrap().is_ok());
    let (_, session) = connected.get_ref();
    Ok(session.peer_certificates().unwrap()[0].to_vec())
}
