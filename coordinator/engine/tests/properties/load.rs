//! More load never gives fewer replicas, all else equal.
//!
//! The HPA and KEDA break this in four spots, which are left out:
//! * the tolerance keeps the current number, while everything outside it multiplies the pods that
//!   count; where these are more or fewer than the replicas (a rollout, superfluous samples, failed
//!   pods) a little more load can leave or enter the tolerance downwards;
//! * a negative value of an external `AverageValue` counts as the largest (readings are never
//!   negative);
//! * a source that says itself whether it is active may say what it likes of a larger value;
//! * KEDA's `paused-scale-out` keeps an active target at zero, and lets one that is not active go up
//!   to its min.
//!
//! And Neap in one: a capacity floor speaks only while the mean is at or under its target.

use neap_engine::{MetricSpec, ValueTarget};
use proptest::prelude::*;

use crate::config;
use crate::player::{Player, World, world_of};
use crate::scenes::{PodScene, ReadingScene, Scene};
use crate::specs::spec;

/// Which trigger gets more, and how much more.
fn more() -> impl Strategy<Value = (prop::sample::Index, i64)> {
    let more = prop_oneof![1..50_i64, 1..2000_i64, 1..200_000_i64];
    (any::<prop::sample::Index>(), more)
}

/// A world whose last moment lies outside the spots above.
fn worlds() -> impl Strategy<Value = World> {
    let specs = spec().prop_map(|mut spec| {
        spec.pause.scale_out &= spec.min_replicas == 0 || spec.idle_replicas.is_some();
        for trigger in &mut spec.triggers {
            if let MetricSpec::Pods { capacity_floor, .. } = &mut trigger.metric {
                *capacity_floor = None;
            }
        }
        spec
    });
    world_of(specs, 8).prop_map(|mut world| {
        let counts_ready = world.spec.scaling_modifiers.is_some()
            || world.spec.triggers.iter().any(|trigger| {
                matches!(
                    trigger.metric,
                    MetricSpec::External {
                        target: ValueTarget::Value(_),
                        ..
                    } | MetricSpec::Object {
                        target: ValueTarget::Value(_),
                        ..
                    }
                )
            });
        if let Some(last) = world.scenes.last_mut() {
            calm(last, counts_ready);
        }
        world
    })
}

/// As many pods as replicas, none of them going away; all ready where ready ones are counted.
fn calm(scene: &mut Scene, all_ready: bool) {
    scene.surplus = 0;
    for pod in &mut scene.pods {
        if all_ready || matches!(pod, PodScene::Failed | PodScene::Deleting) {
            *pod = PodScene::Ready;
        }
    }
    for reading in &mut scene.readings {
        match reading {
            ReadingScene::Pods { unknown, .. } => unknown.clear(),
            ReadingScene::Values { active, .. } => *active = None,
            ReadingScene::Failed { .. } => {}
        }
    }
}

fn add(reading: &mut ReadingScene, more: i64) {
    match reading {
        ReadingScene::Pods { samples, .. } => {
            samples
                .iter_mut()
                .flatten()
                .for_each(|sample| *sample += more);
        }
        ReadingScene::Values { series, .. } => series.iter_mut().for_each(|value| *value += more),
        ReadingScene::Failed { .. } => {}
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn more_load_never_gives_fewer_replicas(world in worlds(), (which, more) in more()) {
        let mut player = Player::new(&world.spec, world.start);
        let (last, before) = world.scenes.split_last().unwrap();
        player.play(before);
        player.arrive(last);
        let mut loaded = last.clone();
        let index = which.index(loaded.readings.len());
        add(&mut loaded.readings[index], more);
        let (less, more) = (player.look(last), player.look(&loaded));
        prop_assert!(
            more.desired >= less.desired,
            "with less load {}\nwith more {}",
            less.why,
            more.why
        );
    }
}
