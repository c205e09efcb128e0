//! What stands in for credentials, for environment variables and for event sources that cannot be
//! built here: a simulation asks no source, it only needs names and targets.

use neap_api::{ScaleTrigger, ScaledObject, TriggerAuthentication};
use neap_coordinator::poll::Resolved;
use neap_triggers::{TriggerConfig, TriggerContext};

/// What a credential or variable holds here.
const NOT_READ: &str = "not-read-in-a-simulation";
/// The type that stands in: it needs no more than a target.
const TYPE: &str = "prometheus";

/// A trigger that was replaced, with what it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Replaced {
    /// Its place.
    pub(super) index: usize,
    /// Its type.
    pub(super) kind: String,
}

/// What `trigger` refers to, with placeholders for every value that `authentications` promise.
pub(super) fn resolve(
    trigger: &ScaleTrigger,
    authentications: &[TriggerAuthentication],
) -> Resolved {
    let mut resolved = Resolved::default();
    for (key, variable) in &trigger.metadata {
        if key.ends_with("FromEnv") {
            resolved.env.insert(variable, NOT_READ);
        }
    }
    let Some(reference) = &trigger.authentication_ref else {
        return resolved;
    };
    let found = authentications.iter().find(|authentication| {
        authentication.metadata.name.as_deref() == Some(reference.name.as_str())
    });
    let Some(found) = found else { return resolved };
    let secrets = found.spec.secret_target_ref.iter();
    let maps = found.spec.config_map_target_ref.iter();
    for parameter in secrets.chain(maps) {
        resolved.params.insert(&parameter.parameter, NOT_READ);
    }
    resolved
}

/// Replaces every trigger that cannot be built by one with the target that `targets` gives for it.
///
/// # Errors
/// One text per trigger that can neither be built nor replaced.
pub(super) fn replace(
    object: &mut ScaledObject,
    resolved: &[Resolved],
    targets: &[(String, f64)],
    context: &TriggerContext,
) -> Result<Vec<Replaced>, Vec<String>> {
    let mut replaced = Vec::new();
    let mut faults = Vec::new();
    for (index, trigger) in object.spec.triggers.iter_mut().enumerate() {
        let names = [
            format!("s{index}-{}", trigger.type_),
            format!("triggers[{index}]"),
        ];
        let is_meant = |name: &str| {
            trigger.name() == Some(name)
                || trigger.type_ == name
                || names.iter().any(|own| own == name)
        };
        let target = targets
            .iter()
            .find(|(name, _)| is_meant(name))
            .map(|(_, target)| *target);
        let config = TriggerConfig {
            metadata: trigger.metadata.clone(),
            metric_type: trigger.metric_type().map(str::to_owned),
            auth_params: resolved[index].params.clone(),
            resolved_env: resolved[index].env.clone(),
            index: u32::try_from(index).unwrap_or(u32::MAX),
            ..TriggerConfig::new(trigger.type_.clone(), context.clone())
        };
        match (neap_triggers::build(&config), target) {
            (_, Some(target)) if !trigger.is_pod_local() => {
                let kind = trigger.type_.clone();
                *trigger = ScaleTrigger {
                    type_: TYPE.to_owned(),
                    name: trigger.name.clone(),
                    metadata: [
                        ("serverAddress", "http://localhost".to_owned()),
                        ("query", "0".to_owned()),
                        ("threshold", target.to_string()),
                    ]
                    .map(|(key, value)| (key.to_owned(), value))
                    .into(),
                    metric_type: trigger.metric_type.clone(),
                    ..ScaleTrigger::default()
                };
                replaced.push(Replaced { index, kind });
            }
            (Ok(_), _) => {}
            (Err(error), _) => faults.push(format!(
                "spec.triggers[{index}]: {error}. A simulation needs only its target per replica: give it with --target {}=VALUE",
                trigger.name().unwrap_or(&trigger.type_)
            )),
        }
    }
    if faults.is_empty() {
        Ok(replaced)
    } else {
        Err(faults)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(triggers: serde_json::Value) -> ScaledObject {
        serde_json::from_value(serde_json::json!({
            "apiVersion": "keda.sh/v1alpha1",
            "kind": "ScaledObject",
            "metadata": {"name": "a"},
            "spec": {"scaleTargetRef": {"name": "web"}, "triggers": triggers}
        }))
        .unwrap()
    }

    #[test]
    fn a_trigger_that_cannot_be_built_needs_only_its_target() {
        rustls::crypto::aws_lc_rs::default_provider()
            .install_default()
            .ok();
        let triggers = serde_json::json!([
            {"type": "azure-servicebus", "name": "orders", "metadata": {"queueName": "orders"}},
            {"type": "cron", "metadata": {"timezone": "UTC", "start": "0 8 * * *", "end": "0 9 * * *", "desiredReplicas": "3"}}
        ]);
        let mut given = object(triggers);
        let resolved = vec![Resolved::default(); 2];
        let context = TriggerContext::default();
        let faults = replace(&mut given, &resolved, &[], &context).unwrap_err();
        assert_eq!(faults.len(), 1, "{faults:?}");
        assert!(faults[0].starts_with("spec.triggers[0]: "), "{}", faults[0]);
        assert!(
            faults[0].ends_with("--target orders=VALUE"),
            "{}",
            faults[0]
        );
        let targets = [("orders".to_owned(), 50.0)];
        let replaced = replace(&mut given, &resolved, &targets, &context).unwrap();
        assert_eq!(
            replaced,
            [Replaced {
                index: 0,
                kind: "azure-servicebus".to_owned()
            }]
        );
        let trigger = &given.spec.triggers[0];
        assert_eq!(
            (trigger.type_.as_str(), trigger.name()),
            (TYPE, Some("orders"))
        );
        assert_eq!(trigger.metadata["threshold"], "50");
    }
}
