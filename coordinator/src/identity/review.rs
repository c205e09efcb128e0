//! TokenReview: the API server's own word on a token, asked for after a stream was let in. It knows
//! what a signature does not tell: that the pod, the ServiceAccount or the node is gone.

use std::time::Duration;

use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use kube::api::{Api, PostParams};
use tokio::sync::Mutex;
use tokio::time::Instant;

/// Reviews per second, over all streams. Five thousand agents that reconnect at once are
/// reviewed within eight minutes; their signatures were checked before.
const PER_SECOND: u32 = 10;
const TIMEOUT: Duration = Duration::from_secs(10);

/// What the API server says of a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReviewOutcome {
    /// Good.
    Valid,
    /// Not good (any more), and why: the stream must end.
    Invalid(String),
    /// It could not be asked: the stream goes on and is reviewed later.
    Unknown(String),
}

/// Asks the API server, at a bounded rate.
#[derive(Debug)]
pub struct Reviewer {
    reviews: Api<TokenReview>,
    audience: String,
    next: Mutex<Option<Instant>>,
}

impl Reviewer {
    /// For tokens of this audience.
    pub fn new(client: kube::Client, audience: &str) -> Self {
        Self {
            reviews: Api::all(client),
            audience: audience.to_owned(),
            next: Mutex::new(None),
        }
    }

    /// Waits for its turn, then asks. `service_account` is `namespace/name`.
    pub async fn review(&self, token: &str, service_account: &str) -> ReviewOutcome {
        self.turn().await;
        let review = TokenReview {
            spec: TokenReviewSpec {
                token: token.to_owned(),
                audiences: Some(vec![self.audience.clone()]),
            },
            ..TokenReview::default()
        };
        let params = PostParams::default();
        let asked = tokio::time::timeout(TIMEOUT, self.reviews.create(&params, &review));
        let status = match asked.await {
            Err(_) => {
                return ReviewOutcome::Unknown(format!("no answer within {} s", TIMEOUT.as_secs()));
            }
            Ok(Err(error)) => return ReviewOutcome::Unknown(error.to_string()),
            Ok(Ok(review)) => review.status.unwrap_or_default(),
        };
        if status.authenticated != Some(true) {
            let reason = status
                .error
                .unwrap_or_else(|| "the API server does not accept the token".to_owned());
            return ReviewOutcome::Invalid(reason);
        }
        if !status
            .audiences
            .iter()
            .flatten()
            .any(|audience| *audience == self.audience)
        {
            return ReviewOutcome::Invalid(format!(
                "the token is not for audience {}",
                self.audience
            ));
        }
        let username = status
            .user
            .and_then(|user| user.username)
            .unwrap_or_default();
        let expected = format!(
            "system:serviceaccount:{}",
            service_account.replacen('/', ":", 1)
        );
        if username == expected {
            ReviewOutcome::Valid
        } else {
            ReviewOutcome::Invalid(format!("the token is of {username}, not of {expected}"))
        }
    }

    async fn turn(&self) {
        let mine = {
            let mut next = self.next.lock().await;
            let now = Instant::now();
            let mine = next.map_or(now, |next| next.max(now));
            *next = Some(mine + Duration::from_secs(1) / PER_SECOND);
            mine
        };
        tokio::time::sleep_until(mine).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::api_server::ApiServer;
    use serde_json::json;

    const PATH: &str = "/apis/authentication.k8s.io/v1/tokenreviews";

    fn answer(status: serde_json::Value) -> serde_json::Value {
        json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "metadata": {}, "spec": {}, "status": status})
    }

    async fn outcome(status: serde_json::Value) -> ReviewOutcome {
        let (api, client) = ApiServer::new();
        api.post(PATH, answer(status));
        let outcome = Reviewer::new(client, "neap")
            .review("secret-token", "neap/neap-agent")
            .await;
        let sent = api.last(PATH);
        assert_eq!(sent.body.pointer("/spec/audiences"), Some(&json!(["neap"])));
        assert_eq!(
            sent.body.pointer("/spec/token"),
            Some(&json!("secret-token"))
        );
        outcome
    }

    #[tokio::test]
    async fn the_answer_must_name_audience_and_account() {
        let user = json!({"username": "system:serviceaccount:neap:neap-agent"});
        let good = json!({"authenticated": true, "audiences": ["neap"], "user": user});
        assert_eq!(outcome(good).await, ReviewOutcome::Valid);
        for (status, why) in [
            (
                json!({"authenticated": false, "error": "pod is gone"}),
                "pod is gone",
            ),
            (
                json!({"authenticated": true, "audiences": ["other"], "user": user}),
                "not for audience neap",
            ),
            (
                json!({"authenticated": true, "user": user}),
                "not for audience neap",
            ),
            (
                json!({"authenticated": true, "audiences": ["neap"], "user": {"username": "system:serviceaccount:x:y"}}),
                "is of system:serviceaccount:x:y",
            ),
        ] {
            let ReviewOutcome::Invalid(reason) = outcome(status).await else {
                panic!("{why}")
            };
            assert!(reason.contains(why), "{reason}");
        }
    }

    #[tokio::test]
    async fn a_silent_api_server_is_no_refusal() {
        let (api, client) = ApiServer::new();
        api.fail(PATH, 500);
        let outcome = Reviewer::new(client, "neap")
            .review("t", "neap/neap-agent")
            .await;
        assert!(matches!(outcome, ReviewOutcome::Unknown(_)), "{outcome:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn reviews_are_spread_over_time() {
        let (api, client) = ApiServer::new();
        api.post(PATH, answer(json!({"authenticated": false})));
        let reviewer = Reviewer::new(client, "neap");
        let begin = Instant::now();
        for _ in 0..=PER_SECOND {
            reviewer.review("t", "neap/neap-agent").await;
        }
        assert!(
            begin.elapsed() >= Duration::from_secs(1),
            "{:?}",
            begin.elapsed()
        );
    }
}
