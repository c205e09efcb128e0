//! The HPA's words for metrics and their failures (`hpa.md` 1.8 and 5).

use crate::observation::{Failure, FailureCause};
use crate::replica_calculator::CalculationError;
use crate::spec::{MetricSpec, ResourceTarget, TriggerSpec, ValueTarget};

/// The metric's name under a formula, as KEDA calls it.
pub(crate) const COMPOSITE_NAME: &str = "composite-metric";

/// Why a metric gives no number, in the three wordings the HPA uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MetricError {
    /// Reason of the condition and the Event.
    pub(crate) reason: &'static str,
    /// The Event's message.
    pub(crate) message: String,
    /// The message with its context, as it stands in the summary.
    pub(crate) wrapped: String,
}

impl MetricError {
    /// One wording for all.
    pub(crate) fn whole(reason: &'static str, message: String) -> Self {
        Self {
            reason,
            wrapped: message.clone(),
            message,
        }
    }
}

/// What the HPA calls the metric when it names the one that decided.
pub(crate) fn title(trigger: &TriggerSpec) -> String {
    let name = &trigger.metric_name;
    match &trigger.metric {
        MetricSpec::Resource {
            resource,
            container,
            target,
        } => {
            let resource = resource.name();
            match (target, container) {
                (ResourceTarget::AverageValue(_), _) => format!("{resource} resource"),
                (ResourceTarget::Utilization(_), None) => {
                    format!("{resource} resource utilization (percentage of request)")
                }
                (ResourceTarget::Utilization(_), Some(_)) => {
                    format!("{resource} container resource utilization (percentage of request)")
                }
            }
        }
        MetricSpec::Pods { .. } => format!("pods metric {name}"),
        MetricSpec::Object {
            described_kind,
            target: ValueTarget::Value(_),
            ..
        } => {
            format!("{described_kind} metric {name}")
        }
        // The HPA calls an average over an object's value external too.
        MetricSpec::Object {
            selector,
            target: ValueTarget::AverageValue(_),
            ..
        }
        | MetricSpec::External { selector, .. } => {
            format!(
                "external metric {name}({})",
                selector.as_deref().unwrap_or("nil")
            )
        }
    }
}

pub(crate) fn composite_title() -> String {
    format!("external metric {COMPOSITE_NAME}(nil)")
}

/// A source that failed.
pub(crate) fn source_error(
    namespace: &str,
    trigger: &TriggerSpec,
    failure: Failure<'_>,
) -> MetricError {
    let name = &trigger.metric_name;
    let text = failure.message;
    let inner = match (&trigger.metric, failure.cause) {
        (_, FailureCause::Other) => text.to_owned(),
        (MetricSpec::Resource { resource, .. }, _) => {
            format!(
                "unable to get metrics for resource {}: {text}",
                resource.name()
            )
        }
        (MetricSpec::Pods { .. }, _) => format!("unable to get metric {name}: {text}"),
        (
            MetricSpec::Object {
                described_kind,
                described_name,
                ..
            },
            _,
        ) => {
            format!(
                "unable to get metric {name}: {described_kind} on {namespace} \
                 {described_name}/{text}"
            )
        }
        (MetricSpec::External { selector, .. }, _) => {
            let selector = selector.as_deref().unwrap_or("nil");
            format!("unable to get external metric {namespace}/{name}/{selector}: {text}")
        }
    };
    wrap(trigger, inner)
}

/// A metric without a target. Sources are not asked for it.
pub(crate) fn no_target_error(trigger: &TriggerSpec) -> MetricError {
    let text = match &trigger.metric {
        MetricSpec::Resource { .. } => {
            "invalid resource metric source: neither an average utilization target nor an average \
             value (usage) target was set"
        }
        // The HPA has no words for this one: it does not survive it.
        MetricSpec::Pods { .. } => "invalid pods metric source: no average value target was set",
        MetricSpec::Object { .. } => {
            "invalid object metric source: neither a value target nor an average value target was set"
        }
        MetricSpec::External { .. } => {
            "invalid external metric source: neither a value target nor an average value target \
             was set"
        }
    };
    outermost(trigger, "", text.to_owned())
}

/// A calculation that failed.
pub(crate) fn calculation_error(trigger: &TriggerSpec, error: &CalculationError) -> MetricError {
    wrap(trigger, error.to_string())
}

/// Puts the HPA's contexts around an error.
fn wrap(trigger: &TriggerSpec, inner: String) -> MetricError {
    let name = &trigger.metric_name;
    let context = match &trigger.metric {
        // Here the Event has the context too.
        MetricSpec::Resource {
            resource, target, ..
        } => {
            let what = match target {
                ResourceTarget::Utilization(_) => "utilization",
                ResourceTarget::AverageValue(_) => "usage",
            };
            let message = format!("failed to get {} {what}: {inner}", resource.name());
            return outermost(trigger, "", message);
        }
        MetricSpec::Pods { .. }
        | MetricSpec::Object {
            target: ValueTarget::Value(_),
            ..
        } => String::new(),
        MetricSpec::Object {
            target: ValueTarget::AverageValue(_),
            ..
        } => format!("failed to get {name} object metric: "),
        MetricSpec::External {
            target: ValueTarget::Value(_),
            ..
        } => format!("failed to get external metric {name}: "),
        MetricSpec::External {
            target: ValueTarget::AverageValue(_),
            ..
        } => format!("failed to get {name} external metric: "),
    };
    outermost(trigger, &context, inner)
}

/// The reason of an error, and the outermost of its contexts; `context` comes after that.
fn outermost(trigger: &TriggerSpec, context: &str, message: String) -> MetricError {
    let (reason, outer) = match &trigger.metric {
        MetricSpec::Resource {
            resource,
            container: None,
            ..
        } => (
            "FailedGetResourceMetric",
            format!("failed to get {} resource metric value", resource.name()),
        ),
        MetricSpec::Resource {
            container: Some(container),
            ..
        } => (
            "FailedGetContainerResourceMetric",
            format!("failed to get {container} container metric value"),
        ),
        MetricSpec::Pods { .. } => (
            "FailedGetPodsMetric",
            "failed to get pods metric value".to_owned(),
        ),
        MetricSpec::Object { .. } => (
            "FailedGetObjectMetric",
            "failed to get object metric value".to_owned(),
        ),
        MetricSpec::External { .. } => (
            "FailedGetExternalMetric",
            format!(
                "failed to get {} external metric value",
                trigger.metric_name
            ),
        ),
    };
    MetricError {
        reason,
        wrapped: format!("{outer}: {context}{message}"),
        message,
    }
}

/// A formula that gives no number.
pub(crate) fn composite_error(namespace: &str, text: &str) -> MetricError {
    let message = format!("unable to get external metric {namespace}/{COMPOSITE_NAME}/nil: {text}");
    composite(message)
}

/// A formula's number that could not be used.
pub(crate) fn composite_calculation_error(error: &CalculationError) -> MetricError {
    composite(error.to_string())
}

fn composite(message: String) -> MetricError {
    MetricError {
        reason: "FailedGetExternalMetric",
        wrapped: format!("failed to get {COMPOSITE_NAME} external metric value: {message}"),
        message,
    }
}
