//! A world filled from an API server at the HTTP layer.

use std::time::Duration;

use serde_json::{Value, json};

use super::*;
use crate::clock::SystemClock;
use crate::keys::{TargetKey, TargetRef};
use crate::testing::api_server::ApiServer;
use crate::world::{KedaPresence, Owner, TargetProblem, TargetState};

const SCALED_OBJECTS: &str = "/apis/keda.sh/v1alpha1/scaledobjects";
const AUTHENTICATIONS: &str = "/apis/keda.sh/v1alpha1/triggerauthentications";
const CLUSTER_AUTHENTICATIONS: &str = "/apis/keda.sh/v1alpha1/clustertriggerauthentications";
const PODS: &str = "/api/v1/pods";
const HPAS: &str = "/apis/autoscaling/v2/horizontalpodautoscalers";
const LEASES: &str = "/apis/coordination.k8s.io/v1/leases";
const DEPLOYMENTS: &str = "/apis/apps/v1/deployments";
const TANKS: &str = "/apis/example.org/v1/tanks";

struct Bench {
    api: ApiServer,
    world: Arc<World>,
    stop: CancellationToken,
    running: tokio::task::JoinHandle<Result<(), SourceError>>,
}

fn resources(group_version: &str, kinds: &[(&str, &str)]) -> Value {
    let list: Vec<Value> = kinds
        .iter()
        .map(|(plural, kind)| json!({"name": plural, "singularName": "", "namespaced": true, "kind": kind, "verbs": []}))
        .collect();
    json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": list})
}

fn start() -> Bench {
    start_in(Scope::Cluster)
}

/// The path of a collection of `shop` alone.
fn in_shop(path: &str) -> String {
    let (group, plural) = path.rsplit_once('/').unwrap();
    format!("{group}/namespaces/shop/{plural}")
}

fn start_in(scope: Scope) -> Bench {
    let (api, client) = ApiServer::new();
    for path in [
        SCALED_OBJECTS,
        AUTHENTICATIONS,
        CLUSTER_AUTHENTICATIONS,
        PODS,
        HPAS,
        LEASES,
        DEPLOYMENTS,
        TANKS,
    ] {
        api.watch(path, vec![]);
        api.watch(&in_shop(path), vec![]);
    }
    api.get(
        "/apis/apps/v1",
        resources(
            "apps/v1",
            &[
                ("deployments", "Deployment"),
                ("deployments/scale", "Scale"),
            ],
        ),
    );
    api.get(
        "/apis/example.org/v1",
        resources(
            "example.org/v1",
            &[("tanks", "Tank"), ("tanks/scale", "Scale")],
        ),
    );
    let clock = Arc::new(SystemClock);
    let discovery = Arc::new(Discovery::new(client.clone(), clock.clone()));
    let keda = Scope::Cluster;
    let source = Arc::new(KubeSource::new(client, scope, keda, discovery, clock));
    let (world, stop) = (Arc::new(World::new()), CancellationToken::new());
    let running = tokio::spawn(source.run(world.clone(), stop.clone()));
    Bench {
        api,
        world,
        stop,
        running,
    }
}

impl Bench {
    /// Waits until `seen` gives something, looking at each change.
    async fn until<T>(&self, what: &str, mut seen: impl FnMut(&World) -> Option<T>) -> T {
        let look = async {
            loop {
                if let Some(value) = seen(&self.world) {
                    return value;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), look)
            .await
            .unwrap_or_else(|_| panic!("never: {what}"))
    }
}

fn scaled_object(name: &str, target: Value) -> Value {
    json!({"apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject",
           "metadata": {"name": name, "namespace": "shop", "uid": format!("uid-{name}"), "generation": 1},
           "spec": {"scaleTargetRef": target, "triggers": [{"type": "cron", "metadata": {}}]}})
}

fn deployment(name: &str, replicas: i32) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment",
           "metadata": {"name": name, "namespace": "shop", "uid": format!("uid-{name}"), "resourceVersion": "50"},
           "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": name}},
                    "template": {"spec": {"containers": [{"name": "app", "env": [{"name": "A", "value": "1"}]}]}}},
           "status": {"replicas": replicas}})
}

fn web() -> TargetRef {
    TargetRef::new("shop", "apps/v1", "Deployment", "web")
}

fn replicas(world: &World, target: &TargetRef) -> Option<i32> {
    match world.target(target) {
        TargetState::Found(facts) => Some(facts.replicas),
        _ => None,
    }
}

#[tokio::test]
async fn a_world_fills_follows_and_outlives_a_restart() {
    let bench = start();
    bench.api.tell(DEPLOYMENTS, "ADDED", deployment("web", 2));
    bench.api.tell(DEPLOYMENTS, "ADDED", deployment("other", 9));
    bench.world.synced().await;
    bench.api.tell(
        SCALED_OBJECTS,
        "ADDED",
        scaled_object("web", json!({"name": "web"})),
    );
    bench
        .until("the target is found", |world| {
            replicas(world, &web()).filter(|n| *n == 2)
        })
        .await;
    assert_eq!(
        replicas(
            &bench.world,
            &TargetRef::new("shop", "apps/v1", "Deployment", "other")
        ),
        None
    );
    let TargetState::Found(facts) = bench.world.target(&web()) else {
        panic!()
    };
    assert_eq!(
        facts
            .template
            .as_ref()
            .unwrap()
            .container(None)
            .unwrap()
            .env
            .len(),
        1
    );

    let pod = json!({"metadata": {"name": "web-1", "namespace": "shop", "uid": "p-1", "labels": {"app": "web"}},
                     "spec": {"nodeName": "n1", "containers": [{"name": "app"}]}, "status": {"phase": "Running"}});
    bench.api.tell(PODS, "ADDED", pod.clone());
    bench
        .until("the pod is the target's", |world| {
            (world.pods_of(&web()).len() == 1).then_some(())
        })
        .await;

    bench
        .api
        .tell(DEPLOYMENTS, "MODIFIED", deployment("web", 5));
    bench
        .until("replicas follow", |world| {
            replicas(world, &web()).filter(|n| *n == 5)
        })
        .await;

    // The server goes away and comes back; what it then tells is seen.
    for path in [PODS, DEPLOYMENTS, SCALED_OBJECTS] {
        bench.api.cut(path);
    }
    assert_eq!(
        replicas(&bench.world, &web()),
        Some(5),
        "what was known stays known"
    );
    let watched_again = |api: &ApiServer, path: &str| api.count(path) > 1;
    bench
        .until("the watches are back", |_| {
            [PODS, DEPLOYMENTS, SCALED_OBJECTS]
                .iter()
                .all(|path| watched_again(&bench.api, path))
                .then_some(())
        })
        .await;
    bench.api.tell(PODS, "DELETED", pod);
    bench.api.tell(DEPLOYMENTS, "DELETED", deployment("web", 5));
    bench
        .until("the pod is gone", |world| {
            world.pods_of(&web()).is_empty().then_some(())
        })
        .await;
    let problem = bench
        .until("the target is missing", |world| {
            match world.target(&web()) {
                TargetState::Unavailable(problem) => Some(problem),
                _ => None,
            }
        })
        .await;
    assert!(
        matches!(problem.as_ref(), TargetProblem::NotFound { name, .. } if name == "web"),
        "{problem}"
    );

    bench.stop.cancel();
    bench.running.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_custom_resource_is_read_by_its_scale() {
    let bench = start();
    let tank = |generation: i64| {
        json!({"apiVersion": "example.org/v1", "kind": "Tank",
               "metadata": {"name": "big", "namespace": "shop", "uid": "u", "generation": generation, "resourceVersion": "60"},
               "spec": {"level": "a text"}})
    };
    let scale = |replicas: i32, version: &str| {
        json!({"apiVersion": "autoscaling/v1", "kind": "Scale",
               "metadata": {"name": "big", "namespace": "shop", "uid": "u", "resourceVersion": version},
               "spec": {"replicas": replicas}, "status": {"replicas": replicas, "selector": "tank=big"}})
    };
    let path = "/apis/example.org/v1/namespaces/shop/tanks/big/scale";
    bench.api.get(path, scale(3, "101"));
    bench.api.tell(TANKS, "ADDED", tank(1));
    let target = TargetRef::new("shop", "example.org/v1", "tank", "big");
    bench.api.tell(
        SCALED_OBJECTS,
        "ADDED",
        scaled_object(
            "big",
            json!({"name": "big", "apiVersion": "example.org/v1", "kind": "tank"}),
        ),
    );
    bench
        .until("the scale is read", |world| {
            replicas(world, &target).filter(|n| *n == 3)
        })
        .await;
    bench.api.get(path, scale(4, "102"));
    bench.api.tell(TANKS, "MODIFIED", tank(2));
    bench
        .until("a change is read", |world| {
            replicas(world, &target).filter(|n| *n == 4)
        })
        .await;
    let TargetState::Found(facts) = bench.world.target(&target) else {
        panic!()
    };
    assert_eq!(
        facts
            .selector
            .as_ref()
            .unwrap()
            .as_ref()
            .unwrap()
            .to_string(),
        "tank=big"
    );

    let reads = bench.api.count(path);
    bench.api.tell(
        TANKS,
        "MODIFIED",
        json!({"metadata": {"name": "big", "namespace": "shop", "uid": "u", "generation": 2},
                                             "status": {"note": "busy"}}),
    );
    bench
        .until("the version moves on", |world| {
            match world.target(&target) {
                TargetState::Found(facts) => {
                    (facts.resource_version.as_ref() != "102").then_some(())
                }
                _ => None,
            }
        })
        .await;
    assert_eq!(
        bench.api.count(path),
        reads,
        "a change that does not concern the scale costs no read"
    );
    bench.stop.cancel();
}

#[tokio::test]
async fn an_unreadable_object_hides_no_other() {
    let bench = start();
    bench.api.tell(
        SCALED_OBJECTS,
        "ADDED",
        json!({"metadata": {"name": "bad", "namespace": "shop"}, "spec": {"triggers": 7}}),
    );
    bench.api.tell(
        SCALED_OBJECTS,
        "ADDED",
        scaled_object("good", json!({"name": "web"})),
    );
    bench
        .until("the good one is read", |world| {
            world.scaled_object(&TargetKey::new("shop", "good"))
        })
        .await;
    let why = bench
        .until("the bad one is named", |world| {
            world.unreadable(&TargetKey::new("shop", "bad"))
        })
        .await;
    assert!(
        why.contains("triggers") || why.contains("scaleTargetRef") || why.contains("sequence"),
        "{why}"
    );
    let problem = bench
        .until("the target is missing", |world| {
            match world.target(&web()) {
                TargetState::Unavailable(problem) => Some(problem),
                _ => None,
            }
        })
        .await;
    assert!(
        matches!(problem.as_ref(), TargetProblem::NotFound { .. }),
        "{problem}"
    );
    bench.stop.cancel();
}

fn lease_of_keda() -> Value {
    let now = SystemClock.wall();
    json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "operator.keda.sh", "namespace": "keda"},
        "spec": {"holderIdentity": "keda-1", "leaseDurationSeconds": 15, "renewTime": format!("{now:.6}")}})
}

fn hpa_of_keda() -> Value {
    json!({"metadata": {"name": "keda-hpa-web", "namespace": "shop", "uid": "u-hpa", "resourceVersion": "1",
            "ownerReferences": [{"apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "name": "web", "uid": "uid-web"}]},
        "spec": {"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}}})
}

#[tokio::test]
async fn a_keda_outside_the_watched_namespaces_owns_what_is_in_them() {
    let bench = start_in(Scope::new(&["shop".to_owned()]));
    bench.api.tell(LEASES, "ADDED", lease_of_keda());
    bench.api.tell(
        &in_shop(SCALED_OBJECTS),
        "ADDED",
        scaled_object("web", json!({"name": "web"})),
    );
    bench.api.tell(&in_shop(HPAS), "ADDED", hpa_of_keda());
    bench.world.synced().await;
    let key = TargetKey::new("shop", "web");
    bench
        .until("KEDA lives", |world| {
            world.scaled_object(&key)?;
            (world.hpas_on(&web()).len() == 1 && matches!(world.owner(&key), Owner::Keda(_)))
                .then_some(())
        })
        .await;
    assert_eq!(
        bench.api.count(&in_shop(LEASES)),
        0,
        "its Lease is not looked for in the watched namespaces"
    );
    bench.stop.cancel();
}

#[tokio::test]
async fn keda_and_its_hpa_are_seen() {
    let bench = start();
    bench.api.tell(
        SCALED_OBJECTS,
        "ADDED",
        scaled_object("web", json!({"name": "web"})),
    );
    let lease = lease_of_keda();
    bench.api.tell(LEASES, "ADDED", lease.clone());
    let key = TargetKey::new("shop", "web");
    bench
        .until("KEDA lives", |world| {
            matches!(world.owner(&key), Owner::Keda(_)).then_some(())
        })
        .await;
    assert_eq!(
        bench.world.keda(),
        KedaPresence::Alive {
            namespace: "keda".into()
        }
    );
    bench.api.tell(LEASES, "DELETED", lease);
    bench
        .until("KEDA is gone", |world| {
            world.owner(&key).is_neap().then_some(())
        })
        .await;
    bench.api.tell(HPAS, "ADDED", hpa_of_keda());
    let removable = bench
        .until("what it left is seen", |world| match world.owner(&key) {
            Owner::NeapAfterRemoving(hpa) => Some(hpa),
            _ => None,
        })
        .await;
    assert_eq!(removable.uid.as_ref(), "u-hpa");
    bench.stop.cancel();
}

#[tokio::test]
async fn what_may_not_be_listed_and_is_optional_does_not_hold_up_the_rest() {
    let (api, client) = ApiServer::new();
    for path in [SCALED_OBJECTS, PODS, HPAS, DEPLOYMENTS] {
        api.watch(path, vec![]);
    }
    api.tell(
        SCALED_OBJECTS,
        "ADDED",
        scaled_object("web", json!({"name": "web"})),
    );
    api.tell(HPAS, "ADDED", hpa_of_keda());
    for path in [AUTHENTICATIONS, CLUSTER_AUTHENTICATIONS, LEASES] {
        api.fail(path, 403);
    }
    let clock = Arc::new(SystemClock);
    let discovery = Arc::new(Discovery::new(client.clone(), clock.clone()));
    let (scope, keda) = (Scope::Cluster, Scope::Cluster);
    let source = Arc::new(KubeSource::new(client, scope, keda, discovery, clock));
    let (world, stop) = (Arc::new(World::new()), CancellationToken::new());
    tokio::spawn(source.run(world.clone(), stop.clone()));
    tokio::time::timeout(Duration::from_secs(60), world.synced())
        .await
        .expect("synced");
    let mut freshness = world.freshness();
    let failing = freshness
        .wait_for(|kinds| {
            kinds
                .get(&ObjectKind::KedaLease)
                .is_some_and(|lease| lease.failing_since.is_some())
        })
        .await
        .unwrap()
        .clone();
    assert!(
        failing
            .get(&ObjectKind::Pods)
            .unwrap()
            .failing_since
            .is_none()
    );
    assert_eq!(world.keda(), KedaPresence::Unknown);
    let owner = world.owner(&TargetKey::new("shop", "web"));
    assert!(
        matches!(owner, Owner::Keda(_)),
        "its HPA stays, and its target is not written: {owner}"
    );
    stop.cancel();
}
