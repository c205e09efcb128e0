//! `rabbitmq`: messages of a queue, or the rates at which they come and go, from the management API.

mod fields;
mod management;
mod measure;

use std::sync::Arc;

use neap_units::MilliValue;

use super::polled::{external_kind, external_metric};
use crate::built::{
    Activation, BuiltTrigger, PollCall, PollFuture, PolledTrigger, QueryKey, Reading, Source,
};
use crate::config::TriggerConfig;
use crate::error::{FieldError, PollError};
use crate::metadata::{self, Settings, query_escape};
use crate::registry::Checked;
use crate::shared::Digest;
use management::Management;
use measure::Mode;

const NAME: &str = "rabbitmq";

pub(crate) fn build(config: &TriggerConfig) -> Checked {
    let (mut settings, mut errors) = metadata::read(&[fields::FIELDS], config);
    let kind = external_kind(config, &mut errors);
    fields::check(&mut settings, &mut errors);
    let mode = Mode::named(settings.text("mode"));
    let (Some(mode), true) = (mode, errors.is_empty()) else {
        return Err(errors);
    };
    let activation = settings.float("activationValue");
    let target = usable(&settings).and_then(|()| Management::new(&settings, config));
    let identity = target
        .as_ref()
        .map_or(0, |management| management.digest().0);
    let key = Digest::of([NAME.to_owned(), format!("{mode:?}{activation}{identity:x}")]);
    let warnings = target.as_ref().err().cloned();
    let metrics = external_metric(
        config,
        kind,
        &format!("rabbitmq-{}", query_escape(settings.text("queueName"))),
        MilliValue::from_metric_f64(settings.float("value")),
    );
    let wakes = if mode == Mode::QueueLength {
        Activation::Above(activation)
    } else {
        Activation::Reported
    };
    let trigger = RabbitMq {
        target,
        mode,
        activation,
        key,
    };
    let mut built = BuiltTrigger::new(
        NAME,
        config,
        metrics,
        wakes,
        Source::Polled(Arc::new(trigger)),
        settings,
    );
    built.warnings.extend(warnings);
    Ok(built)
}

/// Settings that KEDA accepts and that cannot work here.
fn usable(settings: &Settings) -> Result<(), FieldError> {
    if settings.text("protocol") == "amqp" {
        let allowed = "Neap cannot speak AMQP yet; use the management API, with a host such as http://user:password@host:15672/vhost";
        return Err(FieldError::invalid("protocol", "amqp", allowed));
    }
    if !settings.text("workloadIdentityResource").is_empty() {
        let allowed = "Neap cannot log in to RabbitMQ with a workload identity yet; use a user name and password, or OAuth";
        return Err(FieldError::invalid(
            "workloadIdentityResource",
            "<redacted>",
            allowed,
        ));
    }
    if settings.text("tls") == "enable" && !settings.text("keyPassword").is_empty() {
        return Err(FieldError::invalid(
            "keyPassword",
            "<redacted>",
            "an encrypted key cannot be read; give the key unencrypted",
        ));
    }
    Ok(())
}

/// A queue, or the queues that a pattern matches, and what is measured of them.
struct RabbitMq {
    target: Result<Management, FieldError>,
    mode: Mode,
    activation: f64,
    key: Digest,
}

impl RabbitMq {
    async fn ask(&self, call: PollCall) -> Result<Reading, PollError> {
        let management = self
            .target
            .as_ref()
            .map_err(|error| PollError::Config(error.clone()))?;
        let queue = management.queue(call.timeout).await?;
        let (value, active) = self.mode.measure(&queue, self.activation);
        Ok(Reading {
            values: vec![MilliValue::from_metric_f64(value)],
            active,
        })
    }
}

impl PolledTrigger for RabbitMq {
    fn poll(&self, call: PollCall) -> PollFuture<'_> {
        Box::pin(self.ask(call))
    }

    fn query_key(&self) -> QueryKey {
        QueryKey(self.key.0)
    }
}

impl std::fmt::Debug for RabbitMq {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RabbitMq")
            .field("mode", &self.mode)
            .finish_non_exhaustive()
    }
}
