//! What a ScaledObject refers to outside itself, read before it is compiled.

use neap_api::ScaledObject;
use neap_api::validate::NamespaceDefaults;

use crate::poll::{AuthContext, AuthError, Resolved, refers_to_anything, resolve};
use crate::world::PodTemplate;

/// All that was read.
#[derive(Debug, Clone, Default)]
pub struct References {
    /// What each trigger refers to, in their order.
    pub triggers: Vec<Resolved>,
    /// What the namespace gives to containers without requests.
    pub defaults: NamespaceDefaults,
}

impl References {
    /// Those of an object that refers to nothing; `None` where there is something to read.
    pub(super) fn none(object: &ScaledObject, template: Option<&PodTemplate>) -> Option<Self> {
        let triggers = &object.spec.triggers;
        if triggers.iter().any(refers_to_anything) || needs_defaults(object, template) {
            return None;
        }
        Some(Self {
            triggers: vec![Resolved::default(); triggers.len()],
            defaults: NamespaceDefaults::default(),
        })
    }

    /// Reads what `object` in `namespace` refers to.
    ///
    /// # Errors
    /// [`AuthError`]: the first that could not be read.
    pub(super) async fn read(
        context: &AuthContext,
        namespace: &str,
        object: &ScaledObject,
        template: Option<&PodTemplate>,
    ) -> Result<Self, AuthError> {
        let container = object.spec.scale_target_ref.env_source_container_name();
        let mut triggers = Vec::with_capacity(object.spec.triggers.len());
        for trigger in &object.spec.triggers {
            triggers.push(resolve(context, namespace, trigger, template, container).await?);
        }
        let defaults = if needs_defaults(object, template) {
            context.secrets.container_defaults(namespace).await?
        } else {
            NamespaceDefaults::default()
        };
        Ok(Self { triggers, defaults })
    }
}

/// A container without a request is scaled on that resource: a LimitRange may give it one.
fn needs_defaults(object: &ScaledObject, template: Option<&PodTemplate>) -> bool {
    let Some(template) = template else {
        return false;
    };
    object.spec.triggers.iter().any(|trigger| {
        template
            .containers
            .iter()
            .any(|container| match trigger.type_.as_str() {
                "cpu" => container.requests.cpu.or(container.limits.cpu).is_none(),
                "memory" => container
                    .requests
                    .memory
                    .or(container.limits.memory)
                    .is_none(),
                _ => false,
            })
    })
}
