//! What a trigger is built from.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::context::TriggerContext;

/// One trigger of a `ScaledObject`, with everything it refers to already resolved.
#[derive(Clone, Debug)]
pub struct TriggerConfig {
    /// `spec.triggers[].type`, for example `prometheus`.
    pub trigger_type: String,
    /// `spec.triggers[].name`; needed only where a formula refers to the trigger.
    pub name: Option<String>,
    /// `spec.triggers[].metadata`.
    pub metadata: BTreeMap<String, String>,
    /// Parameters resolved from the `TriggerAuthentication`.
    pub auth_params: AuthParams,
    /// Environment of the target's container; read through metadata keys that end in `FromEnv`.
    pub resolved_env: AuthParams,
    /// `podIdentity` of the `TriggerAuthentication`.
    pub pod_identity: PodIdentity,
    /// `spec.triggers[].metricType`; `None` means `AverageValue`.
    pub metric_type: Option<String>,
    /// Position of the trigger in the object, from 0. It becomes part of the metric name.
    pub index: u32,
    /// The object that the trigger belongs to.
    pub object: ScalableObject,
    /// True where the trigger is a named input of a `scalingModifiers` formula, which makes the
    /// thresholds of some triggers optional.
    pub as_metric_source: bool,
    /// Longest time that one HTTP request may take where the trigger's `timeout` does not say.
    pub http_timeout: Duration,
    /// Clients and connection pools shared by all triggers.
    pub context: TriggerContext,
}

impl TriggerConfig {
    /// A trigger of `trigger_type` with KEDA's defaults: no authentication, index 0, 3 s HTTP timeout.
    #[must_use]
    pub fn new(trigger_type: impl Into<String>, context: TriggerContext) -> Self {
        Self {
            trigger_type: trigger_type.into(),
            name: None,
            metadata: BTreeMap::new(),
            auth_params: AuthParams::default(),
            resolved_env: AuthParams::default(),
            pod_identity: PodIdentity::default(),
            metric_type: None,
            index: 0,
            object: ScalableObject::default(),
            as_metric_source: false,
            http_timeout: Duration::from_secs(3),
            context,
        }
    }
}

/// The object that a trigger belongs to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScalableObject {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// `ScaledObject` or `ScaledJob`.
    pub kind: String,
}

/// Key-value parameters that may hold secrets: `Debug` shows the keys only.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct AuthParams(BTreeMap<String, String>);

impl AuthParams {
    /// The value of `key`, as given.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    /// Sets `key` to `value`.
    pub fn insert(&mut self, key: impl Into<String>, value: impl Into<String>) {
        self.0.insert(key.into(), value.into());
    }
}

impl<K: Into<String>, V: Into<String>> FromIterator<(K, V)> for AuthParams {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(iter: I) -> Self {
        Self(
            iter.into_iter()
                .map(|(key, value)| (key.into(), value.into()))
                .collect(),
        )
    }
}

impl From<BTreeMap<String, String>> for AuthParams {
    fn from(map: BTreeMap<String, String>) -> Self {
        Self(map)
    }
}

impl fmt::Debug for AuthParams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map()
            .entries(self.0.keys().map(|key| (key, format_args!("<redacted>"))))
            .finish()
    }
}

/// `podIdentity` of a `TriggerAuthentication`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodIdentity {
    /// `provider`; empty where none is set.
    pub provider: String,
    /// `identityId`.
    pub identity_id: String,
    /// `identityTenantId`.
    pub identity_tenant_id: String,
    /// `identityAuthorityHost`.
    pub identity_authority_host: String,
    /// `roleArn`.
    pub role_arn: String,
    /// `identityOwner`.
    pub identity_owner: String,
    /// `externalID`.
    pub external_id: String,
}

impl PodIdentity {
    /// True unless the provider is absent or `none`.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        !matches!(self.provider.as_str(), "" | "none")
    }
}
