//! `node-accept-queue`: connections that wait to be accepted, as the nodes see them.

use std::time::Duration;

use neap_units::MilliValue;

use super::window::{self, WINDOW};
use crate::built::{
    AcceptQueue, AcceptQueueMetric, Activation, BuiltTrigger, MetricSpec, NodeLocal, Source, Target,
};
use crate::config::TriggerConfig;
use crate::error::FieldError;
use crate::metadata::{self, Field, Kind, parse_duration};
use crate::name::metric_name;
use crate::registry::Checked;

const FIELDS: &[Field] = &[
    Field::new("port", Kind::Integer(1, 65535)).required(),
    Field::text("metric").or_default("backlog"),
    Field::text("value").required(),
    WINDOW,
];

const DEFAULT_WINDOW: Duration = Duration::from_secs(2);

pub(crate) fn build(config: &TriggerConfig) -> Checked {
    let (mut settings, mut errors) = metadata::read(&[FIELDS], config);
    super::require_average_value(config, &mut errors);
    let window = window::read(&mut settings, DEFAULT_WINDOW, &mut errors);
    let metric = match settings.text("metric") {
        "backlog" => Some(AcceptQueueMetric::Backlog),
        "delay" => Some(AcceptQueueMetric::Delay),
        "saturation" => Some(AcceptQueueMetric::Saturation),
        other => {
            errors.push(FieldError::invalid(
                "metric",
                other,
                "it must be one of backlog, delay, saturation",
            ));
            None
        }
    };
    let text = settings.text("value");
    let value =
        metric
            .filter(|_| !text.is_empty())
            .and_then(|metric| match read_value(metric, text) {
                Ok(value) => Some((metric, value)),
                Err(allowed) => {
                    errors.push(FieldError::invalid("value", text, allowed));
                    None
                }
            });
    let port = u16::try_from(settings.integer("port")).unwrap_or_default();
    let (Some((metric, value)), Some(window), true) = (value, window, errors.is_empty()) else {
        return Err(errors);
    };
    let name = metric_name(
        config.index,
        &format!("node-accept-queue-{}-{port}", settings.text("metric")),
    );
    let metrics = vec![MetricSpec {
        name,
        target: Target::Pods { average: value },
    }];
    let source = Source::NodeLocal(NodeLocal::AcceptQueue(AcceptQueue {
        port,
        metric,
        value,
        window,
    }));
    Ok(BuiltTrigger::new(
        "node-accept-queue",
        config,
        metrics,
        Activation::Never,
        source,
        settings,
    ))
}

fn read_value(metric: AcceptQueueMetric, text: &str) -> Result<MilliValue, &'static str> {
    let (value, allowed) = match metric {
        AcceptQueueMetric::Backlog => (
            metadata::parse_float(text),
            "with metric backlog it must be a number of connections greater than 0, such as 4",
        ),
        AcceptQueueMetric::Saturation => (
            metadata::parse_float(text).filter(|value| *value <= 1.0),
            "with metric saturation it must be a share of the queue's limit, greater than 0 and at most 1, such as 0.25",
        ),
        AcceptQueueMetric::Delay => (
            parse_duration(text).map(|delay| delay.as_secs_f64() * 1e3),
            "with metric delay it must be a duration greater than 0 such as 50ms, or a whole number of milliseconds",
        ),
    };
    value
        .map(MilliValue::from_metric_f64)
        .filter(|value| *value > MilliValue::ZERO)
        .ok_or(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{TriggerContext, build};

    fn with(metadata: &[(&str, &str)]) -> TriggerConfig {
        let mut config = TriggerConfig::new("node-accept-queue", TriggerContext::default());
        config.metadata = metadata
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        config
    }

    fn queue(metadata: &[(&str, &str)]) -> (AcceptQueue, BuiltTrigger) {
        let built = build(&with(metadata)).expect("valid");
        match built.source.clone() {
            Source::NodeLocal(NodeLocal::AcceptQueue(queue)) => (queue, built),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn reads_each_metric_in_its_unit() {
        let (backlog, built) = queue(&[("port", "8080"), ("value", "4")]);
        assert_eq!(
            (backlog.port, backlog.metric, backlog.value),
            (8080, AcceptQueueMetric::Backlog, MilliValue::from_units(4))
        );
        assert_eq!(backlog.window, Duration::from_secs(2));
        assert_eq!(built.metrics[0].name, "s0-node-accept-queue-backlog-8080");
        assert_eq!(
            built.metrics[0].target,
            Target::Pods {
                average: MilliValue::from_units(4)
            }
        );
        assert_eq!(built.activation, Activation::Never);
        let (delay, _) = queue(&[
            ("port", "1"),
            ("metric", "delay"),
            ("value", "50ms"),
            ("window", "5s"),
        ]);
        assert_eq!(
            (delay.value, delay.window),
            (MilliValue::from_units(50), Duration::from_secs(5))
        );
        let (delay, _) = queue(&[("port", "1"), ("metric", "delay"), ("value", "1.5ms")]);
        assert_eq!(delay.value, MilliValue::new(1500));
        let (saturation, _) = queue(&[
            ("port", "65535"),
            ("metric", "saturation"),
            ("value", "0.25"),
        ]);
        assert_eq!(saturation.value, MilliValue::new(250));
    }

    #[test]
    fn names_every_fault() {
        let error =
            |metadata: &[(&str, &str)]| build(&with(metadata)).expect_err("refused").to_string();
        let all = error(&[("port", "0"), ("metric", "depth"), ("window", "1h")]);
        for part in [
            "port: \"0\"",
            "from 1 to 65535",
            "value is missing",
            "metric: \"depth\"",
            "backlog, delay, saturation",
            "window: \"3600s\"",
            "10m",
        ] {
            assert!(all.contains(part), "{part} in {all}");
        }
        assert!(error(&[("port", "1"), ("value", "0")]).contains("greater than 0"));
        assert!(error(&[("port", "1"), ("value", "0.0001")]).contains("greater than 0"));
        assert!(
            error(&[("port", "1"), ("metric", "saturation"), ("value", "2")]).contains("at most 1")
        );
        assert!(
            error(&[("port", "1"), ("metric", "delay"), ("value", "soon")]).contains("duration")
        );
        let mut config = with(&[("port", "1"), ("value", "1")]);
        config.metric_type = Some("Utilization".to_owned());
        assert!(
            build(&config)
                .expect_err("refused")
                .to_string()
                .contains("metricType")
        );
    }
}
