//! `cpu` and `memory`: a resource of the target's pods, as the HPA's `Resource` and
//! `ContainerResource` metrics.

use std::time::Duration;

use neap_units::Quantity;

use super::window::{self, WINDOW};
use crate::built::{
    Activation, BuiltTrigger, MetricSpec, ResourceKind, ResourceSource, ResourceTarget, Source,
    Target,
};
use crate::config::TriggerConfig;
use crate::error::FieldError;
use crate::metadata::{self, Field};
use crate::registry::Checked;

const FIELDS: &[Field] = &[
    Field::text("type").removed("KEDA 2.18 removed it; set the trigger's metricType instead"),
    Field::text("value").required(),
    Field::text("containerName"),
    WINDOW,
];

/// The window of a CPU trigger that does not name one: as long as metrics-server averages by default.
pub const RESOURCE_WINDOW: Duration = Duration::from_secs(15);

pub(crate) fn build_cpu(config: &TriggerConfig) -> Checked {
    build("cpu", ResourceKind::Cpu, config)
}

pub(crate) fn build_memory(config: &TriggerConfig) -> Checked {
    build("memory", ResourceKind::Memory, config)
}

fn build(trigger_type: &'static str, resource: ResourceKind, config: &TriggerConfig) -> Checked {
    let (mut settings, mut errors) = metadata::read(&[FIELDS], config);
    let window = window::read(&mut settings, RESOURCE_WINDOW, &mut errors);
    let target = target(config, settings.text("value"), &mut errors);
    let (Some(target), Some(window), true) = (target, window, errors.is_empty()) else {
        return Err(errors);
    };
    let container = Some(settings.text("containerName"))
        .filter(|name| !name.is_empty())
        .map(str::to_owned);
    let metrics = vec![MetricSpec {
        name: resource.as_str().to_owned(),
        target: Target::Resource {
            resource,
            container: container.clone(),
            target,
        },
    }];
    let source = Source::Resource(ResourceSource {
        resource,
        container,
        window,
    });
    Ok(BuiltTrigger::new(
        trigger_type,
        config,
        metrics,
        Activation::Never,
        source,
        settings,
    ))
}

fn target(
    config: &TriggerConfig,
    value: &str,
    errors: &mut Vec<FieldError>,
) -> Option<ResourceTarget> {
    match config.metric_type.as_deref().unwrap_or_default() {
        _ if value.is_empty() => None,
        "Utilization" => match percent(value) {
            Some(percent) => Some(ResourceTarget::Utilization(percent)),
            None => {
                errors.push(FieldError::invalid(
                    "value",
                    value,
                    "with metricType Utilization it must be a whole number of percent",
                ));
                None
            }
        },
        "AverageValue" => match value.parse::<Quantity>() {
            Ok(quantity) => Some(ResourceTarget::AverageValue(quantity.milli())),
            Err(_) => {
                errors.push(FieldError::invalid(
                    "value",
                    value,
                    "with metricType AverageValue it must be a quantity such as 500m or 1Gi",
                ));
                None
            }
        },
        other => {
            let allowed = "it must be Utilization or AverageValue";
            errors.push(match other {
                "" => FieldError::missing("metricType", allowed),
                other => FieldError::invalid("metricType", other, allowed),
            });
            None
        }
    }
}

/// A whole number of 32 bits as `strconv.ParseInt` reads it.
fn percent(text: &str) -> Option<i32> {
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use neap_units::MilliValue;

    use super::*;
    use crate::{ConfigError, TriggerContext, build};

    fn cpu(
        metric_type: Option<&str>,
        metadata: &[(&str, &str)],
    ) -> Result<BuiltTrigger, ConfigError> {
        let mut config = TriggerConfig::new("cpu", TriggerContext::default());
        config.metric_type = metric_type.map(str::to_owned);
        config.metadata = metadata
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        build(&config)
    }

    #[test]
    fn reads_both_kinds_of_target() {
        let built = cpu(
            Some("AverageValue"),
            &[
                ("value", "250m"),
                ("containerName", "app"),
                ("window", "1m"),
            ],
        )
        .expect("valid");
        let container = Some("app".to_owned());
        let target = ResourceTarget::AverageValue(MilliValue::new(250));
        assert_eq!(
            built.metrics[0].target,
            Target::Resource {
                resource: ResourceKind::Cpu,
                container: container.clone(),
                target
            }
        );
        let expected = ResourceSource {
            resource: ResourceKind::Cpu,
            container,
            window: Duration::from_secs(60),
        };
        assert!(
            matches!(&built.source, Source::Resource(source) if *source == expected),
            "{built:?}"
        );
        let built = cpu(Some("Utilization"), &[("value", "60")]).expect("valid");
        let target = ResourceTarget::Utilization(60);
        assert_eq!(
            built.metrics[0].target,
            Target::Resource {
                resource: ResourceKind::Cpu,
                container: None,
                target
            }
        );
    }

    #[test]
    fn names_every_fault() {
        let error = |metric_type, metadata: &[(&str, &str)]| {
            cpu(metric_type, metadata).expect_err("refused").to_string()
        };
        assert!(
            error(None, &[("value", "60")])
                .contains("metricType is missing: it must be Utilization or AverageValue")
        );
        assert!(error(Some("Value"), &[("value", "60")]).contains("metricType: \"Value\""));
        assert!(error(Some("Utilization"), &[("value", "60%")]).contains("value: \"60%\""));
        assert!(error(Some("AverageValue"), &[("value", "sixty")]).contains("quantity"));
        assert!(error(Some("Utilization"), &[]).contains("value is missing"));
        let removed = error(
            Some("Utilization"),
            &[("value", "60"), ("type", "Utilization")],
        );
        assert!(
            removed.contains("type: \"Utilization\"") && removed.contains("metricType instead"),
            "{removed}"
        );
    }
}
