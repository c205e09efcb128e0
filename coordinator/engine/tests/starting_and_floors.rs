//! Pods that do not count yet, and metrics that have no steady state by proportion alone.

#![allow(clippy::unwrap_used, clippy::expect_used)] // helpers of tests are not seen as tests by clippy

mod support;

use std::time::Duration;

use neap_engine::{
    CapacityFloor, DecisionState, Evaluation, MetricSpec, NextCause, Observation, Pod, PodPhase,
    PodReadings, Proposal, Reading, Ready, ReadyStatus, Resource, Sample, ScalingSpec,
    TriggerOutcome, evaluate,
};
use neap_units::{MilliValue, Timestamp};
use support::{at, cpu, of_pods, per_pod, pod, samples, spec, units, value};

/// Looks at these pods, all of them wanted.
fn look(
    spec: &ScalingSpec,
    state: &DecisionState,
    pods: &[Pod],
    reading: Reading<'_>,
    now: Timestamp,
) -> Evaluation {
    let pods: Vec<&Pod> = pods.iter().collect();
    let count = i32::try_from(pods.len()).unwrap();
    let seen = Observation {
        spec_replicas: count,
        status_replicas: count,
        ready_replicas: None,
        pods: &pods,
        selector_problem: None,
        readings: &[reading],
    };
    evaluate(spec, state, &seen, now)
}

fn next(evaluation: &Evaluation) -> Option<(Timestamp, NextCause)> {
    evaluation.why.next.map(|next| (next.at, next.cause))
}

fn proposal(evaluation: &Evaluation) -> Proposal {
    match &evaluation.why.triggers[0].outcome {
        TriggerOutcome::Proposed(proposal) => *proposal,
        other => panic!("{other:?}"),
    }
}

/// Became ready at once, or was for a while and is not any more.
fn started(second: i64, status: ReadyStatus) -> Pod {
    let since = match status {
        ReadyStatus::False => second + 60,
        _ => second + 1,
    };
    Pod {
        started: Some(at(second)),
        ready: Some(Ready {
            status,
            since: Some(at(since)),
        }),
        ..pod("web")
    }
}

fn at_least_one(mut spec: ScalingSpec) -> ScalingSpec {
    spec.min_replicas = 1;
    spec.settings.downscale_stabilization = Duration::ZERO;
    spec
}

#[test]
fn a_starting_pod_counts_from_the_end_of_its_initialisation() {
    let spec = at_least_one(spec(vec![cpu(50)]));
    let samples = samples(4, 500, at(0));
    // Of those that start, the next to end; one ends just now, one ended long ago.
    let pods = [-50, -100, -300, -90_000].map(|second| started(second, ReadyStatus::False));
    let found = look(
        &spec,
        &DecisionState::default(),
        &pods,
        of_pods(&samples),
        at(0),
    );
    assert_eq!(proposal(&found).pods.unwrap().unready, 2);
    assert_eq!(next(&found), Some((at(200), NextCause::PodInitialization)));
    // One that counts already is no reason to look again.
    let pods = [-50, -100, -300, -90_000].map(|second| started(second, ReadyStatus::True));
    let found = look(
        &spec,
        &DecisionState::default(),
        &pods,
        of_pods(&samples),
        at(0),
    );
    assert_eq!(proposal(&found).pods.unwrap().unready, 0);
    assert_eq!(next(&found), None);
}

#[test]
fn only_for_cpu_starting_pods_come_to_count_by_time() {
    let mut memory = cpu(50);
    if let MetricSpec::Resource { resource, .. } = &mut memory.metric {
        *resource = Resource::Memory;
    }
    let spec = at_least_one(spec(vec![memory]));
    let mut pods = [-50, -100].map(|second| started(second, ReadyStatus::False));
    pods[0].phase = PodPhase::Pending;
    let samples = samples(2, 536_870_912_000, at(0));
    let found = look(
        &spec,
        &DecisionState::default(),
        &pods,
        of_pods(&samples),
        at(0),
    );
    assert_eq!(proposal(&found).pods.unwrap().unready, 1);
    assert_eq!(next(&found), None);
}

/// A delay with a target of 50 and a floor of ten minutes.
fn delay() -> ScalingSpec {
    let mut trigger = per_pod("delay", MilliValue::new(50));
    trigger.metric = MetricSpec::Pods {
        average_value: MilliValue::new(50),
        capacity_floor: Some(CapacityFloor::default()),
    };
    at_least_one(spec(vec![trigger]))
}

fn with_arrivals(samples: &[Option<Sample>], arrivals: Option<i64>) -> Reading<'_> {
    Reading::Pods(PodReadings {
        samples,
        unknown: &[],
        arrival_rate: arrivals.map(units),
    })
}

#[test]
fn a_floor_raises_the_proposal_to_what_the_arrivals_need() {
    let (spec, pods) = (delay(), support::pods(4));
    let samples = samples(4, 10, at(0));
    let state = DecisionState::default();
    // Ten arrivals each are handled with the delay under its target.
    let first = look(
        &spec,
        &state,
        &pods,
        with_arrivals(&samples, Some(40)),
        at(0),
    );
    let found = proposal(&first);
    assert_eq!((found.replicas, found.raised_by_floor), (4, Some(4)));
    assert!(!found.within_tolerance);
    assert_eq!(first.write, None, "{}", first.why);
    assert_eq!(next(&first), Some((at(600), NextCause::CapacityFloor)));
    let state = first.state;
    let fewer = look(
        &spec,
        &state,
        &pods,
        with_arrivals(&samples, Some(15)),
        at(100),
    );
    assert_eq!(proposal(&fewer).raised_by_floor, Some(2), "{}", fewer.why);
    // One is what proportion proposes, too.
    let least = look(
        &spec,
        &state,
        &pods,
        with_arrivals(&samples, Some(5)),
        at(100),
    );
    let found = proposal(&least);
    assert_eq!((found.replicas, found.raised_by_floor), (1, None));
    assert_eq!(next(&least), None);
}

#[test]
fn a_rate_is_the_best_only_where_the_mean_is_at_or_under_its_target() {
    let (spec, pods) = (delay(), support::pods(4));
    let raised_after = |mean: i64| {
        let samples = samples(4, mean, at(0));
        let reading = with_arrivals(&samples, Some(400));
        let state = look(&spec, &DecisionState::default(), &pods, reading, at(0)).state;
        let low = support::samples(4, 10, at(1));
        let later = look(&spec, &state, &pods, with_arrivals(&low, Some(40)), at(1));
        proposal(&later).raised_by_floor
    };
    assert_eq!(raised_after(50), None, "one can handle a hundred");
    assert_eq!(raised_after(51), Some(4), "one can handle ten");
}

#[test]
fn an_unknown_rate_of_arrivals_lets_no_replica_go() {
    let (spec, pods) = (delay(), support::pods(4));
    let state = DecisionState::default();
    let all = samples(4, 10, at(0));
    let unknown = look(&spec, &state, &pods, with_arrivals(&all, None), at(0));
    assert_eq!(proposal(&unknown).raised_by_floor, Some(4));
    assert_eq!(next(&unknown), None);
    // Of a pod without a sample the arrivals are not known either.
    let mut some = all;
    some[0] = None;
    let missing = look(&spec, &state, &pods, with_arrivals(&some, Some(1)), at(0));
    assert_eq!(proposal(&missing).raised_by_floor, Some(4));
}

#[test]
fn a_reading_of_the_wrong_kind_is_a_failure() {
    let spec = at_least_one(spec(vec![cpu(50)]));
    let one = units(1);
    let reading = value(std::slice::from_ref(&one), at(0));
    let found = look(
        &spec,
        &DecisionState::default(),
        &support::pods(2),
        reading,
        at(0),
    );
    assert_eq!(found.write, None);
    let TriggerOutcome::Failed { message, .. } = &found.why.triggers[0].outcome else {
        panic!("{}", found.why)
    };
    assert_eq!(
        message,
        "failed to get cpu utilization: the reading does not fit the metric"
    );
}
