//! Certificates, and tokens of real pods.

use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, ServiceAccount};
use kube::ResourceExt;
use kube::api::{Api, PostParams};
use neap_coordinator::identity::{CallerError, Identity, IdentityConfig, ReviewOutcome};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::bench::{bench, create, wait};

#[tokio::test]
#[ignore = "needs a bed: tests/run kube"]
async fn a_pod_s_token_names_its_node_until_the_pod_is_gone() {
    let bench = bench("identity").await;
    let shutdown = CancellationToken::new();
    let config = IdentityConfig::new(&bench.namespace, "neap-coordinator-0");
    let identity = Identity::start(bench.client.clone(), config, bench.clock.clone(), &shutdown)
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
