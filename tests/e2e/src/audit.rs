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
    /// When the API server received it.
    pub at: Timestamp,
    /// The replicas it asked for.
    pub replicas: i64,
    /// The writer's User-Agent.
    pub user_agent: String,
    /// HTTP status of the answer.
    pub code: i64,
}

impl Audit {
    /// Reads the log at `path`.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// Answered writes of the scale of `namespace`/`name` at or after `since`, in order.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn scale_writes(
        &self,
        namespace: &str,
        name: &str,
        since: Timestamp,
    ) -> Result<Vec<ScaleWrite>> {
        let text = std::fs::read_to_string(&self.path)
            .with_context(|| format!("reading {}", self.path.display()))?;
        let mut writes: Vec<ScaleWrite> = text
            .lines()
            // Cheap refusal first: the log is large and few lines are of interest.
            .filter(|line| line.contains("\"subresource\":\"scale\"") && line.contains(name))
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .filter(|event| {
                let object = &event["objectRef"];
                event["stage"] == "ResponseComplete"
                    && (event["verb"] == "patch" || event["verb"] == "update")
                    && object["subresource"] == "scale"
                    && object["namespace"] == namespace
                    && object["name"] == name
            })
            .filter_map(|event| {
                Some(ScaleWrite {
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
