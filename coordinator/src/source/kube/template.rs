//! From a pod template as it is read to the parts that are kept.

use k8s_openapi::api::core::v1::{EnvFromSource, EnvVar};
use serde::Deserialize;
use serde_json::Value;

use super::lean::LeanResources;
use super::pod_facts::resources_of;
use crate::world::{PodTemplate, TemplateContainer};

#[derive(Deserialize)]
struct Template {
    spec: Option<Spec>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    containers: Option<Vec<Container>>,
    init_containers: Option<Vec<Container>>,
    service_account_name: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Container {
    name: Option<String>,
    restart_policy: Option<String>,
    env: Option<Vec<EnvVar>>,
    env_from: Option<Vec<EnvFromSource>>,
    resources: Option<LeanResources>,
}

/// Reads a pod template; `None` for what is no pod template (a custom resource may call anything
/// `template`).
pub(super) fn pod_template(value: &Value) -> Option<PodTemplate> {
    let spec = Template::deserialize(value).ok()?.spec?;
    let containers: Vec<_> = spec
        .containers
        .into_iter()
        .flatten()
        .filter_map(container)
        .collect();
    if containers.is_empty() {
        return None;
    }
    let stays = |container: &Container| container.restart_policy.as_deref() == Some("Always");
    Some(PodTemplate {
        containers,
        sidecars: spec
            .init_containers
            .into_iter()
            .flatten()
            .filter(stays)
            .filter_map(container)
            .collect(),
        service_account: spec.service_account_name.map(Into::into),
    })
}

fn container(container: Container) -> Option<TemplateContainer> {
    let (requests, limits) = container
        .resources
        .as_ref()
        .map(resources_of)
        .unwrap_or_default();
    Some(TemplateContainer {
        name: container.name?.into(),
        env: container.env.unwrap_or_default(),
        env_from: container.env_from.unwrap_or_default(),
        requests,
        limits,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_no_pod_template_is_none() {
        assert_eq!(pod_template(&json!("a text")), None);
        assert_eq!(pod_template(&json!({"spec": {"rows": 3}})), None);
        let template = pod_template(&json!({"spec": {
            "containers": [{"name": "app", "env": [{"name": "A", "value": "1"}], "resources": {"limits": {"cpu": "2"}}}],
            "initContainers": [{"name": "once"}, {"name": "proxy", "restartPolicy": "Always"}],
        }}))
        .unwrap();
        assert_eq!(
            template
                .sidecars
                .iter()
                .map(|c| c.name.as_ref())
                .collect::<Vec<_>>(),
            ["proxy"]
        );
        let app = template.container(None).unwrap();
        assert_eq!(app.env.len(), 1);
        assert!(app.requests.cpu.is_none() && app.limits.cpu.is_some());
    }
}
