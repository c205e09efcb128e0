//! `redis`, `redis-cluster`, `redis-sentinel`: how many elements a list, set, sorted set or hash has.

use std::sync::Arc;

use neap_units::MilliValue;
use redis::cmd;

use super::polled::{external_kind, external_metric};
use super::redis_connection::{CONNECTION_FIELDS, link, read_connection};
use crate::built::{
    Activation, BuiltTrigger, PollCall, PollFuture, PolledTrigger, QueryKey, Reading, Source,
};
use crate::config::TriggerConfig;
use crate::error::{FieldError, PollError};
use crate::metadata::{self, Field};
use crate::redis_link::{Deployment, RedisLink, redis_error};
use crate::registry::Checked;
use crate::shared::Digest;

const FIELDS: &[Field] = &[
    Field::integer("listLength").or_default("5"),
    Field::integer("activationListLength"),
    Field::text("listName").required(),
    Field::integer("databaseIndex"),
    Field::text("enableTLS"),
    Field::text("tls").from(&[metadata::Origin::Auth]),
];

pub(crate) fn build_single(config: &TriggerConfig) -> Checked {
    build("redis", Deployment::Single, config)
}

pub(crate) fn build_cluster(config: &TriggerConfig) -> Checked {
    build("redis-cluster", Deployment::Cluster, config)
}

pub(crate) fn build_sentinel(config: &TriggerConfig) -> Checked {
    build("redis-sentinel", Deployment::Sentinel, config)
}

fn build(trigger_type: &'static str, deployment: Deployment, config: &TriggerConfig) -> Checked {
    let (mut settings, mut errors) = metadata::read(&[FIELDS, CONNECTION_FIELDS], config);
    let kind = external_kind(config, &mut errors);
    read_connection(&mut settings, &mut errors);
    if !errors.is_empty() {
        return Err(errors);
    }
    let name = settings.text("listName").to_owned();
    let above = settings.integer("activationListLength");
    let metrics = external_metric(
        config,
        kind,
        &format!("redis-{name}"),
        MilliValue::from_units(settings.integer("listLength")),
    );
    let (link, identity) = link(&settings, deployment, config);
    let warnings = link.as_ref().err().cloned();
    let key = Digest::of([
        trigger_type.to_owned(),
        name.clone(),
        above.to_string(),
        format!("{identity:x}"),
    ]);
    let trigger = Length {
        link,
        name,
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

/// The length of one key.
struct Length {
    link: Result<Arc<RedisLink>, FieldError>,
    name: String,
    above: i64,
    key: Digest,
}

impl Length {
    async fn ask(&self, call: PollCall) -> Result<Reading, PollError> {
        let link = self
            .link
            .as_ref()
            .map_err(|error| PollError::Config(error.clone()))?;
        let length = tokio::time::timeout(call.timeout, self.length(link)).await;
        let length = length.map_err(|_| PollError::Timeout {
            source_name: "redis",
            waited: call.timeout,
        })??;
        Ok(Reading {
            values: vec![MilliValue::from_units(length.max(0))],
            active: length > self.above,
        })
    }

    async fn length(&self, link: &RedisLink) -> Result<i64, PollError> {
        let kind: String = link
            .query(cmd("TYPE").arg(&self.name))
            .await
            .map_err(|error| redis_error(&error))?;
        let count = match kind.as_str() {
            "zset" => "ZCARD",
            "set" => "SCARD",
            "hash" => "HLEN",
            // A list without elements does not exist.
            "list" | "none" => "LLEN",
            other => {
                let reason = format!(
                    "{:?} is a {other}; it must be a list, set, sorted set or hash",
                    self.name
                );
                return Err(PollError::Answer {
                    source_name: "redis",
                    reason,
                });
            }
        };
        link.query(cmd(count).arg(&self.name))
            .await
            .map_err(|error| redis_error(&error))
    }
}

impl PolledTrigger for Length {
    fn poll(&self, call: PollCall) -> PollFuture<'_> {
        Box::pin(self.ask(call))
    }

    fn query_key(&self) -> QueryKey {
        QueryKey(self.key.0)
    }
}

impl std::fmt::Debug for Length {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Length")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}
