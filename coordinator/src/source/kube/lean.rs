//! Objects as they are read from a watch: the fields that are asked for and no others. Skipping the
//! rest while parsing costs a fraction of building it.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{
    LabelSelector, ObjectMeta, OwnerReference, Time,
};
use kube::core::NamespaceResourceScope;
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};

use super::writers::{Writer, last_writer};

/// Metadata without finalizers, and with as much of the managed fields as `M` takes.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct LeanMeta<M> {
    name: Option<String>,
    namespace: Option<String>,
    uid: Option<String>,
    resource_version: Option<String>,
    generation: Option<i64>,
    creation_timestamp: Option<Time>,
    deletion_timestamp: Option<Time>,
    #[serde(default)]
    labels: Option<BTreeMap<String, String>>,
    #[serde(default)]
    annotations: Option<BTreeMap<String, String>>,
    #[serde(default)]
    owner_references: Option<Vec<OwnerReference>>,
    managed_fields: Option<M>,
}

impl<M> From<LeanMeta<M>> for ObjectMeta {
    fn from(meta: LeanMeta<M>) -> Self {
        Self {
            name: meta.name,
            namespace: meta.namespace,
            uid: meta.uid,
            resource_version: meta.resource_version,
            generation: meta.generation,
            creation_timestamp: meta.creation_timestamp,
            deletion_timestamp: meta.deletion_timestamp,
            labels: meta.labels,
            annotations: meta.annotations,
            owner_references: meta.owner_references,
            ..Self::default()
        }
    }
}

fn lean_meta<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ObjectMeta, D::Error> {
    Ok(LeanMeta::<IgnoredAny>::deserialize(deserializer)?.into())
}

/// Metadata of a target, and who else set its replicas.
#[derive(Debug, Clone)]
pub(super) struct TargetMeta {
    pub(super) meta: ObjectMeta,
    pub(super) last_writer: Option<Arc<str>>,
}

impl<'de> Deserialize<'de> for TargetMeta {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut meta = LeanMeta::<Vec<Writer>>::deserialize(deserializer)?;
        let writers = meta.managed_fields.take().unwrap_or_default();
        Ok(Self {
            last_writer: last_writer(&writers).map(Arc::from),
            meta: meta.into(),
        })
    }
}

/// A null counts as absent, as it does for the API server.
fn or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

macro_rules! lean_kind {
    ($name:ident, $group:literal, $version:literal, $kind:literal, $plural:literal) => {
        impl kube::Resource for $name {
            type DynamicType = ();
            type Scope = NamespaceResourceScope;

            fn kind(_: &()) -> Cow<'_, str> {
                $kind.into()
            }
            fn group(_: &()) -> Cow<'_, str> {
                $group.into()
            }
            fn version(_: &()) -> Cow<'_, str> {
                $version.into()
            }
            fn plural(_: &()) -> Cow<'_, str> {
                $plural.into()
            }
            fn meta(&self) -> &ObjectMeta {
                &self.metadata
            }
            fn meta_mut(&mut self) -> &mut ObjectMeta {
                &mut self.metadata
            }
        }
    };
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct LeanPod {
    #[serde(deserialize_with = "lean_meta")]
    pub(super) metadata: ObjectMeta,
    #[serde(default)]
    pub(super) spec: LeanPodSpec,
    #[serde(default)]
    pub(super) status: LeanPodStatus,
}
lean_kind!(LeanPod, "", "v1", "Pod", "pods");

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct LeanPodSpec {
    pub(super) node_name: Option<String>,
    pub(super) host_network: Option<bool>,
    #[serde(deserialize_with = "or_default")]
    pub(super) containers: Vec<LeanContainer>,
    #[serde(deserialize_with = "or_default")]
    pub(super) init_containers: Vec<LeanContainer>,
    #[serde(deserialize_with = "or_default")]
    pub(super) ephemeral_containers: Vec<LeanContainer>,
    pub(super) resources: Option<LeanResources>,
    #[serde(deserialize_with = "or_default")]
    pub(super) overhead: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct LeanContainer {
    pub(super) name: String,
    pub(super) restart_policy: Option<String>,
    #[serde(deserialize_with = "or_default")]
    pub(super) ports: Vec<LeanPort>,
    #[serde(deserialize_with = "or_default")]
    pub(super) resources: LeanResources,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct LeanPort {
    pub(super) container_port: i32,
    pub(super) protocol: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct LeanResources {
    #[serde(deserialize_with = "or_default")]
    pub(super) requests: BTreeMap<String, String>,
    #[serde(deserialize_with = "or_default")]
    pub(super) limits: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct LeanPodStatus {
    pub(super) phase: Option<String>,
    pub(super) start_time: Option<Time>,
    #[serde(deserialize_with = "or_default")]
    pub(super) conditions: Vec<LeanCondition>,
    #[serde(rename = "podIPs", deserialize_with = "or_default")]
    pub(super) pod_ips: Vec<LeanPodIp>,
    #[serde(deserialize_with = "or_default")]
    pub(super) container_statuses: Vec<LeanContainerStatus>,
    #[serde(deserialize_with = "or_default")]
    pub(super) init_container_statuses: Vec<LeanContainerStatus>,
    #[serde(deserialize_with = "or_default")]
    pub(super) ephemeral_container_statuses: Vec<LeanContainerStatus>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct LeanCondition {
    #[serde(rename = "type")]
    pub(super) type_: String,
    pub(super) status: String,
    pub(super) reason: Option<String>,
    pub(super) last_transition_time: Option<Time>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct LeanPodIp {
    pub(super) ip: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct LeanContainerStatus {
    pub(super) name: String,
    #[serde(rename = "containerID")]
    pub(super) container_id: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct LeanHpa {
    #[serde(deserialize_with = "lean_meta")]
    pub(super) metadata: ObjectMeta,
    #[serde(default)]
    pub(super) spec: LeanHpaSpec,
    #[serde(default)]
    pub(super) status: LeanHpaStatus,
}
lean_kind!(
    LeanHpa,
    "autoscaling",
    "v2",
    "HorizontalPodAutoscaler",
    "horizontalpodautoscalers"
);

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct LeanHpaSpec {
    pub(super) scale_target_ref: LeanTargetRef,
    #[serde(deserialize_with = "or_default")]
    pub(super) metrics: Vec<LeanMetric>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct LeanTargetRef {
    pub(super) api_version: String,
    pub(super) kind: String,
    pub(super) name: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct LeanMetric {
    #[serde(rename = "type")]
    pub(super) type_: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct LeanHpaStatus {
    #[serde(deserialize_with = "or_default")]
    pub(super) conditions: Vec<LeanCondition>,
}

/// A Deployment, StatefulSet or ReplicaSet: their scale stands in the object itself.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct LeanWorkload {
    pub(super) metadata: TargetMeta,
    #[serde(default)]
    pub(super) spec: LeanWorkloadSpec,
    #[serde(default)]
    pub(super) status: LeanWorkloadStatus,
}

impl kube::Resource for LeanWorkload {
    type DynamicType = kube::core::ApiResource;
    type Scope = kube::core::DynamicResourceScope;

    fn kind(resource: &Self::DynamicType) -> Cow<'_, str> {
        resource.kind.as_str().into()
    }
    fn group(resource: &Self::DynamicType) -> Cow<'_, str> {
        resource.group.as_str().into()
    }
    fn version(resource: &Self::DynamicType) -> Cow<'_, str> {
        resource.version.as_str().into()
    }
    fn plural(resource: &Self::DynamicType) -> Cow<'_, str> {
        resource.plural.as_str().into()
    }
    fn meta(&self) -> &ObjectMeta {
        &self.metadata.meta
    }
    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata.meta
    }
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct LeanWorkloadSpec {
    pub(super) replicas: Option<i32>,
    pub(super) selector: Option<LabelSelector>,
    pub(super) template: Option<serde_json::Value>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct LeanWorkloadStatus {
    pub(super) replicas: Option<i32>,
}
