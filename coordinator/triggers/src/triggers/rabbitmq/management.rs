//! The management API of RabbitMQ.

use std::sync::Arc;
use std::time::Duration;

use reqwest::header::AUTHORIZATION;
use serde_json::Value;

use super::NAME;
use super::measure::Queue;
use crate::config::TriggerConfig;
use crate::error::{FieldError, PollError};
use crate::http::{ClientCredentials, FetchLimits, TlsOptions, fetch};
use crate::metadata::{Settings, query_escape};
use crate::shared::Digest;

/// A page of hundreds of queues is a few hundred KiB.
const BODY: usize = 4 << 20;

/// How several queues become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    Sum,
    Average,
    Maximum,
}

/// One question to the management API.
pub(super) struct Management {
    client: Arc<reqwest::Client>,
    url: String,
    login: Option<(String, String)>,
    oauth: Option<ClientCredentials>,
    /// Set where the name is a pattern.
    operation: Option<Operation>,
    only_ready: bool,
    timeout: Duration,
    tls: Digest,
}

impl Management {
    pub(super) fn new(settings: &Settings, config: &TriggerConfig) -> Result<Self, FieldError> {
        let url = url(settings)?;
        let operation = match settings.text("operation") {
            _ if !settings.boolean("useRegex") => None,
            "sum" => Some(Operation::Sum),
            "avg" => Some(Operation::Average),
            "max" => Some(Operation::Maximum),
            other => {
                return Err(FieldError::invalid(
                    "operation",
                    other,
                    "it must be one of sum, avg, max",
                ));
            }
        };
        let text = |name: &str| settings.text(name).to_owned();
        let insecure = settings.boolean("unsafeSsl");
        let tls = match settings.text("tls") {
            "enable" => TlsOptions {
                insecure,
                ca: text("ca"),
                cert: text("cert"),
                key: text("key"),
            },
            _ => TlsOptions {
                insecure,
                ..TlsOptions::default()
            },
        };
        let user = settings.text("username");
        Ok(Self {
            client: config.context.http.client(&tls)?,
            url,
            login: (!user.is_empty()).then(|| (user.to_owned(), text("password"))),
            oauth: (!settings.text("clientID").is_empty())
                .then(|| ClientCredentials::from_settings(settings)),
            operation,
            only_ready: settings.boolean("excludeUnacknowledged"),
            timeout: Some(settings.duration("timeout"))
                .filter(|timeout| !timeout.is_zero())
                .unwrap_or(config.http_timeout),
            tls: tls.digest(),
        })
    }

    /// The queue, or the queues that match taken together, within `timeout`.
    pub(super) async fn queue(&self, timeout: Duration) -> Result<Queue, PollError> {
        let timeout = self.timeout.min(timeout);
        let asking = async {
            let mut request = self.client.get(&self.url);
            if let Some((user, password)) = &self.login {
                request = request.basic_auth(user, Some(password));
            }
            if let Some(oauth) = &self.oauth {
                request = request.header(
                    AUTHORIZATION,
                    oauth.bearer(NAME, &self.client, timeout).await?,
                );
            }
            let body = fetch(
                NAME,
                request,
                FetchLimits {
                    timeout,
                    body: BODY,
                },
            )
            .await;
            if let (Err(PollError::Refused { .. }), Some(oauth)) = (&body, &self.oauth) {
                oauth.forget().await;
            }
            body
        };
        let body =
            tokio::time::timeout(timeout, asking)
                .await
                .unwrap_or(Err(PollError::Timeout {
                    source_name: NAME,
                    waited: timeout,
                }))?;
        self.read(&body).map_err(|reason| PollError::Answer {
            source_name: NAME,
            reason,
        })
    }

    fn read(&self, body: &[u8]) -> Result<Queue, String> {
        let answer: Value =
            serde_json::from_slice(body).map_err(|_| "it is not JSON".to_owned())?;
        let Some(operation) = self.operation else {
            return one(&answer, self.only_ready);
        };
        if answer["page_count"].as_i64().is_some_and(|pages| pages > 1) {
            return Err("more queues match than fit pageSize".to_owned());
        }
        let items = answer["items"]
            .as_array()
            .ok_or("it has no list of items")?;
        let queues: Vec<Queue> = items
            .iter()
            .map(|item| one(item, self.only_ready))
            .collect::<Result<_, _>>()?;
        Ok(together(&queues, operation))
    }

    /// Everything that an answer may depend on.
    pub(super) fn digest(&self) -> Digest {
        let plain = format!(
            "{:?}{}{:?}{:x}",
            self.operation, self.only_ready, self.timeout, self.tls.0
        );
        let (user, password) = self
            .login
            .as_ref()
            .map_or(("", ""), |(user, password)| (user, password));
        let oauth = self
            .oauth
            .as_ref()
            .map_or_else(String::new, |oauth| format!("{:x}", oauth.digest().0));
        Digest::of([&self.url, &plain, user, password, &oauth])
    }
}

/// A queue that was just declared has no counts for a few seconds; that is no empty queue.
fn one(queue: &Value, only_ready: bool) -> Result<Queue, String> {
    let count = if only_ready {
        "messages_ready"
    } else {
        "messages"
    };
    let messages = queue[count]
        .as_i64()
        .ok_or_else(|| format!("the queue has no count of {count} yet"))?;
    let rate = |name: &str| {
        queue["message_stats"][name]["rate"]
            .as_f64()
            .unwrap_or_default()
    };
    Ok(Queue {
        messages,
        published: rate("publish_details"),
        delivered: rate("deliver_get_details"),
    })
}

fn together(queues: &[Queue], operation: Operation) -> Queue {
    let join = |all: Queue, queue: &Queue| match operation {
        Operation::Maximum => Queue {
            messages: all.messages.max(queue.messages),
            published: all.published.max(queue.published),
            delivered: all.delivered.max(queue.delivered),
        },
        _ => Queue {
            messages: all.messages.saturating_add(queue.messages),
            published: all.published + queue.published,
            delivered: all.delivered + queue.delivered,
        },
    };
    let all = queues.iter().fold(Queue::default(), join);
    let Some(count) = i64::try_from(queues.len())
        .ok()
        .filter(|count| operation == Operation::Average && *count > 0)
    else {
        return all;
    };
    Queue {
        messages: all.messages / count,
        published: all.published / count as f64,
        delivered: all.delivered / count as f64,
    }
}

/// The last part of the host's path is the virtual host, unless `vhostName` names another; what is
/// before it belongs to the API's address.
fn url(settings: &Settings) -> Result<String, FieldError> {
    let host = settings.text("host");
    let fault = || {
        FieldError::invalid(
            "host",
            "<redacted>",
            "it must be http or https, such as http://user:password@host:15672/vhost",
        )
    };
    let (scheme, rest) = host.split_once("://").ok_or_else(fault)?;
    if !matches!(scheme.to_ascii_lowercase().as_str(), "http" | "https") {
        return Err(fault());
    }
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    let (server, path) = rest.split_once('/').unwrap_or((rest, ""));
    let server = match server.rsplit_once('@') {
        Some((_, server)) if !settings.text("username").is_empty() => server,
        _ => server,
    };
    let (before, last) = path.rsplit_once('/').unwrap_or(("", path));
    let before: String = before
        .split('/')
        .filter(|part| !part.is_empty())
        .map(|part| format!("/{part}"))
        .collect();
    let vhost = match (settings.text("vhostName"), last) {
        ("", "") => "%2F".to_owned(),
        ("", last) => last.to_owned(),
        (name, _) => query_escape(name),
    };
    let queue = query_escape(settings.text("queueName"));
    let api = format!("{scheme}://{server}{before}/api/queues/{vhost}");
    let url = if settings.boolean("useRegex") {
        let size = settings.integer("pageSize");
        format!("{api}?page=1&use_regex=true&pagination=false&name={queue}&page_size={size}")
    } else {
        format!("{api}/{queue}")
    };
    reqwest::Url::parse(&url).map_err(|_| fault())?;
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(messages: i64, published: f64, delivered: f64) -> Queue {
        Queue {
            messages,
            published,
            delivered,
        }
    }

    #[test]
    fn joins_queues() {
        let queues = [queue(3, 1.0, 4.0), queue(4, 2.0, 0.5)];
        assert_eq!(together(&queues, Operation::Sum), queue(7, 3.0, 4.5));
        assert_eq!(together(&queues, Operation::Average), queue(3, 1.5, 2.25));
        assert_eq!(together(&queues, Operation::Maximum), queue(4, 2.0, 4.0));
        for operation in [Operation::Sum, Operation::Average, Operation::Maximum] {
            assert_eq!(together(&[], operation), Queue::default());
        }
    }

    #[test]
    fn reads_queues() {
        let full = serde_json::json!({"messages": 5, "messages_ready": 2, "message_stats": {"publish_details": {"rate": 1.4}}});
        assert_eq!(one(&full, false), Ok(queue(5, 1.4, 0.0)));
        assert_eq!(one(&full, true), Ok(queue(2, 1.4, 0.0)));
        assert!(
            one(&serde_json::json!({"name": "q"}), false).is_err(),
            "no count is not 0"
        );
    }
}
