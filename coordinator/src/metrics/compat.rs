//! Series under the names of KEDA's operator and of kube-state-metrics, so that dashboards and
//! alerts go on working.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, PoisonError};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::keys::TargetKey;

type FloatGauge = Gauge<f64, AtomicU64>;

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
#[allow(non_snake_case)] // KEDA's label names
struct ScalerLabels {
    namespace: String,
    metric: String,
    scaledObject: String,
    scaler: String,
    triggerIndex: u32,
    r#type: &'static str,
}

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
#[allow(non_snake_case)] // KEDA's label names
struct ObjectLabels {
    namespace: String,
    scaledObject: String,
}

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct HpaLabels {
    namespace: String,
    horizontalpodautoscaler: String,
}

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct TypeLabels {
    r#type: String,
}

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ResourceLabels {
    r#type: &'static str,
    namespace: String,
}

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct BuildLabels {
    version: &'static str,
}

/// What one trigger shows.
#[derive(Debug, Clone, PartialEq)]
pub struct TriggerSeries {
    /// Metric name.
    pub metric: String,
    /// Name or type of the trigger.
    pub scaler: String,
    /// Type of the trigger.
    pub kind: String,
    /// Index of the trigger.
    pub index: u32,
    /// Value, where it has one.
    pub value: Option<f64>,
    /// Whether it is active, where it can be.
    pub active: Option<bool>,
}

/// What one target shows.
#[derive(Debug, Clone, PartialEq)]
pub struct TargetSeries {
    /// Name of the HPA that would be there.
    pub hpa_name: String,
    /// Its minReplicas.
    pub min: i32,
    /// Its maxReplicas.
    pub max: i32,
    /// Its status.currentReplicas.
    pub current: i32,
    /// Its status.desiredReplicas.
    pub desired: i32,
    /// The ScaledObject is paused.
    pub paused: bool,
    /// The triggers.
    pub triggers: Vec<TriggerSeries>,
}

#[derive(Debug, Default)]
struct Shown {
    scalers: Vec<ScalerLabels>,
    hpa: Option<HpaLabels>,
    kinds: Vec<String>,
}

/// The families, and what each target shows in them.
#[derive(Debug, Default)]
pub struct Compat {
    active: Family<ScalerLabels, Gauge>,
    value: Family<ScalerLabels, FloatGauge>,
    detail_errors: Family<ScalerLabels, Counter>,
    paused: Family<ObjectLabels, Gauge>,
    errors: Family<ObjectLabels, Counter>,
    triggers: Family<TypeLabels, Gauge>,
    resources: Family<ResourceLabels, Gauge>,
    min: Family<HpaLabels, Gauge>,
    max: Family<HpaLabels, Gauge>,
    current: Family<HpaLabels, Gauge>,
    desired: Family<HpaLabels, Gauge>,
    shown: Mutex<HashMap<TargetKey, Shown>>,
}

impl Compat {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let compat = Self::default();
        let build = Family::<BuildLabels, Gauge>::default();
        build
            .get_or_create(&BuildLabels {
                version: env!("CARGO_PKG_VERSION"),
            })
            .set(1);
        registry.register(
            "keda_build_info",
            "Version that runs in KEDA's place",
            build,
        );
        registry.register(
            "keda_scaler_active",
            "Whether the scaler is active",
            compat.active.clone(),
        );
        registry.register(
            "keda_scaler_metrics_value",
            "Value of the scaler's metric",
            compat.value.clone(),
        );
        registry.register(
            "keda_scaler_detail_errors",
            "Failed readings of the scaler",
            compat.detail_errors.clone(),
        );
        registry.register(
            "keda_scaled_object_paused",
            "Whether the ScaledObject is paused",
            compat.paused.clone(),
        );
        registry.register(
            "keda_scaled_object_errors",
            "Failed decisions of the ScaledObject",
            compat.errors.clone(),
        );
        registry.register(
            "keda_trigger_registered_total",
            "Triggers by type",
            compat.triggers.clone(),
        );
        registry.register(
            "keda_resource_registered_total",
            "Custom resources by kind and namespace",
            compat.resources.clone(),
        );
        registry.register(
            "kube_horizontalpodautoscaler_spec_min_replicas",
            "Lower limit",
            compat.min.clone(),
        );
        registry.register(
            "kube_horizontalpodautoscaler_spec_max_replicas",
            "Upper limit",
            compat.max.clone(),
        );
        registry.register(
            "kube_horizontalpodautoscaler_status_current_replicas",
            "Current replicas",
            compat.current.clone(),
        );
        registry.register(
            "kube_horizontalpodautoscaler_status_desired_replicas",
            "Desired replicas",
            compat.desired.clone(),
        );
        compat
    }

    /// Shows `series` for `key` in place of what it showed before.
    pub fn show(&self, key: &TargetKey, series: &TargetSeries) {
        let object = object_labels(key);
        let hpa = HpaLabels {
            namespace: key.namespace.to_string(),
            horizontalpodautoscaler: series.hpa_name.clone(),
        };
        let scalers: Vec<ScalerLabels> = series
            .triggers
            .iter()
            .map(|trigger| scaler_labels(key, trigger))
            .collect();
        let kinds: Vec<String> = series
            .triggers
            .iter()
            .map(|trigger| trigger.kind.clone())
            .collect();
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        let recount = shown.get(key).is_none_or(|former| former.kinds != kinds);
        let former = shown.insert(
            key.clone(),
            Shown {
                scalers: scalers.clone(),
                hpa: Some(hpa.clone()),
                kinds,
            },
        );
        if let Some(former) = former {
            for gone in former
                .scalers
                .iter()
                .filter(|labels| !scalers.contains(labels))
            {
                self.drop_scaler(gone);
            }
            if let Some(gone) = former.hpa.filter(|labels| *labels != hpa) {
                self.drop_hpa(&gone);
            }
        }
        if recount {
            self.count_registered(&shown);
        }
        drop(shown);
        for (labels, trigger) in scalers.iter().zip(&series.triggers) {
            if let Some(active) = trigger.active {
                self.active.get_or_create(labels).set(i64::from(active));
            }
            match trigger.value {
                Some(value) => {
                    self.value.get_or_create(labels).set(value);
                }
                None => {
                    self.value.remove(labels);
                }
            }
            drop(self.detail_errors.get_or_create(labels));
        }
        self.paused
            .get_or_create(&object)
            .set(i64::from(series.paused));
        self.min.get_or_create(&hpa).set(i64::from(series.min));
        self.max.get_or_create(&hpa).set(i64::from(series.max));
        self.current
            .get_or_create(&hpa)
            .set(i64::from(series.current));
        self.desired
            .get_or_create(&hpa)
            .set(i64::from(series.desired));
    }

    /// A decision about `key` failed.
    pub fn failed(&self, key: &TargetKey) {
        self.errors.get_or_create(&object_labels(key)).inc();
    }

    /// A source of `key` could not be read, and with it the metric of this name.
    pub fn reading_failed(&self, key: &TargetKey, metric: &str) {
        let shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        let of = shown.get(key).map(|shown| shown.scalers.as_slice());
        for labels in of
            .unwrap_or_default()
            .iter()
            .filter(|labels| labels.metric == metric)
        {
            self.detail_errors.get_or_create(labels).inc();
        }
    }

    /// `key` is gone: so are its series.
    pub fn forget(&self, key: &TargetKey) {
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(former) = shown.remove(key) {
            former
                .scalers
                .iter()
                .for_each(|labels| self.drop_scaler(labels));
            former.hpa.iter().for_each(|labels| self.drop_hpa(labels));
        }
        self.count_registered(&shown);
        drop(shown);
        let object = object_labels(key);
        self.paused.remove(&object);
        self.errors.remove(&object);
    }

    fn drop_scaler(&self, labels: &ScalerLabels) {
        self.active.remove(labels);
        self.value.remove(labels);
        self.detail_errors.remove(labels);
    }

    fn drop_hpa(&self, labels: &HpaLabels) {
        for family in [&self.min, &self.max, &self.current, &self.desired] {
            family.remove(labels);
        }
    }

    fn count_registered(&self, shown: &HashMap<TargetKey, Shown>) {
        let mut kinds: BTreeMap<&str, i64> = BTreeMap::new();
        let mut namespaces: BTreeMap<&str, i64> = BTreeMap::new();
        for (key, shown) in shown {
            *namespaces.entry(&key.namespace).or_default() += 1;
            for kind in &shown.kinds {
                *kinds.entry(kind).or_default() += 1;
            }
        }
        self.triggers.clear();
        for (kind, count) in kinds {
            self.triggers
                .get_or_create(&TypeLabels {
                    r#type: kind.to_owned(),
                })
                .set(count);
        }
        self.resources.clear();
        for (namespace, count) in namespaces {
            let labels = ResourceLabels {
                r#type: "scaled_object",
                namespace: namespace.to_owned(),
            };
            self.resources.get_or_create(&labels).set(count);
        }
    }
}

fn object_labels(key: &TargetKey) -> ObjectLabels {
    ObjectLabels {
        namespace: key.namespace.to_string(),
        scaledObject: key.name.to_string(),
    }
}

fn scaler_labels(key: &TargetKey, trigger: &TriggerSeries) -> ScalerLabels {
    ScalerLabels {
        namespace: key.namespace.to_string(),
        metric: trigger.metric.clone(),
        scaledObject: key.name.to_string(),
        scaler: trigger.scaler.clone(),
        triggerIndex: trigger.index,
        r#type: "scaledobject",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;

    fn series(metric: &str) -> TargetSeries {
        TargetSeries {
            hpa_name: "keda-hpa-web".into(),
            min: 1,
            max: 10,
            current: 2,
            desired: 3,
            paused: false,
            triggers: vec![TriggerSeries {
                metric: metric.into(),
                scaler: "mysqlScaler".into(),
                kind: "mysql".into(),
                index: 0,
                value: Some(8.5),
                active: Some(true),
            }],
        }
    }

    #[test]
    fn a_target_shows_under_the_names_of_keda_and_the_hpa() {
        let metrics = Metrics::new();
        let key = TargetKey::new("ns", "web");
        metrics.compat.show(&key, &series("s0-mysql"));
        let text = metrics.encode().unwrap();
        for line in [
            "keda_scaler_metrics_value{namespace=\"ns\",metric=\"s0-mysql\",scaledObject=\"web\",scaler=\"mysqlScaler\",triggerIndex=\"0\",type=\"scaledobject\"} 8.5",
            "kube_horizontalpodautoscaler_status_desired_replicas{namespace=\"ns\",horizontalpodautoscaler=\"keda-hpa-web\"} 3",
            "keda_trigger_registered_total{type=\"mysql\"} 1",
            "keda_scaled_object_paused{namespace=\"ns\",scaledObject=\"web\"} 0",
        ] {
            assert!(text.contains(line), "{line} in\n{text}");
        }
        metrics.compat.show(&key, &series("s0-other"));
        assert!(
            !metrics.encode().unwrap().contains("s0-mysql"),
            "a metric that went is not shown"
        );
        metrics.compat.forget(&key);
        let text = metrics.encode().unwrap();
        assert!(
            !text.contains("keda-hpa-web") && !text.contains("scaledObject=\"web\""),
            "{text}"
        );
    }
}
