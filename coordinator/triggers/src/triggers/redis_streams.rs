//! `redis-streams`, `redis-cluster-streams`, `redis-sentinel-streams`: entries of a stream that
//! wait: for a consumer group, those delivered and not acknowledged, or those not delivered; without
//! one, all.

use std::collections::HashMap;
use std::sync::Arc;

use neap_units::MilliValue;
use redis::{Value as Answer, cmd, from_redis_value};

use super::polled::{external_kind, external_metric};
use super::redis_connection::{CONNECTION_FIELDS, link, read_connection};
use crate::built::{
    Activation, BuiltTrigger, PollCall, PollFuture, PolledTrigger, QueryKey, Reading, Source,
};
use crate::config::TriggerConfig;
use crate::error::{FieldError, PollError};
use crate::metadata::{self, Field, Settings, Value};
use crate::redis_link::{Deployment, RedisLink, redis_error};
use crate::registry::Checked;
use crate::shared::Digest;

const FIELDS: &[Field] = &[
    Field::integer("pendingEntriesCount").or_default("5"),
    Field::integer("streamLength").or_default("5"),
    Field::integer("lagCount"),
    Field::text("stream").required(),
    Field::text("consumerGroup"),
    Field::integer("databaseIndex"),
    Field::integer("activationLagCount").or_default("0"),
    Field::text("enableTLS"),
    Field::text("tls").from(&[metadata::Origin::Auth]),
];

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Count {
    Length,
    Pending,
    Lag,
}

pub(crate) fn build_single(config: &TriggerConfig) -> Checked {
    build("redis-streams", Deployment::Single, config)
}

pub(crate) fn build_cluster(config: &TriggerConfig) -> Checked {
    build("redis-cluster-streams", Deployment::Cluster, config)
}

pub(crate) fn build_sentinel(config: &TriggerConfig) -> Checked {
    build("redis-sentinel-streams", Deployment::Sentinel, config)
}

fn build(trigger_type: &'static str, deployment: Deployment, config: &TriggerConfig) -> Checked {
    let (mut settings, mut errors) = metadata::read(&[FIELDS, CONNECTION_FIELDS], config);
    let kind = external_kind(config, &mut errors);
    read_connection(&mut settings, &mut errors);
    if !errors.is_empty() {
        return Err(errors);
    }
    let (count, target) = count(&mut settings);
    let [stream, group] = ["stream", "consumerGroup"].map(|name| settings.text(name).to_owned());
    let above = settings.integer("activationLagCount");
    let metrics = external_metric(
        config,
        kind,
        &format!("redis-streams-{stream}"),
        MilliValue::from_units(target),
    );
    let (link, identity) = link(&settings, deployment, config);
    let warnings = link.as_ref().err().cloned();
    let question = format!("{count:?}{above}{identity:x}");
    let key = Digest::of([trigger_type, &stream, &group, &question]);
    let trigger = Stream {
        link,
        stream,
        group,
        count,
        above,
        key,
    };
    let activation = Activation::Above(above as f64);
    let mut built = BuiltTrigger::new(
        trigger_type,
        config,
        metrics,
        activation,
        Source::Polled(Arc::new(trigger)),
        settings,
    );
    built.warnings.extend(warnings);
    Ok(built)
}

/// What is counted, and its target; the targets that are not used are set to 0, as in KEDA.
fn count(settings: &mut Settings) -> (Count, i64) {
    let none = || Value::Integer(0);
    if settings.text("consumerGroup").is_empty() {
        settings.replace("pendingEntriesCount", none());
        return (Count::Length, settings.integer("streamLength"));
    }
    settings.replace("streamLength", none());
    match settings.integer("lagCount") {
        0 => (Count::Pending, settings.integer("pendingEntriesCount")),
        lag => {
            settings.replace("pendingEntriesCount", none());
            (Count::Lag, lag)
        }
    }
}

/// Entries of one stream.
struct Stream {
    link: Result<Arc<RedisLink>, FieldError>,
    stream: String,
    group: String,
    count: Count,
    above: i64,
    key: Digest,
}

impl Stream {
    async fn ask(&self, call: PollCall) -> Result<Reading, PollError> {
        let link = self
            .link
            .as_ref()
            .map_err(|error| PollError::Config(error.clone()))?;
        let counting = async {
            match self.count {
                Count::Length => self.length(link).await,
                Count::Pending => self.pending(link).await,
                Count::Lag => self.lag(link).await,
            }
        };
        let count = tokio::time::timeout(call.timeout, counting).await;
        let count = count.map_err(|_| PollError::Timeout {
            source_name: "redis",
            waited: call.timeout,
        })??;
        Ok(Reading {
            values: vec![MilliValue::from_units(count.max(0))],
            active: count > self.above,
        })
    }

    async fn length(&self, link: &RedisLink) -> Result<i64, PollError> {
        link.query(cmd("XLEN").arg(&self.stream))
            .await
            .map_err(|error| redis_error(&error))
    }

    async fn pending(&self, link: &RedisLink) -> Result<i64, PollError> {
        let summary: Vec<Answer> = link
            .query(cmd("XPENDING").arg(&self.stream).arg(&self.group))
            .await
            .map_err(|error| redis_error(&error))?;
        match summary.first() {
            Some(Answer::Int(count)) => Ok(*count),
            _ => Err(answer("XPENDING gave no count".to_owned())),
        }
    }

    /// The lag of the group. A stream that does not exist has none; where it exists and the group
    /// does not, because no consumer ever ran, every entry waits.
    async fn lag(&self, link: &RedisLink) -> Result<i64, PollError> {
        let groups: Vec<HashMap<String, Answer>> = match link
            .query(cmd("XINFO").arg("GROUPS").arg(&self.stream))
            .await
        {
            Ok(groups) => groups,
            Err(error) if error.to_string().contains("no such key") => return Ok(0),
            Err(error) => return Err(redis_error(&error)),
        };
        for group in groups {
            let name = group
                .get("name")
                .and_then(|name| from_redis_value::<String>(name.clone()).ok());
            if name.as_deref() != Some(&self.group) {
                continue;
            }
            return match group.get("lag") {
                Some(Answer::Int(lag)) => Ok(*lag),
                Some(_) => Err(answer(format!(
                    "Redis cannot tell the lag of group {:?}, because entries were deleted",
                    self.group
                ))),
                None => Err(answer("lagCount needs Redis 7 or later".to_owned())),
            };
        }
        self.length(link).await
    }
}

fn answer(reason: String) -> PollError {
    PollError::Answer {
        source_name: "redis",
        reason,
    }
}

impl PolledTrigger for Stream {
    fn poll(&self, call: PollCall) -> PollFuture<'_> {
        Box::pin(self.ask(call))
    }

    fn query_key(&self) -> QueryKey {
        QueryKey(self.key.0)
    }
}

impl std::fmt::Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stream")
            .field("stream", &self.stream)
            .field("count", &self.count)
            .finish_non_exhaustive()
    }
}
