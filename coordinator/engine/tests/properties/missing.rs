//! Missing data never lowers.
//!
//! The HPA takes a pod without a sample, where others ask for fewer, as using its whole request (or
//! the target, if that is more), for a mean exactly its target. Data that says more than this is
//! missed, and the HPA goes lower without it; such samples are left out here. What stands in for
//! data on purpose is left out too: fallbacks, and formulas that see nil.

use neap_engine::{FailureCause, MetricSpec, ResourceTarget, ScalingSpec, ZeroHandling};
use neap_units::MilliValue;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use crate::config;
use crate::player::{Player, World, world_of};
use crate::scenes::{ReadingScene, is_of_pods};
use crate::specs::spec;

/// Nothing stands in for data, and nothing is paused as a whole.
fn specs() -> impl Strategy<Value = ScalingSpec> {
    spec().prop_map(|mut spec| {
        spec.fallback = None;
        spec.pause.paused = false;
        spec.pause.replicas = None;
        spec
    })
}

/// Worlds in which some trigger has a voice.
fn worlds() -> impl Strategy<Value = World> {
    let specs = specs().prop_map(|mut spec| {
        if (0..spec.triggers.len()).all(|index| !has_a_voice(&spec, index)) {
            spec.min_replicas = spec.min_replicas.max(1);
            spec.idle_replicas = None;
        }
        spec
    });
    world_of(specs, 8)
}

/// Worlds in which some trigger measures pods, and only known ones at last: superfluous samples count
/// in the number of samples but not in that of pods.
fn worlds_with_pods() -> impl Strategy<Value = World> {
    let specs = specs().prop_map(|mut spec| {
        if !spec
            .triggers
            .iter()
            .any(|trigger| is_of_pods(&trigger.metric))
        {
            spec.scaling_modifiers = None;
            spec.triggers[0].metric = MetricSpec::Pods {
                average_value: MilliValue::new(700),
                capacity_floor: None,
            };
        }
        spec
    });
    world_of(specs, 8).prop_map(|mut world| {
        for reading in &mut world.scenes.last_mut().unwrap().readings {
            if let ReadingScene::Pods { unknown, .. } = reading {
                unknown.clear();
            }
        }
        world
    })
}

/// One of the places of `spec`'s triggers for which `fits` holds.
fn one_of(spec: &ScalingSpec, which: Index, fits: impl Fn(&ScalingSpec, usize) -> bool) -> usize {
    let fitting: Vec<usize> = (0..spec.triggers.len())
        .filter(|index| fits(spec, *index))
        .collect();
    fitting[which.index(fitting.len())]
}

/// The ways in which a trigger's data can be missing.
fn nothing() -> impl Strategy<Value = ReadingScene> {
    let failed = |cause, counts| ReadingScene::Failed { cause, counts };
    prop_oneof![
        Just(failed(FailureCause::Source, true)),
        Just(failed(FailureCause::Empty, true)),
        Just(failed(FailureCause::Other, false)),
        Just(ReadingScene::Values {
            series: Vec::new(),
            active: None
        }),
        Just(ReadingScene::Pods {
            samples: vec![None],
            unknown: Vec::new(),
            arrivals: None
        }),
    ]
}

/// Whether the trigger has a voice. Of single containers KEDA makes no metric under a formula; and
/// zero and idle are left to the triggers that can activate.
fn has_a_voice(spec: &ScalingSpec, index: usize) -> bool {
    let metric = &spec.triggers[index].metric;
    let dropped = spec.scaling_modifiers.is_some()
        && matches!(
            metric,
            MetricSpec::Resource {
                container: Some(_),
                ..
            }
        );
    let activates = matches!(metric, MetricSpec::External { .. });
    let rests = spec.min_replicas == 0 || spec.idle_replicas.is_some();
    let layered = spec.zero == ZeroHandling::Triggers;
    !dropped && (activates || !(layered && rests))
}

/// The most that a pod without a sample is taken to use.
fn assumed(metric: &MetricSpec) -> i64 {
    match metric {
        MetricSpec::Resource {
            target: ResourceTarget::Utilization(percent),
            ..
        } => i64::from(*percent).max(100) * 10,
        MetricSpec::Resource {
            target: ResourceTarget::AverageValue(value),
            ..
        }
        | MetricSpec::Pods {
            average_value: value,
            ..
        } => value.get(),
        MetricSpec::Object { .. } | MetricSpec::External { .. } => 0,
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn a_trigger_without_data_never_lowers(
        world in worlds(),
        which in any::<Index>(),
        nothing in nothing(),
    ) {
        let mut player = Player::new(&world.spec, world.start);
        let (last, before) = world.scenes.split_last().unwrap();
        player.play(before);
        player.arrive(last);
        let mut blind = last.clone();
        let index = one_of(&world.spec, which, has_a_voice);
        blind.readings[index] = nothing;
        let evaluation = player.look(&blind);
        let current = player.replicas.min(world.spec.max_replicas);
        prop_assert!(evaluation.desired >= current, "from {current}: {}", evaluation.why);
    }

    #[test]
    fn pods_without_samples_never_lower(
        world in worlds_with_pods(),
        which in any::<Index>(),
        lost in vec(any::<bool>(), 6),
    ) {
        let mut player = Player::new(&world.spec, world.start);
        let (last, before) = world.scenes.split_last().unwrap();
        player.play(before);
        player.arrive(last);
        let measures_pods =
            |spec: &ScalingSpec, index: usize| is_of_pods(&spec.triggers[index].metric);
        let index = one_of(&world.spec, which, measures_pods);
        let most = assumed(&world.spec.triggers[index].metric);
        let mut blind = last.clone();
        if let ReadingScene::Pods { samples, .. } = &mut blind.readings[index] {
            for (sample, lost) in samples.iter_mut().zip(&lost) {
                if *lost && sample.is_some_and(|value| value <= most) {
                    *sample = None;
                }
            }
        }
        let (seen, blind) = (player.look(last), player.look(&blind));
        let current = player.replicas.min(world.spec.max_replicas);
        prop_assert!(
            blind.desired >= current.min(seen.desired),
            "seen {}\nblind {}",
            seen.why,
            blind.why
        );
    }
}
