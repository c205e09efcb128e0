//! Plays moments against the engine in closed loop: what is decided is written.

use std::time::Duration;

use neap_engine::{
    DecisionState, Evaluation, Failure, Observation, Pod, PodReadings, Reading, Sample,
    ScalingSpec, ValueReading, evaluate,
};
use neap_units::{MilliValue, Timestamp};
use proptest::prelude::*;

use crate::scenes::{ReadingScene, Scene, scenes};
use crate::specs::spec;

/// A spec, the replicas it begins with and what happens to it.
#[derive(Clone, Debug)]
pub(crate) struct World {
    pub(crate) spec: ScalingSpec,
    pub(crate) start: i32,
    pub(crate) scenes: Vec<Scene>,
}

/// Any world of at most `most` moments.
pub(crate) fn world(most: usize) -> impl Strategy<Value = World> {
    world_of(spec(), most)
}

/// A world with a spec of `specs`.
pub(crate) fn world_of(
    specs: impl Strategy<Value = ScalingSpec>,
    most: usize,
) -> impl Strategy<Value = World> {
    (specs, 0..45_i32)
        .prop_flat_map(move |(spec, start)| {
            let scenes = scenes(&spec, most);
            (Just(spec), Just(start), scenes)
        })
        .prop_map(|(spec, start, scenes)| World {
            spec,
            start,
            scenes,
        })
}

/// A target on its way through a world.
#[derive(Clone, Debug)]
pub(crate) struct Player {
    pub(crate) spec: ScalingSpec,
    pub(crate) state: DecisionState,
    pub(crate) replicas: i32,
    pub(crate) now: Timestamp,
}

impl Player {
    pub(crate) fn new(spec: &ScalingSpec, start: i32) -> Self {
        Self {
            spec: spec.clone(),
            state: DecisionState::default(),
            replicas: start,
            now: Timestamp::from_millis(0),
        }
    }

    /// Lets time pass and others act, up to the moment of `scene`.
    pub(crate) fn arrive(&mut self, scene: &Scene) {
        self.now = self.now + Duration::from_millis(scene.after.unsigned_abs());
        if let Some(replicas) = scene.manual {
            self.replicas = replicas;
        }
    }

    /// Evaluates what `scene` shows now, and changes nothing.
    pub(crate) fn look(&self, scene: &Scene) -> Evaluation {
        let now = self.now;
        let count = usize::try_from((self.replicas + scene.surplus).max(0)).unwrap();
        let each = scene.pods.iter().cycle().take(count).enumerate();
        let pods: Vec<Pod> = each.map(|(index, pod)| pod.pod(index, now)).collect();
        let pods: Vec<&Pod> = pods.iter().collect();
        let held: Vec<Held> = scene
            .readings
            .iter()
            .map(|reading| Held::of(reading, count, now))
            .collect();
        let readings: Vec<Reading<'_>> = held.iter().map(|held| held.reading(now)).collect();
        let seen = Observation {
            spec_replicas: self.replicas,
            status_replicas: self.replicas + scene.surplus,
            ready_replicas: None,
            pods: &pods,
            selector_problem: None,
            readings: &readings,
        };
        evaluate(&self.spec, &self.state, &seen, now)
    }

    /// Evaluates and takes on what came of it.
    pub(crate) fn step(&mut self, scene: &Scene) -> Evaluation {
        self.arrive(scene);
        let evaluation = self.look(scene);
        self.take_on(&evaluation, scene.refused);
        evaluation
    }

    pub(crate) fn take_on(&mut self, evaluation: &Evaluation, refused: bool) {
        if refused && evaluation.write.is_some() {
            self.state = evaluation.refuse("refused").state;
        } else {
            self.state = evaluation.state.clone();
            self.replicas = evaluation.desired;
        }
    }

    /// Plays all moments.
    pub(crate) fn play(&mut self, scenes: &[Scene]) {
        for scene in scenes {
            self.step(scene);
        }
    }
}

/// What a reading borrows from.
struct Held {
    samples: Vec<Option<Sample>>,
    values: Vec<MilliValue>,
    scene: ReadingScene,
}

impl Held {
    fn of(scene: &ReadingScene, pods: usize, now: Timestamp) -> Self {
        let (mut samples, mut values) = (Vec::new(), Vec::new());
        match scene {
            ReadingScene::Pods {
                samples: each,
                unknown,
                ..
            } => {
                let sample = |milli: i64| Sample {
                    value: MilliValue::new(milli),
                    at: now,
                    window: Duration::from_secs(15),
                };
                let repeated = each.iter().cycle().take(pods);
                samples = repeated.map(|value| value.map(sample)).collect();
                values = unknown.iter().copied().map(MilliValue::new).collect();
            }
            ReadingScene::Values { series, .. } => {
                values = series.iter().copied().map(MilliValue::new).collect();
            }
            ReadingScene::Failed { .. } => {}
        }
        Self {
            samples,
            values,
            scene: scene.clone(),
        }
    }

    fn reading(&self, now: Timestamp) -> Reading<'_> {
        match self.scene {
            ReadingScene::Pods { arrivals, .. } => Reading::Pods(PodReadings {
                samples: &self.samples,
                unknown: &self.values,
                arrival_rate: arrivals.map(MilliValue::new),
            }),
            ReadingScene::Values { active, .. } => Reading::Values(ValueReading {
                values: &self.values,
                active,
                at: now,
            }),
            ReadingScene::Failed { cause, counts } => Reading::Failed(Failure {
                cause,
                message: "out of order",
                counts_for_fallback: counts,
                at: now,
            }),
        }
    }
}
