//! Measured values and targets in the words of `kubectl get hpa`.

use neap_coordinator::publish::TriggerSummary;
use neap_engine::Measured;

/// `cpu: 45%/70%`, `s0-prometheus: 35/10 (avg)`, `s0-mysql: <unknown>/4`.
pub(crate) fn column(triggers: &[TriggerSummary]) -> String {
    /// kubectl shows so many and counts the rest.
    const SHOWN: usize = 2;
    if triggers.is_empty() {
        return "<none>".to_owned();
    }
    let shown: Vec<String> = triggers.iter().take(SHOWN).map(one).collect();
    let shown = shown.join(", ");
    match triggers.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} + {more} more..."),
    }
}

fn one(trigger: &TriggerSummary) -> String {
    let (unit, mean) = match trigger.target_type.as_deref() {
        Some("Utilization") => ("%", ""),
        Some("AverageValue") => ("", " (avg)"),
        _ => ("", ""),
    };
    let value = match (&trigger.value, trigger.fallback_replicas) {
        (_, Some(replicas)) => format!("<fallback {replicas}>"),
        (Some(value), None) => format!("{value}{unit}"),
        (None, None) => "<unknown>".to_owned(),
    };
    match &trigger.target {
        Some(target) => format!("{}: {value}/{target}{unit}{mean}", trigger.name),
        None => format!("{}: {value}", trigger.name),
    }
}

/// One number with what it is.
pub(crate) fn number(measured: Measured) -> String {
    match measured {
        Measured::Utilization(percent) => format!("{percent}%"),
        Measured::Average(value) | Measured::Value(value) => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trigger(name: &str, value: Option<&str>, target: &str, of: &str) -> TriggerSummary {
        TriggerSummary {
            name: name.to_owned(),
            value: value.map(str::to_owned),
            target: Some(target.to_owned()),
            target_type: Some(of.to_owned()),
            ..TriggerSummary::default()
        }
    }

    #[test]
    fn targets_look_as_those_of_an_hpa() {
        let cpu = trigger("cpu", Some("45"), "70", "Utilization");
        let queue = trigger("s1-kafka", Some("3.5"), "10", "AverageValue");
        let whole = trigger("s2-mysql", Some("7"), "4", "Value");
        assert_eq!(column(&[]), "<none>");
        assert_eq!(column(std::slice::from_ref(&whole)), "s2-mysql: 7/4");
        assert_eq!(
            column(&[cpu, queue.clone(), whole]),
            "cpu: 45%/70%, s1-kafka: 3.5/10 (avg) + 1 more..."
        );
        let silent = trigger("cpu", None, "70", "Utilization");
        let fallback = TriggerSummary {
            fallback_replicas: Some(6),
            ..queue
        };
        assert_eq!(
            column(&[silent, fallback]),
            "cpu: <unknown>/70%, s1-kafka: <fallback 6>/10 (avg)"
        );
    }
}
