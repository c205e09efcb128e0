//! Replaying the log of observations gives the same state.

use neap_engine::DecisionState;
use proptest::prelude::*;

use crate::config;
use crate::player::{Player, world};

proptest! {
    #![proptest_config(config())]

    /// Once as one process sees it; once with the state stored and read back before each decision, as
    /// a chain of new leaders does.
    #[test]
    fn the_same_observations_give_the_same_state_and_the_same_reasons(world in world(12)) {
        let mut first = Player::new(&world.spec, world.start);
        let mut second = first.clone();
        for scene in &world.scenes {
            second.state = DecisionState::decode(&second.state.encode()).unwrap();
            let (one, other) = (first.step(scene), second.step(scene));
            prop_assert_eq!(&one, &other);
            prop_assert_eq!(one.why.to_string(), other.why.to_string());
            prop_assert_eq!(one.state.encode(), other.state.encode());
        }
    }
}
