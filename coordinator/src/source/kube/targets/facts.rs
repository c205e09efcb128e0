//! From an object or its scale to the facts that are kept.

use std::sync::Arc;

use k8s_openapi::api::autoscaling::v1::Scale;
use kube::core::DynamicObject;

use crate::source::kube::lean::LeanWorkload;
use crate::source::kube::template::pod_template;
use crate::world::{PodTemplate, ScaleResource, Selector, TargetFacts};

pub(in crate::source::kube) fn workload_facts(
    resource: &Arc<ScaleResource>,
    object: &LeanWorkload,
) -> Option<TargetFacts> {
    let meta = &object.metadata.meta;
    Some(TargetFacts {
        resource: resource.clone(),
        uid: meta.uid.as_deref()?.into(),
        replicas: object.spec.replicas.unwrap_or(1),
        status_replicas: object.status.replicas.unwrap_or(0),
        selector: object
            .spec
            .selector
            .as_ref()
            .map(Selector::from_object)
            .transpose(),
        resource_version: meta.resource_version.as_deref()?.into(),
        generation: meta.generation.unwrap_or(0),
        deleting: meta.deletion_timestamp.is_some(),
        template: object
            .spec
            .template
            .as_ref()
            .and_then(pod_template)
            .map(Arc::new),
        last_writer: object.metadata.last_writer.clone(),
    })
}

pub(super) fn scale_facts(
    resource: &Arc<ScaleResource>,
    scale: &Scale,
    template: Option<Arc<PodTemplate>>,
) -> TargetFacts {
    let meta = &scale.metadata;
    let status = scale.status.as_ref();
    let selector = status
        .and_then(|status| status.selector.as_deref())
        .filter(|text| !text.is_empty());
    TargetFacts {
        resource: resource.clone(),
        uid: meta.uid.as_deref().unwrap_or_default().into(),
        replicas: scale
            .spec
            .as_ref()
            .and_then(|spec| spec.replicas)
            .unwrap_or(0),
        status_replicas: status.map_or(0, |status| status.replicas),
        selector: selector.map(str::parse).transpose(),
        resource_version: meta.resource_version.as_deref().unwrap_or_default().into(),
        generation: meta.generation.unwrap_or(0),
        deleting: meta.deletion_timestamp.is_some(),
        template,
        last_writer: None,
    }
}

pub(super) fn template_of(object: &DynamicObject) -> Option<Arc<PodTemplate>> {
    object
        .data
        .pointer("/spec/template")
        .and_then(pod_template)
        .map(Arc::new)
}
