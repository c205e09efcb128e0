//! A namespace of its own on a real API server, and a world that follows it.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Client;
use kube::api::{Api, Patch, PatchParams, PostParams};
use neap_api::ScaledObject;
use neap_consensus::{LeaderId, NodeId};
use neap_coordinator::clock::{Clock, SystemClock};
use neap_coordinator::keys::{TargetKey, TargetRef};
use neap_coordinator::kube_api::infer_client;
use neap_coordinator::publish::kube::KubePublisher;
use neap_coordinator::scaler::kube::KubeScaler;
use neap_coordinator::source::ObjectSource;
use neap_coordinator::source::kube::{Discovery, KubeSource, Scope};
use neap_coordinator::world::{TargetState, World};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio_util::sync::{CancellationToken, DropGuard};

const DEADLINE: Duration = Duration::from_secs(120);

pub(crate) struct Bench {
    pub(crate) client: Client,
    pub(crate) namespace: String,
    pub(crate) clock: Arc<dyn Clock>,
    discovery: Arc<Discovery>,
    pub(crate) world: Arc<World>,
    _stop: DropGuard,
}

/// A namespace of its own on the API server that KUBECONFIG names, and a world that follows it.
pub(crate) async fn bench(namespace: &str) -> Bench {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let client = infer_client("kube-test")
        .await
        .expect("KUBECONFIG names the bed");
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    create::<Namespace>(
        &Api::all(client.clone()),
        json!({"metadata": {"name": namespace}}),
    )
    .await;
    for definition in neap_api::crd::all() {
        apply_definition(&client, serde_json::to_value(definition).unwrap()).await;
    }
    let discovery = Arc::new(Discovery::new(client.clone(), clock.clone()));
    let scope = Scope::Cluster;
    let (world, stop) = follow(&client, scope.clone(), scope, &discovery, &clock).await;
    Bench {
        client,
        namespace: namespace.to_owned(),
        clock,
        discovery,
        world,
        _stop: stop,
    }
}

/// A world that follows a scope, and looks for KEDA in another, as long as the guard lives.
async fn follow(
    client: &Client,
    scope: Scope,
    keda: Scope,
    discovery: &Arc<Discovery>,
    clock: &Arc<dyn Clock>,
) -> (Arc<World>, DropGuard) {
    let source = KubeSource::new(
        client.clone(),
        scope,
        keda,
        discovery.clone(),
        clock.clone(),
    );
    let (world, stop) = (Arc::new(World::new()), CancellationToken::new());
    tokio::spawn(Arc::new(source).run(world.clone(), stop.clone()));
    tokio::time::timeout(DEADLINE, world.synced())
        .await
        .expect("the world fills");
    (world, stop.drop_guard())
}

pub(crate) async fn apply_definition(client: &Client, definition: Value) {
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

pub(crate) async fn wait<T, F: Future<Output = Option<T>>>(what: &str, look: impl Fn() -> F) -> T {
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

pub(crate) async fn create<K>(api: &Api<K>, object: Value) -> K
where
    K: Clone + DeserializeOwned + serde::Serialize + std::fmt::Debug,
{
    let object: K = serde_json::from_value(object).unwrap();
    api.create(&PostParams::default(), &object).await.unwrap()
}

impl Bench {
    pub(crate) fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    pub(crate) fn target(&self, api_version: &str, kind: &str, name: &str) -> TargetRef {
        TargetRef::new(&self.namespace, api_version, kind, name)
    }

    pub(crate) fn key(&self, name: &str) -> TargetKey {
        TargetKey::new(self.namespace.as_str(), name)
    }

    pub(crate) async fn deployment(&self, name: &str, replicas: i32) -> Deployment {
        let pod = json!({"metadata": {"labels": {"app": name}}, "spec": {"terminationGracePeriodSeconds": 0,
            "containers": [{"name": "app", "image": "localhost/pause:1", "imagePullPolicy": "Never",
                            "ports": [{"containerPort": 8080}], "resources": {"requests": {"cpu": "10m"}}}]}});
        create(
            &self.api(),
            json!({"metadata": {"name": name}, "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": name}}, "template": pod}}),
        )
        .await
    }

    pub(crate) async fn scaled_object(&self, name: &str, target: Value) -> ScaledObject {
        create(
            &self.api(),
            json!({"apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "metadata": {"name": name},
                   "spec": {"scaleTargetRef": target, "triggers": [
                       {"type": "cron", "metadata": {"timezone": "UTC", "start": "0 0 * * *", "end": "1 0 * * *", "desiredReplicas": "2"}}]}}),
        )
        .await
    }

    pub(crate) async fn see<T>(&self, what: &str, seen: impl Fn(&World) -> Option<T>) -> T {
        wait(what, || std::future::ready(seen(&self.world))).await
    }

    pub(crate) fn replicas(&self, target: &TargetRef) -> Option<i32> {
        match self.world.target(target) {
            TargetState::Found(facts) => Some(facts.replicas),
            _ => None,
        }
    }

    /// Who, other than Neap, was last seen to set the replicas.
    pub(crate) fn last_writer(&self, target: &TargetRef) -> Option<Arc<str>> {
        match self.world.target(target) {
            TargetState::Found(facts) => facts.last_writer.clone(),
            _ => None,
        }
    }

    /// A further world, of another scope.
    pub(crate) async fn follow(&self, scope: Scope, keda: Scope) -> (Arc<World>, DropGuard) {
        follow(&self.client, scope, keda, &self.discovery, &self.clock).await
    }

    pub(crate) fn scaler(&self) -> KubeScaler {
        KubeScaler::new(
            self.client.clone(),
            self.discovery.clone(),
            self.clock.clone(),
            "kube-test",
        )
    }

    pub(crate) fn publisher(&self) -> KubePublisher {
        KubePublisher::new(self.client.clone(), self.clock.clone(), "kube-test")
    }
}

pub(crate) fn leader() -> LeaderId {
    LeaderId {
        term: 7,
        node: NodeId(1),
    }
}
