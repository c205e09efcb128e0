//! Parameters from HashiCorp Vault.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::open_enum::open_enum;

open_enum! {
    /// How the coordinator logs in.
    VaultAuthentication {
        /// With a token.
        Token = "token",
        /// With a ServiceAccount token.
        Kubernetes = "kubernetes",
    }
}

open_enum! {
    /// The engine that holds a secret.
    VaultSecretType {
        /// The engine is told from the answer.
        Generic = "",
        /// Key-value, version 2.
        SecretV2 = "secretV2",
        /// Key-value, version 1.
        Secret = "secret",
        /// A certificate that is issued on request.
        Pki = "pki",
    }
}

/// Secrets in HashiCorp Vault.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HashiCorpVault {
    /// URL of the server.
    pub address: String,
    /// How to log in.
    pub authentication: VaultAuthentication,
    /// What to read.
    #[schemars(length(min = 1))]
    pub secrets: Vec<VaultSecret>,
    /// Vault namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// What to log in with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential: Option<VaultCredential>,
    /// Role for the kubernetes login.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// Mount point of the kubernetes login.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mount: Option<String>,
}

/// What to log in with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VaultCredential {
    /// A token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// Path of a ServiceAccount token on the coordinator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_account: Option<String>,
    /// Name of a ServiceAccount to ask a token for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_account_name: Option<String>,
}

/// One parameter from one key at one path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VaultSecret {
    /// Name of the trigger's parameter.
    pub parameter: String,
    /// Path in Vault.
    pub path: String,
    /// Key at the path.
    pub key: String,
    /// The engine; told from the answer if absent.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub type_: Option<VaultSecretType>,
    /// The request, for pki.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pki_data: Option<VaultPkiData>,
}

/// A request for a certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VaultPkiData {
    /// Common name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub common_name: Option<String>,
    /// Further names, comma-separated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alt_names: Option<String>,
    /// Addresses, comma-separated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip_sans: Option<String>,
    /// URIs, comma-separated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uri_sans: Option<String>,
    /// Further subject alternative names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub other_sans: Option<String>,
    /// Time to live.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<String>,
    /// pem, der or pem_bundle.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<String>,
}
