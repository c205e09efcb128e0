//! How fast the replicas may move: the HPA's `behavior`.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// `behavior` of an HPA with defaults filled in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Behavior {
    /// Rules for more replicas.
    pub scale_up: ScalingRules,
    /// Rules for fewer replicas.
    pub scale_down: ScalingRules,
}

impl Default for Behavior {
    /// What the API server fills into `behavior: {}`.
    fn default() -> Self {
        Self {
            scale_up: ScalingRules::default_up(),
            scale_down: ScalingRules::default_down(),
        }
    }
}

/// Rules for one direction.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScalingRules {
    /// `stabilizationWindowSeconds`; `None` (only for scale-down) takes
    /// [`crate::Settings::downscale_stabilization`].
    pub stabilization_window: Option<Duration>,
    /// Which of the policies counts.
    pub select_policy: SelectPolicy,
    /// How much may change in how long.
    pub policies: Vec<ScalingPolicy>,
    /// Overrides [`crate::Settings::tolerance`] for this direction.
    pub tolerance: Option<f64>,
}

impl ScalingRules {
    /// Kubernetes' default for scale-up: no window, the larger of 4 pods and 100 % per 15 s.
    #[must_use]
    pub fn default_up() -> Self {
        let period = Duration::from_secs(15);
        Self {
            stabilization_window: Some(Duration::ZERO),
            select_policy: SelectPolicy::Max,
            policies: vec![
                ScalingPolicy {
                    kind: PolicyKind::Pods,
                    value: 4,
                    period,
                },
                ScalingPolicy {
                    kind: PolicyKind::Percent,
                    value: 100,
                    period,
                },
            ],
            tolerance: None,
        }
    }

    /// Kubernetes' default for scale-down: the controller's window, 100 % per 15 s.
    #[must_use]
    pub fn default_down() -> Self {
        let period = Duration::from_secs(15);
        Self {
            stabilization_window: None,
            select_policy: SelectPolicy::Max,
            policies: vec![ScalingPolicy {
                kind: PolicyKind::Percent,
                value: 100,
                period,
            }],
            tolerance: None,
        }
    }

    /// The longest period of the policies.
    #[must_use]
    pub fn longest_period(&self) -> Duration {
        self.policies
            .iter()
            .map(|policy| policy.period)
            .max()
            .unwrap_or_default()
    }
}

/// `selectPolicy`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum SelectPolicy {
    /// The policy that allows the largest change.
    #[default]
    Max,
    /// The policy that allows the smallest change.
    Min,
    /// No change in this direction.
    Disabled,
}

/// One policy: at most `value` per `period`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScalingPolicy {
    /// What `value` counts.
    pub kind: PolicyKind,
    /// How much.
    pub value: i32,
    /// In how long.
    pub period: Duration,
}

/// What a policy counts in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PolicyKind {
    /// Pods.
    Pods,
    /// Percent of the replicas at the period's start.
    Percent,
}
