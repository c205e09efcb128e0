//! From one metric to a number of replicas: the HPA's replica calculator (`hpa.md` 1).
//!
//! The arithmetic is the HPA's to the digit: integer means, truncated percents, ratios in doubles.
//! Only where Go's integers wrap or its conversions are undefined do these functions hold the
//! number at the edge of its range, and say so ([`Calculation::saturated`]).

use neap_units::{MilliValue, Timestamp};

use crate::observation::{Pod, Sample};
use crate::pods::{PodGroup, StartPeriods, group_of, ready_pods, request_of};
use crate::spec::Resource;
use crate::why::PodCounts;

/// Ratios from `1 - down` to `1 + up`, both included, keep the current number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tolerances {
    /// Towards fewer.
    pub down: f64,
    /// Towards more.
    pub up: f64,
}

impl Tolerances {
    /// Whether `ratio` is close enough to 1.
    #[must_use]
    pub fn contain(self, ratio: f64) -> bool {
        (1.0 - self.down) <= ratio && ratio <= (1.0 + self.up)
    }
}

/// A proposal and what it was computed from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Calculation {
    /// The replicas proposed; may be negative for negative values.
    pub replicas: i32,
    /// Value to target, of the first pass.
    pub ratio: f64,
    /// Mean use in percent of the requests, for utilisation targets.
    pub utilization: Option<i32>,
    /// The mean per pod or per replica, or for a `Value` target the value itself.
    pub usage: MilliValue,
    /// How the pods were counted, for metrics of pods.
    pub pods: Option<PodCounts>,
    /// Whether the current number was kept because the ratio was close to 1.
    pub within_tolerance: bool,
    /// Whether a number left its range and was held at the edge.
    pub saturated: bool,
}

/// Why a metric gives no number.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CalculationError {
    /// The selector matches no pod.
    #[error("no pods returned by selector while calculating replica count")]
    NoPods,
    /// As [`Self::NoPods`], where only the number of ready pods was asked for.
    #[error(
        "unable to calculate ready pods: no pods returned by selector while calculating replica count"
    )]
    NoReadyPods,
    /// No sample is left after dropping those of unready and ignored pods.
    #[error("did not receive metrics for targeted pods (pods might be unready)")]
    NoUsableMetrics,
    /// A container makes no request of the resource.
    #[error("missing request for {} in container {container} of Pod {pod}", resource.name())]
    MissingRequest {
        /// The resource.
        resource: Resource,
        /// The container.
        container: String,
        /// The pod.
        pod: String,
    },
    /// A pod with requests of its own, where nothing names the resource.
    #[error("missing pod-level request for {} in Pod {pod}", resource.name())]
    MissingPodLevelRequest {
        /// The resource.
        resource: Resource,
        /// The pod.
        pod: String,
    },
    /// The container is not in a pod.
    #[error("container {container} not found in Pod {pod}")]
    ContainerNotFound {
        /// The container.
        container: String,
        /// The pod.
        pod: String,
    },
    /// The requests add up to nothing.
    #[error("no metrics returned matched known pods")]
    ZeroRequests,
}

/// The samples of one metric of pods.
#[derive(Clone, Copy, Debug)]
pub struct PodMetrics<'a> {
    /// Every pod that the selector matches.
    pub pods: &'a [&'a Pod],
    /// Their samples, in the same order; a shorter list has none for the rest.
    pub samples: &'a [Option<Sample>],
    /// Samples of pods that are not among `pods`.
    pub unknown: &'a [MilliValue],
}

/// A target for metrics of pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PodTarget<'a> {
    /// Mean use in percent of the requests of `resource`.
    Utilization {
        /// The percentage.
        percent: i32,
        /// The resource.
        resource: Resource,
        /// Only this container's request.
        container: Option<&'a str>,
    },
    /// Mean per pod.
    Average {
        /// The mean.
        value: MilliValue,
        /// The resource, if the metric is one.
        resource: Option<Resource>,
    },
}

/// Sums over one group of pods, wide enough never to overflow.
#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    usage: i128,
    request: i128,
}

/// `Resource`, `ContainerResource` and `Pods` metrics (`hpa.md` 1.4).
///
/// `current` is the answer where nothing is to change and guards the direction; what is multiplied
/// is the number of pods that count.
///
/// # Errors
/// [`CalculationError`], worded as the HPA words it.
pub fn pod_replicas(
    current: i32,
    target: PodTarget<'_>,
    metrics: PodMetrics<'_>,
    tolerances: Tolerances,
    periods: StartPeriods,
    now: Timestamp,
) -> Result<Calculation, CalculationError> {
    if metrics.pods.is_empty() {
        return Err(CalculationError::NoPods);
    }
    let resource = match target {
        PodTarget::Utilization { resource, .. } => Some(resource),
        PodTarget::Average { resource, .. } => resource,
    };

    let mut counts = PodCounts::default();
    let (mut ready, mut missing, mut unready) = (Sums::default(), Sums::default(), Sums::default());
    let mut missing_fill = 0_i128;
    let mut request_error = None;
    for (index, pod) in metrics.pods.iter().enumerate() {
        let sample = metrics.samples.get(index).and_then(Option::as_ref);
        let group = group_of(pod, sample, resource, periods, now);
        counts.add(group);
        let request = match target {
            PodTarget::Utilization {
                resource,
                container,
                ..
            } => {
                // The first pod without a request fails the whole metric, ignored ones too.
                match request_of(pod, resource, container) {
                    Ok(request) => request,
                    Err(error) => {
                        request_error.get_or_insert(error);
                        0
                    }
                }
            }
            PodTarget::Average { .. } => 0,
        };
        match group {
            PodGroup::Ready => {
                ready.usage += sample.map_or(0, |sample| i128::from(sample.value.get()));
                ready.request += request;
            }
            PodGroup::Missing => {
                missing.request += request;
                missing_fill += missing_usage(target, request);
            }
            PodGroup::Unready => unready.request += request,
            PodGroup::Ignored => {}
        }
    }

    let unknown = metrics.unknown.len() as i128;
    let samples = i128::from(counts.ready) + unknown;
    if samples == 0 {
        return Err(CalculationError::NoUsableMetrics);
    }
    if let Some(error) = request_error {
        return Err(error);
    }
    if let PodTarget::Average { .. } = target {
        // Samples of unknown pods count in a mean, but have no request to count in a percentage.
        ready.usage += metrics
            .unknown
            .iter()
            .map(|value| i128::from(value.get()))
            .sum::<i128>();
    }

    let first = ratio_to(target, ready, samples)?;
    let measured = match target {
        PodTarget::Utilization { .. } => i128::from(counts.ready),
        PodTarget::Average { .. } => samples,
    };
    let kept = |within_tolerance| Calculation {
        replicas: current,
        ratio: first.ratio,
        utilization: first.percent,
        usage: mean(ready.usage, measured),
        pods: Some(counts),
        within_tolerance,
        saturated: first.saturated,
    };
    let fill_unready = counts.unready > 0 && first.ratio > 1.0;
    if !fill_unready && counts.missing == 0 {
        if tolerances.contain(first.ratio) {
            return Ok(kept(true));
        }
        let (replicas, over) = to_replicas((first.ratio * f64::from(counts.ready)).ceil());
        return Ok(Calculation {
            replicas,
            saturated: first.saturated || over,
            ..kept(false)
        });
    }

    // Pods without a sample are taken as whatever argues against the change.
    let mut filled = ready;
    let mut all = samples;
    if first.ratio != 1.0 {
        filled.usage += if first.ratio < 1.0 { missing_fill } else { 0 };
        filled.request += missing.request;
        all += i128::from(counts.missing);
    }
    if fill_unready {
        filled.request += unready.request;
        all += i128::from(counts.unready);
    }
    let second = ratio_to(target, filled, all)?;
    let turned = (first.ratio > 1.0) != (second.ratio > 1.0);
    if tolerances.contain(second.ratio) || turned {
        return Ok(kept(true));
    }
    let (replicas, over) = to_replicas((second.ratio * all as f64).ceil());
    let against = if second.ratio > 1.0 {
        replicas < current
    } else {
        replicas > current
    };
    if against {
        return Ok(kept(false));
    }
    let saturated = first.saturated || second.saturated || over;
    Ok(Calculation {
        replicas,
        saturated,
        ..kept(false)
    })
}

/// What a pod without a sample is taken to use when fewer replicas are proposed.
fn missing_usage(target: PodTarget<'_>, request: i128) -> i128 {
    match target {
        PodTarget::Utilization { percent, .. } => request * i128::from(percent.max(100)) / 100,
        PodTarget::Average { value, .. } => i128::from(value.get()),
    }
}

struct RatioToTarget {
    ratio: f64,
    percent: Option<i32>,
    saturated: bool,
}

/// Ratio of the sums to the target: use to requests for a percentage, over all `samples` for a mean.
fn ratio_to(
    target: PodTarget<'_>,
    sums: Sums,
    samples: i128,
) -> Result<RatioToTarget, CalculationError> {
    match target {
        PodTarget::Utilization {
            percent: wanted, ..
        } => {
            if sums.request == 0 {
                return Err(CalculationError::ZeroRequests);
            }
            // Go computes the product in 64 bits, where it wraps; and the quotient in 32.
            let wraps = i64::try_from(sums.usage * 100).is_err();
            let (percent, over) = clamp_i32(sums.usage * 100 / sums.request);
            Ok(RatioToTarget {
                ratio: f64::from(percent) / f64::from(wanted),
                percent: Some(percent),
                saturated: wraps || over,
            })
        }
        PodTarget::Average { value: wanted, .. } => Ok(RatioToTarget {
            ratio: mean(sums.usage, samples).get() as f64 / wanted.get() as f64,
            percent: None,
            saturated: i64::try_from(sums.usage).is_err(),
        }),
    }
}

/// The mean of `count` numbers of 64 bits, which fits 64 bits.
fn mean(sum: i128, count: i128) -> MilliValue {
    MilliValue::new(i64::try_from(sum / count.max(1)).unwrap_or(i64::MAX))
}

/// `Object` and `External` metrics with a `Value` target (`hpa.md` 1.6): the ratio times the ready
/// pods, or from zero the ratio itself.
///
/// # Errors
/// [`CalculationError::NoReadyPods`] if there are no pods although `current` is not 0.
pub fn value_replicas(
    current: i32,
    value: MilliValue,
    target: MilliValue,
    pods: &[&Pod],
    tolerances: Tolerances,
) -> Result<Calculation, CalculationError> {
    let ratio = value.get() as f64 / target.get() as f64;
    let within_tolerance = current != 0 && tolerances.contain(ratio);
    let (replicas, saturated) = if within_tolerance {
        (current, false)
    } else if current == 0 {
        to_replicas(ratio.ceil())
    } else {
        let ready = ready_pods(pods).ok_or(CalculationError::NoReadyPods)?;
        to_replicas((ratio * ready as f64).ceil())
    };
    Ok(Calculation {
        replicas,
        ratio,
        utilization: None,
        usage: value,
        pods: None,
        within_tolerance,
        saturated,
    })
}

/// `Object` and `External` metrics with an `AverageValue` target (`hpa.md` 1.7): the value divided
/// by the target, compared with `status_replicas`, the pods that exist.
#[must_use]
pub fn average_replicas(
    status_replicas: i32,
    value: MilliValue,
    target: MilliValue,
    tolerances: Tolerances,
) -> Calculation {
    let (value_f, target_f) = (value.get() as f64, target.get() as f64);
    let ratio = value_f / (target_f * f64::from(status_replicas));
    // With no pods the ratio is infinite or no number, and so never within.
    let within_tolerance = tolerances.contain(ratio);
    let (replicas, over) = if within_tolerance {
        (status_replicas, false)
    } else {
        to_replicas((value_f / target_f).ceil())
    };
    let mean = (value_f / f64::from(status_replicas)).ceil();
    let mean_over = !mean.is_finite() || mean.abs() >= i64::MAX as f64;
    Calculation {
        replicas,
        ratio,
        utilization: None,
        usage: MilliValue::new(mean as i64),
        pods: None,
        within_tolerance,
        saturated: over || mean_over,
    }
}

/// [`average_replicas`] for an `External` metric, whose largest value is reported as it is instead
/// of as a mean.
#[must_use]
pub fn external_average_replicas(
    status_replicas: i32,
    value: MilliValue,
    target: MilliValue,
    tolerances: Tolerances,
) -> Calculation {
    let calculation = average_replicas(status_replicas, value, target, tolerances);
    if value.get() as f64 >= i64::MAX as f64 {
        Calculation {
            usage: MilliValue::MAX,
            ..calculation
        }
    } else {
        calculation
    }
}

/// The sum of an external metric's series for a `Value` target. As the HPA has it, a sum that grows
/// past the largest value stays there, whatever comes after.
#[must_use]
pub fn total(values: &[MilliValue]) -> MilliValue {
    let mut sum = MilliValue::ZERO;
    for value in values {
        match sum.checked_add(*value) {
            Some(next) => sum = next,
            None if *value > MilliValue::ZERO => return MilliValue::MAX,
            // Below the smallest value Go wraps; here it is held.
            None => sum = sum.saturating_add(*value),
        }
    }
    sum
}

/// The sum of an external metric's series for an `AverageValue` target. As the HPA has it, a sum
/// that turns negative on the way counts as the largest value (`hpa.md` 1.7). Readings from
/// triggers are never negative.
#[must_use]
pub fn total_for_average(values: &[MilliValue]) -> MilliValue {
    let mut sum = MilliValue::ZERO;
    for value in values {
        match sum.checked_add(*value) {
            Some(next) if next >= MilliValue::ZERO => sum = next,
            _ => return MilliValue::MAX,
        }
    }
    sum
}

/// A float as replicas, held within `i32`; whether it had to be held.
fn to_replicas(value: f64) -> (i32, bool) {
    let over = value.is_nan() || value > f64::from(i32::MAX) || value < f64::from(i32::MIN);
    // `as` saturates, and makes 0 of NaN.
    (value as i32, over)
}

/// Held within `i32`; whether it had to be held.
fn clamp_i32(value: i128) -> (i32, bool) {
    let held = value.clamp(i128::from(i32::MIN), i128::from(i32::MAX));
    (held as i32, held != value)
}

#[cfg(test)]
#[path = "replica_calculator_test.rs"]
mod tests;
