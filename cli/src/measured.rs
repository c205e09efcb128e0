//! Measured values and targets in the words of `kubectl get hpa`.

use neap_engine::{Measured, TriggerOutcome, TriggerWhy};

/// `cpu: 45%/70%`, `s0-prometheus: 35/10 (avg)`, `s0-mysql: <unknown>/...`.
pub(crate) fn column(triggers: &[TriggerWhy]) -> String {
    /// kubectl shows so many and counts the rest.
    const SHOWN: usize = 2;
    if triggers.is_empty() {
        return "<none>".to_owned();
    }
    let mut parts: Vec<String> = triggers.iter().take(SHOWN).map(one).collect();
    if triggers.len() > SHOWN {
        parts.push(format!("{} more...", triggers.len() - SHOWN));
    }
    parts.join(", ")
}

fn one(trigger: &TriggerWhy) -> String {
    let name = &trigger.metric_name;
    match &trigger.outcome {
        TriggerOutcome::Proposed(proposal) => {
            format!("{name}: {}", pair(proposal.value, proposal.target))
        }
        TriggerOutcome::Failed { .. } => format!("{name}: <unknown>"),
        TriggerOutcome::Fallback { replicas, .. } => format!("{name}: <fallback {replicas}>"),
        TriggerOutcome::Formula { value } | TriggerOutcome::NotComputed { value } => match value {
            Some(value) => format!("{name}: {value}"),
            None => format!("{name}: <unknown>"),
        },
    }
}

/// Value and target, as `45%/70%` or `35/10 (avg)`.
pub(crate) fn pair(value: Measured, target: Measured) -> String {
    match (value, target) {
        (Measured::Utilization(value), Measured::Utilization(target)) => {
            format!("{value}%/{target}%")
        }
        (Measured::Average(value), Measured::Average(target)) => format!("{value}/{target} (avg)"),
        (value, target) => format!("{}/{}", number(value), number(target)),
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
    use neap_engine::Proposal;
    use neap_units::MilliValue;

    use super::*;

    fn proposed(name: &str, value: Measured, target: Measured) -> TriggerWhy {
        TriggerWhy {
            metric_name: name.to_owned(),
            kind: name.to_owned(),
            active: None,
            outcome: TriggerOutcome::Proposed(Proposal {
                replicas: 1,
                value,
                target,
                ratio: 1.0,
                pods: None,
                within_tolerance: false,
                raised_by_floor: None,
                saturated: false,
            }),
        }
    }

    #[test]
    fn targets_look_as_those_of_an_hpa() {
        let units = MilliValue::from_units;
        let cpu = proposed("cpu", Measured::Utilization(45), Measured::Utilization(70));
        let queue = proposed(
            "s1-kafka",
            Measured::Average(MilliValue::new(3_500)),
            Measured::Average(units(10)),
        );
        let whole = proposed(
            "s2-mysql",
            Measured::Value(units(7)),
            Measured::Value(units(4)),
        );
        assert_eq!(column(&[]), "<none>");
        assert_eq!(column(std::slice::from_ref(&whole)), "s2-mysql: 7/4");
        assert_eq!(
            column(&[cpu, queue, whole]),
            "cpu: 45%/70%, s1-kafka: 3.5/10 (avg), 1 more..."
        );
    }
}
