//! `TriggerAuthentication` and `ClusterTriggerAuthentication`: where a trigger's credentials come
//! from. Reading them from Secrets, environments and vaults is the coordinator's work; here are
//! only their descriptions.
// Every printcolumn has a type_; the lint takes the second one for a repetition.
#![allow(clippy::duplicated_attributes)]

mod aws_secret_manager;
mod azure_key_vault;
mod gcp_secret_manager;
mod hashicorp_vault;
mod oauth2;
mod pod_identity;
mod target_ref;

pub use aws_secret_manager::{
    AwsSecretManager, AwsSecretManagerCredentials, AwsSecretManagerSecret, AwsSecretManagerValue,
};
pub use azure_key_vault::{
    AzureKeyVault, AzureKeyVaultClientSecret, AzureKeyVaultCloudInfo, AzureKeyVaultCredentials,
    AzureKeyVaultSecret,
};
pub use gcp_secret_manager::{
    GcpCredentials, GcpSecretManager, GcpSecretManagerClientSecret, GcpSecretManagerSecret,
};
pub use hashicorp_vault::{
    HashiCorpVault, VaultAuthentication, VaultCredential, VaultPkiData, VaultSecret,
    VaultSecretType,
};
pub use oauth2::{OAuth2, OAuth2ClientSecret, OAuth2GrantType};
pub use pod_identity::{AuthPodIdentity, IdentityOwner, PodIdentityProvider};
pub use target_ref::{
    AuthEnvironment, AuthTargetRef, BoundServiceAccountToken, SecretKeyRef, ValueFromSecret,
};

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The sources of a trigger's parameters. Later ones overwrite earlier ones, in KEDA's order:
/// env, config maps, secrets, Vault, Azure, GCP, AWS, bound token, oauth2.
#[derive(
    CustomResource, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema,
)]
#[kube(
    group = "keda.sh",
    version = "v1alpha1",
    kind = "TriggerAuthentication",
    plural = "triggerauthentications",
    shortname = "ta",
    shortname = "triggerauth",
    namespaced,
    status = "TriggerAuthenticationStatus",
    derive = "PartialEq",
    derive = "Default",
    doc = "Where the triggers of one namespace get their credentials.",
    printcolumn(
        name = "PodIdentity",
        type_ = "string",
        json_path = ".spec.podIdentity.provider"
    ),
    printcolumn(
        name = "Secret",
        type_ = "string",
        json_path = ".spec.secretTargetRef[*].name"
    ),
    printcolumn(name = "Env", type_ = "string", json_path = ".spec.env[*].name"),
    printcolumn(
        name = "VaultAddress",
        type_ = "string",
        json_path = ".spec.hashiCorpVault.address"
    ),
    printcolumn(
        name = "ScaledObjects",
        type_ = "string",
        json_path = ".status.scaledobjects",
        priority = 1
    ),
    printcolumn(
        name = "ScaledJobs",
        type_ = "string",
        json_path = ".status.scaledjobs",
        priority = 1
    )
)]
#[serde(rename_all = "camelCase")]
pub struct TriggerAuthenticationSpec {
    /// The identity of the workload or of the coordinator at a cloud provider.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_identity: Option<AuthPodIdentity>,
    /// Keys of Secrets.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secret_target_ref: Vec<AuthTargetRef>,
    /// Keys of ConfigMaps.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub config_map_target_ref: Vec<AuthTargetRef>,
    /// Variables of the scale target's containers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<AuthEnvironment>,
    /// A file with a JSON object of parameters, on the coordinator. When set, all other sources
    /// are ignored. Only in a ClusterTriggerAuthentication.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file_path: Option<String>,
    /// Secrets in HashiCorp Vault.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hashi_corp_vault: Option<HashiCorpVault>,
    /// Secrets in Azure Key Vault.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub azure_key_vault: Option<AzureKeyVault>,
    /// Secrets in GCP Secret Manager.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gcp_secret_manager: Option<GcpSecretManager>,
    /// Secrets in AWS Secrets Manager.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aws_secret_manager: Option<AwsSecretManager>,
    /// Tokens of ServiceAccounts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bound_service_account_token: Vec<BoundServiceAccountToken>,
    /// A token endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oauth2: Option<OAuth2>,
}

/// Who uses the credentials.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TriggerAuthenticationStatus {
    /// Names of ScaledObjects, joined by commas.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scaledobjects: Option<String>,
    /// Names of ScaledJobs, joined by commas.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scaledjobs: Option<String>,
}

// kube derives one resource from one spec type, so the cluster-scoped twin wraps the spec.
/// The same sources, for the triggers of all namespaces. Secrets and ConfigMaps are read from
/// Neap's own namespace.
#[derive(
    CustomResource, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema,
)]
#[kube(
    group = "keda.sh",
    version = "v1alpha1",
    kind = "ClusterTriggerAuthentication",
    plural = "clustertriggerauthentications",
    shortname = "cta",
    shortname = "clustertriggerauth",
    status = "TriggerAuthenticationStatus",
    derive = "PartialEq",
    derive = "Default",
    doc = "Where the triggers of all namespaces get their credentials.",
    printcolumn(
        name = "PodIdentity",
        type_ = "string",
        json_path = ".spec.podIdentity.provider"
    ),
    printcolumn(
        name = "Secret",
        type_ = "string",
        json_path = ".spec.secretTargetRef[*].name"
    ),
    printcolumn(name = "Env", type_ = "string", json_path = ".spec.env[*].name"),
    printcolumn(name = "FilePath", type_ = "string", json_path = ".spec.filePath"),
    printcolumn(
        name = "VaultAddress",
        type_ = "string",
        json_path = ".spec.hashiCorpVault.address"
    ),
    printcolumn(
        name = "ScaledObjects",
        type_ = "string",
        json_path = ".status.scaledobjects",
        priority = 1
    ),
    printcolumn(
        name = "ScaledJobs",
        type_ = "string",
        json_path = ".status.scaledjobs",
        priority = 1
    )
)]
#[serde(transparent)]
pub struct ClusterTriggerAuthenticationSpec(pub TriggerAuthenticationSpec);

impl std::ops::Deref for ClusterTriggerAuthenticationSpec {
    type Target = TriggerAuthenticationSpec;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}
