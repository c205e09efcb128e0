//! KEDA's layer: activation, cooldown, idle, pauses, fallback and formulas.

#![allow(clippy::unwrap_used)] // helpers of tests are not seen as tests by clippy

mod support;

use std::time::Duration;

use neap_engine::{
    Behavior, CapacityFloor, ConditionStatus, ConditionType, Evaluation, Failure, Fallback,
    FallbackBehavior, FirstStep, Formula, MetricSpec, ModifierMetricType, PodReadings, Reading,
    ScalingModifiers, Step, TriggerOutcome, ValueTarget,
};
use neap_units::MilliValue;
use support::{Target, at, cpu, external, of_pods, per_pod, samples, spec, units, value};

fn queue() -> Target {
    Target::new(spec(vec![external("queue", 5)]), 0)
}

fn condition(evaluation: &Evaluation, kind: ConditionType) -> (ConditionStatus, &str) {
    let condition = evaluation
        .conditions
        .iter()
        .find(|condition| condition.kind == kind);
    let condition = condition.unwrap_or_else(|| panic!("no {kind} in {evaluation:?}"));
    (condition.status, condition.reason.as_ref())
}

fn events(evaluation: &Evaluation) -> Vec<(&str, &str)> {
    evaluation
        .events
        .iter()
        .map(|event| (event.reason.as_ref(), event.message.as_str()))
        .collect()
}

#[test]
fn activation_is_strictly_greater_and_wins_over_the_target() {
    let mut target = queue();
    let MetricSpec::External { activation, .. } = &mut target.spec.triggers[0].metric else {
        panic!("external")
    };
    *activation = units(50);
    let rests = target.step_values(&[50], at(0));
    assert_eq!(rests.write, None, "{}", rests.why);
    assert_eq!(
        condition(&rests, ConditionType::Active),
        (ConditionStatus::False, "ScalerNotActive")
    );
    assert_eq!(
        condition(&rests, ConditionType::ScalingActive),
        (ConditionStatus::False, "ScalingDisabled")
    );
    let active = target.step_values(&[51], at(1));
    assert_eq!(
        condition(&active, ConditionType::Active),
        (ConditionStatus::True, "ScalerActive")
    );
    assert!(target.replicas >= 1);
}

#[test]
fn the_step_from_zero_goes_as_far_as_scale_up_allows_and_with_the_annotation_all_the_way() {
    let mut target = queue();
    target.spec.behavior = Some(Behavior::default());
    let first = target.step_values(&[100], at(0));
    // From 1 the default allows 4 more.
    assert_eq!(first.write, Some(5), "{}", first.why);
    assert_eq!(
        events(&first),
        [(
            "KEDAScaleTargetActivated",
            "Scaled apps/v1.Deployment ns/web from 0 to 5, triggered by s0-queue"
        )]
    );
    let second = target.step_values(&[100], at(1));
    assert_eq!(
        second.write, None,
        "the first step used up the policy: {}",
        second.why
    );
    assert_eq!(second.deadline, Some(at(15)));

    let mut target = queue();
    target.spec.first_step = FirstStep::Value;
    assert_eq!(target.step_values(&[100], at(0)).write, Some(20));
    let mut target = queue();
    target.spec.min_replicas = 3;
    assert_eq!(
        target.step_values(&[1], at(0)).write,
        Some(3),
        "at least min"
    );
}

#[test]
fn after_the_cooldown_it_goes_from_n_straight_to_zero() {
    let mut target = queue();
    // Without `behavior` the HPA would still climb to the remembered peak meanwhile.
    target.spec.behavior = Some(Behavior::default());
    target.step_values(&[100], at(0));
    let cooling = target.step_values(&[0], at(100));
    assert_eq!(cooling.write, None, "{}", cooling.why);
    assert_eq!(
        condition(&cooling, ConditionType::Active),
        (ConditionStatus::False, "ScalerCooldown")
    );
    assert!(
        cooling
            .why
            .steps
            .iter()
            .any(|step| matches!(step, Step::CoolingDown { initial: false, .. }))
    );
    // Over only strictly after 300 s.
    target.step_values(&[0], at(300));
    assert!(target.replicas > 0);
    let before = target.replicas;
    let gone = target.step_values(&[0], at(301));
    assert_eq!(gone.write, Some(0), "{}", gone.why);
    assert_eq!(
        events(&gone),
        [(
            "KEDAScaleTargetDeactivated",
            format!("Deactivated apps/v1.Deployment ns/web from {before} to 0").as_str()
        )]
    );
}

#[test]
fn a_workload_never_active_waits_for_the_initial_cooldown_only() {
    let mut target = Target::new(spec(vec![external("queue", 5)]), 7);
    target.spec.created_at = at(0);
    target.spec.initial_cooldown = Duration::from_secs(60);
    let waits = target.step_values(&[0], at(60));
    assert!(
        waits
            .why
            .steps
            .iter()
            .any(|step| matches!(step, Step::CoolingDown { initial: true, .. }))
    );
    assert_eq!(waits.deadline.map(|at| at.as_millis()), Some(60_001));
    assert_eq!(target.step_values(&[0], at(61)).write, Some(0));
}

#[test]
fn idle_replicas_are_gone_to_and_left_at_once() {
    let mut target = Target::new(spec(vec![external("queue", 5)]), 0);
    target.spec.min_replicas = 3;
    target.spec.idle_replicas = Some(1);
    target.replicas = 1;
    assert_eq!(target.step_values(&[0], at(0)).write, None, "rests at idle");
    assert_eq!(target.step_values(&[1], at(1)).write, Some(3));
    assert_eq!(target.step_values(&[0], at(100)).write, None, "cools down");
    assert_eq!(target.step_values(&[0], at(302)).write, Some(1));
}

#[test]
fn inactive_below_min_is_raised_to_min() {
    let mut target = Target::new(spec(vec![external("queue", 5)]), 0);
    target.spec.min_replicas = 2;
    let raised = target.step_values(&[0], at(0));
    assert_eq!(raised.write, Some(2), "{}", raised.why);
}

#[test]
fn force_activation_counts_whatever_the_triggers_say() {
    let mut target = queue();
    target.spec.force_activation = true;
    let forced = target.step_values(&[0], at(0));
    assert_eq!(forced.write, Some(1));
    assert_eq!(
        events(&forced)[0].1,
        "Scaled apps/v1.Deployment ns/web from 0 to 1, caused by forced activation annotation"
    );
}

#[test]
fn pauses_hold_everything_or_one_direction() {
    let mut target = queue();
    target.spec.pause.paused = true;
    let paused = target.step_values(&[100], at(0));
    assert_eq!(paused.write, None);
    assert_eq!(
        condition(&paused, ConditionType::Paused),
        (ConditionStatus::True, "ScaledObjectPaused")
    );
    target.spec.pause.replicas = Some(4);
    assert_eq!(target.step_values(&[100], at(1)).write, Some(4));
    target.spec.pause = neap_engine::Pause::default();
    assert!(target.step_values(&[100], at(2)).write > Some(4));

    let mut target = queue();
    target.spec.pause.scale_out = true;
    assert_eq!(
        target.step_values(&[100], at(0)).write,
        None,
        "not out of zero either"
    );
    let mut target = queue();
    target.step_values(&[100], at(0));
    target.spec.pause.scale_in = true;
    for second in 1..2000 {
        target.step_values(&[0], at(second));
    }
    assert!(target.replicas >= 4, "{}", target.replicas);
}

#[test]
fn only_pod_triggers_are_always_active() {
    let mut target = Target::new(spec(vec![cpu(50)]), 0);
    target.spec.min_replicas = 1;
    let none = samples(0, 0, at(0));
    let evaluation = target.step(&[of_pods(&none)], at(0));
    assert_eq!(evaluation.write, Some(1));
    assert_eq!(
        condition(&evaluation, ConditionType::Active).0,
        ConditionStatus::True
    );
}

fn failed(second: i64) -> [Reading<'static>; 1] {
    [Reading::Failed(Failure::source(
        "connection refused",
        at(second),
    ))]
}

#[test]
fn a_failing_trigger_holds_the_replicas_and_says_so() {
    let mut target = queue();
    target.step_values(&[20], at(0));
    let before = target.replicas;
    for second in 1..1000 {
        target.step(&failed(second), at(second));
    }
    assert_eq!(target.replicas, before, "no scaling to zero on an error");
    let evaluation = target.step(&failed(1000), at(1000));
    assert_eq!(
        condition(&evaluation, ConditionType::Ready),
        (ConditionStatus::False, "TriggerError")
    );
    assert_eq!(
        condition(&evaluation, ConditionType::ScalingActive),
        (ConditionStatus::False, "FailedGetExternalMetric")
    );
}

#[test]
fn one_failing_trigger_of_two_blocks_down_and_not_up() {
    let two = vec![external("a", 5), external("b", 5)];
    let mut target = Target::new(spec(two), 4);
    let readings = |milli: &'static MilliValue, second: i64| {
        [
            value(std::slice::from_ref(milli), at(second)),
            failed(second)[0],
        ]
    };
    static LOW: MilliValue = MilliValue::from_units(5);
    static HIGH: MilliValue = MilliValue::from_units(40);
    for second in 0..1000 {
        target.step(&readings(&LOW, second), at(second));
    }
    assert_eq!(target.replicas, 4);
    let up = target.step(&readings(&HIGH, 1000), at(1000));
    assert_eq!(up.write, Some(8), "{}", up.why);
    assert!(up.error.is_some());
    assert_eq!(
        condition(&up, ConditionType::Ready),
        (ConditionStatus::Unknown, "PartialTriggerError")
    );
}

#[test]
fn triggers_are_listed_with_what_is_known_of_them_whatever_decides() {
    let mut target = queue();
    target.replicas = 200;
    let outside = target.step_values(&[40], at(0));
    assert_eq!(outside.write, Some(100), "{}", outside.why);
    let value = Some(units(40));
    assert_eq!(
        outside.why.triggers[0].outcome,
        TriggerOutcome::NotComputed { value }
    );
    for attempt in 1..=2 {
        let outcome = &target.step(&failed(attempt), at(attempt)).why.triggers[0].outcome;
        assert!(
            matches!(outcome, TriggerOutcome::Failed { failures, .. } if i64::from(*failures) == attempt),
            "{outcome:?}"
        );
    }
}

fn fallback(behavior: FallbackBehavior) -> Fallback {
    Fallback {
        failure_threshold: 3,
        replicas: 6,
        behavior,
    }
}

#[test]
fn the_fallback_stands_in_after_the_threshold_and_each_attempt_counts_once() {
    let mut target = queue();
    target.spec.fallback = Some(fallback(FallbackBehavior::Static));
    for attempt in 1..=3 {
        // Ten evaluations of one failed attempt count once.
        for _ in 0..10 {
            let evaluation = target.step(&failed(attempt), at(attempt));
            assert_eq!(
                evaluation.write, None,
                "attempt {attempt}: {}",
                evaluation.why
            );
        }
    }
    assert_eq!(
        target
            .state
            .health()
            .next()
            .map(|(_, health)| health.failures),
        Some(3)
    );
    target.step(&failed(4), at(4));
    assert!(target.replicas > 0, "a fallback counts as active");
    for second in 5..60 {
        target.step(&failed(4), at(second));
    }
    assert_eq!(target.replicas, 6);
    let evaluation = target.step(&failed(4), at(60));
    assert_eq!(
        condition(&evaluation, ConditionType::Fallback),
        (ConditionStatus::True, "FallbackExists")
    );
    assert!(matches!(
        evaluation.why.triggers[0].outcome,
        TriggerOutcome::Fallback {
            failures: 4,
            replicas: 6,
            ..
        }
    ));
    let works = target.step_values(&[30], at(61));
    assert_eq!(target.state.health().count(), 0);
    assert_eq!(
        condition(&works, ConditionType::Fallback),
        (ConditionStatus::False, "NoFallbackFound")
    );
}

#[test]
fn what_was_not_read_yet_does_not_bring_a_workload_to_rest() {
    let mut target = Target::new(spec(vec![external("queue", 5)]), 7);
    target.spec.created_at = at(0);
    target.spec.fallback = Some(Fallback {
        replicas: 0,
        ..fallback(FallbackBehavior::Static)
    });
    let unread = [Reading::Failed(Failure::not_read_yet(at(10)))];
    let waits = target.step(&unread, at(10));
    assert_eq!(waits.write, None, "it may be active: {}", waits.why);
    let rests = target.step(&failed(11), at(11));
    assert_eq!(rests.write, Some(0), "as in KEDA: {}", rests.why);
}

#[test]
fn the_fallbacks_behaviors() {
    let settles_at = |behavior, start: i32| {
        let mut target = Target::new(spec(vec![external("queue", 5)]), start);
        target.spec.fallback = Some(fallback(behavior));
        for second in 0..1000 {
            target.step(&failed(second), at(second));
        }
        target.replicas
    };
    assert_eq!(settles_at(FallbackBehavior::Static, 9), 6);
    assert_eq!(settles_at(FallbackBehavior::CurrentReplicas, 9), 9);
    assert_eq!(settles_at(FallbackBehavior::CurrentReplicasIfHigher, 9), 9);
    assert_eq!(settles_at(FallbackBehavior::CurrentReplicasIfHigher, 2), 6);
    assert_eq!(settles_at(FallbackBehavior::CurrentReplicasIfLower, 9), 6);
    assert_eq!(settles_at(FallbackBehavior::CurrentReplicasIfLower, 2), 2);
}

#[test]
fn a_value_target_falls_back_by_ready_replicas() {
    let mut target = Target::new(spec(vec![external("queue", 5)]), 3);
    let MetricSpec::External { target: wanted, .. } = &mut target.spec.triggers[0].metric else {
        panic!("external")
    };
    *wanted = ValueTarget::Value(units(5));
    target.spec.fallback = Some(fallback(FallbackBehavior::Static));
    for second in 0..100 {
        target.step(&failed(second), at(second));
    }
    assert_eq!(target.replicas, 6);
}

fn formula(source: &str) -> ScalingModifiers {
    ScalingModifiers {
        formula: Formula::parse(source).unwrap(),
        target: units(5),
        activation_target: units(2),
        metric_type: ModifierMetricType::AverageValue,
    }
}

#[test]
fn a_formula_takes_the_triggers_place() {
    let mut target = Target::new(spec(vec![external("a", 1), external("b", 1)]), 0);
    target.spec.scaling_modifiers = Some(formula("(a + b) / 2"));
    assert_eq!(
        target.step_values(&[2, 2], at(0)).write,
        None,
        "2 is not more than 2"
    );
    let active = target.step_values(&[100, 20], at(1));
    assert!(active.write.is_some(), "{}", active.why);
    for second in 2..60 {
        target.step_values(&[100, 20], at(second));
    }
    assert_eq!(target.replicas, 12);
    assert_eq!(
        target
            .step_values(&[100, 20], at(60))
            .current_metrics
            .last()
            .copied()
            .flatten()
            .unwrap()
            .average_value,
        Some(units(5))
    );
}

#[test]
fn a_formulas_value_is_shown_as_its_metric_type_says() {
    let mut target = Target::new(spec(vec![external("a", 1)]), 2);
    for (metric_type, value, average) in [
        (ModifierMetricType::Value, Some(units(20)), None),
        (ModifierMetricType::AverageValue, None, Some(units(10))),
    ] {
        target.spec.scaling_modifiers = Some(ScalingModifiers {
            metric_type,
            ..formula("a * 2")
        });
        let ten = units(10);
        let readings = [support::value(std::slice::from_ref(&ten), at(0))];
        let shown = target.look(&readings, at(0)).current_metrics[0].unwrap();
        assert_eq!((shown.value, shown.average_value), (value, average));
    }
}

#[test]
fn under_a_formula_a_failure_counts_as_one_of_all_or_as_nil() {
    let two = || spec(vec![external("a", 1), external("b", 1)]);
    let ten = units(10);
    let settles_at = |behavior: Option<FallbackBehavior>, source: &str| {
        let mut target = Target::new(two(), 4);
        target.spec.scaling_modifiers = Some(formula(source));
        target.spec.fallback = behavior.map(fallback);
        for second in 0..1000 {
            let readings = [
                value(std::slice::from_ref(&ten), at(second)),
                failed(second)[0],
            ];
            target.step(&readings, at(second));
        }
        target.replicas
    };
    assert_eq!(
        settles_at(None, "a + b"),
        4,
        "without a fallback nothing moves"
    );
    assert_eq!(settles_at(Some(FallbackBehavior::Static), "a + b"), 6);
    let nil = Some(FallbackBehavior::ScalingModifiers);
    assert_eq!(settles_at(nil, "a + (b ?? 20)"), 6, "30 / 5");
    assert_eq!(
        settles_at(nil, "b ?? nil"),
        6,
        "nil is the fallback's replicas"
    );
}

#[test]
fn a_negative_formula_does_not_scale_to_the_maximum() {
    let mut target = Target::new(spec(vec![external("a", 1)]), 5);
    target.spec.scaling_modifiers = Some(formula("a - 100"));
    for second in 0..1000 {
        target.step_values(&[10], at(second));
    }
    assert!(target.replicas <= 5, "{}", target.replicas);
}

#[test]
fn under_a_formula_resources_count_and_single_containers_do_not() {
    let mut container = cpu(50);
    container.metric = match container.metric {
        MetricSpec::Resource {
            resource, target, ..
        } => MetricSpec::Resource {
            resource,
            target,
            container: Some("app".to_owned()),
        },
        other => other,
    };
    let target = |trigger| {
        let mut target = Target::new(spec(vec![external("a", 1), trigger]), 2);
        target.spec.scaling_modifiers = Some(formula("a"));
        target
    };
    let (low, busy) = (units(10), samples(2, 1000, at(0)));
    let readings = [value(std::slice::from_ref(&low), at(0)), of_pods(&busy)];
    assert_eq!(target(cpu(50)).step(&readings, at(0)).write, Some(4));
    assert_eq!(target(container).step(&readings, at(0)).write, None);
}

#[test]
fn a_capacity_floor_keeps_what_the_arrivals_need() {
    let mut trigger = per_pod("delay", MilliValue::new(50));
    trigger.metric = MetricSpec::Pods {
        average_value: MilliValue::new(50),
        capacity_floor: Some(CapacityFloor::default()),
    };
    let mut target = Target::new(spec(vec![trigger]), 1);
    target.spec.min_replicas = 1;
    target.spec.settings.downscale_stabilization = Duration::from_secs(30);
    let mut step = |delay: i64, rate: i64, second: i64| {
        let samples = samples(usize::try_from(target.replicas).unwrap(), delay, at(second));
        let reading = Reading::Pods(PodReadings {
            samples: &samples,
            unknown: &[],
            arrival_rate: Some(units(rate)),
        });
        target.step(&[reading], at(second));
        target.replicas
    };
    // One pod handles 10 per second; at 25 the delay rises until there are enough.
    assert_eq!(step(10, 10, 0), 1);
    let mut replicas = 1;
    for second in 1..60 {
        replicas = step(if replicas < 3 { 100 } else { 0 }, 25, second);
    }
    assert!((3..=4).contains(&replicas), "{replicas}");
    let settled = replicas;
    for second in 60..400 {
        replicas = step(0, 25, second);
        assert!(replicas >= 3, "the delay is gone only because of them");
    }
    assert!(replicas <= settled);
    for second in 400..800 {
        replicas = step(0, 0, second);
    }
    assert_eq!(replicas, 1, "after the load it returns to min");
}

#[test]
fn a_refused_write_records_the_recommendation_and_no_change() {
    let mut target = Target::new(spec(vec![external("queue", 5)]), 2);
    target.spec.behavior = Some(Behavior::default());
    let evaluation = {
        let hundred = units(100);
        target.look(&[value(std::slice::from_ref(&hundred), at(0))], at(0))
    };
    assert_eq!(evaluation.write, Some(6));
    let refused = evaluation.refuse("conflict");
    assert_eq!(refused.state.last_change(), None);
    assert!(!refused.state.recommendations().is_empty());
    assert_eq!(refused.events[0].reason, "FailedRescale");
    assert_eq!(
        refused.events[0].message,
        "New size: 6; reason: external metric s0-queue(nil) above target; error: conflict"
    );
    target.state = refused.state;
    assert_eq!(
        target.step_values(&[100], at(1)).write,
        Some(6),
        "tried again"
    );
}

#[test]
fn the_original_replicas_are_remembered_once() {
    let mut target = Target::new(spec(vec![external("queue", 5)]), 7);
    target.step_values(&[100], at(0));
    target.step_values(&[100], at(20));
    assert_eq!(target.state.original_replicas(), Some(7));
}

#[test]
fn why_prints_lines_for_people() {
    let mut target = Target::new(spec(vec![external("queue", 5)]), 10);
    target.spec.min_replicas = 1;
    target.step_values(&[50], at(0));
    let held = target.step_values(&[5], at(20));
    assert_eq!(
        held.why.to_string(),
        "stays at 10 replicas\n  \
         trigger s0-queue (mysql): 0.5 each against a target of 5 each: proposes 1; active\n  \
         largest proposal 1, by s0-queue\n  \
         stabilisation holds 10 instead of 1: 20 s ago 10 was recommended, window for down 300 s\n  \
         next possible change in 280 s: a recommendation leaves the stabilisation window"
    );
}
