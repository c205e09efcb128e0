//! Pausing and unpausing restores.

use neap_engine::Pause;
use proptest::prelude::*;

use crate::config;
use crate::player::{Player, World, world};

fn all_paused() -> impl Strategy<Value = Pause> {
    prop::option::of(0..40_i32).prop_map(|replicas| Pause {
        paused: replicas.is_none(),
        replicas,
        ..Pause::default()
    })
}

/// A world without pauses of its own, seen at least once before it is paused.
fn worlds() -> impl Strategy<Value = World> {
    let at_least_two = world(12).prop_filter("more than one moment", |w| w.scenes.len() > 1);
    at_least_two.prop_map(|mut world| {
        world.spec.pause = Pause::default();
        world.spec.zero = neap_engine::ZeroHandling::Triggers;
        world
    })
}

proptest! {
    #![proptest_config(config())]

    /// While it is paused nothing is recorded, whatever is seen; afterwards it decides as if nobody
    /// had looked meanwhile and somebody else had set the replicas.
    #[test]
    fn unpaused_it_decides_as_if_nobody_had_looked_meanwhile(
        world in worlds(),
        pause in all_paused(),
        (from, length) in (any::<prop::sample::Index>(), 1..4_usize),
    ) {
        let from = 1 + from.index(world.scenes.len() - 1);
        let until = (from + length).min(world.scenes.len());
        let mut paused = Player::new(&world.spec, world.start);
        paused.play(&world.scenes[..from]);
        let mut unseen = paused.clone();

        paused.spec.pause = pause;
        for scene in &world.scenes[from..until] {
            let before = paused.state.clone();
            let evaluation = paused.step(scene);
            prop_assert_eq!(&evaluation.state, &before);
            prop_assert_eq!(&paused.state, &before);
            unseen.arrive(scene);
            if !scene.refused {
                unseen.replicas = pause.replicas.unwrap_or(unseen.replicas);
            }
        }
        paused.spec.pause = Pause::default();
        for scene in &world.scenes[until..] {
            let (here, there) = (paused.step(scene), unseen.step(scene));
            prop_assert_eq!(here, there);
        }
    }

    /// A paused direction is not gone in, except to a bound: below min and above max the HPA looks
    /// at neither metrics nor behaviour.
    #[test]
    fn a_paused_direction_is_not_gone_in(world in worlds(), both in any::<bool>(), up in any::<bool>()) {
        let mut player = Player::new(&world.spec, world.start);
        player.spec.pause = Pause {
            scale_in: both || !up,
            scale_out: both || up,
            ..Pause::default()
        };
        for scene in &world.scenes {
            player.arrive(scene);
            let current = player.replicas;
            let evaluation = player.look(scene);
            let (pause, desired) = (player.spec.pause, evaluation.desired);
            let to_max = current > world.spec.max_replicas && desired == world.spec.max_replicas;
            let to_min = current < world.spec.hpa_min() && desired == world.spec.hpa_min();
            prop_assert!(!pause.scale_in || desired >= current || to_max, "{}", evaluation.why);
            prop_assert!(!pause.scale_out || desired <= current || to_min, "{}", evaluation.why);
            player.take_on(&evaluation, scene.refused);
        }
    }
}
