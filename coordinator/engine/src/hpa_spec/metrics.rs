//! `metrics` of an HPA as triggers: which target means which calculation (`hpa.md` 1.8).

use neap_units::{MilliValue, Quantity};

use super::{HpaMetric, HpaTarget, LabelSelector, MetricIdentifier, ResourceSource};
use crate::spec::{MetricSpec, Resource, ResourceTarget, TriggerSpec, ValueTarget};

impl HpaMetric {
    pub(super) fn to_trigger(&self) -> Option<TriggerSpec> {
        let (metric_name, metric) = match self.kind.as_str() {
            "Resource" => resource_metric(self.resource.as_ref()?, false)?,
            "ContainerResource" => resource_metric(self.container_resource.as_ref()?, true)?,
            "Pods" => {
                let pods = self.pods.as_ref()?;
                let metric = MetricSpec::Pods {
                    average_value: milli(pods.target.average_value.as_ref()).unwrap_or_default(),
                    capacity_floor: None,
                };
                (pods.metric.name.clone(), metric)
            }
            "Object" => {
                let object = self.object.as_ref()?;
                let metric = MetricSpec::Object {
                    described_kind: object.described_object.kind.clone(),
                    described_name: object.described_object.name.clone(),
                    selector: selector(&object.metric),
                    target: object_target(&object.target),
                };
                (object.metric.name.clone(), metric)
            }
            "External" => {
                let external = self.external.as_ref()?;
                let metric = MetricSpec::External {
                    selector: selector(&external.metric),
                    target: external_target(&external.target),
                    activation: MilliValue::ZERO,
                };
                (external.metric.name.clone(), metric)
            }
            _ => return None,
        };
        Some(TriggerSpec {
            metric_name,
            name: None,
            kind: self.kind.clone(),
            metric,
        })
    }
}

fn milli(quantity: Option<&Quantity>) -> Option<MilliValue> {
    quantity.map(Quantity::milli)
}

fn selector(metric: &MetricIdentifier) -> Option<String> {
    metric.selector.as_ref().map(LabelSelector::printed)
}

/// An average value wins over a percentage.
fn resource_metric(source: &ResourceSource, of_container: bool) -> Option<(String, MetricSpec)> {
    let resource = match source.name.as_str() {
        "cpu" => Resource::Cpu,
        "memory" => Resource::Memory,
        _ => return None,
    };
    let percent = source.target.average_utilization.unwrap_or_default();
    let target = milli(source.target.average_value.as_ref()).map_or(
        ResourceTarget::Utilization(percent),
        ResourceTarget::AverageValue,
    );
    let container = of_container.then(|| source.container.clone());
    Some((
        source.name.clone(),
        MetricSpec::Resource {
            resource,
            container,
            target,
        },
    ))
}

/// The type decides.
fn object_target(target: &HpaTarget) -> ValueTarget {
    let (value, average) = match target.kind.as_str() {
        "Value" => (target.value.as_ref(), None),
        "AverageValue" => (None, target.average_value.as_ref()),
        _ => (None, None),
    };
    value_target(value, average)
}

/// An average value wins, whatever the type.
fn external_target(target: &HpaTarget) -> ValueTarget {
    value_target(target.value.as_ref(), target.average_value.as_ref())
}

fn value_target(value: Option<&Quantity>, average: Option<&Quantity>) -> ValueTarget {
    milli(average).map_or_else(
        || ValueTarget::Value(milli(value).unwrap_or_default()),
        ValueTarget::AverageValue,
    )
}
