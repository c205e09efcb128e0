//! A load over its target is acted on when it is seen, noise is not.

#![allow(clippy::unwrap_used)] // helpers of tests are not seen as tests by clippy

mod support;

use std::time::Duration;

use neap_engine::{Evaluation, Formula, ModifierMetricType, ScalingModifiers, Step};
use neap_units::{MilliValue, Timestamp};
use support::{Target, at, external, spec, value};

/// Ten replicas with a target of 1 each, and nothing that limits or remembers.
fn ten() -> Target {
    let mut spec = spec(vec![external("queue", 1)]);
    spec.min_replicas = 1;
    spec.settings.downscale_stabilization = Duration::ZERO;
    Target::new(spec, 10)
}

fn see(target: &mut Target, thousandths: i64, now: Timestamp) -> Evaluation {
    let load = MilliValue::new(thousandths);
    target.step(&[value(std::slice::from_ref(&load), now)], now)
}

/// A load around `thousandths` with up to 10 % of noise at 1 Hz, up to second `until`.
fn rustle(target: &mut Target, thousandths: i64, seconds: std::ops::Range<i64>) {
    for second in seconds {
        let noise = [7, -4, 10, -9, 2, -6, 5, -1][second as usize % 8];
        see(target, thousandths + thousandths * noise / 100, at(second));
    }
}

fn is_held(evaluation: &Evaluation) -> bool {
    let mut steps = evaluation.why.steps.iter();
    steps.any(|step| matches!(step, Step::ReversalHeld { .. }))
}

#[test]
fn out_of_stillness_any_load_over_its_target_is_acted_on_at_once() {
    let mut target = ten();
    for second in 0..40 {
        see(&mut target, 10_000, at(second));
    }
    assert_eq!(see(&mut target, 11_100, at(40)).write, Some(12));
}

#[test]
fn a_load_that_rises_is_acted_on_as_it_crosses_its_target() {
    let mut target = ten();
    for tenth in 0..1000 {
        let now = Timestamp::from_millis(tenth * 100);
        let evaluation = see(&mut target, 10_000 + 2 * tenth, now);
        let is_over = 10_000 + 2 * tenth > 11_000;
        assert_eq!(evaluation.write.is_some(), is_over, "{}", evaluation.why);
        if is_over {
            return;
        }
    }
    panic!("never over its target");
}

#[test]
fn a_clear_load_is_acted_on_at_once_in_any_noise_as_far_as_it_is_no_noise() {
    let mut target = ten();
    rustle(&mut target, 10_000, 0..60);
    assert_eq!(target.replicas, 10);
    let seen = see(&mut target, 18_000, at(60));
    // Of 18 wanted, noise of 10 % in either direction could have made four.
    assert_eq!(seen.write, Some(14), "{}", seen.why);
    for second in 61..76 {
        see(&mut target, 18_000, at(second));
    }
    assert_eq!(target.replicas, 18, "and the rest a look later");
}

#[test]
fn replicas_that_someone_else_sets_are_no_noise_of_the_load() {
    let mut target = ten();
    for round in 0..3 {
        target.replicas = 10;
        let seen = see(&mut target, 12_000, at(2 * round));
        assert_eq!(seen.write, Some(12), "{}", seen.why);
        assert_eq!(see(&mut target, 12_000, at(2 * round + 1)).write, None);
    }
}

#[test]
fn what_noise_could_have_made_waits_until_it_is_shown() {
    let mut target = ten();
    rustle(&mut target, 10_000, 0..20);
    rustle(&mut target, 10_500, 20..60);
    assert_eq!(target.replicas, 10, "within the tolerance but for noise");
    rustle(&mut target, 12_000, 60..100);
    assert!(target.replicas >= 11, "{}", target.replicas);
}

#[test]
fn a_turn_has_to_be_shown_for_longer_and_says_until_when() {
    let mut target = ten();
    rustle(&mut target, 12_500, 0..60);
    let up = target.replicas;
    assert!(up > 10);
    rustle(&mut target, 9_000, 60..80);
    assert_eq!(target.replicas, up, "not in 20 s");
    let waits = see(&mut target, 9_000, at(80));
    assert!(is_held(&waits), "{}", waits.why);
    assert!(waits.deadline.is_some_and(|deadline| deadline > at(80)));
    rustle(&mut target, 9_000, 81..100);
    assert!(target.replicas < up, "{}", target.replicas);
}

#[test]
fn a_formula_is_acted_on_as_promptly() {
    let mut target = ten();
    target.spec.scaling_modifiers = Some(ScalingModifiers {
        formula: Formula::parse("queue").unwrap(),
        target: MilliValue::from_units(1),
        activation_target: MilliValue::ZERO,
        metric_type: ModifierMetricType::AverageValue,
    });
    see(&mut target, 10_000, at(0));
    see(&mut target, 10_000, at(1));
    assert_eq!(see(&mut target, 11_500, at(2)).write, Some(12));
}

#[test]
fn without_holds_every_evaluation_is_a_look() {
    let mut target = ten();
    target.spec.settings.reversal_hold = Duration::ZERO;
    target.spec.settings.sync_period = Duration::ZERO;
    for (second, load, replicas) in [(0, 12, 12), (1, 10, 10), (2, 15, 15), (3, 7, 7)] {
        see(&mut target, load * 1000, at(second));
        assert_eq!(target.replicas, replicas, "second {second}");
    }
}
