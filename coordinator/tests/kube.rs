//! The Kubernetes side of the coordinator against a real API server: `tests/suites/kube` runs it in a bed.
#![allow(clippy::unwrap_used, clippy::expect_used)] // a test's helpers fail as its body does

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod, Secret, ServiceAccount};
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, ApiResource, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt};
use neap_api::ScaledObject;
use neap_consensus::{LeaderId, NodeId};
use neap_coordinator::clock::{Clock, SystemClock};
use neap_coordinator::identity::{CallerError, Identity, IdentityConfig, ReviewOutcome};
use neap_coordinator::keys::{TargetKey, TargetRef};
use neap_coordinator::publish::kube::KubePublisher;
use neap_coordinator::publish::{EventNote, EventSeverity, Publisher};
use neap_coordinator::scaler::kube::KubeScaler;
use neap_coordinator::scaler::{ScaleError, Scaler};
use neap_coordinator::source::kube::{Clients, Discovery, KubeReader, KubeSource, Scope};
use neap_coordinator::source::{ObjectSource, SecretReader};
use neap_coordinator::world::{KedaPresence, Owner, TargetProblem, TargetState, World};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio_util::sync::{CancellationToken, DropGuard};

const DEADLINE: Duration = Duration::from_secs(120);

struct Bench {
    clients: Clients,
    namespace: String,
    clock: Arc<dyn Clock>,
    discovery: Arc<Discovery>,
    world: Arc<World>,
    _stop: DropGuard,
}

/// A namespace of its own on the API server that KUBECONFIG names, and a world that follows it.
async fn bench(namespace: &str) -> Bench {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let clients = Clients::infer().await.expect("KUBECONFIG names the bed");
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    create::<Namespace>(
        &Api::all(clients.read.clone()),
        json!({"metadata": {"name": namespace}}),
    )
    .await;
    for definition in neap_api::crd::all() {
        apply_definition(&clients.read, serde_json::to_value(definition).unwrap()).await;
    }
    let discovery = Arc::new(Discovery::new(clients.read.clone(), clock.clone()));
    let source = Arc::new(KubeSource::new(
        clients.read.clone(),
        Scope::Cluster,
        discovery.clone(),
        clock.clone(),
    ));
    let (world, stop) = (Arc::new(World::new()), CancellationToken::new());
    tokio::spawn(source.run(world.clone(), stop.clone()));
    tokio::time::timeout(DEADLINE, world.synced())
        .await
        .expect("the world fills");
    Bench {
        clients,
        namespace: namespace.to_owned(),
        clock,
        discovery,
        world,
        _stop: stop.drop_guard(),
    }
}

async fn apply_definition(client: &Client, definition: Value) {
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    let name = definition["metadata"]["name"].as_str().unwrap().to_owned();
    let params = PatchParams::apply("kube-test").force();
    api.patch(&name, &params, &Patch::Apply(definition))
        .await
        .unwrap();
    wait("the definition is established", || async {
        let conditions = api
            .get(&name)
            .await
            .unwrap()
            .status
            .unwrap_or_default()
            .conditions
            .unwrap_or_default();
        conditions
            .iter()
            .any(|c| c.type_ == "Established" && c.status == "True")
            .then_some(())
    })
    .await;
}

async fn wait<T, F: Future<Output = Option<T>>>(what: &str, look: impl Fn() -> F) -> T {
    let looking = async {
        loop {
            if let Some(seen) = look().await {
                return seen;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(DEADLINE, looking)
        .await
        .unwrap_or_else(|_| panic!("never: {what}"))
}

async fn create<K>(api: &Api<K>, object: Value) -> K
where
    K: Clone + DeserializeOwned + serde::Serialize + std::fmt::Debug,
{
    let object: K = serde_json::from_value(object).unwrap();
    api.create(&PostParams::default(), &object).await.unwrap()
}

impl Bench {
    fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.clients.read.clone(), &self.namespace)
    }

    fn target(&self, api_version: &str, kind: &str, name: &str) -> TargetRef {
        TargetRef::new(&self.namespace, api_version, kind, name)
    }

    fn key(&self, name: &str) -> TargetKey {
        TargetKey::new(self.namespace.as_str(), name)
    }

    async fn deployment(&self, name: &str, replicas: i32) -> Deployment {
        let pod = json!({"metadata": {"labels": {"app": name}}, "spec": {"terminationGracePeriodSeconds": 0,
            "containers": [{"name": "app", "image": "localhost/pause:1", "imagePullPolicy": "Never",
                            "ports": [{"containerPort": 8080}], "resources": {"requests": {"cpu": "10m"}}}]}});
        create(
            &self.api(),
            json!({"metadata": {"name": name}, "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": name}}, "template": pod}}),
        )
        .await
    }

    async fn scaled_object(&self, name: &str, target: Value) -> ScaledObject {
        create(
            &self.api(),
            json!({"apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "metadata": {"name": name},
                   "spec": {"scaleTargetRef": target, "triggers": [
                       {"type": "cron", "metadata": {"timezone": "UTC", "start": "0 0 * * *", "end": "1 0 * * *", "desiredReplicas": "2"}}]}}),
        )
        .await
    }

    async fn see<T>(&self, what: &str, seen: impl Fn(&World) -> Option<T>) -> T {
        wait(what, || std::future::ready(seen(&self.world))).await
    }

    fn replicas(&self, target: &TargetRef) -> Option<i32> {
        match self.world.target(target) {
            TargetState::Found(facts) => Some(facts.replicas),
            _ => None,
        }
    }

    fn scaler(&self) -> KubeScaler {
        KubeScaler::new(
            &self.clients,
            self.discovery.clone(),
            self.clock.clone(),
            "kube-test",
        )
    }

    fn publisher(&self) -> KubePublisher {
        KubePublisher::new(&self.clients, self.clock.clone(), "kube-test")
    }
}

fn leader() -> LeaderId {
    LeaderId {
        term: 7,
        node: NodeId(1),
    }
}

#[tokio::test]
#[ignore = "needs a bed: tests/run kube"]
async fn a_scale_is_read_written_and_watched() {
    let bench = bench("scale").await;
    bench.deployment("web", 1).await;
    bench
        .scaled_object("web", json!({"name": "web", "kind": "deployment"}))
        .await;
    let target = bench.target("apps/v1", "Deployment", "web");
    bench
        .see("the target is found", |_| {
            bench.replicas(&target).filter(|n| *n == 1)
        })
        .await;
    bench
        .see("its pod is known, with an address", |world| {
            world
                .pods_of(&target)
                .iter()
                .any(|pod| !pod.ips.is_empty() && pod.node.is_some())
                .then_some(())
        })
        .await;
    let pods = bench.world.pods_of(&target);
    assert_eq!(pods[0].shape.declared_tcp_ports(), [8080]);
    assert_eq!(pods[0].started_containers[0].name.as_ref(), "app");
    assert_eq!(pods[0].started_containers[0].id.as_str().len(), 64);

    let scaler = bench.scaler();
    let deadline = || bench.clock.boottime() + Duration::from_secs(10);
    let written = loop {
        let scale = scaler.read(&target).await.unwrap();
        assert_eq!(scale.selector.as_deref(), Some("app=web"));
        match scaler
            .write(&target, 3, &scale.resource_version, leader(), deadline())
            .await
        {
            // The Deployment controller writes status all the time.
            Err(ScaleError::Conflict) => {}
            other => break other.unwrap(),
        }
    };
    assert_eq!(written.replicas, 3);
    bench
        .see("the write is watched", |_| {
            bench.replicas(&target).filter(|n| *n == 3)
        })
        .await;
    let stale = scaler
        .write(&target, 2, "1", leader(), deadline())
        .await
        .unwrap_err();
    assert_eq!(stale, ScaleError::Conflict);

    let fields = bench
        .api::<Deployment>()
        .get("web")
        .await
        .unwrap()
        .metadata
        .managed_fields
        .unwrap();
    assert!(
        fields
            .iter()
            .any(|f| f.manager.as_deref() == Some("neap")
                && f.subresource.as_deref() == Some("scale"))
    );
    let by_hand = Patch::Merge(json!({"spec": {"replicas": 0}}));
    let params = PatchParams {
        field_manager: Some("by-hand".into()),
        ..PatchParams::default()
    };
    bench
        .api::<Deployment>()
        .patch("web", &params, &by_hand)
        .await
        .unwrap();
    bench
        .see("a change by hand is watched", |_| {
            bench.replicas(&target).filter(|n| *n == 0)
        })
        .await;
    assert_eq!(scaler.read(&target).await.unwrap().replicas, 0);
    assert_eq!(
        scaler.last_writer(&target).await.as_deref(),
        Some("by-hand")
    );
    bench
        .see("its pods go", |world| {
            world.pods_of(&target).is_empty().then_some(())
        })
        .await;
}

#[tokio::test]
#[ignore = "needs a bed: tests/run kube"]
async fn targets_of_every_kind_and_what_is_wrong_with_them() {
    let bench = bench("kinds").await;
    let schema = json!({"type": "object", "properties": {
        "spec": {"type": "object", "properties": {"crew": {"type": "integer"}}},
        "status": {"type": "object", "properties": {"crew": {"type": "integer"}, "labels": {"type": "string"}}}}});
    apply_definition(
        &bench.clients.read,
        json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": "ships.kube-test.dev"},
            "spec": {"group": "kube-test.dev", "scope": "Namespaced",
                "names": {"kind": "Ship", "plural": "ships", "singular": "ship"},
                "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema},
                    "subresources": {"status": {}, "scale": {"specReplicasPath": ".spec.crew", "statusReplicasPath": ".status.crew", "labelSelectorPath": ".status.labels"}}}]}}),
    )
    .await;
    let ships: Api<DynamicObject> = Api::namespaced_with(
        bench.clients.read.clone(),
        &bench.namespace,
        &ApiResource {
            group: "kube-test.dev".into(),
            version: "v1".into(),
            api_version: "kube-test.dev/v1".into(),
            kind: "Ship".into(),
            plural: "ships".into(),
        },
    );
    create(&ships, json!({"apiVersion": "kube-test.dev/v1", "kind": "Ship", "metadata": {"name": "ark"}, "spec": {"crew": 2}})).await;
    bench
        .scaled_object(
            "ark",
            json!({"name": "ark", "apiVersion": "kube-test.dev/v1", "kind": "ship"}),
        )
        .await;
    let ark = bench.target("kube-test.dev/v1", "ship", "ark");
    bench
        .see("a custom resource is found", |_| {
            bench.replicas(&ark).filter(|n| *n == 2)
        })
        .await;
    let scale = bench.scaler().read(&ark).await.unwrap();
    let deadline = bench.clock.boottime() + Duration::from_secs(10);
    bench
        .scaler()
        .write(&ark, 5, &scale.resource_version, leader(), deadline)
        .await
        .unwrap();
    bench
        .see("and followed", |_| bench.replicas(&ark).filter(|n| *n == 5))
        .await;

    for (name, target, expected) in [
        (
            "no-such",
            json!({"name": "no-such"}),
            "there is no Deployment \"no-such\"",
        ),
        (
            "no-scale",
            json!({"name": "x", "kind": "DaemonSet"}),
            "DaemonSet of apps/v1 has no scale subresource",
        ),
        (
            "no-kind",
            json!({"name": "x", "kind": "Rocket"}),
            "\"Rocket\" is not a kind of apps/v1",
        ),
        (
            "no-version",
            json!({"name": "x", "apiVersion": "apps/v9"}),
            "\"apps/v9\" is not served",
        ),
    ] {
        bench.scaled_object(name, target.clone()).await;
        let key = bench.key(name);
        let problem = bench
            .see(name, |world| {
                let entry = world.scaled_object(&key)?;
                match world.target(&entry.target) {
                    TargetState::Unavailable(problem) => Some(problem),
                    _ => None,
                }
            })
            .await;
        assert!(problem.to_string().contains(expected), "{problem}");
        assert!(!matches!(
            problem.as_ref(),
            TargetProblem::Unreadable { .. }
        ));
    }
    bench.deployment("no-such", 0).await;
    let late = bench.target("apps/v1", "Deployment", "no-such");
    bench
        .see("a target that comes later is found", |_| {
            bench.replicas(&late).filter(|n| *n == 0)
        })
        .await;
}

#[tokio::test]
#[ignore = "needs a bed: tests/run kube"]
async fn owners_are_seen_and_what_keda_left_is_removed() {
    let bench = bench("owners").await;
    bench.deployment("web", 1).await;
    let object = bench.scaled_object("web", json!({"name": "web"})).await;
    let key = bench.key("web");
    bench
        .see("Neap owns it", |world| {
            (world.scaled_object(&key).is_some() && world.owner(&key).is_neap()).then_some(())
        })
        .await;
    let hpa = |name: &str, owner: Value| {
        json!({"metadata": {"name": name, "ownerReferences": owner}, "spec": {"maxReplicas": 3,
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}}})
    };
    create::<HorizontalPodAutoscaler>(&bench.api(), hpa("plain", json!([]))).await;
    bench
        .see("a plain HPA owns it", |world| {
            (world.owner(&key)
                == Owner::Hpa {
                    name: "plain".into(),
                })
            .then_some(())
        })
        .await;
    bench
        .api::<HorizontalPodAutoscaler>()
        .delete("plain", &Default::default())
        .await
        .unwrap();
    let of_keda = json!([{"apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "name": "web", "uid": object.uid().unwrap(), "controller": true}]);
    create::<HorizontalPodAutoscaler>(&bench.api(), hpa("keda-hpa-web", of_keda)).await;

    let leases: Api<Lease> = bench.api();
    let now = format!("{:.6}", bench.clock.wall());
    create(
        &leases,
        json!({"metadata": {"name": "operator.keda.sh"},
        "spec": {"holderIdentity": "keda-operator", "leaseDurationSeconds": 15, "renewTime": now}}),
    )
    .await;
    bench
        .see("KEDA owns it", |world| {
            matches!(world.owner(&key), Owner::Keda(_)).then_some(())
        })
        .await;
    leases
        .delete("operator.keda.sh", &Default::default())
        .await
        .unwrap();
    let publisher = bench.publisher();
    bench
        .see("KEDA is gone", |world| {
            (world.keda() == KedaPresence::Gone).then_some(())
        })
        .await;
    loop {
        let removable = bench
            .see("what it left is removable", |world| {
                match world.owner(&key) {
                    Owner::NeapAfterRemoving(hpa) => Some(Some(hpa)),
                    Owner::Neap => Some(None),
                    _ => None,
                }
            })
            .await;
        let Some(removable) = removable else { break };
        // The HPA controller writes its status meanwhile: the version seen may be old.
        let _ = publisher.remove_hpa(&bench.namespace, &removable).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(
        bench
            .api::<HorizontalPodAutoscaler>()
            .get_opt("keda-hpa-web")
            .await
            .unwrap()
            .is_none()
    );

    let finalizers = Patch::Merge(json!({"metadata": {"finalizers": ["finalizer.keda.sh"]}}));
    let objects: Api<ScaledObject> = bench.api();
    objects
        .patch("web", &PatchParams::default(), &finalizers)
        .await
        .unwrap();
    objects.delete("web", &Default::default()).await.unwrap();
    bench
        .see("it is being deleted", |world| {
            world
                .scaled_object(&key)?
                .object
                .metadata
                .deletion_timestamp
                .as_ref()
                .map(|_| ())
        })
        .await;
    publisher.remove_finalizer(&key).await.unwrap();
    bench
        .see("it is gone", |world| {
            world.scaled_object(&key).is_none().then_some(())
        })
        .await;
    publisher.remove_finalizer(&key).await.unwrap();
}

#[tokio::test]
#[ignore = "needs a bed: tests/run kube"]
async fn status_events_and_secrets() {
    let bench = bench("words").await;
    let object = bench.scaled_object("web", json!({"name": "web"})).await;
    let (key, publisher) = (bench.key("web"), bench.publisher());
    let conditions = json!([{"type": "Ready", "status": "False", "reason": "ScaledObjectCheckFailed", "message": "m"}]);
    publisher
        .patch_status(
            &key,
            &json!({"conditions": conditions, "hpaName": "keda-hpa-web"}),
        )
        .await
        .unwrap();
    publisher
        .patch_status(&key, &json!({"hpaName": null}))
        .await
        .unwrap();
    let status = bench
        .api::<ScaledObject>()
        .get("web")
        .await
        .unwrap()
        .status
        .unwrap();
    assert_eq!((status.conditions.len(), status.hpa_name), (1, None));

    for text in ["first", "second"] {
        let note = EventNote {
            regarding: key.clone(),
            uid: object.uid().unwrap(),
            severity: EventSeverity::Warning,
            reason: "ScaledObjectCheckFailed".into(),
            note: text.repeat(400),
        };
        publisher.event(&note).await.unwrap();
    }
    let events = bench
        .api::<Event>()
        .list(&ListParams::default())
        .await
        .unwrap()
        .items;
    let about: Vec<_> = events
        .iter()
        .filter(|event| event.regarding.as_ref().and_then(|r| r.uid.clone()) == object.uid())
        .collect();
    assert_eq!(about.len(), 2);
    assert!(
        about
            .iter()
            .all(|event| event.type_.as_deref() == Some("Warning"))
    );

    create::<Secret>(
        &bench.api(),
        json!({"metadata": {"name": "s"}, "stringData": {"password": "one"}}),
    )
    .await;
    let reader = KubeReader::new(bench.clients.read.clone());
    let read = reader.secret(&bench.namespace, "s").await.unwrap().unwrap();
    assert_eq!(
        read.get("password").map(Vec::as_slice),
        Some(b"one".as_slice())
    );
    assert!(
        reader
            .secret(&bench.namespace, "none")
            .await
            .unwrap()
            .is_none()
    );
    assert!(
        reader
            .limit_ranges(&bench.namespace)
            .await
            .unwrap()
            .is_empty()
    );
}

#[tokio::test]
#[ignore = "needs a bed: tests/run kube"]
async fn a_pod_s_token_names_its_node_until_the_pod_is_gone() {
    let bench = bench("identity").await;
    let shutdown = CancellationToken::new();
    let config = IdentityConfig::new(&bench.namespace, "neap-coordinator-0");
    let identity = Identity::start(
        bench.clients.read.clone(),
        config,
        bench.clock.clone(),
        &shutdown,
    )
    .await
    .unwrap()
    .unwrap();
    let published = bench
        .api::<ConfigMap>()
        .get("neap-ca")
        .await
        .unwrap()
        .data
        .unwrap();
    assert_eq!(
        published.get("ca.crt"),
        Some(&identity.peer_tls().borrow().ca)
    );

    let accounts: Api<ServiceAccount> = bench.api();
    for name in ["neap-agent", "stranger"] {
        create(&accounts, json!({"metadata": {"name": name}})).await;
    }
    let pods: Api<Pod> = bench.api();
    let pod = |name: &str, account: &str| {
        json!({"metadata": {"name": name}, "spec": {"serviceAccountName": account, "terminationGracePeriodSeconds": 0,
            "containers": [{"name": "app", "image": "localhost/pause:1", "imagePullPolicy": "Never"}]}})
    };
    create(&pods, pod("agent", "neap-agent")).await;
    create(&pods, pod("stranger", "stranger")).await;
    let bound = |name: &'static str| {
        let pods = pods.clone();
        wait("the pod is bound", move || {
            let pods = pods.clone();
            async move {
                Some(pods.get(name).await.ok()?).filter(|pod| {
                    pod.spec
                        .as_ref()
                        .is_some_and(|spec| spec.node_name.is_some())
                })
            }
        })
    };
    let agent = bound("agent").await;
    let node = agent
        .spec
        .as_ref()
        .and_then(|spec| spec.node_name.clone())
        .unwrap();
    let stranger = bound("stranger").await;
    let token = |pod: &Pod, account: &str, audience: &str| {
        let request: TokenRequest = serde_json::from_value(json!({"spec": {"audiences": [audience], "expirationSeconds": 3600,
            "boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": pod.name_any(), "uid": pod.uid().unwrap()}}}))
        .unwrap();
        let (accounts, account) = (accounts.clone(), account.to_owned());
        async move {
            accounts
                .create_token_request(&account, &PostParams::default(), &request)
                .await
                .unwrap()
                .status
                .unwrap()
                .token
                .unwrap()
        }
    };
    let good = token(&agent, "neap-agent", "neap").await;
    let caller = identity.verify(&good).await.unwrap();
    assert_eq!(
        (caller.node_name.as_str(), caller.pod_uid.as_str()),
        (node.as_str(), agent.uid().unwrap().as_str())
    );
    assert_eq!(identity.review(&good, &caller).await, ReviewOutcome::Valid);

    let foreign = token(&stranger, "stranger", "neap").await;
    let refused = identity.verify(&foreign).await.unwrap_err();
    assert!(
        matches!(refused, CallerError::Token(_))
            && refused.to_string().contains("identity/stranger"),
        "{refused}"
    );
    let other = token(&agent, "neap-agent", "somebody-else").await;
    assert!(
        identity
            .verify(&other)
            .await
            .unwrap_err()
            .to_string()
            .contains("audience")
    );

    pods.delete("agent", &Default::default()).await.unwrap();
    wait(
        "the API server refuses the token of a pod that is gone",
        || async {
            matches!(
                identity.review(&good, &caller).await,
                ReviewOutcome::Invalid(_)
            )
            .then_some(())
        },
    )
    .await;
    assert!(
        identity.verify(&good).await.is_ok(),
        "by its signature alone it still is good"
    );
}
