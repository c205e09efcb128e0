//! Identities that a cloud provider gives to a pod.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::open_enum::open_enum;

open_enum! {
    /// The cloud provider's kind of pod identity.
    PodIdentityProvider {
        /// Microsoft Entra Workload ID.
        AzureWorkload = "azure-workload",
        /// Google Cloud workload identity.
        Gcp = "gcp",
        /// AWS: the role of the workload or of the coordinator.
        Aws = "aws",
        /// AWS: the role annotated on the workload's ServiceAccount (deprecated).
        AwsEks = "aws-eks",
        /// No identity.
        None = "none",
    }
}

open_enum! {
    /// Whose identity is used.
    IdentityOwner {
        /// The coordinator's.
        Keda = "keda",
        /// The workload's.
        Workload = "workload",
    }
}

/// Which identity is presented to a cloud provider.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AuthPodIdentity {
    /// The provider.
    pub provider: PodIdentityProvider,
    /// Azure: the client ID, where it is not the annotated one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity_id: Option<String>,
    /// Azure: the tenant, where it is not the default one; identityId must be set too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity_tenant_id: Option<String>,
    /// Azure: the authority, where it is not the default one; identityTenantId must be set too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity_authority_host: Option<String>,
    /// AWS: the role to assume; not together with identityOwner workload.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role_arn: Option<String>,
    /// AWS: the external ID given when the role is assumed; needs roleArn.
    #[serde(
        default,
        rename = "externalID",
        skip_serializing_if = "Option::is_none"
    )]
    pub external_id: Option<String>,
    /// Whose identity is used; keda if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity_owner: Option<IdentityOwner>,
}
