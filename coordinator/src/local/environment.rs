//! The environment of a container, as the kubelet would make it, and what stands in for a network of
//! its own.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, EnvVar, EnvVarSource};

use super::objects::LocalObjects;
use super::pod::PodSpec;
use crate::keys::TargetKey;
use crate::source::Data;

/// Variables that tell which process is whose after a `kill -9`.
pub(super) const STATE: &str = "NEAP_UP_STATE";

/// Why a container's environment cannot be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct EnvironmentError {
    pub(super) field: String,
    pub(super) message: String,
    pub(super) advice: String,
}

/// Makes the environment of container number `at` of `pod`, later entries winning: what this process
/// has, Services, `envFrom`, `env`, and last what is the replica's own.
pub(super) fn environment(
    pod: &PodSpec,
    at: usize,
    container: &Container,
    objects: &LocalObjects,
    base: &[(String, String)],
) -> Result<BTreeMap<String, String>, EnvironmentError> {
    let namespace = &pod.namespace;
    let mut env: BTreeMap<String, String> = base.iter().cloned().collect();
    env.extend(service_variables(namespace, objects));
    let field = |rest: &str| format!("spec.template.spec.containers[{at}].{rest}");
    for (from, source) in container.env_from.iter().flatten().enumerate() {
        let prefix = source.prefix.as_deref().unwrap_or_default();
        let (kind, name, optional, data) = match (&source.secret_ref, &source.config_map_ref) {
            (Some(secret), _) => {
                let key = TargetKey::new(namespace.as_str(), secret.name.as_str());
                let optional = secret.optional == Some(true);
                ("Secret", key, optional, None::<Data>)
            }
            (_, Some(map)) => {
                let key = TargetKey::new(namespace.as_str(), map.name.as_str());
                ("ConfigMap", key, map.optional == Some(true), None)
            }
            (None, None) => continue,
        };
        let data = data.or_else(|| match kind {
            "Secret" => objects.secret_of(&name),
            _ => objects.config_map_of(&name),
        });
        match data {
            Some(data) => env.extend(data.into_iter().map(|(key, value)| {
                let value = String::from_utf8_lossy(&value).into_owned();
                (format!("{prefix}{key}"), value)
            })),
            None if optional => {}
            None => {
                return Err(missing(
                    &field(&format!("envFrom[{from}]")),
                    kind,
                    &name,
                    None,
                ));
            }
        }
    }
    let own = own_variables(pod);
    for (number, variable) in container.env.iter().flatten().enumerate() {
        let field = field(&format!("env[{number}]"));
        let value = match (&variable.value, &variable.value_from) {
            (Some(value), _) => Some(expand(value, |name| {
                own.get(name).or_else(|| env.get(name)).cloned()
            })),
            (None, Some(source)) => value_from(variable, source, pod, objects, &field)?,
            (None, None) => Some(String::new()),
        };
        if let Some(value) = value {
            env.insert(variable.name.clone(), value);
        }
    }
    env.extend(own);
    Ok(env)
}

/// What each replica has for its own. PORT is the port that stands for the first declared one.
fn own_variables(pod: &PodSpec) -> BTreeMap<String, String> {
    let mut own = BTreeMap::from([
        ("POD_NAME".to_owned(), pod.name.clone()),
        ("POD_NAMESPACE".to_owned(), pod.namespace.clone()),
        ("POD_IP".to_owned(), "127.0.0.1".to_owned()),
        ("NEAP_POD_UID".to_owned(), pod.uid.clone()),
        (STATE.to_owned(), pod.state_dir.display().to_string()),
    ]);
    if let Some(first) = pod.ports.first() {
        own.insert("PORT".to_owned(), first.actual.to_string());
    }
    for port in &pod.ports {
        own.insert(format!("PORT_{}", port.declared), port.actual.to_string());
    }
    own
}

/// `NAME_SERVICE_HOST` and `NAME_SERVICE_PORT` of the Services of the namespace.
fn service_variables(namespace: &str, objects: &LocalObjects) -> Vec<(String, String)> {
    let mut variables = Vec::new();
    for (key, service, _) in objects.services() {
        if &*key.namespace != namespace {
            continue;
        }
        let ports = service
            .spec
            .iter()
            .flat_map(|spec| spec.ports.iter().flatten());
        if let Some(port) = ports.map(|port| port.port).next() {
            let name = key.name.to_uppercase().replace(['-', '.'], "_");
            variables.push((format!("{name}_SERVICE_HOST"), "127.0.0.1".to_owned()));
            variables.push((format!("{name}_SERVICE_PORT"), port.to_string()));
        }
    }
    variables
}

fn value_from(
    variable: &EnvVar,
    source: &EnvVarSource,
    pod: &PodSpec,
    objects: &LocalObjects,
    field: &str,
) -> Result<Option<String>, EnvironmentError> {
    let of = |kind, name: &str, key: &str, optional: Option<bool>| {
        let object = TargetKey::new(pod.namespace.as_str(), name);
        let data = match kind {
            "Secret" => objects.secret_of(&object),
            _ => objects.config_map_of(&object),
        };
        match data.as_ref().and_then(|data| data.get(key)) {
            Some(value) => Ok(Some(String::from_utf8_lossy(value).into_owned())),
            None if optional == Some(true) => Ok(None),
            None => Err(missing(field, kind, &object, data.is_some().then_some(key))),
        }
    };
    if let Some(secret) = &source.secret_key_ref {
        return of("Secret", &secret.name, &secret.key, secret.optional);
    }
    if let Some(map) = &source.config_map_key_ref {
        return of("ConfigMap", &map.name, &map.key, map.optional);
    }
    if let Some(reference) = &source.field_ref {
        return match reference.field_path.as_str() {
            "metadata.name" => Ok(Some(pod.name.clone())),
            "metadata.namespace" => Ok(Some(pod.namespace.clone())),
            "metadata.uid" => Ok(Some(pod.uid.clone())),
            "status.podIP" | "status.hostIP" => Ok(Some("127.0.0.1".to_owned())),
            "spec.nodeName" => Ok(Some(super::NODE.to_owned())),
            other => Err(EnvironmentError {
                field: format!("{field}.valueFrom.fieldRef.fieldPath"),
                message: format!("{:?} of {} is not known here", other, variable.name),
                advice: "use metadata.name, metadata.namespace, metadata.uid, status.podIP, status.hostIP or spec.nodeName".to_owned(),
            }),
        };
    }
    Err(EnvironmentError {
        field: format!("{field}.valueFrom"),
        message: format!(
            "{} comes from something that is not known here",
            variable.name
        ),
        advice: "use secretKeyRef, configMapKeyRef or fieldRef".to_owned(),
    })
}

fn missing(field: &str, kind: &str, object: &TargetKey, key: Option<&str>) -> EnvironmentError {
    let message = match key {
        Some(key) => format!("{kind} {object} has no key {key:?}"),
        None => format!("there is no {kind} {object}"),
    };
    EnvironmentError {
        field: field.to_owned(),
        message,
        advice: format!(
            "add it to a manifest of the folder; the container starts as soon as the {kind} has it"
        ),
    }
}

/// Replaces `$(NAME)`, as Kubernetes does: what `value` does not know stays as it is, `$$` is `$`.
pub(super) fn expand(text: &str, value: impl Fn(&str) -> Option<String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        let (before, from) = rest.split_at(at);
        out.push_str(before);
        if let Some(after) = from.strip_prefix("$$") {
            out.push('$');
            rest = after;
            continue;
        }
        let name = from
            .strip_prefix("$(")
            .and_then(|inside| inside.split_once(')'));
        match name {
            Some((name, after)) => {
                match value(name) {
                    Some(value) => out.push_str(&value),
                    None => out.push_str(&format!("$({name})")),
                }
                rest = after;
            }
            None => {
                out.push('$');
                rest = from.get(1..).unwrap_or_default();
            }
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_replaced_as_kubernetes_does() {
        let value = |name: &str| (name == "PORT").then(|| "81".to_owned());
        for (text, expected) in [
            ("--port=$(PORT)", "--port=81"),
            ("$(NONE)", "$(NONE)"),
            ("$$(PORT)", "$(PORT)"),
            ("$PORT $", "$PORT $"),
            ("$(PORT", "$(PORT"),
        ] {
            assert_eq!(expand(text, value), expected);
        }
    }
}
