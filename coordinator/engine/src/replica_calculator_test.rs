//! What the recorded cases do not show: everything that is told beside the number.

use std::time::Duration;

use super::*;
use crate::observation::{Container, ContainerKind, PodPhase, Ready, ReadyStatus, Requests};

const TENTH: Tolerances = Tolerances { down: 0.1, up: 0.1 };
const PERIODS: StartPeriods = StartPeriods {
    cpu_initialization: Duration::from_secs(300),
    initial_readiness_delay: Duration::from_secs(30),
};
const NOW: Timestamp = Timestamp::from_millis(100_000_000);

fn milli(thousandths: i64) -> MilliValue {
    MilliValue::new(thousandths)
}

/// Ready for long, with one container that requests `request` thousandths of a core.
fn pod(request: i64) -> Pod {
    Pod {
        name: "web".to_owned(),
        phase: PodPhase::Running,
        started: Some(Timestamp::from_millis(0)),
        ready: Some(Ready {
            status: ReadyStatus::True,
            since: Some(Timestamp::from_millis(1000)),
        }),
        containers: vec![Container {
            name: "app".to_owned(),
            kind: ContainerKind::Main,
            requests: Requests {
                cpu: Some(milli(request)),
                memory: None,
            },
        }],
        ..Pod::default()
    }
}

fn pending() -> Pod {
    Pod {
        phase: PodPhase::Pending,
        ..pod(1000)
    }
}

fn failed() -> Pod {
    Pod {
        phase: PodPhase::Failed,
        ..pod(1000)
    }
}

fn percent(percent: i32) -> PodTarget<'static> {
    PodTarget::Utilization {
        percent,
        resource: Resource::Cpu,
        container: None,
    }
}

fn average(value: i64) -> PodTarget<'static> {
    PodTarget::Average {
        value: milli(value),
        resource: None,
    }
}

/// `pods` with what each uses; `None` has no sample.
fn replicas(
    current: i32,
    target: PodTarget<'_>,
    pods: &[(Pod, Option<i64>)],
    unknown: &[i64],
) -> Result<Calculation, CalculationError> {
    let samples: Vec<_> = pods
        .iter()
        .map(|(_, value)| {
            value.map(|value| Sample {
                value: milli(value),
                at: NOW,
                window: Duration::from_secs(15),
            })
        })
        .collect();
    let unknown: Vec<_> = unknown.iter().copied().map(milli).collect();
    let pods: Vec<&Pod> = pods.iter().map(|(pod, _)| pod).collect();
    let metrics = PodMetrics {
        pods: &pods,
        samples: &samples,
        unknown: &unknown,
    };
    pod_replicas(current, target, metrics, TENTH, PERIODS, NOW)
}

/// `count` pods that each use as much.
fn each(count: usize, used: i64) -> Vec<(Pod, Option<i64>)> {
    vec![(pod(1000), Some(used)); count]
}

/// Ready, unready, missing, ignored.
fn counts([ready, unready, missing, ignored]: [u32; 4]) -> Option<PodCounts> {
    Some(PodCounts {
        ready,
        unready,
        missing,
        ignored,
    })
}

#[test]
fn a_percentage_and_what_it_was_computed_from() {
    let found = replicas(2, percent(50), &each(2, 1000), &[]).unwrap();
    let expected = Calculation {
        replicas: 4,
        ratio: 2.0,
        utilization: Some(100),
        usage: milli(1000),
        pods: counts([2, 0, 0, 0]),
        within_tolerance: false,
        saturated: false,
    };
    assert_eq!(found, expected);
    // 52.5 % is cut before it is compared.
    let within = replicas(7, percent(50), &each(2, 525), &[]).unwrap();
    let expected = Calculation {
        replicas: 7,
        ratio: 1.04,
        utilization: Some(52),
        usage: milli(525),
        within_tolerance: true,
        ..expected
    };
    assert_eq!(within, expected);
}

#[test]
fn a_mean_counts_samples_of_unknown_pods_and_multiplies_known_ones() {
    let found = replicas(1, average(1000), &each(1, 1000), &[3000]).unwrap();
    let expected = Calculation {
        replicas: 2,
        ratio: 2.0,
        utilization: None,
        usage: milli(2000),
        pods: counts([1, 0, 0, 0]),
        within_tolerance: false,
        saturated: false,
    };
    assert_eq!(found, expected);
    // A percentage does not know what they request.
    let found = replicas(1, percent(50), &each(1, 1000), &[3000]).unwrap();
    assert_eq!((found.replicas, found.usage), (2, milli(1000)));
}

#[test]
fn a_missing_pod_uses_its_request_or_the_target_where_fewer_are_asked_for() {
    let mut pods = each(2, 100);
    pods.push((pod(1000), None));
    pods.push((failed(), Some(5000)));
    let found = replicas(5, percent(50), &pods, &[]).unwrap();
    // 10 % without it; (100 + 100 + 1000) of 3000 with it.
    let expected = Calculation {
        replicas: 3,
        ratio: 0.2,
        utilization: Some(10),
        usage: milli(100),
        pods: counts([2, 0, 1, 1]),
        within_tolerance: false,
        saturated: false,
    };
    assert_eq!(found, expected);
    // A target above 100 % counts itself: (100 + 100 + 2000) of 3000, of 200 %.
    let found = replicas(5, percent(200), &pods, &[]).unwrap();
    assert_eq!(found.replicas, 2);
    // A mean: (100 + 100 + 1000) / 3 of 1000.
    let found = replicas(5, average(1000), &pods, &[]).unwrap();
    assert_eq!((found.replicas, found.usage), (2, milli(100)));
}

#[test]
fn a_pod_without_a_sample_uses_nothing_where_more_are_asked_for() {
    let mut pods = each(2, 2000);
    pods.push((pending(), Some(9000)));
    let found = replicas(2, average(1000), &pods, &[]).unwrap();
    let expected = Calculation {
        replicas: 4,
        ratio: 2.0,
        utilization: None,
        usage: milli(2000),
        pods: counts([2, 1, 0, 0]),
        within_tolerance: false,
        saturated: false,
    };
    assert_eq!(found, expected);
    pods.push((pod(1000), None));
    let found = replicas(2, average(1000), &pods, &[]).unwrap();
    // 1000 each over four: at the target.
    assert_eq!((found.replicas, found.within_tolerance), (2, true));
    assert_eq!(found.pods, counts([2, 1, 1, 0]));
}

#[test]
fn at_the_target_pods_without_samples_are_left_out() {
    for other in [(pending(), Some(9000)), (pod(1000), None)] {
        let mut pods = each(2, 1000);
        pods.push(other);
        let found = replicas(3, average(1000), &pods, &[]).unwrap();
        assert_eq!((found.replicas, found.within_tolerance), (3, true));
    }
}

#[test]
fn a_change_that_the_filled_in_pods_turn_around_is_none() {
    // 40 % of one pod asks for fewer, with four missing ones at 100 % it would be more.
    let mut pods = each(1, 400);
    pods.extend(vec![(pod(1000), None); 4]);
    let found = replicas(5, percent(50), &pods, &[]).unwrap();
    assert_eq!((found.replicas, found.within_tolerance), (5, true));
    // 120 % of the target asks for more, with four missing ones at 0 it would be fewer.
    let mut pods = each(1, 1200);
    pods.extend(vec![(pod(1000), None); 4]);
    let found = replicas(5, average(1000), &pods, &[]).unwrap();
    assert_eq!((found.replicas, found.within_tolerance), (5, true));
}

#[test]
fn a_number_against_its_direction_is_not_gone_to() {
    // Fewer asked for, but of five pods where two are wanted: 0.68 * 5.
    let mut pods = each(4, 600);
    pods.push((pod(1000), None));
    let found = replicas(2, average(1000), &pods, &[]).unwrap();
    assert_eq!((found.replicas, found.within_tolerance), (2, false));
    // More asked for, but of three pods where ten are wanted: 2 * 3.
    let mut pods = each(2, 3000);
    pods.push((pod(1000), None));
    let found = replicas(10, average(1000), &pods, &[]).unwrap();
    assert_eq!((found.replicas, found.within_tolerance), (10, false));
}

#[test]
fn what_is_wrong_with_the_pods_comes_in_the_hpas_order() {
    let none = replicas(1, average(1000), &[], &[1000]).unwrap_err();
    assert_eq!(none, CalculationError::NoPods);
    let without_request = Pod {
        containers: vec![Container {
            requests: Requests::default(),
            ..pod(0).containers[0].clone()
        }],
        ..failed()
    };
    let unusable = replicas(1, percent(50), &[(without_request.clone(), Some(1))], &[]);
    assert_eq!(unusable.unwrap_err(), CalculationError::NoUsableMetrics);
    // A failed pod's missing request fails them all.
    let mut pods = each(1, 1000);
    pods.push((without_request, Some(1)));
    let missing = replicas(1, percent(50), &pods, &[]).unwrap_err();
    assert!(matches!(missing, CalculationError::MissingRequest { .. }));
    let zero = replicas(1, percent(50), &[(pod(0), Some(1))], &[]).unwrap_err();
    assert_eq!(zero, CalculationError::ZeroRequests);
}

#[test]
fn numbers_out_of_range_are_held_and_it_is_said() {
    let huge = i64::MAX / 50;
    let wraps = replicas(1, percent(50), &[(pod(huge), Some(huge))], &[]).unwrap();
    assert_eq!((wraps.replicas, wraps.utilization), (2, Some(100)));
    assert!(wraps.saturated, "a hundred times the use does not fit");
    let beyond = replicas(1, percent(50), &[(pod(1), Some(3_000_000_000))], &[]).unwrap();
    assert_eq!(beyond.utilization, Some(i32::MAX));
    assert!(beyond.saturated, "the percentage does not fit");
    let sum = replicas(9, average(i64::MAX), &each(2, i64::MAX), &[]).unwrap();
    assert_eq!((sum.replicas, sum.usage), (9, MilliValue::MAX));
    assert!(
        sum.within_tolerance && sum.saturated,
        "the sum does not fit"
    );
    let many = replicas(1, average(1), &each(1, i64::MAX / 2), &[]).unwrap();
    assert_eq!((many.replicas, many.saturated), (i32::MAX, true));
    // The same where pods are filled in.
    let mut pods = each(1, i64::MAX / 2);
    pods.push((pod(1000), None));
    for current in [1, i32::MAX] {
        let many = replicas(current, average(1), &pods, &[]).unwrap();
        assert_eq!((many.replicas, many.saturated), (i32::MAX, true));
    }
    // Only without the missing pod's request, or only with what it is taken to use.
    let pods = [(pod(1), Some(3_000_000_000)), (pod(1_000_000_000), None)];
    let found = replicas(1, percent(50), &pods, &[]).unwrap();
    assert_eq!((found.replicas, found.saturated), (12, true));
    let large = 90_000_000_000_000_000;
    let pods = [(pod(large), Some(large / 9)), (pod(large), None)];
    for current in [5, 2] {
        let found = replicas(current, percent(100), &pods, &[]).unwrap();
        assert_eq!((found.replicas, found.saturated), (2, true));
    }
    let fits = replicas(1, average(1), &each(1, i64::from(i32::MAX)), &[]).unwrap();
    assert_eq!((fits.replicas, fits.saturated), (i32::MAX, false));
}

#[test]
fn replicas_fit_up_to_the_edges_of_their_range() {
    let (most, least) = (f64::from(i32::MAX), f64::from(i32::MIN));
    assert_eq!(to_replicas(most), (i32::MAX, false));
    assert_eq!(to_replicas(most + 1.0), (i32::MAX, true));
    assert_eq!(to_replicas(least), (i32::MIN, false));
    assert_eq!(to_replicas(least - 1.0), (i32::MIN, true));
    assert_eq!(to_replicas(f64::NAN), (0, true));
    assert_eq!(clamp_i32(-5), (-5, false));
    assert_eq!(clamp_i32(i128::from(i32::MIN) - 1), (i32::MIN, true));
    assert_eq!(clamp_i32(i128::from(i32::MAX) + 1), (i32::MAX, true));
}

#[test]
fn a_value_multiplies_the_ready_pods_and_from_zero_stands_alone() {
    let (ready, waiting) = (pod(1000), pending());
    let pods = [&ready, &ready, &waiting];
    let found = value_replicas(3, milli(15_000), milli(10_000), &pods, TENTH).unwrap();
    let expected = Calculation {
        replicas: 3,
        ratio: 1.5,
        utilization: None,
        usage: milli(15_000),
        pods: None,
        within_tolerance: false,
        saturated: false,
    };
    assert_eq!(found, expected);
    let within = value_replicas(7, milli(10_500), milli(10_000), &[], TENTH).unwrap();
    assert_eq!((within.replicas, within.within_tolerance), (7, true));
    let none = value_replicas(7, milli(15_000), milli(10_000), &[], TENTH);
    assert_eq!(none.unwrap_err(), CalculationError::NoReadyPods);
    // From zero neither pods nor tolerance.
    let first = value_replicas(0, milli(10_001), milli(10_000), &[], TENTH).unwrap();
    assert_eq!((first.replicas, first.within_tolerance), (2, false));
    let held = value_replicas(0, MilliValue::MAX, milli(1), &[], TENTH).unwrap();
    assert_eq!((held.replicas, held.saturated), (i32::MAX, true));
}

#[test]
fn an_average_over_what_exists() {
    let found = average_replicas(2, milli(30_001), milli(10_000), TENTH);
    let expected = Calculation {
        replicas: 4,
        ratio: 30_001.0 / 20_000.0,
        utilization: None,
        usage: milli(15_001),
        pods: None,
        within_tolerance: false,
        saturated: false,
    };
    assert_eq!(found, expected);
    let within = average_replicas(3, milli(30_000), milli(10_000), TENTH);
    assert_eq!((within.replicas, within.within_tolerance), (3, true));
    // Over no pods there is no mean.
    let none = average_replicas(0, milli(30_000), milli(10_000), TENTH);
    assert_eq!(
        (none.replicas, none.usage, none.saturated),
        (3, MilliValue::MAX, true)
    );
    let largest = average_replicas(1, MilliValue::MAX, MilliValue::MAX, TENTH);
    assert!(largest.within_tolerance && largest.saturated);
    let many = average_replicas(1, MilliValue::MAX, milli(1), TENTH);
    assert_eq!((many.replicas, many.saturated), (i32::MAX, true));
}

#[test]
fn only_the_largest_value_of_an_external_metric_is_reported_whole() {
    let (value, target) = (milli(30_000), milli(10_000));
    assert_eq!(
        external_average_replicas(2, value, target, TENTH),
        average_replicas(2, value, target, TENTH)
    );
    let largest = external_average_replicas(4, MilliValue::MAX, target, TENTH);
    assert_eq!(largest.usage, MilliValue::MAX);
    assert!(average_replicas(4, MilliValue::MAX, target, TENTH).usage < MilliValue::MAX);
}

#[test]
fn series_are_summed_as_the_hpa_sums_them() {
    let sum = |values: &[i64]| total(&values.iter().copied().map(milli).collect::<Vec<_>>()).get();
    assert_eq!(sum(&[]), 0);
    assert_eq!(sum(&[5, -7, 1]), -1);
    assert_eq!(sum(&[i64::MAX, 1, -5]), i64::MAX, "stays there");
    assert_eq!(sum(&[i64::MIN, -1, 5]), i64::MIN + 5);
    let sum = |values: &[i64]| {
        total_for_average(&values.iter().copied().map(milli).collect::<Vec<_>>()).get()
    };
    assert_eq!(sum(&[]), 0);
    assert_eq!(sum(&[0, 5]), 5);
    assert_eq!(sum(&[5, -5]), 0);
    assert_eq!(sum(&[5, -6, 10]), i64::MAX);
    assert_eq!(sum(&[i64::MAX, 1]), i64::MAX);
}
