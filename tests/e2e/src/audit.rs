//! The API server's audit log: who wrote what, and when the request arrived.

use std::path::PathBuf;

use anyhow::{Context, Result};
use jiff::Timestamp;
use serde_json::Value;

/// A reader of the audit log.
#[derive(Debug, Clone)]
pub struct Audit {
    path: PathBuf,
}

/// One write of a scale subresource.
#[derive(Debug, Clone)]
pub struct ScaleWrite {
    /// Name of the object.
    pub name: String,
    /// When the API server received it.
    pub at: Timestamp,
    /// The replicas it asked for.
    pub replicas: i64,
    /// The writer's User-Agent.
    pub user_agent: String,
    /// HTTP status of the answer.
    pub code: i64,
}

impl ScaleWrite {
    /// Whether the API server took it, and said so in time.
    #[must_use]
    pub fn taken(&self) -> bool {
        (200..300).contains(&self.code)
    }

    /// The coordinator's pod that wrote; `None` for anyone else's write.
    #[must_use]
    pub fn pod(&self) -> Option<&str> {
        let (agent, _) = self.user_agent.split_once("; leader ")?;
        Some(agent.split_once('(')?.1)
    }

    /// The leader under which Neap wrote, as term and node; `None` for anyone else's write.
    #[must_use]
    pub fn leader(&self) -> Option<(u64, u64)> {
        let (_, id) = self.user_agent.split_once("; leader ")?;
        let (term, node) = id.strip_suffix(')')?.split_once('.')?;
        Some((term.parse().ok()?, node.parse().ok()?))
    }
}

/// One write by Neap.
#[derive(Debug, Clone)]
pub struct Write {
    /// When the API server received it.
    pub at: Timestamp,
    /// The subresource, else the resource: `scale`, `status`, `events`.
    pub resource: String,
    /// Name of the object.
    pub name: String,
}

impl Audit {
    /// Reads the log at `path`.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// Answered writes by Neap at or after `since`: of scales, statuses, events and whatever else.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn neap_writes(&self, since: Timestamp) -> Result<Vec<Write>> {
        let is_neap = |event: &Value| {
            event["userAgent"]
                .as_str()
                .is_some_and(|agent| agent.starts_with("neap/"))
        };
        Ok(self
            .events("neap/")?
            .filter(|event| event["stage"] == "ResponseComplete" && is_neap(event))
            .filter(|event| {
                matches!(
                    event["verb"].as_str(),
                    Some("patch" | "update" | "create" | "delete")
                )
            })
            .filter_map(|event| {
                let object = &event["objectRef"];
                let resource = object["subresource"]
                    .as_str()
                    .or(object["resource"].as_str())?;
                Some(Write {
                    at: event["requestReceivedTimestamp"].as_str()?.parse().ok()?,
                    resource: resource.to_owned(),
                    name: object["name"].as_str().unwrap_or_default().to_owned(),
                })
            })
            .filter(|write| write.at >= since)
            .collect())
    }

    /// The events of lines that contain `word`: the log is large and few lines are of interest.
    fn events<'a>(&self, word: &'a str) -> Result<impl Iterator<Item = Value> + use<'a>> {
        let text = std::fs::read_to_string(&self.path)
            .with_context(|| format!("reading {}", self.path.display()))?;
        let lines: Vec<String> = text
            .lines()
            .filter(|line| line.contains(word))
            .map(str::to_owned)
            .collect();
        Ok(lines
            .into_iter()
            .filter_map(|line| serde_json::from_str(&line).ok()))
    }

    /// Writes of the scale that the API server took of `namespace`/`name` at or after `since`, in order.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn scale_writes(
        &self,
        namespace: &str,
        name: &str,
        since: Timestamp,
    ) -> Result<Vec<ScaleWrite>> {
        let mut writes = self.scale_requests(namespace, name, since)?;
        writes.retain(ScaleWrite::taken);
        Ok(writes)
    }

    /// Requests to write the scale of `namespace`/`name` that arrived at or after `since`, taken or
    /// not, in order. A line is there once its request was answered.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn scale_requests(
        &self,
        namespace: &str,
        name: &str,
        since: Timestamp,
    ) -> Result<Vec<ScaleWrite>> {
        let mut writes = self.scale_requests_in(namespace, since)?;
        writes.retain(|write| write.name == name);
        Ok(writes)
    }

    /// The same of every object in `namespace`.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn scale_requests_in(&self, namespace: &str, since: Timestamp) -> Result<Vec<ScaleWrite>> {
        let mut writes: Vec<ScaleWrite> = self
            .events("\"subresource\":\"scale\"")?
            .filter(|event| {
                let object = &event["objectRef"];
                event["stage"] == "ResponseComplete"
                    && (event["verb"] == "patch" || event["verb"] == "update")
                    && object["subresource"] == "scale"
                    && object["namespace"] == namespace
            })
            .filter_map(|event| {
                Some(ScaleWrite {
                    name: event["objectRef"]["name"].as_str()?.to_owned(),
                    at: event["requestReceivedTimestamp"].as_str()?.parse().ok()?,
                    replicas: event["requestObject"]["spec"]["replicas"].as_i64()?,
                    user_agent: event["userAgent"].as_str().unwrap_or_default().to_owned(),
                    code: event["responseStatus"]["code"].as_i64().unwrap_or_default(),
                })
            })
            .filter(|write| write.at >= since)
            .collect();
        writes.sort_by_key(|write| write.at);
        Ok(writes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_user_agent_names_the_leader() {
        let write = |user_agent: &str| ScaleWrite {
            name: String::new(),
            at: Timestamp::UNIX_EPOCH,
            replicas: 1,
            user_agent: user_agent.into(),
            code: 200,
        };
        let ours = write("neap/0.1.0 (neap-coordinator-1; leader 7.12)");
        assert_eq!(ours.leader(), Some((7, 12)));
        assert_eq!(ours.pod(), Some("neap-coordinator-1"));
        let other = write("kubectl/v1.36.0");
        assert_eq!((other.leader(), other.pod()), (None, None));
    }
}
