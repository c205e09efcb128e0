//! What held the number, and when it can next change: every limit says until when it holds.

#![allow(clippy::unwrap_used, clippy::expect_used)] // helpers of tests are not seen as tests by clippy

mod support;

use std::time::Duration;

use neap_engine::{
    Behavior, Bound, ConditionType, Direction, Evaluation, NextCause, PolicyKind, ScalingPolicy,
    SelectPolicy, Step,
};
use neap_units::Timestamp;
use support::{Target, at, external, spec};

/// `replicas`, of which each takes ten of the queue, from 1 to 50.
fn queue(replicas: i32, behavior: Option<Behavior>) -> Target {
    let mut spec = spec(vec![external("queue", 10)]);
    spec.min_replicas = 1;
    spec.max_replicas = 50;
    spec.behavior = behavior;
    Target::new(spec, replicas)
}

fn policy(kind: PolicyKind, value: i32, seconds: u64) -> ScalingPolicy {
    ScalingPolicy {
        kind,
        value,
        period: Duration::from_secs(seconds),
    }
}

/// No windows, and these policies in both directions.
fn limited(policies: &[ScalingPolicy]) -> Option<Behavior> {
    let mut behavior = Behavior::default();
    for rules in [&mut behavior.scale_up, &mut behavior.scale_down] {
        rules.stabilization_window = Some(Duration::ZERO);
        rules.policies = policies.to_vec();
    }
    Some(behavior)
}

fn windows(up: u64, down: u64) -> Option<Behavior> {
    let mut behavior = Behavior::default();
    behavior.scale_up.stabilization_window = Some(Duration::from_secs(up));
    behavior.scale_down.stabilization_window = Some(Duration::from_secs(down));
    Some(behavior)
}

fn next(evaluation: &Evaluation) -> Option<(Timestamp, NextCause)> {
    let next = evaluation.why.next.map(|next| (next.at, next.cause));
    assert_eq!(evaluation.deadline, next.map(|(at, _)| at));
    next
}

fn limited_reason(evaluation: &Evaluation) -> &str {
    let mut conditions = evaluation.conditions.iter();
    let limited = conditions.find(|condition| condition.kind == ConditionType::ScalingLimited);
    limited.map_or("none", |condition| condition.reason.as_ref())
}

/// The changes that limited the number.
fn used(evaluation: &Evaluation) -> Vec<(i32, Timestamp)> {
    let steps = evaluation.why.steps.iter();
    let used = steps.filter_map(|step| match step {
        Step::Limited { used, .. } => Some(used),
        _ => None,
    });
    used.flatten()
        .map(|event| (event.delta, event.at))
        .collect()
}

#[test]
fn a_policy_up_releases_when_the_oldest_change_leaves_its_period() {
    let mut target = queue(10, limited(&[policy(PolicyKind::Pods, 2, 60)]));
    let first = target.step_values(&[200], at(0));
    assert_eq!(first.write, Some(12), "{}", first.why);
    assert!(used(&first).is_empty());
    // What this change itself uses up comes back after a period.
    assert_eq!(next(&first), Some((at(60), NextCause::Policy)));
    let second = target.step_values(&[200], at(10));
    assert_eq!(second.write, None);
    assert_eq!(used(&second), [(2, at(0))]);
    assert_eq!(next(&second), Some((at(60), NextCause::Policy)));
    let third = target.step_values(&[200], at(60));
    assert_eq!(third.write, Some(14), "{}", third.why);
    assert_eq!(next(&third), Some((at(120), NextCause::Policy)));
}

#[test]
fn a_policy_down_says_the_same() {
    let policies = [
        policy(PolicyKind::Pods, 2, 60),
        policy(PolicyKind::Percent, 10, 30),
    ];
    let mut target = queue(20, limited(&policies));
    let first = target.step_values(&[10], at(0));
    assert_eq!(first.write, Some(18), "{}", first.why);
    assert_eq!(
        next(&first),
        Some((at(30), NextCause::Policy)),
        "the shorter period"
    );
    let second = target.step_values(&[10], at(10));
    assert_eq!(second.write, None, "{}", second.why);
    assert_eq!(used(&second), [(2, at(0))]);
    assert_eq!(next(&second), Some((at(30), NextCause::Policy)));
}

#[test]
fn a_disabled_direction_never_releases() {
    let mut behavior = limited(&[policy(PolicyKind::Pods, 2, 60)]);
    if let Some(behavior) = &mut behavior {
        behavior.scale_up.select_policy = SelectPolicy::Disabled;
    }
    let mut target = queue(10, behavior);
    let held = target.step_values(&[200], at(0));
    assert_eq!(held.write, None);
    assert!(held.why.steps.contains(&Step::DirectionPaused {
        direction: Direction::Up,
        from: 20
    }));
    assert_eq!(next(&held), None);
}

#[test]
fn a_bound_never_releases_either() {
    let mut target = queue(10, limited(&[policy(PolicyKind::Pods, 100, 60)]));
    let up = target.step_values(&[900], at(0));
    assert_eq!(up.write, Some(50));
    let side = Bound::Max;
    assert!(up.why.steps.contains(&Step::Clamped {
        from: 90,
        to: 50,
        side
    }));
    assert_eq!(next(&up), None);
}

#[test]
fn a_window_up_says_which_recommendation_holds_and_until_when() {
    let mut target = queue(10, windows(60, 0));
    target.step_values(&[100], at(0));
    let held = target.step_values(&[200], at(5));
    assert_eq!(held.write, None, "{}", held.why);
    assert!(held.why.steps.contains(&Step::Stabilized {
        direction: Direction::Up,
        from: 20,
        to: 10,
        held_by: 10,
        recorded: at(0),
        window: Duration::from_secs(60),
    }));
    assert_eq!(next(&held), Some((at(60), NextCause::Stabilization)));
}

#[test]
fn the_youngest_recommendation_that_holds_counts() {
    let mut target = queue(10, windows(0, 60));
    // More than one of the HPA's looks apart, so that every one is kept.
    for (load, second) in [(100, 0), (80, 20), (100, 40)] {
        target.step_values(&[load], at(second));
    }
    let held = target.step_values(&[10], at(45));
    assert_eq!(held.write, None, "{}", held.why);
    assert_eq!(next(&held), Some((at(100), NextCause::Stabilization)));
    let gone = target.step_values(&[10], at(100));
    assert_eq!(gone.write, Some(1), "{}", gone.why);
    // A younger one that asked for fewer does not hold.
    let mut target = queue(10, windows(0, 60));
    target.step_values(&[100], at(0));
    target.step_values(&[80], at(20));
    let held = target.step_values(&[10], at(45));
    assert_eq!(held.write, None, "{}", held.why);
    assert_eq!(next(&held), Some((at(60), NextCause::Stabilization)));
}

#[test]
fn nothing_holds_what_is_asked_for() {
    let mut target = queue(10, windows(60, 60));
    let still = target.step_values(&[100], at(0));
    assert_eq!(next(&still), None);
    let stabilized = |step: &Step| matches!(step, Step::Stabilized { .. });
    assert!(!still.why.steps.iter().any(stabilized), "{}", still.why);
    let mut target = queue(10, None);
    target.step_values(&[100], at(0));
    let still = target.step_values(&[100], at(20));
    assert_eq!(next(&still), None);
    assert!(!still.why.steps.iter().any(stabilized), "{}", still.why);
}

#[test]
fn without_behavior_the_number_doubles_at_the_hpas_pace() {
    let mut target = queue(5, None);
    let first = target.step_values(&[400], at(0));
    assert_eq!(first.write, Some(10), "{}", first.why);
    assert_eq!(next(&first), Some((at(15), NextCause::Policy)));
    let second = target.step_values(&[400], at(5));
    assert_eq!(second.write, None, "{}", second.why);
    assert!(
        second
            .why
            .steps
            .contains(&Step::LimitedToDouble { from: 40, to: 10 })
    );
    assert_eq!(next(&second), Some((at(15), NextCause::Policy)));
    let third = target.step_values(&[400], at(15));
    assert_eq!(third.write, Some(20), "{}", third.why);
    // The first change is a whole look old and holds nothing any more.
    assert_eq!(next(&third), Some((at(30), NextCause::Policy)));
}

/// `hpa.md` 3.1 and 3.3: what is allowed exactly is within range, and of a bound and a limit at the
/// same number the bound is named.
#[test]
fn at_its_edge_a_limit_is_none() {
    let mut target = queue(10, limited(&[policy(PolicyKind::Pods, 2, 60)]));
    for (load, second) in [(80, 0), (100, 60)] {
        let exact = target.step_values(&[load], at(second));
        assert_eq!(exact.write, Some(load as i32 / 10), "{}", exact.why);
        assert_eq!(limited_reason(&exact), "DesiredWithinRange");
        assert_eq!(next(&exact), None);
    }
    let mut target = queue(25, None);
    let double = target.step_values(&[900], at(0));
    assert_eq!(double.write, Some(50), "{}", double.why);
    assert_eq!(limited_reason(&double), "TooManyReplicas");
    assert_eq!(next(&double), None);
}

#[test]
fn without_behavior_and_pace_every_evaluation_doubles_and_none_is_due() {
    let mut target = queue(5, None);
    target.spec.settings.sync_period = Duration::ZERO;
    for (second, replicas) in [(0, 10), (1, 20), (2, 40)] {
        let up = target.step_values(&[400], at(second));
        assert_eq!(up.write, Some(replicas), "{}", up.why);
        assert_eq!(next(&up), None);
    }
}

#[test]
fn without_behavior_a_recommendation_as_old_as_the_window_holds_until_the_next_look() {
    let mut target = queue(10, None);
    target.step_values(&[100], at(0));
    let early = target.step_values(&[10], at(20));
    let until = Timestamp::from_millis(300_001);
    assert_eq!(next(&early), Some((until, NextCause::Stabilization)));
    let late = target.step_values(&[10], at(290));
    assert_eq!(late.write, None);
    assert_eq!(
        next(&late),
        Some((at(305), NextCause::Stabilization)),
        "the HPA looks no sooner"
    );
    assert_eq!(target.step_values(&[10], at(304)).write, None);
    assert_eq!(target.step_values(&[10], at(305)).write, Some(1));
}
