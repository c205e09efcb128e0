//! Writing a state and reading it back gives the same state.

use neap_engine::{DecisionState, Evaluation};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::config;
use crate::player::{Player, world};

proptest! {
    #![proptest_config(config())]

    #[test]
    fn a_state_survives_being_stored(world in world(12)) {
        let mut player = Player::new(&world.spec, world.start);
        for scene in &world.scenes {
            let evaluation = player.step(scene);
            let stored = player.state.encode();
            let read = DecisionState::decode(&stored);
            prop_assert_eq!(read.as_ref(), Ok(&player.state));
            prop_assert_eq!(read.unwrap().encode(), stored);
            // Explanations travel as JSON, which has no infinity and reads floats to a bit or so.
            let text = serde_json::to_string(&evaluation).unwrap();
            let read: Evaluation = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(read.state, evaluation.state);
            prop_assert_eq!(read.why.steps, evaluation.why.steps);
        }
    }

    /// Bytes that were cut, changed or never a state: refused or read, and what is read can be worked
    /// with.
    #[test]
    fn broken_bytes_are_refused_or_can_be_worked_with(
        world in world(4),
        change in (any::<prop::sample::Index>(), any::<u8>()),
        cut in prop::option::of(any::<prop::sample::Index>()),
        more in vec(any::<u8>(), 0..4),
    ) {
        let mut player = Player::new(&world.spec, world.start);
        player.play(&world.scenes);
        let mut bytes = player.state.encode();
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        if !bytes.is_empty() {
            let place = change.0.index(bytes.len());
            bytes[place] = change.1;
        }
        bytes.extend(more);
        if let Ok(state) = DecisionState::decode(&bytes) {
            prop_assert_eq!(DecisionState::decode(&state.encode()), Ok(state.clone()));
            player.state = state;
            for scene in &world.scenes {
                let evaluation = player.look(scene);
                prop_assert!(evaluation.deadline.is_none_or(|deadline| deadline > player.now));
            }
        }
    }
}
