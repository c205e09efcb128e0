//! What a report shows under the names of KEDA's and the HPA's metrics.

use neap_engine::{Measured, TriggerOutcome, TriggerWhy};

use super::status::{Report, Verdict};
use crate::metrics::{TargetSeries, TriggerSeries};

pub(super) fn series(report: &Report) -> Option<TargetSeries> {
    let compiled = report.compiled.as_ref()?;
    let Verdict::Evaluated { evaluation, .. } = &report.verdict else {
        return None;
    };
    let triggers = evaluation
        .why
        .triggers
        .iter()
        .zip(&compiled.inputs)
        .map(|(why, &(at, _))| {
            let built = &compiled.triggers[at];
            TriggerSeries {
                metric: why.metric_name.clone(),
                scaler: built.name.clone().unwrap_or_else(|| scaler_name(&why.kind)),
                kind: why.kind.clone(),
                index: built.index,
                value: value(why),
                active: why.active,
            }
        });
    Some(TargetSeries {
        hpa_name: report.object.hpa_name(),
        min: compiled.spec.hpa_min(),
        max: compiled.spec.max_replicas,
        current: report
            .replicas
            .map_or(evaluation.why.current, |(_, status)| status),
        desired: evaluation.desired,
        paused: compiled.spec.pause.is_full(),
        triggers: triggers.collect(),
    })
}

fn value(why: &TriggerWhy) -> Option<f64> {
    match &why.outcome {
        TriggerOutcome::Proposed(proposal) => Some(match proposal.value {
            Measured::Utilization(percent) => f64::from(percent),
            Measured::Average(value) | Measured::Value(value) => value.as_f64(),
        }),
        TriggerOutcome::Formula { value } | TriggerOutcome::NotComputed { value } => {
            value.map(|value| value.as_f64())
        }
        TriggerOutcome::Failed { .. } | TriggerOutcome::Fallback { .. } => None,
    }
}

/// KEDA's name of a scaler without a name of its own: `kubernetes-workload` is
/// `kubernetesWorkloadScaler`.
fn scaler_name(kind: &str) -> String {
    let mut name = String::with_capacity(kind.len() + 6);
    let mut upper = false;
    for c in kind.chars() {
        match (c, upper) {
            ('-', _) => upper = true,
            (c, true) => {
                name.extend(c.to_uppercase());
                upper = false;
            }
            (c, false) => name.push(c),
        }
    }
    name + "Scaler"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scalers_are_named_as_keda_names_them() {
        assert_eq!(scaler_name("cron"), "cronScaler");
        assert_eq!(
            scaler_name("kubernetes-workload"),
            "kubernetesWorkloadScaler"
        );
    }
}
