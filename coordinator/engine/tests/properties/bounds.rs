//! The replicas lie within min and max.

use neap_engine::{Evaluation, ScalingSpec, ZeroHandling};
use proptest::prelude::*;

use crate::config;
use crate::player::{Player, world};

/// Whether a decision may come out, by the bounds alone.
fn is_allowed(spec: &ScalingSpec, current: i32, evaluation: &Evaluation) -> bool {
    let desired = evaluation.desired;
    if spec.pause.is_full() {
        return desired == spec.pause.replicas.unwrap_or(current);
    }
    if (spec.hpa_min()..=spec.max_replicas).contains(&desired) {
        return true;
    }
    let stays = desired == current;
    match spec.zero {
        // A plain HPA leaves a workload at zero alone.
        ZeroHandling::Disabled | ZeroHandling::HpaScaleToZero => stays && desired == 0,
        ZeroHandling::Triggers => {
            let rests = desired == 0 && spec.min_replicas == 0;
            let idles = spec.idle_replicas == Some(desired);
            // At zero it is left while triggers fail or scaling out is paused; below min it is left
            // under `paused-scale-out` where there is an idle number to leave.
            let is_left = stays
                && (current == 0
                    || spec.pause.scale_out
                        && spec.idle_replicas.is_some()
                        && current < spec.min_replicas);
            rests || idles || is_left
        }
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn the_replicas_are_within_min_and_max(world in world(12)) {
        let mut player = Player::new(&world.spec, world.start);
        for scene in &world.scenes {
            player.arrive(scene);
            let current = player.replicas;
            let evaluation = player.look(scene);
            prop_assert!(
                is_allowed(&world.spec, current, &evaluation),
                "from {current}: {}",
                evaluation.why
            );
            prop_assert_eq!(evaluation.write, (evaluation.desired != current).then_some(evaluation.desired));
            prop_assert_eq!(evaluation.why.desired, evaluation.desired);
            // A deadline that has passed would stop the clock.
            prop_assert!(evaluation.deadline.is_none_or(|deadline| deadline > player.now));
            player.take_on(&evaluation, scene.refused);
        }
    }
}
