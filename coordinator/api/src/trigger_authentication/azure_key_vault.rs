//! Parameters from Azure Key Vault.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{AuthPodIdentity, ValueFromSecret};

/// Secrets in Azure Key Vault.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AzureKeyVault {
    /// URL of the vault.
    pub vault_uri: String,
    /// What to read.
    #[schemars(length(min = 1))]
    pub secrets: Vec<AzureKeyVaultSecret>,
    /// An application to log in as.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials: Option<AzureKeyVaultCredentials>,
    /// A pod identity to log in with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_identity: Option<AuthPodIdentity>,
    /// The cloud, where it is not the public one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cloud: Option<AzureKeyVaultCloudInfo>,
}

/// An application to log in as.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AzureKeyVaultCredentials {
    /// Client ID.
    pub client_id: String,
    /// Tenant ID.
    pub tenant_id: String,
    /// Client secret.
    pub client_secret: AzureKeyVaultClientSecret,
}

/// A client secret.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AzureKeyVaultClientSecret {
    /// Where it stands.
    pub value_from: ValueFromSecret,
}

/// One parameter from one secret.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AzureKeyVaultSecret {
    /// Name of the trigger's parameter.
    pub parameter: String,
    /// Name of the secret.
    pub name: String,
    /// Version of the secret; the latest if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

/// Endpoints of a cloud.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AzureKeyVaultCloudInfo {
    /// AzurePublicCloud, AzureUSGovernmentCloud, AzureChinaCloud or Private.
    #[serde(rename = "type")]
    pub type_: String,
    /// The vaults' resource URL, for Private.
    #[serde(
        default,
        rename = "keyVaultResourceURL",
        skip_serializing_if = "Option::is_none"
    )]
    pub key_vault_resource_url: Option<String>,
    /// The login's URL, for Private.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active_directory_endpoint: Option<String>,
}
