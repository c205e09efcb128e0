//! What is scaled, and the load on it.

use std::time::Duration;

use neap_api::ScaledObject;
use neap_coordinator::keys::TargetRef;
use neap_coordinator::world::TargetId;
use serde_json::json;

use crate::time::{Time, micros, ms};

/// Namespace of everything that is scaled.
pub(crate) const NAMESPACE: &str = "ns";

/// Where a target's signal comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signal {
    /// Files in a directory of the nodes: the agents tell.
    Files,
    /// Pods of another workload: the API server's watch tells.
    Pods,
}

/// One ScaledObject, and what it allows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Target {
    pub(crate) name: &'static str,
    pub(crate) signal: Signal,
    pub(crate) min: i32,
    pub(crate) max: i32,
    /// At most so many replicas more within this time.
    pub(crate) up: Option<(i32, Duration)>,
    /// Of scaling down.
    pub(crate) window: Duration,
    /// From the last activity to zero.
    pub(crate) cooldown: Duration,
    /// After more than so many failures, so many replicas.
    pub(crate) fallback: Option<(i32, i32)>,
    /// While it is paused.
    pub(crate) paused: Option<i32>,
}

const PLAIN: Target = Target {
    name: "",
    signal: Signal::Files,
    min: 1,
    max: 12,
    up: None,
    window: Duration::from_secs(15),
    cooldown: Duration::from_secs(300),
    fallback: None,
    paused: None,
};

/// One for each kind of state that must survive a leader.
pub(crate) const TARGETS: [Target; 6] = [
    Target {
        name: "steady",
        ..PLAIN
    },
    Target {
        name: "rest",
        min: 0,
        max: 8,
        window: Duration::ZERO,
        cooldown: Duration::from_secs(12),
        ..PLAIN
    },
    Target {
        name: "limited",
        up: Some((4, Duration::from_secs(10))),
        window: Duration::from_secs(5),
        ..PLAIN
    },
    Target {
        name: "batch",
        signal: Signal::Pods,
        window: Duration::from_secs(8),
        ..PLAIN
    },
    Target {
        name: "halted",
        paused: Some(5),
        window: Duration::from_secs(2),
        ..PLAIN
    },
    Target {
        name: "broken",
        max: 10,
        fallback: Some((3, 9)),
        window: Duration::from_secs(2),
        ..PLAIN
    },
];

/// A spool's files for each replica.
pub(crate) const FILES: i32 = 5;
/// How often a failing spool counts.
pub(crate) const POLLING: Duration = Duration::from_secs(4);
/// Engine setting of the simulated coordinators, so that a minute sees enough changes.
pub(crate) const REVERSAL_HOLD: Duration = Duration::from_secs(2);

impl Target {
    pub(crate) fn reference(&self) -> TargetRef {
        TargetRef::new(NAMESPACE, "apps/v1", "Deployment", self.name)
    }

    pub(crate) fn id(&self) -> TargetId {
        TargetId::from(&self.reference())
    }

    /// A load never asks for what the fallback gives, so that the two can be told apart.
    fn most_load(&self) -> i32 {
        self.fallback.map_or(self.max, |(_, replicas)| replicas - 1)
    }

    /// The directory of its files.
    pub(crate) fn path(&self) -> String {
        format!("/var/spool/{}", self.name)
    }

    /// The ScaledObject, as the API server has it.
    pub(crate) fn object(&self, paused: bool) -> ScaledObject {
        let (pods, period) = self.up.unwrap_or((100, Duration::from_secs(15)));
        let trigger = match self.signal {
            Signal::Files => json!({"type": "node-spool", "metadata": {
                "path": self.path(), "value": FILES.to_string(), "activationValue": "0",
            }}),
            Signal::Pods => json!({"type": "kubernetes-workload", "metadata": {
                "podSelector": "app=producer", "value": "1",
            }}),
        };
        let mut spec = json!({
            "scaleTargetRef": {"name": self.name},
            "minReplicaCount": self.min,
            "maxReplicaCount": self.max,
            "cooldownPeriod": self.cooldown.as_secs(),
            "pollingInterval": POLLING.as_secs(),
            "advanced": {"horizontalPodAutoscalerConfig": {"behavior": {
                "scaleUp": {"policies": [
                    {"type": "Pods", "value": pods, "periodSeconds": period.as_secs()},
                ]},
                "scaleDown": {
                    "stabilizationWindowSeconds": self.window.as_secs(),
                    "policies": [{"type": "Percent", "value": 100, "periodSeconds": 15}],
                },
            }}},
            "triggers": [trigger],
        });
        if let Some((threshold, replicas)) = self.fallback {
            spec["fallback"] = json!({"failureThreshold": threshold, "replicas": replicas});
        }
        let mut metadata = json!({
            "name": self.name,
            "namespace": NAMESPACE,
            "uid": format!("so-{}", self.name),
            "creationTimestamp": "2027-01-15T07:00:00Z",
        });
        if let Some(replicas) = self.paused.filter(|_| paused) {
            metadata["annotations"] = json!({
                "autoscaling.keda.sh/paused-replicas": replicas.to_string(),
            });
        }
        let object = json!({
            "apiVersion": "keda.sh/v1alpha1",
            "kind": "ScaledObject",
            "metadata": metadata,
            "spec": spec,
        });
        serde_json::from_value(object).unwrap()
    }
}

/// The load on all targets. The unit is what one replica is good for.
pub(crate) struct Load {
    random: fastrand::Rng,
    /// In the order of [`TARGETS`].
    wanted: [i32; TARGETS.len()],
    next: [Time; TARGETS.len()],
    /// What was wanted, and from when on; the latest last.
    history: Vec<(Time, [i32; TARGETS.len()])>,
    /// No node can read the files of the targets with a fallback.
    pub(crate) unreadable: bool,
}

impl Load {
    pub(crate) fn new(seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let wanted = TARGETS.map(|target| random.i32(target.min..=target.max / 2));
        let next = TARGETS.map(|_| micros(ms(random.u64(5_000..9_000))));
        Self {
            random,
            wanted,
            next,
            history: vec![(0, wanted)],
            unreadable: false,
        }
    }

    /// What a target's load asks for at the moment.
    pub(crate) fn of(&self, target: usize) -> i32 {
        self.wanted[target]
    }

    /// The least that a target's load has asked for since `since`.
    pub(crate) fn least(&self, target: usize, since: Time) -> i32 {
        let mut least = self.wanted[target];
        for (from, wanted) in self.history.iter().rev() {
            least = least.min(wanted[target]);
            if *from <= since {
                break;
            }
        }
        least
    }

    pub(crate) fn set(&mut self, target: usize, wanted: i32, now: Time) {
        self.wanted[target] = wanted;
        self.history.push((now, self.wanted));
    }

    /// Targets whose load changes at `now`.
    pub(crate) fn step(&mut self, now: Time) -> Vec<usize> {
        let mut changed = Vec::new();
        for (at, target) in TARGETS.iter().enumerate() {
            if now < self.next[at] {
                continue;
            }
            // Nothing at all is as frequent as every other number together, where that is allowed.
            let rests = target.min == 0 && self.random.bool();
            let wanted = if rests {
                0
            } else {
                self.random.i32(1..=target.most_load())
            };
            self.set(at, wanted, now);
            self.next[at] = now + micros(ms(self.random.u64(1_500..9_000)));
            changed.push(at);
        }
        changed
    }
}
