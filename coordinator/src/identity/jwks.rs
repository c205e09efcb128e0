//! The keys with which this cluster signs ServiceAccount tokens, as the API server publishes them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use axum::http::Request;
use jsonwebtoken::DecodingKey;
use jsonwebtoken::jwk::JwkSet;
use serde::Deserialize;
use tokio::sync::Mutex;

use crate::clock::{Boottime, Clock};

const DISCOVERY: &str = "/.well-known/openid-configuration";
const KEYS: &str = "/openid/v1/jwks";

/// An unknown key id leads to a fresh look at most this often: a key that was just added is found
/// within this time, and forged ids cost the API server next to nothing.
const REFRESH_AT_MOST: Duration = Duration::from_secs(10);
/// Keys older than this are fetched again before use, so that a withdrawn key stops counting.
const REFRESH_AT_LEAST: Duration = Duration::from_secs(600);
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);

/// Why the keys could not be had.
#[derive(Debug, Clone, thiserror::Error)]
#[error("cannot read the cluster's token signing keys from {path}: {reason}")]
pub struct KeyError {
    /// The path asked for.
    pub path: &'static str,
    /// What went wrong.
    pub reason: String,
}

/// The issuer and its keys, fetched when needed and kept.
pub struct SigningKeys {
    client: kube::Client,
    clock: Arc<dyn Clock>,
    known: ArcSwapOption<KeySet>,
    fetching: Mutex<Option<Boottime>>,
}

#[derive(Debug)]
struct KeySet {
    issuer: Arc<str>,
    by_id: HashMap<String, DecodingKey>,
    fetched: Boottime,
}

#[derive(Deserialize)]
struct Discovery {
    issuer: String,
}

impl std::fmt::Debug for SigningKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SigningKeys")
            .field("known", &self.known)
            .finish_non_exhaustive()
    }
}

impl SigningKeys {
    /// Nothing is fetched yet.
    pub fn new(client: kube::Client, clock: Arc<dyn Clock>) -> Self {
        Self {
            client,
            clock,
            known: ArcSwapOption::empty(),
            fetching: Mutex::new(None),
        }
    }

    /// The issuer and the key with this id; the key is `None` when the cluster publishes no such key.
    ///
    /// # Errors
    /// [`KeyError`] when nothing is known yet and the API server does not answer. Keys fetched
    /// earlier stay in use for as long as it does not.
    pub async fn find(&self, id: &str) -> Result<(Arc<str>, Option<DecodingKey>), KeyError> {
        if let Some(known) = self.known.load_full()
            && self.clock.boottime().since(known.fetched) < REFRESH_AT_LEAST
            && let Some(key) = known.by_id.get(id)
        {
            return Ok((known.issuer.clone(), Some(key.clone())));
        }
        let known = self.refreshed(id).await?;
        Ok((known.issuer.clone(), known.by_id.get(id).cloned()))
    }

    /// Fetches the keys, unless someone else just did.
    async fn refreshed(&self, id: &str) -> Result<Arc<KeySet>, KeyError> {
        let mut last_try = self.fetching.lock().await;
        let now = self.clock.boottime();
        let known = self.known.load_full();
        let tried_just_now = last_try.is_some_and(|at| now.since(at) < REFRESH_AT_MOST);
        if let Some(known) = known.clone()
            && (tried_just_now
                || (known.by_id.contains_key(id) && now.since(known.fetched) < REFRESH_AT_LEAST))
        {
            return Ok(known);
        }
        *last_try = Some(now);
        match self.fetch(now).await {
            Ok(fresh) => {
                let fresh = Arc::new(fresh);
                self.known.store(Some(fresh.clone()));
                Ok(fresh)
            }
            Err(error) => match known {
                Some(known) => {
                    tracing::warn!(%error, "token signing keys are not refreshed; those known stay in use");
                    Ok(known)
                }
                None => {
                    // Nothing to go on with: the next caller may try at once.
                    *last_try = None;
                    Err(error)
                }
            },
        }
    }

    async fn fetch(&self, now: Boottime) -> Result<KeySet, KeyError> {
        let discovery: Discovery = self.get(DISCOVERY).await?;
        let keys: JwkSet = self.get(KEYS).await?;
        let by_id = keys
            .keys
            .iter()
            .filter_map(|key| {
                let id = key.common.key_id.clone()?;
                match DecodingKey::from_jwk(key) {
                    Ok(key) => Some((id, key)),
                    Err(error) => {
                        tracing::warn!(key = %id, %error, "a published signing key cannot be used");
                        None
                    }
                }
            })
            .collect();
        Ok(KeySet {
            issuer: discovery.issuer.into(),
            by_id,
            fetched: now,
        })
    }

    async fn get<T: serde::de::DeserializeOwned>(&self, path: &'static str) -> Result<T, KeyError> {
        let fail = |reason: String| KeyError { path, reason };
        let request = Request::get(path)
            .body(Vec::new())
            .map_err(|error| fail(error.to_string()))?;
        let text = tokio::time::timeout(FETCH_TIMEOUT, self.client.request_text(request))
            .await
            .map_err(|_| fail(format!("no answer within {} s", FETCH_TIMEOUT.as_secs())))?
            .map_err(|error| fail(error.to_string()))?;
        serde_json::from_str(&text).map_err(|error| fail(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{ISSUER, TokenMaker};
    use super::*;
    use crate::clock::ManualClock;
    use crate::testing::api_server::ApiServer;

    fn clock() -> ManualClock {
        ManualClock::new(Boottime::from_micros(1), jiff::Timestamp::UNIX_EPOCH)
    }

    #[tokio::test]
    async fn keys_are_fetched_once_and_unknown_ids_cost_little() {
        let (api, client) = ApiServer::new();
        let (one, two) = (TokenMaker::es256("one"), TokenMaker::rs256("two"));
        api.get(DISCOVERY, serde_json::json!({"issuer": ISSUER}));
        api.get(KEYS, TokenMaker::jwks(&[&one]));
        let clock = clock();
        let keys = SigningKeys::new(client, Arc::new(clock.clone()));
        for _ in 0..100 {
            let (issuer, key) = keys.find("one").await.unwrap();
            assert_eq!((issuer.as_ref(), key.is_some()), (ISSUER, true));
            assert!(keys.find("two").await.unwrap().1.is_none());
        }
        assert_eq!(
            api.count(KEYS),
            1,
            "a hundred unknown ids within ten seconds"
        );

        api.get(KEYS, TokenMaker::jwks(&[&one, &two]));
        clock.advance(REFRESH_AT_MOST);
        assert!(
            keys.find("two").await.unwrap().1.is_some(),
            "a new key is found"
        );
        assert_eq!(api.count(KEYS), 2);

        api.get(KEYS, TokenMaker::jwks(&[&two]));
        clock.advance(REFRESH_AT_LEAST);
        assert!(
            keys.find("one").await.unwrap().1.is_none(),
            "a withdrawn key stops counting"
        );
    }

    #[tokio::test]
    async fn known_keys_outlast_the_api_server() {
        let (api, client) = ApiServer::new();
        let clock = clock();
        let keys = SigningKeys::new(client, Arc::new(clock.clone()));
        let error = keys.find("one").await.unwrap_err();
        assert!(error.to_string().contains(DISCOVERY), "{error}");

        let one = TokenMaker::es256("one");
        api.get(DISCOVERY, serde_json::json!({"issuer": ISSUER}));
        api.get(KEYS, TokenMaker::jwks(&[&one]));
        assert!(
            keys.find("one").await.unwrap().1.is_some(),
            "the first failure does not hold up the next try"
        );
        api.fail(KEYS, 503);
        clock.advance(REFRESH_AT_LEAST);
        assert!(keys.find("one").await.unwrap().1.is_some());
    }
}
