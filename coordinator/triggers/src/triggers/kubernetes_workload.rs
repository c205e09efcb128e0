//! `kubernetes-workload`: how many pods of the namespace match a selector.

use neap_units::MilliValue;

use super::polled::{external_kind, external_metric};
use crate::built::{Activation, BuiltTrigger, Source, Workload};
use crate::config::TriggerConfig;
use crate::error::FieldError;
use crate::metadata::{self, Field};
use crate::registry::Checked;
use crate::selector::LabelSelector;

const FIELDS: &[Field] = &[
    Field::text("podSelector").required(),
    Field::float("value").or_default("0"),
    Field::float("activationValue").or_default("0"),
    Field::boolean("groupByNode").or_default("false"),
];

pub(crate) fn build(config: &TriggerConfig) -> Checked {
    let (settings, mut errors) = metadata::read(&[FIELDS], config);
    let kind = external_kind(config, &mut errors);
    let value = settings.float("value");
    if value <= 0.0
        && !config.as_metric_source
        && !errors.iter().any(|error| error.field == "value")
    {
        let allowed = "it must be a number greater than 0";
        errors.push(match config.metadata.get("value") {
            Some(given) if !given.trim().is_empty() => FieldError::invalid("value", given, allowed),
            _ => FieldError::missing("value", allowed),
        });
    }
    let text = settings.text("podSelector");
    let selector = LabelSelector::parse(text);
    if let Err(error) = &selector {
        errors.push(FieldError::invalid("podSelector", text, error.to_string()));
    }
    let (Ok(selector), true) = (selector, errors.is_empty()) else {
        return Err(errors);
    };
    let namespace = config.object.namespace.clone();
    let metrics = external_metric(
        config,
        kind,
        &format!("workload-{namespace}"),
        MilliValue::from_metric_f64(value),
    );
    let source = Source::Workload(Workload {
        selector,
        namespace,
        group_by_node: settings.boolean("groupByNode"),
    });
    let activation = Activation::Above(settings.float("activationValue"));
    Ok(BuiltTrigger::new(
        "kubernetes-workload",
        config,
        metrics,
        activation,
        source,
        settings,
    ))
}
