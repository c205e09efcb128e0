//! Projected ServiceAccount tokens: what they must say.

use jiff::Timestamp;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, Header, Validation};
use serde::Deserialize;
use std::time::Duration;

use super::caller::Caller;

/// Longer texts are refused unread. A projected token has about one thousand bytes.
pub(super) const MAX_TOKEN_BYTES: usize = 16 * 1024;

/// A token counts as begun this long before it says so: the API server's clock and ours differ.
const NOT_BEFORE_LEEWAY: Duration = Duration::from_secs(600);
/// And as good for this long after it says it ended.
const EXPIRY_LEEWAY: Duration = Duration::from_secs(30);

/// Which tokens are accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenPolicy {
    /// The audience that the token must name: `neap`.
    pub audience: String,
    /// `namespace/name` of the ServiceAccounts that agents run as.
    pub service_accounts: Vec<String>,
}

/// Why a token is refused. The token itself is never part of the message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// The call carries none.
    #[error("authorization: a bearer token is required")]
    Missing,
    /// It is too long or no JWT.
    #[error("token: not a JSON web token")]
    Malformed,
    /// Signed in a way that is not accepted.
    #[error("token: algorithm {0} is not one of RS256, RS384, RS512, ES256, ES384")]
    Algorithm(String),
    /// No signing key of this cluster has its key id.
    #[error("token: signed by a key that this cluster does not publish")]
    UnknownKey,
    /// The signature is wrong.
    #[error("token: the signature is wrong")]
    Signature,
    /// Of another issuer.
    #[error("token: issuer is not {expected}")]
    Issuer {
        /// The cluster's issuer.
        expected: String,
    },
    /// For another audience.
    #[error("token: audience is not {expected}")]
    Audience {
        /// The audience asked for.
        expected: String,
    },
    /// Its life is over.
    #[error("token: expired at {0}")]
    Expired(Timestamp),
    /// Its life begins far in the future.
    #[error("token: not valid before {0}")]
    NotYet(Timestamp),
    /// It lacks a claim.
    #[error("token: claim {0} is missing (Kubernetes 1.30 and later put it into tokens of pods)")]
    MissingClaim(&'static str),
    /// Of a ServiceAccount that is no agent.
    #[error("token: ServiceAccount {found} is not one of {allowed}")]
    ServiceAccount {
        /// The one in the token.
        found: String,
        /// Those accepted.
        allowed: String,
    },
}

/// The claims that count.
#[derive(Debug, Clone, Deserialize)]
pub struct Claims {
    exp: i64,
    nbf: Option<i64>,
    #[serde(rename = "kubernetes.io")]
    kubernetes: Option<KubernetesClaims>,
}

#[derive(Debug, Clone, Deserialize)]
struct KubernetesClaims {
    namespace: Option<String>,
    node: Option<ObjectClaim>,
    pod: Option<ObjectClaim>,
    serviceaccount: Option<ObjectClaim>,
}

#[derive(Debug, Clone, Deserialize)]
struct ObjectClaim {
    name: String,
    uid: String,
}

/// Reads the header, which is not yet trusted: it tells which key to look for.
pub(super) fn header(token: &str) -> Result<Header, TokenError> {
    if token.len() > MAX_TOKEN_BYTES {
        return Err(TokenError::Malformed);
    }
    let header = jsonwebtoken::decode_header(token).map_err(|_| TokenError::Malformed)?;
    match header.alg {
        Algorithm::RS256
        | Algorithm::RS384
        | Algorithm::RS512
        | Algorithm::ES256
        | Algorithm::ES384 => Ok(header),
        other => Err(TokenError::Algorithm(format!("{other:?}"))),
    }
}

/// Checks signature, issuer, audience, life and claims.
pub(super) fn verify(
    token: &str,
    header: &Header,
    key: &DecodingKey,
    issuer: &str,
    policy: &TokenPolicy,
    now: Timestamp,
) -> Result<Caller, TokenError> {
    let mut validation = Validation::new(header.alg);
    validation.set_issuer(&[issuer]);
    validation.set_audience(&[&policy.audience]);
    validation.set_required_spec_claims(&["exp", "iss", "aud"]);
    // The library would read the machine's clock; time is handed in here.
    validation.validate_exp = false;
    validation.validate_nbf = false;
    let claims = jsonwebtoken::decode::<Claims>(token, key, &validation)
        .map_err(|error| match error.kind() {
            ErrorKind::InvalidSignature | ErrorKind::InvalidAlgorithm => TokenError::Signature,
            ErrorKind::InvalidIssuer => TokenError::Issuer {
                expected: issuer.to_owned(),
            },
            ErrorKind::InvalidAudience => TokenError::Audience {
                expected: policy.audience.clone(),
            },
            ErrorKind::MissingRequiredClaim(claim) if claim == "aud" => TokenError::Audience {
                expected: policy.audience.clone(),
            },
            ErrorKind::MissingRequiredClaim(claim) if claim == "iss" => TokenError::Issuer {
                expected: issuer.to_owned(),
            },
            _ => TokenError::Malformed,
        })?
        .claims;
    caller(claims, policy, now)
}

fn caller(claims: Claims, policy: &TokenPolicy, now: Timestamp) -> Result<Caller, TokenError> {
    let time = |seconds: i64| Timestamp::from_second(seconds).map_err(|_| TokenError::Malformed);
    let expires = time(claims.exp)?;
    if now >= expires + EXPIRY_LEEWAY {
        return Err(TokenError::Expired(expires));
    }
    if let Some(begins) = claims.nbf.map(time).transpose()?
        && now + NOT_BEFORE_LEEWAY < begins
    {
        return Err(TokenError::NotYet(begins));
    }
    let kubernetes = claims
        .kubernetes
        .ok_or(TokenError::MissingClaim("kubernetes.io"))?;
    let namespace = kubernetes
        .namespace
        .ok_or(TokenError::MissingClaim("kubernetes.io.namespace"))?;
    let account = kubernetes
        .serviceaccount
        .ok_or(TokenError::MissingClaim("kubernetes.io.serviceaccount"))?;
    let service_account = format!("{namespace}/{}", account.name);
    if !policy.service_accounts.contains(&service_account) {
        return Err(TokenError::ServiceAccount {
            found: service_account,
            allowed: policy.service_accounts.join(", "),
        });
    }
    let pod = kubernetes
        .pod
        .ok_or(TokenError::MissingClaim("kubernetes.io.pod"))?;
    let node = kubernetes
        .node
        .ok_or(TokenError::MissingClaim("kubernetes.io.node"))?;
    Ok(Caller {
        node_name: node.name,
        node_uid: node.uid,
        service_account,
        pod: format!("{namespace}/{}", pod.name),
        pod_uid: pod.uid,
        expires,
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing::{ISSUER, TokenMaker};
    use super::*;

    fn now() -> Timestamp {
        "2026-11-22T10:00:00Z".parse().unwrap()
    }

    fn policy() -> TokenPolicy {
        TokenPolicy {
            audience: "neap".into(),
            service_accounts: vec!["neap/neap-agent".into()],
        }
    }

    fn check(maker: &TokenMaker, token: &str) -> Result<Caller, TokenError> {
        let header = header(token)?;
        verify(
            token,
            &header,
            &maker.decoding_key(),
            ISSUER,
            &policy(),
            now(),
        )
    }

    #[test]
    fn a_good_token_names_its_node() {
        for maker in [TokenMaker::es256("k1"), TokenMaker::es384("k2")] {
            let caller = check(&maker, &maker.agent("node-1", now()).sign()).unwrap();
            assert_eq!(caller.node_name, "node-1");
            assert_eq!(caller.node_uid, "uid-of-node-1");
            assert_eq!(caller.service_account, "neap/neap-agent");
            assert_eq!(caller.pod, "neap/neap-agent-node-1");
            assert_eq!(caller.expires, now() + Duration::from_secs(3_600));
        }
    }

    #[test]
    fn every_refusal_has_its_reason() {
        let maker = TokenMaker::es256("k1");
        let other = TokenMaker::es256("k1");
        let refused = |token: &str| check(&maker, token).unwrap_err();
        let agent = || maker.agent("node-1", now());
        let hour = Duration::from_secs(3_600);

        assert_eq!(refused("not.a.token"), TokenError::Malformed);
        assert_eq!(
            refused(&"x".repeat(MAX_TOKEN_BYTES + 1)),
            TokenError::Malformed
        );
        assert_eq!(
            refused(&other.agent("node-1", now()).sign()),
            TokenError::Signature
        );
        assert!(matches!(
            refused(&agent().set("/iss", "https://elsewhere").sign()),
            TokenError::Issuer { .. }
        ));
        assert!(matches!(
            refused(&agent().set("/aud", "kube").sign()),
            TokenError::Audience { .. }
        ));
        assert!(matches!(
            refused(&agent().remove("aud").sign()),
            TokenError::Audience { .. }
        ));
        let over = agent().set("/exp", now().as_second() - 60).sign();
        assert_eq!(
            refused(&over),
            TokenError::Expired(now() - Duration::from_secs(60))
        );
        let future = agent().set("/nbf", (now() + hour).as_second()).sign();
        assert_eq!(refused(&future), TokenError::NotYet(now() + hour));
        assert!(
            check(&maker, &agent().set("/nbf", now().as_second() + 300).sign()).is_ok(),
            "clocks differ"
        );
        let account = agent()
            .set("/kubernetes.io/serviceaccount/name", "default")
            .sign();
        assert!(
            refused(&account)
                .to_string()
                .contains("neap/default is not one of neap/neap-agent")
        );
        let elsewhere = agent().set("/kubernetes.io/namespace", "evil").sign();
        assert!(matches!(
            refused(&elsewhere),
            TokenError::ServiceAccount { .. }
        ));
        let old_cluster = agent()
            .set("/kubernetes.io/node", serde_json::Value::Null)
            .sign();
        assert_eq!(
            refused(&old_cluster),
            TokenError::MissingClaim("kubernetes.io.node")
        );
    }

    #[test]
    fn symmetric_and_unsigned_tokens_are_refused() {
        let claims = serde_json::json!({"exp": now().as_second() + 60});
        let secret = jsonwebtoken::EncodingKey::from_secret(b"the public key, known to all");
        let token = jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &secret).unwrap();
        assert_eq!(
            header(&token).unwrap_err(),
            TokenError::Algorithm("HS256".into())
        );
        // {"alg":"none"}
        assert_eq!(
            header("eyJhbGciOiJub25lIn0.e30.").unwrap_err(),
            TokenError::Malformed
        );
    }
}
