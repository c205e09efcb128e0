use std::collections::HashSet;
use std::sync::Arc;

use neap_api::{ScaledObject, TriggerAuthentication};
use neap_units::PodUid;
use serde_json::{Value, json};

use super::testing::pod;
use super::*;
use crate::clock::Boottime;
use crate::keys::{TargetKey, TargetRef};

fn scaled_object(name: &str, target: &str, more: Value) -> ScaledObject {
    let mut object = json!({
        "apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject",
        "metadata": {"name": name, "namespace": "shop", "uid": format!("uid-{name}"), "generation": 1,
                     "creationTimestamp": "2026-11-22T10:00:00Z"},
        "spec": {"scaleTargetRef": {"name": target}, "triggers": [
            {"type": "cron", "metadata": {}},
            {"type": "mysql", "metadata": {}, "authenticationRef": {"name": "db"}},
        ]},
    });
    for (key, value) in more.as_object().into_iter().flatten() {
        object["metadata"][key] = value.clone();
    }
    serde_json::from_value(object).unwrap()
}

fn key(name: &str) -> TargetKey {
    TargetKey::new("shop", name)
}

fn deployment(name: &str) -> TargetRef {
    TargetRef::new("shop", "apps/v1", "Deployment", name)
}

fn facts(replicas: i32, version: &str) -> TargetFacts {
    TargetFacts {
        resource: Arc::new(ScaleResource {
            group: "apps".into(),
            version: "v1".into(),
            kind: "Deployment".into(),
            plural: "deployments".into(),
        }),
        uid: "uid-of-target".into(),
        replicas,
        status_replicas: replicas,
        selector: Ok(Some("app=web".parse().unwrap())),
        resource_version: version.into(),
        generation: 1,
        deleting: false,
        template: None,
        last_writer: None,
    }
}

#[test]
fn a_status_of_its_own_wakes_nobody() {
    let world = World::new();
    let mut changes = world.changes();
    world.apply_scaled_object(scaled_object("web", "web", json!({})));
    assert_eq!(
        changes.take(),
        [(key("web"), ChangeSet::SPEC | ChangeSet::OWNER)]
    );
    let mut seen = scaled_object("web", "web", json!({"resourceVersion": "9"}));
    seen.status = Some(neap_api::ScaledObjectStatus {
        hpa_name: Some("x".into()),
        ..Default::default()
    });
    world.apply_scaled_object(seen);
    assert!(changes.take().is_empty());
    assert_eq!(
        world
            .scaled_object(&key("web"))
            .unwrap()
            .object
            .metadata
            .resource_version
            .as_deref(),
        Some("9")
    );

    world.apply_scaled_object(scaled_object(
        "web",
        "web",
        json!({"annotations": {"autoscaling.keda.sh/paused": "true"}}),
    ));
    assert_eq!(changes.take(), [(key("web"), ChangeSet::SPEC)]);
    world.apply_scaled_object(scaled_object("web", "web", json!({"uid": "another"})));
    let taken = changes.take();
    assert!(
        taken
            .iter()
            .all(|(_, what)| what.contains(ChangeSet::GONE | ChangeSet::SPEC)),
        "{taken:?}"
    );
}

#[test]
fn the_last_good_version_stays_when_the_newest_cannot_be_read() {
    let world = World::new();
    let mut changes = world.changes();
    world.apply_scaled_object(scaled_object("web", "web", json!({})));
    changes.take();
    world.apply_unreadable_scaled_object(&key("web"), "spec.triggers: a number");
    world.apply_unreadable_scaled_object(&key("web"), "spec.triggers: a number");
    assert_eq!(changes.take(), [(key("web"), ChangeSet::SPEC)]);
    let entry = world.scaled_object(&key("web")).unwrap();
    assert_eq!(entry.unreadable.as_deref(), Some("spec.triggers: a number"));
    assert_eq!(entry.object.spec.triggers.len(), 2);
    world.apply_scaled_object(scaled_object("web", "web", json!({})));
    assert_eq!(
        changes.take(),
        [(key("web"), ChangeSet::SPEC)],
        "it is good again"
    );

    world.apply_unreadable_scaled_object(&key("never"), "no triggers");
    assert_eq!(changes.take(), [(key("never"), ChangeSet::SPEC)]);
    assert!(world.scaled_object(&key("never")).is_none());
    assert_eq!(
        world.unreadable(&key("never")).as_deref(),
        Some("no triggers")
    );
    world.keep_scaled_objects(&HashSet::from([key("web")]), &|_| true);
    assert_eq!(changes.take(), [(key("never"), ChangeSet::GONE)]);
}

#[test]
fn targets_are_wanted_while_named_and_pods_follow_their_selector() {
    let world = World::new();
    let mut changes = world.changes();
    let wanted = world.wanted_targets_changed();
    world.apply_scaled_object(scaled_object("web", "web", json!({})));
    assert!(wanted.has_changed().unwrap());
    let id = TargetId::from(&deployment("web"));
    assert_eq!(world.target(&deployment("web")), TargetState::Pending);
    world.apply_pod(pod("shop", "web-1").label("app", "web").done());
    changes.take();

    world.apply_target_facts(&id, facts(2, "7"));
    assert_eq!(
        changes.take(),
        [(key("web"), ChangeSet::TARGET | ChangeSet::PODS)]
    );
    assert_eq!(world.pods_of(&deployment("web")).len(), 1);
    world.apply_pod(pod("shop", "web-2").label("app", "web").done());
    world.apply_pod(pod("shop", "db-0").label("app", "db").done());
    assert_eq!(changes.take(), [(key("web"), ChangeSet::PODS)]);
    world.remove_pod("shop", "db-0");
    assert!(changes.take().is_empty());

    world.apply_target_facts(&id, facts(2, "8"));
    assert!(changes.take().is_empty(), "only the version moved on");
    let TargetState::Found(found) = world.target(&deployment("web")) else {
        panic!()
    };
    assert_eq!(found.resource_version.as_ref(), "8");
    world.apply_target_facts(&id, facts(5, "6"));
    assert!(changes.take().is_empty(), "an answer that was overtaken");
    world.apply_target_facts(&id, facts(5, "9"));
    assert_eq!(changes.take(), [(key("web"), ChangeSet::TARGET)]);

    world.remove_scaled_object(&key("web"));
    assert!(!world.is_wanted(&id));
    world.apply_target_facts(&id, facts(5, "10"));
    assert_eq!(
        world.target(&deployment("web")),
        TargetState::Pending,
        "nobody asks any more"
    );
    assert!(world.pods_of(&deployment("web")).is_empty());
}

#[test]
fn further_selectors_tell_of_their_pods_until_they_are_dropped() {
    let world = World::new();
    let mut changes = world.changes();
    world.apply_scaled_object(scaled_object("web", "web", json!({})));
    world.set_pod_selectors(
        &key("web"),
        &["queue=a".parse().unwrap(), "queue=b".parse().unwrap()],
    );
    changes.take();
    world.apply_pod(pod("shop", "worker").label("queue", "b").done());
    assert_eq!(changes.take(), [(key("web"), ChangeSet::PODS)]);
    assert_eq!(
        world.pods_matching("shop", &"queue".parse().unwrap()).len(),
        1
    );
    world.set_pod_selectors(&key("web"), &["queue=a".parse().unwrap()]);
    changes.take();
    world.remove_pod("shop", "worker");
    assert!(changes.take().is_empty());
}

#[test]
fn owners_are_told_to_those_concerned() {
    let world = World::new();
    world.apply_scaled_object(scaled_object("web", "web", json!({})));
    world.apply_scaled_object(scaled_object("db", "db", json!({})));
    let mut changes = world.changes();
    changes.take();
    let hpa = HpaFacts {
        namespace: "shop".into(),
        name: "plain".into(),
        uid: "u".into(),
        resource_version: "1".into(),
        target: TargetId::from(&deployment("web")),
        scaled_object: None,
        is_no_owner: false,
        external_metrics_answered: false,
        deleting: false,
    };
    world.apply_hpa(hpa.clone());
    assert_eq!(changes.take(), [(key("web"), ChangeSet::OWNER)]);
    assert_eq!(
        world.owner(&key("web")),
        Owner::Hpa {
            name: "plain".into()
        }
    );
    assert_eq!(world.owner(&key("db")), Owner::Neap);
    world.apply_hpa(HpaFacts {
        resource_version: "2".into(),
        ..hpa.clone()
    });
    assert!(changes.take().is_empty());
    world.apply_hpa(HpaFacts {
        target: TargetId::from(&deployment("db")),
        ..hpa
    });
    assert_eq!(
        changes.take().len(),
        2,
        "the former target is free, the new one is not"
    );
    world.keep_hpas(&HashSet::new(), &|namespace| namespace == "shop");
    assert_eq!(world.owner(&key("db")), Owner::Neap);

    changes.take();
    world.set_keda(KedaPresence::Alive {
        namespace: "keda".into(),
    });
    assert_eq!(changes.take().len(), 2);
    assert!(matches!(world.owner(&key("web")), Owner::Keda(_)));
    world.set_keda(KedaPresence::Gone);

    world.apply_scaled_object(scaled_object(
        "again",
        "web",
        json!({"creationTimestamp": "2026-11-22T11:00:00Z"}),
    ));
    assert_eq!(
        world.owner(&key("again")),
        Owner::ScaledObject { name: "web".into() }
    );
    assert_eq!(
        world.claims_on(&deployment("web")),
        [key("again"), key("web")]
    );
    changes.take();
    world.remove_scaled_object(&key("web"));
    assert!(changes.take().contains(&(key("again"), ChangeSet::OWNER)));
    assert_eq!(world.owner(&key("again")), Owner::Neap);
}

#[test]
fn a_credential_wakes_its_users() {
    let world = World::new();
    world.apply_scaled_object(scaled_object("web", "web", json!({})));
    let mut changes = world.changes();
    changes.take();
    let auth = |key: &str| -> TriggerAuthentication {
        serde_json::from_value(json!({
            "apiVersion": "keda.sh/v1alpha1", "kind": "TriggerAuthentication", "metadata": {"name": "db", "namespace": "shop"},
            "spec": {"secretTargetRef": [{"parameter": "password", "name": "mysql", "key": key}]},
        }))
        .unwrap()
    };
    world.apply_authentication(auth("a"));
    assert_eq!(changes.take(), [(key("web"), ChangeSet::AUTH)]);
    world.apply_authentication(auth("a"));
    assert!(changes.take().is_empty());
    world.apply_authentication(auth("b"));
    assert_eq!(changes.take(), [(key("web"), ChangeSet::AUTH)]);
    world.keep_authentications(&HashSet::new(), &|_| true);
    assert_eq!(changes.take(), [(key("web"), ChangeSet::AUTH)]);
    assert!(world.trigger_authentication("shop", "db").is_none());
}

#[tokio::test]
async fn a_world_is_synced_once_every_kind_was_listed() {
    let world = Arc::new(World::new());
    let waiting = tokio::spawn({
        let world = world.clone();
        async move { world.synced().await }
    });
    for kind in ObjectKind::ALL {
        assert!(!world.is_synced());
        world.mark_synced(kind);
    }
    waiting.await.unwrap();
    world.mark_failing(ObjectKind::Pods, Boottime::from_micros(5), "refused");
    world.mark_failing(ObjectKind::Pods, Boottime::from_micros(9), "refused again");
    let pods = world
        .freshness()
        .borrow()
        .get(&ObjectKind::Pods)
        .cloned()
        .unwrap();
    assert_eq!(pods.failing_since, Some(Boottime::from_micros(5)));
    assert!(world.is_synced(), "what was listed stays known");
    world.mark_current(ObjectKind::Pods);
    assert_eq!(
        world
            .freshness()
            .borrow()
            .get(&ObjectKind::Pods)
            .unwrap()
            .failing_since,
        None
    );
}

#[test]
fn a_list_of_one_namespace_says_nothing_of_another() {
    let world = World::new();
    world.apply_pod(pod("a", "p").uid("ua").done());
    world.apply_pod(pod("b", "p").uid("ub").done());
    world.keep_pods(&HashSet::new(), &|namespace| namespace == "a");
    assert!(world.pod(&PodUid::new("ua").unwrap()).is_none());
    assert!(world.pod(&PodUid::new("ub").unwrap()).is_some());
    assert_eq!(world.sizes().pods, 1);
}
