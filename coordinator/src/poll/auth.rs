//! What a trigger's authentication and environment references stand for, read when needed.
//!
//! Only what a trigger names is read: the Secrets and ConfigMaps of its (Cluster)TriggerAuthentication, and
//! of the container's environment only the variables that `*FromEnv` metadata and `env` parameters
//! ask for.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1::EnvVar;
use neap_api::trigger_authentication::{AuthPodIdentity, AuthTargetRef};
use neap_api::{AuthenticationKind, AuthenticationRef, ScaleTrigger, TriggerAuthenticationSpec};
use neap_triggers::{AuthParams, PodIdentity};

use crate::source::{Data, ReadError, SecretReader};
use crate::world::{PodTemplate, TemplateContainer, World};

/// What [`resolve`] reads from.
#[derive(Clone)]
pub struct AuthContext {
    /// TriggerAuthentications.
    pub world: Arc<World>,
    /// Secrets and ConfigMaps.
    pub secrets: Arc<dyn SecretReader>,
    /// Where ClusterTriggerAuthentications find their Secrets and ConfigMaps: Neap's own namespace.
    pub own_namespace: Arc<str>,
}

/// What a trigger refers to, read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resolved {
    /// Parameters from the TriggerAuthentication.
    pub params: AuthParams,
    /// Its pod identity.
    pub identity: PodIdentity,
    /// Environment variables that the metadata names.
    pub env: AuthParams,
}

/// Why references could not be read.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AuthError {
    /// There is no such object.
    #[error(
        "authenticationRef.name: {name:?} is not allowed: it must be the name of an existing {kind}"
    )]
    NoSuchAuthentication {
        /// Name asked for.
        name: String,
        /// TriggerAuthentication or ClusterTriggerAuthentication.
        kind: String,
    },
    /// A source of parameters that Neap does not read.
    #[error(
        "{field} of {kind} {name:?} is not allowed: parameters must come from secretTargetRef, configMapTargetRef, env or podIdentity"
    )]
    UnsupportedSource {
        /// The field.
        field: &'static str,
        /// TriggerAuthentication or ClusterTriggerAuthentication.
        kind: String,
        /// Its name.
        name: String,
    },
    /// A Secret or ConfigMap could not be read. It may pass.
    #[error(transparent)]
    Read(#[from] ReadError),
}

impl AuthError {
    /// True when trying again without any change may help.
    pub fn may_pass(&self) -> bool {
        matches!(self, Self::Read(ReadError::Unreachable { .. }))
    }
}

/// Whether [`resolve`] has anything to read for this trigger.
pub fn refers_to_anything(trigger: &ScaleTrigger) -> bool {
    trigger.authentication_ref.is_some()
        || trigger.metadata.keys().any(|key| key.ends_with(FROM_ENV))
}

const FROM_ENV: &str = "FromEnv";

/// Reads all that `trigger` of an object in `namespace` refers to. `template` is the target's pod
/// template, `container` the one whose environment counts (the first if `None`). A Secret, ConfigMap,
/// key or variable that is not there gives no parameter, as in KEDA: the trigger then says what it
/// misses.
///
/// # Errors
/// [`AuthError`].
pub async fn resolve(
    context: &AuthContext,
    namespace: &str,
    trigger: &ScaleTrigger,
    template: Option<&PodTemplate>,
    container: Option<&str>,
) -> Result<Resolved, AuthError> {
    let mut resolved = Resolved::default();
    let variables: BTreeSet<&str> = trigger
        .metadata
        .iter()
        .filter(|(key, _)| key.ends_with(FROM_ENV))
        .map(|(_, variable)| variable.trim())
        .filter(|variable| !variable.is_empty())
        .collect();
    let reader = EnvReader {
        secrets: context.secrets.as_ref(),
        namespace,
    };
    if let Some(container) = template.and_then(|template| template.container(container)) {
        for variable in variables {
            if let Some(value) = reader.variable(container, variable).await? {
                resolved.env.insert(variable, value);
            }
        }
    }
    let Some(reference) = &trigger.authentication_ref else {
        return Ok(resolved);
    };
    let (spec, own) = authentication(&context.world, namespace, reference)?;
    refuse_unsupported(&spec, reference)?;
    let data_namespace = if own {
        context.own_namespace.as_ref()
    } else {
        namespace
    };
    for entry in &spec.env {
        let container = template
            .and_then(|template| template.container(entry.container_name.as_deref().or(container)));
        let value = match container {
            Some(container) => reader.variable(container, &entry.name).await?,
            None => None,
        };
        resolved
            .params
            .insert(entry.parameter.clone(), value.unwrap_or_default());
    }
    let mut config_maps = BTreeMap::new();
    for entry in &spec.config_map_target_ref {
        let data = match config_maps.entry(entry.name.as_str()) {
            std::collections::btree_map::Entry::Occupied(known) => known.into_mut(),
            std::collections::btree_map::Entry::Vacant(free) => free.insert(
                context
                    .secrets
                    .config_map(data_namespace, &entry.name)
                    .await?,
            ),
        };
        resolved
            .params
            .insert(entry.parameter.clone(), value_of(data.as_ref(), entry));
    }
    let mut secrets = BTreeMap::new();
    for entry in &spec.secret_target_ref {
        let data = match secrets.entry(entry.name.as_str()) {
            std::collections::btree_map::Entry::Occupied(known) => known.into_mut(),
            std::collections::btree_map::Entry::Vacant(free) => {
                free.insert(context.secrets.secret(data_namespace, &entry.name).await?)
            }
        };
        resolved
            .params
            .insert(entry.parameter.clone(), value_of(data.as_ref(), entry));
    }
    if let Some(identity) = &spec.pod_identity {
        resolved.identity = pod_identity(identity);
    }
    Ok(resolved)
}

/// The spec, and whether its Secrets are in Neap's own namespace.
fn authentication(
    world: &World,
    namespace: &str,
    reference: &AuthenticationRef,
) -> Result<(TriggerAuthenticationSpec, bool), AuthError> {
    let missing = || AuthError::NoSuchAuthentication {
        name: reference.name.clone(),
        kind: reference.kind().as_str().to_owned(),
    };
    if reference.kind() == AuthenticationKind::ClusterTriggerAuthentication {
        let object = world
            .cluster_trigger_authentication(&reference.name)
            .ok_or_else(missing)?;
        Ok((object.spec.0.clone(), true))
    } else {
        let object = world
            .trigger_authentication(namespace, &reference.name)
            .ok_or_else(missing)?;
        Ok((object.spec.clone(), false))
    }
}

fn refuse_unsupported(
    spec: &TriggerAuthenticationSpec,
    reference: &AuthenticationRef,
) -> Result<(), AuthError> {
    let present = [
        ("filePath", spec.file_path.is_some()),
        ("hashiCorpVault", spec.hashi_corp_vault.is_some()),
        ("azureKeyVault", spec.azure_key_vault.is_some()),
        ("gcpSecretManager", spec.gcp_secret_manager.is_some()),
        ("awsSecretManager", spec.aws_secret_manager.is_some()),
        (
            "boundServiceAccountToken",
            !spec.bound_service_account_token.is_empty(),
        ),
        ("oauth2", spec.oauth2.is_some()),
    ];
    match present.into_iter().find(|(_, present)| *present) {
        None => Ok(()),
        Some((field, _)) => Err(AuthError::UnsupportedSource {
            field,
            kind: reference.kind().as_str().to_owned(),
            name: reference.name.clone(),
        }),
    }
}

fn value_of(data: Option<&Data>, entry: &AuthTargetRef) -> String {
    data.and_then(|data| data.get(&entry.key))
        .map_or_else(String::new, |value| text(value))
}

fn text(value: &[u8]) -> String {
    String::from_utf8_lossy(value).into_owned()
}

fn pod_identity(identity: &AuthPodIdentity) -> PodIdentity {
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    PodIdentity {
        provider: identity.provider.as_str().to_owned(),
        identity_id: text(&identity.identity_id),
        identity_tenant_id: text(&identity.identity_tenant_id),
        identity_authority_host: text(&identity.identity_authority_host),
        role_arn: text(&identity.role_arn),
        identity_owner: identity
            .identity_owner
            .as_ref()
            .map_or_else(String::new, |owner| owner.as_str().to_owned()),
        external_id: text(&identity.external_id),
    }
}

/// References of one variable to others are followed so deep.
const MAX_EXPANSION: usize = 8;

struct EnvReader<'a> {
    secrets: &'a dyn SecretReader,
    namespace: &'a str,
}

impl EnvReader<'_> {
    /// The value of a variable of a container as the kubelet would set it; `None` where it is not
    /// set, or by a field of the pod.
    async fn variable(
        &self,
        container: &TemplateContainer,
        name: &str,
    ) -> Result<Option<String>, ReadError> {
        let mut value = match self.plain(container, name).await? {
            Some(value) => value,
            None => return Ok(None),
        };
        for _ in 0..MAX_EXPANSION {
            let Some((start, end, other)) = reference(&value) else {
                break;
            };
            let Some(inner) = self.plain(container, &other).await? else {
                break;
            };
            value.replace_range(start..end, &inner);
        }
        Ok(Some(value))
    }

    async fn plain(
        &self,
        container: &TemplateContainer,
        name: &str,
    ) -> Result<Option<String>, ReadError> {
        if let Some(entry) = container.env.iter().rev().find(|entry| entry.name == name) {
            return self.entry(entry).await;
        }
        for source in container.env_from.iter().rev() {
            let prefix = source.prefix.as_deref().unwrap_or_default();
            let Some(key) = name.strip_prefix(prefix) else {
                continue;
            };
            let data = if let Some(secret) = &source.secret_ref {
                self.secrets.secret(self.namespace, &secret.name).await?
            } else if let Some(config_map) = &source.config_map_ref {
                self.secrets
                    .config_map(self.namespace, &config_map.name)
                    .await?
            } else {
                None
            };
            if let Some(value) = data.as_ref().and_then(|data| data.get(key)) {
                return Ok(Some(text(value)));
            }
        }
        Ok(None)
    }

    async fn entry(&self, entry: &EnvVar) -> Result<Option<String>, ReadError> {
        let Some(source) = &entry.value_from else {
            return Ok(entry.value.clone());
        };
        let (data, key) = if let Some(secret) = &source.secret_key_ref {
            (
                self.secrets.secret(self.namespace, &secret.name).await?,
                &secret.key,
            )
        } else if let Some(config_map) = &source.config_map_key_ref {
            (
                self.secrets
                    .config_map(self.namespace, &config_map.name)
                    .await?,
                &config_map.key,
            )
        } else {
            return Ok(None);
        };
        Ok(data
            .as_ref()
            .and_then(|data| data.get(key))
            .map(|value| text(value)))
    }
}

/// The first `$(NAME)` that is not escaped as `$$(NAME)`: where it begins and ends, and NAME.
fn reference(value: &str) -> Option<(usize, usize, String)> {
    let mut from = 0;
    while let Some(found) = value[from..].find("$(") {
        let start = from + found;
        if start > 0 && value.as_bytes()[start - 1] == b'$' {
            from = start + 2;
            continue;
        }
        let length = value[start..].find(')')?;
        return Some((
            start,
            start + length + 1,
            value[start + 2..start + length].to_owned(),
        ));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_to_variables_are_found() {
        assert_eq!(
            reference("tcp($(HOST):3306)"),
            Some((4, 11, "HOST".to_owned()))
        );
        assert_eq!(reference("$$(HOST)"), None);
        assert_eq!(reference("$(HOST"), None);
        assert_eq!(reference("$$(A)$(B)"), Some((5, 9, "B".to_owned())));
    }
}
