//! Parameters from GCP Secret Manager.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{AuthPodIdentity, ValueFromSecret};

/// Secrets in GCP Secret Manager.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GcpSecretManager {
    /// What to read.
    #[schemars(length(min = 1))]
    pub secrets: Vec<GcpSecretManagerSecret>,
    /// A service account's key to log in with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials: Option<GcpCredentials>,
    /// A pod identity to log in with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_identity: Option<AuthPodIdentity>,
}

/// A service account's key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GcpCredentials {
    /// The key file.
    pub client_secret: GcpSecretManagerClientSecret,
}

/// A key file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GcpSecretManagerClientSecret {
    /// Where it stands.
    pub value_from: ValueFromSecret,
}

/// One parameter from one secret.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct GcpSecretManagerSecret {
    /// Name of the trigger's parameter.
    pub parameter: String,
    /// ID of the secret.
    pub id: String,
    /// Version of the secret; the latest if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}
