//! The formula over the triggers (`keda-core.md` 2.8).

use neap_units::MilliValue;

use crate::fallback::Source;
use crate::replica_calculator::total;
use crate::spec::{ScalingModifiers, ScalingSpec};

/// What the formula comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Composite {
    /// Its value, or why there is none.
    pub(crate) value: Result<MilliValue, String>,
    /// Whether a fallback took its place.
    pub(crate) is_fallback: bool,
}

/// The composite value: the first fallback's in place of the whole formula, else the formula's.
pub(crate) fn composite(spec: &ScalingSpec, sources: &[Source<'_>]) -> Option<Composite> {
    let modifiers = spec.scaling_modifiers.as_ref()?;
    let stand_in = sources.iter().find_map(|source| match source {
        Source::Fallback { value, .. } => Some(*value),
        _ => None,
    });
    if let Some(value) = stand_in {
        return Some(Composite {
            value: Ok(value),
            is_fallback: true,
        });
    }
    let value = formula(spec, modifiers, sources);
    Some(Composite {
        value,
        is_fallback: false,
    })
}

fn formula(
    spec: &ScalingSpec,
    modifiers: &ScalingModifiers,
    sources: &[Source<'_>],
) -> Result<MilliValue, String> {
    let failed = sources
        .iter()
        .zip(&spec.triggers)
        .find_map(|(source, trigger)| match source {
            Source::Failed { failure, .. } => Some((trigger, failure)),
            _ => None,
        });
    if let Some((trigger, failure)) = failed {
        return Err(format!(
            "metric {} failed: {}",
            trigger.metric_name, failure.message
        ));
    }
    let value_of = |name: &str| {
        let named = |trigger: &&crate::spec::TriggerSpec| trigger.name.as_deref() == Some(name);
        let index = spec.triggers.iter().position(|trigger| named(&trigger))?;
        match sources.get(index)? {
            // Kubernetes' conversion multiplies by the power of ten.
            Source::Read(read) => Some(total(read.values).get() as f64 * 1e-3),
            _ => None,
        }
    };
    let number = modifiers
        .formula
        .evaluate(value_of)
        .map_err(|error| error.to_string())?;
    match (number, spec.fallback) {
        (Some(number), _) => Ok(milli(number)),
        (None, Some(fallback)) => {
            let value = i128::from(modifiers.target.get()) * i128::from(fallback.replicas);
            Ok(MilliValue::new(i64::try_from(value).unwrap_or(i64::MAX)))
        }
        (None, None) => Err("the formula gives nil and there is no fallback".to_owned()),
    }
}

/// A result in thousandths: cut as KEDA cuts it, but not below a thousandth that only the binary
/// representation misses. Negative results count as 0; the HPA would take them for an overflow and
/// go to the maximum.
fn milli(number: f64) -> MilliValue {
    let thousandths = (number * 1000.0 + 1e-6).trunc();
    // `as` saturates.
    MilliValue::new((thousandths as i64).max(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_cut_at_a_thousandth() {
        let cases = [
            (2.0006, 2000),
            (1.001, 1001),
            (0.29, 290),
            (-1.0, 0),
            (1e300, i64::MAX),
        ];
        for (number, thousandths) in cases {
            assert_eq!(milli(number).get(), thousandths, "{number}");
        }
    }
}
