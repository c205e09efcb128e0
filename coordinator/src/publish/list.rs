//! The list of targets: what was decided, beside what the objects say.

use std::collections::BTreeMap;

use jiff::Timestamp;
use kube::ResourceExt;
use serde::Serialize;

use super::summary::Summary;
use crate::keys::TargetKey;
use crate::world::{TargetState, World};

/// One line of `GET /api/v1/targets`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Line {
    #[serde(flatten)]
    decided: Summary,
    /// Absent where the object could never be read, or is gone from this replica's view.
    #[serde(flatten)]
    object: Option<ObjectLine>,
}

/// What the object and its target say, as this replica sees them.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct ObjectLine {
    target_kind: String,
    target_name: String,
    min_replicas: i32,
    max_replicas: i32,
    created: Option<Timestamp>,
    labels: BTreeMap<String, String>,
    /// `spec.replicas` and `status.replicas` of the target's scale; absent where it was not found.
    spec_replicas: Option<i32>,
    status_replicas: Option<i32>,
    owner_kind: &'static str,
    owner_name: Option<String>,
}

/// Every target, by name: those of `world`, and those that `decided` alone knows, as on a replica that
/// has not read the objects yet.
pub(super) fn lines(world: &World, decided: Vec<Summary>) -> Vec<Line> {
    let keyed = decided.into_iter().map(|summary| {
        let key = TargetKey::new(summary.namespace.as_str(), summary.name.as_str());
        (key, summary)
    });
    let mut all: BTreeMap<TargetKey, Summary> = keyed.collect();
    for key in world.scaled_objects() {
        all.entry(key).or_insert_with_key(Summary::of);
    }
    for (key, why) in world.all_unreadable() {
        let summary = all.entry(key).or_insert_with_key(Summary::of);
        summary.fault.get_or_insert_with(|| why.to_string());
    }
    let lines = all.into_iter().map(|(key, mut decided)| {
        let object = object_line(world, &key, &mut decided);
        Line { decided, object }
    });
    lines.collect()
}

fn object_line(world: &World, key: &TargetKey, decided: &mut Summary) -> Option<ObjectLine> {
    let entry = world.scaled_object(key)?;
    let object = &entry.object;
    let scale = match world.target(&entry.target) {
        TargetState::Found(facts) => Some((facts.replicas, facts.status_replicas)),
        TargetState::Pending | TargetState::Unavailable(_) => None,
    };
    let owner = world.owner(key);
    decided.owner = Some(owner.to_string());
    let created = object.metadata.creation_timestamp.as_ref();
    Some(ObjectLine {
        target_kind: entry.target.kind.to_string(),
        target_name: entry.target.name.to_string(),
        min_replicas: object.spec.min_replicas(),
        max_replicas: object.spec.max_replicas(),
        created: created.map(|created| created.0),
        labels: object.labels().clone(),
        spec_replicas: scale.map(|(spec, _)| spec),
        status_replicas: scale.map(|(_, status)| status),
        owner_kind: owner.kind(),
        owner_name: owner.name().map(ToString::to_string),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_object_is_listed_before_anything_is_decided_and_after_this_replica_lost_it() {
        let world = World::new();
        let object = json!({
            "apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject",
            "metadata": {"name": "new", "namespace": "ns", "uid": "u", "labels": {"team": "a"},
                         "creationTimestamp": "2026-11-01T00:00:00Z"},
            "spec": {"scaleTargetRef": {"name": "web"}, "maxReplicaCount": 7, "triggers": []},
        });
        world.apply_scaled_object(serde_json::from_value(object).unwrap());
        let told = Summary {
            desired: Some(3),
            owner: Some("Neap".to_owned()),
            ..Summary::of(&TargetKey::new("ns", "gone"))
        };
        let listed = json!(lines(&world, vec![told]));
        let names: Vec<_> = listed
            .as_array()
            .unwrap()
            .iter()
            .map(|line| &line["name"])
            .collect();
        assert_eq!(names, ["gone", "new"]);
        assert_eq!(listed[0]["desired"], 3);
        assert!(listed[0].get("maxReplicas").is_none());
        let new = &listed[1];
        assert_eq!(
            (&new["minReplicas"], &new["maxReplicas"]),
            (&json!(0), &json!(7))
        );
        assert_eq!(new["targetKind"], "Deployment");
        assert_eq!(new["labels"]["team"], "a");
        assert_eq!(new["created"], "2026-11-01T00:00:00Z");
        assert_eq!(
            (&new["desired"], &new["specReplicas"]),
            (&json!(null), &json!(null))
        );
        assert_eq!(new["ownerKind"], "neap");
    }
}
