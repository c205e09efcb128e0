//! Tokens by OAuth 2.0 client credentials (RFC 6749, section 4.4).

use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, HeaderValue};
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::fetch::{FetchLimits, fetch};
use crate::error::PollError;
use crate::http::secret_value;
use crate::metadata::{Settings, Value, query_escape};
use crate::shared::Digest;

/// A token is fetched anew this long before it ends.
const MARGIN: Duration = Duration::from_secs(10);
/// How long a token is used whose answer does not say when it ends.
const UNTOLD: Duration = Duration::from_secs(300);
const BODY: usize = 64 << 10;

/// Who asks for tokens, where, and the last token.
pub(crate) struct ClientCredentials {
    url: String,
    client_id: String,
    client_secret: String,
    /// The form but for the client.
    form: String,
    token: Mutex<Option<(HeaderValue, Instant)>>,
}

impl ClientCredentials {
    /// From the fields `oauthTokenURI`, `clientID`, `clientSecret`, `scopes` and `endpointParams`.
    pub(crate) fn from_settings(settings: &Settings) -> Self {
        let mut form = "grant_type=client_credentials".to_owned();
        let mut add = |name: &str, value: &str| {
            form.push_str(&format!("&{}={}", query_escape(name), query_escape(value)));
        };
        let scopes = settings.list("scopes");
        if !scopes.is_empty() {
            add("scope", &scopes.join(" "));
        }
        if let Some(Value::Query(parameters)) = settings.get("endpointParams") {
            for (name, values) in parameters {
                values.iter().for_each(|value| add(name, value));
            }
        }
        let own = |name: &str| settings.text(name).to_owned();
        Self {
            url: own("oauthTokenURI"),
            client_id: own("clientID"),
            client_secret: own("clientSecret"),
            form,
            token: Mutex::new(None),
        }
    }

    /// The value of an `Authorization` header, from the last token while it lasts.
    pub(crate) async fn bearer(
        &self,
        source_name: &'static str,
        client: &reqwest::Client,
        timeout: Duration,
    ) -> Result<HeaderValue, PollError> {
        let mut kept = self.token.lock().await;
        if let Some((header, _)) = kept.as_ref().filter(|(_, until)| Instant::now() < *until) {
            return Ok(header.clone());
        }
        let limits = FetchLimits {
            timeout,
            body: BODY,
        };
        // Servers differ in where they take the client from; as in Go, the header is tried first.
        let in_header = self.request(client, &self.form).basic_auth(
            query_escape(&self.client_id),
            Some(query_escape(&self.client_secret)),
        );
        let body = match fetch(source_name, in_header, limits).await {
            Err(PollError::Refused { .. }) => {
                let form = format!(
                    "{}&client_id={}&client_secret={}",
                    self.form,
                    query_escape(&self.client_id),
                    query_escape(&self.client_secret)
                );
                fetch(source_name, self.request(client, &form), limits).await?
            }
            answer => answer?,
        };
        let answer: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
        let token = answer["access_token"]
            .as_str()
            .filter(|token| !token.is_empty());
        let reason = || PollError::Answer {
            source_name,
            reason: "the token endpoint gave no access_token".to_owned(),
        };
        let header = secret_value(
            "access_token",
            &format!("Bearer {}", token.ok_or_else(reason)?),
        )
        .map_err(PollError::Config)?;
        let lasts = answer["expires_in"]
            .as_u64()
            .map_or(UNTOLD, Duration::from_secs)
            .saturating_sub(MARGIN);
        *kept = Some((
            header.clone(),
            Instant::now() + lasts.min(Duration::from_secs(86_400)),
        ));
        Ok(header)
    }

    /// Forgets the token, because it was refused.
    pub(crate) async fn forget(&self) {
        *self.token.lock().await = None;
    }

    pub(crate) fn digest(&self) -> Digest {
        Digest::of([&self.url, &self.client_id, &self.client_secret, &self.form])
    }

    fn request(&self, client: &reqwest::Client, form: &str) -> reqwest::RequestBuilder {
        client
            .post(&self.url)
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(form.to_owned())
    }
}
