//! Specs of every kind: several triggers, behaviours, idle and bounds, pauses, fallbacks, formulas.

use std::time::Duration;

use neap_engine::{
    Behavior, CapacityFloor, Fallback, FallbackBehavior, FirstStep, Formula, MetricSpec,
    ModifierMetricType, Pause, PolicyKind, Resource, ResourceTarget, ScalingModifiers,
    ScalingPolicy, ScalingRules, ScalingSpec, SelectPolicy, Settings, TriggerSpec, ValueTarget,
    ZeroHandling,
};
use neap_units::{MilliValue, Timestamp};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

/// Bounds are small so that limits, bounds and windows are met often.
const MOST: i32 = 40;

fn milli(range: std::ops::Range<i64>) -> impl Strategy<Value = MilliValue> {
    range.prop_map(MilliValue::new)
}

fn value_target() -> impl Strategy<Value = ValueTarget> {
    prop_oneof![
        milli(200..5000).prop_map(ValueTarget::AverageValue),
        milli(200..5000).prop_map(ValueTarget::Value),
    ]
}

fn resource_target() -> impl Strategy<Value = ResourceTarget> {
    prop_oneof![
        (10..180_i32).prop_map(ResourceTarget::Utilization),
        milli(100..2000).prop_map(ResourceTarget::AverageValue),
    ]
}

fn metric() -> impl Strategy<Value = MetricSpec> {
    let external =
        (value_target(), milli(0..2000)).prop_map(|(target, activation)| MetricSpec::External {
            selector: None,
            target,
            activation,
        });
    let object = value_target().prop_map(|target| MetricSpec::Object {
        described_kind: "Service".to_owned(),
        described_name: "web".to_owned(),
        selector: None,
        target,
    });
    let pods = (milli(100..3000), option::of(Just(CapacityFloor::default()))).prop_map(
        |(average_value, capacity_floor)| MetricSpec::Pods {
            average_value,
            capacity_floor,
        },
    );
    let resource = (
        prop_oneof![Just(Resource::Cpu), Just(Resource::Memory)],
        option::weighted(0.3, Just("app".to_owned())),
        resource_target(),
    )
        .prop_map(|(resource, container, target)| MetricSpec::Resource {
            resource,
            container,
            target,
        });
    prop_oneof![3 => external, 1 => object, 2 => pods, 2 => resource]
}

/// From one to four triggers, named `a`, `b` and so on.
fn triggers() -> impl Strategy<Value = Vec<TriggerSpec>> {
    vec(metric(), 1..5).prop_map(|metrics| {
        let each = metrics.into_iter().zip(["a", "b", "c", "d"]);
        each.map(|(metric, name)| TriggerSpec {
            metric_name: format!("s-{name}"),
            name: Some(name.to_owned()),
            kind: "any".to_owned(),
            metric,
        })
        .collect()
    })
}

fn rules() -> impl Strategy<Value = ScalingRules> {
    let seconds = |range: std::ops::Range<u64>| range.prop_map(Duration::from_secs);
    let policy = (
        prop_oneof![Just(PolicyKind::Pods), Just(PolicyKind::Percent)],
        prop_oneof![1..12_i32, 1..300_i32],
        prop_oneof![seconds(1..60), seconds(1..600)],
    )
        .prop_map(|(kind, value, period)| ScalingPolicy {
            kind,
            value,
            period,
        });
    let select = prop_oneof![
        5 => Just(SelectPolicy::Max),
        3 => Just(SelectPolicy::Min),
        1 => Just(SelectPolicy::Disabled),
    ];
    let window = prop_oneof![
        1 => Just(None),
        2 => Just(Some(Duration::ZERO)),
        3 => seconds(1..120).prop_map(Some),
    ];
    let tolerance = option::weighted(0.3, prop_oneof![Just(0.0), 0.0..0.5_f64]);
    (window, select, vec(policy, 1..4), tolerance).prop_map(
        |(stabilization_window, select_policy, policies, tolerance)| ScalingRules {
            stabilization_window,
            select_policy,
            policies,
            tolerance,
        },
    )
}

/// A behaviour with windows and policies of all kinds.
pub(crate) fn behavior() -> impl Strategy<Value = Behavior> {
    (rules(), rules()).prop_map(|(scale_up, scale_down)| Behavior {
        scale_up,
        scale_down,
    })
}

/// As the coordinator sets it, or as a controller that looks when it is asked.
pub(crate) fn settings() -> impl Strategy<Value = Settings> {
    let exact = Settings {
        reversal_hold: Duration::ZERO,
        sync_period: Duration::ZERO,
        ..Settings::default()
    };
    let window = prop_oneof![Just(300_u64), 0..60_u64].prop_map(Duration::from_secs);
    let base = prop_oneof![2 => Just(Settings::default()), 1 => Just(exact)];
    (base, window).prop_map(|(settings, downscale_stabilization)| Settings {
        downscale_stabilization,
        ..settings
    })
}

fn fallback() -> impl Strategy<Value = Fallback> {
    let behavior = prop_oneof![
        Just(FallbackBehavior::Static),
        Just(FallbackBehavior::CurrentReplicas),
        Just(FallbackBehavior::CurrentReplicasIfHigher),
        Just(FallbackBehavior::CurrentReplicasIfLower),
        Just(FallbackBehavior::ScalingModifiers),
    ];
    (0..3_i32, 0..20_i32, behavior).prop_map(|(failure_threshold, replicas, behavior)| Fallback {
        failure_threshold,
        replicas,
        behavior,
    })
}

/// Formulas that never fall when a value rises.
fn modifiers() -> impl Strategy<Value = ScalingModifiers> {
    let formula = prop_oneof![
        Just("a"),
        Just("a * 2 + 1"),
        Just("(a ?? 3) ** 2 / 4"),
        Just("max(a ?? 0, 2.5)"),
        Just("a > 2 ? a : 1"),
    ];
    let metric_type = prop_oneof![
        Just(ModifierMetricType::AverageValue),
        Just(ModifierMetricType::Value)
    ];
    (formula, milli(200..5000), milli(0..2000), metric_type).prop_map(
        |(formula, target, activation_target, metric_type)| ScalingModifiers {
            formula: Formula::parse(formula).expect("one of the formulas above"),
            target,
            activation_target,
            metric_type,
        },
    )
}

/// Any pause: none, everything, at a number, one direction or both.
pub(crate) fn pause() -> impl Strategy<Value = Pause> {
    let directions = (any::<bool>(), any::<bool>()).prop_map(|(scale_in, scale_out)| Pause {
        scale_in,
        scale_out,
        ..Pause::default()
    });
    let all = option::of(0..MOST).prop_map(|replicas| Pause {
        paused: replicas.is_none(),
        replicas,
        ..Pause::default()
    });
    prop_oneof![4 => Just(Pause::default()), 1 => directions, 1 => all]
}

/// Sometimes, of a rare thing, nothing.
fn rarely<T: std::fmt::Debug + Clone>(
    strategy: impl Strategy<Value = T>,
) -> impl Strategy<Value = Option<T>> {
    option::weighted(0.3, strategy)
}

prop_compose! {
    /// A ScaledObject of any kind that validation accepts, or a plain HPA.
    pub(crate) fn spec()(
        triggers in triggers(),
        (min, span) in (0..8_i32, 0..MOST),
        idle in rarely(0..8_i32),
        behavior in option::of(behavior()),
        zero in prop_oneof![
            6 => Just(ZeroHandling::Triggers),
            1 => Just(ZeroHandling::Disabled),
            1 => Just(ZeroHandling::HpaScaleToZero),
        ],
        (cooldown, initial) in (0..120_u64, 0..60_u64),
        fallback in rarely(fallback()),
        modifiers in rarely(modifiers()),
        pause in pause(),
        force_activation in prop::bool::weighted(0.1),
        first_step in prop_oneof![3 => Just(FirstStep::Behavior), 1 => Just(FirstStep::Value)],
        settings in settings(),
    ) -> ScalingSpec {
        let is_external = |trigger: &TriggerSpec| {
            matches!(trigger.metric, MetricSpec::External { .. })
        };
        let by_triggers = zero == ZeroHandling::Triggers;
        ScalingSpec {
            namespace: "ns".to_owned(),
            target_kind: "apps/v1.Deployment".to_owned(),
            target_name: "web".to_owned(),
            min_replicas: min,
            max_replicas: (min + span).max(1),
            idle_replicas: idle.filter(|idle| by_triggers && *idle < min.max(1)),
            scaling_modifiers: modifiers.filter(|_| by_triggers && is_external(&triggers[0])),
            fallback: fallback.filter(|_| by_triggers),
            triggers,
            behavior,
            zero,
            cooldown: Duration::from_secs(cooldown),
            initial_cooldown: Duration::from_secs(initial),
            created_at: Timestamp::from_millis(0),
            pause: if by_triggers { pause } else { Pause::default() },
            force_activation: force_activation && by_triggers,
            first_step,
            restore_original: false,
            settings,
        }
    }
}
