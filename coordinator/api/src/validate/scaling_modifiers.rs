//! `spec.advanced.scalingModifiers`, and the fallback that rests on it.

use std::collections::BTreeSet;

use neap_engine::Formula;

use super::{Reason, Refusal};
use crate::advanced::{ModifiersMetricType, ScalingModifiers};
use crate::scaled_object::ScaledObjectSpec;

const FIELD: &str = "spec.advanced.scalingModifiers";

pub(super) fn check(spec: &ScaledObjectSpec, refusals: &mut Vec<Refusal>) {
    let modifiers = spec.scaling_modifiers();
    if let Some(modifiers) = modifiers
        && let Err(refusal) = check_modifiers(spec, modifiers)
    {
        refusals.push(*refusal);
    }
    if spec.fallback_by_scaling_modifiers() && modifiers.and_then(|m| m.formula()).is_none() {
        refusals.push(Refusal::new(
            Reason::ScalingModifiersFallback,
            "scalingModifiers fallback behavior requires scalingModifiers.formula to be defined",
            "spec.fallback.behavior",
            "scalingModifiers",
            "scalingModifiers with a formula, or another behavior",
        ));
    }
}

fn check_modifiers(
    spec: &ScaledObjectSpec,
    modifiers: &ScalingModifiers,
) -> Result<(), Box<Refusal>> {
    let refuse = |message: String, field: &str, value: &str, allowed: &str| {
        Box::new(Refusal::new(
            Reason::ScalingModifiers,
            message,
            format!("{FIELD}.{field}"),
            if value.is_empty() { "absent" } else { value },
            allowed,
        ))
    };
    let Some(text) = modifiers.formula() else {
        return Err(refuse(
            "error ScalingModifiers.Formula is mandatory".to_owned(),
            "formula",
            "",
            "an expression over the names of the triggers",
        ));
    };
    let Some(target) = modifiers.target() else {
        return Err(refuse(
            "error validating formula in ScalingModifiers\nformula is given but target is empty"
                .to_owned(),
            "target",
            "",
            "a number above 0",
        ));
    };
    let named = spec.triggers.iter().filter(|t| !t.is_cpu_or_memory());
    let known: BTreeSet<&str> = named.filter_map(|t| t.name()).collect();
    let known: Vec<&str> = known.into_iter().collect();
    let checked = Formula::parse(text).and_then(|formula| formula.check(&known));
    if let Err(error) = checked {
        return Err(refuse(
            format!("error validating formula in ScalingModifiers\n{error}"),
            "formula",
            text,
            &format!(
                "an expression that gives a number, over the named triggers that are not cpu or memory: {}",
                if known.is_empty() {
                    "none has a name".to_owned()
                } else {
                    known.join(", ")
                }
            ),
        ));
    }
    if !target
        .parse::<f64>()
        .is_ok_and(|n| n > 0.0 && n.is_finite())
    {
        return Err(refuse(
            format!(
                "error validating target in ScalingModifiers\nerror converting target for scalingModifiers (string->float) to valid target: {target}"
            ),
            "target",
            target,
            "a number above 0",
        ));
    }
    if let Some(activation) = modifiers.activation_target()
        && !activation.parse::<f64>().is_ok_and(f64::is_finite)
    {
        return Err(refuse(
            format!(
                "error converting activationTarget for scalingModifiers (string->float) to valid target: {activation}"
            ),
            "activationTarget",
            activation,
            "a number",
        ));
    }
    if let Some(ModifiersMetricType::Other(word)) = modifiers.metric_type() {
        return Err(refuse(
            format!(
                "error validating target in ScalingModifiers\nerror trigger type is {word}, but it needs to be AverageValue or Value for external metrics"
            ),
            "metricType",
            word,
            &ModifiersMetricType::ALLOWED.join(", "),
        ));
    }
    Ok(())
}
