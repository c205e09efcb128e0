//! `node-pressure`: the share of time in which a pod's work was stalled.

use std::time::Duration;

use neap_units::MilliValue;

use super::window::{self, WINDOW};
use crate::built::{
    Activation, BuiltTrigger, MetricSpec, NodeLocal, Pressure, PressureKind, PressureResource,
    Source, Target,
};
use crate::config::TriggerConfig;
use crate::error::FieldError;
use crate::metadata::{self, Field};
use crate::name::metric_name;
use crate::registry::Checked;

const FIELDS: &[Field] = &[
    Field::text("resource").required(),
    Field::text("kind").or_default("some"),
    Field::float("value").required(),
    WINDOW,
];

/// Stalls come in bursts, like CPU time.
const DEFAULT_WINDOW: Duration = Duration::from_secs(15);

pub(crate) fn build(config: &TriggerConfig) -> Checked {
    let (mut settings, mut errors) = metadata::read(&[FIELDS], config);
    super::require_average_value(config, &mut errors);
    let window = window::read(&mut settings, DEFAULT_WINDOW, &mut errors);
    let resource = match settings.text("resource") {
        "cpu" => Some(PressureResource::Cpu),
        "memory" => Some(PressureResource::Memory),
        "io" => Some(PressureResource::Io),
        "" => None,
        other => {
            errors.push(FieldError::invalid(
                "resource",
                other,
                "it must be one of cpu, memory, io",
            ));
            None
        }
    };
    let kind = match settings.text("kind") {
        "some" => Some(PressureKind::Some),
        "full" => Some(PressureKind::Full),
        other => {
            errors.push(FieldError::invalid(
                "kind",
                other,
                "it must be some or full",
            ));
            None
        }
    };
    let percent = settings.float("value");
    let value = MilliValue::from_metric_f64(percent);
    let in_range = value > MilliValue::ZERO && percent <= 100.0;
    if !in_range && !errors.iter().any(|error| error.field == "value") {
        errors.push(FieldError::invalid(
            "value",
            percent.to_string(),
            "it must be a percentage greater than 0 and at most 100",
        ));
    }
    let (Some(resource), Some(kind), Some(window), true) =
        (resource, kind, window, errors.is_empty())
    else {
        return Err(errors);
    };
    let name = metric_name(
        config.index,
        &format!(
            "node-pressure-{}-{}",
            settings.text("resource"),
            settings.text("kind")
        ),
    );
    let metrics = vec![MetricSpec {
        name,
        target: Target::Pods { average: value },
    }];
    let source = Source::NodeLocal(NodeLocal::Pressure(Pressure {
        resource,
        kind,
        value,
        window,
    }));
    Ok(BuiltTrigger::new(
        "node-pressure",
        config,
        metrics,
        Activation::Never,
        source,
        settings,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{TriggerContext, build};

    fn with(metadata: &[(&str, &str)]) -> TriggerConfig {
        let mut config = TriggerConfig::new("node-pressure", TriggerContext::default());
        config.metadata = metadata
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        config
    }

    #[test]
    fn reads_percent() {
        let built = build(&with(&[
            ("resource", "io"),
            ("kind", "full"),
            ("value", "12.5"),
        ]))
        .expect("valid");
        let expected = Pressure {
            resource: PressureResource::Io,
            kind: PressureKind::Full,
            value: MilliValue::new(12_500),
            window: DEFAULT_WINDOW,
        };
        assert!(
            matches!(&built.source, Source::NodeLocal(NodeLocal::Pressure(pressure)) if *pressure == expected),
            "{built:?}"
        );
        assert_eq!(built.metrics[0].name, "s0-node-pressure-io-full");
    }

    #[test]
    fn names_every_fault() {
        let error = build(&with(&[
            ("resource", "disk"),
            ("kind", "most"),
            ("value", "101"),
        ]))
        .expect_err("refused")
        .to_string();
        for part in [
            "resource: \"disk\"",
            "cpu, memory, io",
            "kind: \"most\"",
            "some or full",
            "value: \"101\"",
            "at most 100",
        ] {
            assert!(error.contains(part), "{part} in {error}");
        }
        let error = build(&with(&[])).expect_err("refused").to_string();
        assert!(
            error.contains("resource is missing") && error.contains("value is missing"),
            "{error}"
        );
        assert!(build(&with(&[("resource", "cpu"), ("value", "0")])).is_err());
    }
}
