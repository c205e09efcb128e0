use std::sync::Mutex;

use serde_json::{Value, json};

use super::super::authority::{LEAF_LIFE, all_certificates};
use super::super::testing::{
    CONFIG_MAP, CONFIG_MAPS, ISSUER, SECRET, SECRETS, TokenMaker, handshake, store,
};
use super::*;
use crate::clock::{Boottime, ManualClock};
use crate::testing::api_server::ApiServer;

struct Bench {
    api: ApiServer,
    clock: ManualClock,
    identity: Arc<Identity>,
    bundle: Arc<Mutex<Option<Value>>>,
}

async fn start(
    api: &ApiServer,
    client: kube::Client,
    clock: &ManualClock,
    pod: &str,
) -> Arc<Identity> {
    let _ = api;
    let shutdown = CancellationToken::new();
    Identity::start(
        client,
        IdentityConfig::new("neap", pod),
        Arc::new(clock.clone()),
        &shutdown,
    )
    .await
    .unwrap()
    .unwrap()
}

async fn bench() -> Bench {
    let (api, client) = ApiServer::new();
    store(&api, SECRETS, SECRET);
    let bundle = store(&api, CONFIG_MAPS, CONFIG_MAP);
    // Certificates are checked by the verifying side's own clock: ours must agree with it.
    let clock = ManualClock::new(Boottime::from_micros(1), crate::clock::SystemClock.wall());
    let identity = start(&api, client, &clock, "neap-coordinator-0").await;
    Bench {
        api,
        clock,
        identity,
        bundle,
    }
}

impl Bench {
    fn published(&self) -> String {
        self.bundle.lock().unwrap().as_ref().unwrap()["data"]["ca.crt"]
            .as_str()
            .unwrap()
            .to_owned()
    }
}

#[tokio::test]
async fn an_agent_verifies_the_coordinator_under_each_of_its_names() {
    let bench = bench().await;
    let bundle = bench.published();
    for name in [
        "neap-coordinator.neap.svc",
        "neap-coordinator.neap.svc.cluster.local",
        "neap-coordinator-0.neap-coordinator-peers.neap.svc",
        "localhost",
        "127.0.0.1",
    ] {
        handshake(&bench.identity, &bundle, name).await.unwrap();
    }
    let refused = handshake(
        &bench.identity,
        &bundle,
        "neap-coordinator-1.neap-coordinator-peers.neap.svc",
    )
    .await;
    assert!(
        refused
            .unwrap_err()
            .to_string()
            .contains("not valid for name")
    );
    let stranger = super::super::authority::Authority::generate(bench.clock.wall()).unwrap();
    let refused = handshake(&bench.identity, stranger.certificate_pem(), "localhost").await;
    assert!(
        refused
            .unwrap_err()
            .to_string()
            .contains("invalid peer certificate")
    );
}

#[tokio::test]
async fn two_coordinators_share_one_authority() {
    let (api, client) = ApiServer::new();
    store(&api, SECRETS, SECRET);
    let bundle = store(&api, CONFIG_MAPS, CONFIG_MAP);
    let clock = ManualClock::new(Boottime::from_micros(1), crate::clock::SystemClock.wall());
    let (a, b) = tokio::join!(
        start(&api, client.clone(), &clock, "neap-coordinator-0"),
        start(&api, client.clone(), &clock, "neap-coordinator-1"),
    );
    let published = bundle.lock().unwrap().as_ref().unwrap()["data"]["ca.crt"]
        .as_str()
        .unwrap()
        .to_owned();
    for (identity, pod) in [(&a, "neap-coordinator-0"), (&b, "neap-coordinator-1")] {
        handshake(
            identity,
            &published,
            &format!("{pod}.neap-coordinator-peers.neap.svc"),
        )
        .await
        .unwrap();
        let peer = identity.peer_tls().borrow().clone();
        assert_eq!(peer.ca, published);
        assert!(peer.key.contains("PRIVATE KEY") && !format!("{peer:?}").contains("PRIVATE"));
    }
}

#[tokio::test]
async fn certificates_are_renewed_while_the_port_is_open() {
    let bench = bench().await;
    let bundle = bench.published();
    let mut peer = bench.identity.peer_tls();
    let first = handshake(&bench.identity, &bundle, "localhost")
        .await
        .unwrap();
    bench
        .identity
        .renewal()
        .renew(bench.clock.wall())
        .await
        .unwrap();
    assert_eq!(
        handshake(&bench.identity, &bundle, "localhost")
            .await
            .unwrap(),
        first,
        "it is not due"
    );
    peer.mark_unchanged();

    let before = bench.identity.expiry().unwrap();
    let due = bench.clock.wall() + LEAF_LIFE / 3 * 2;
    bench.identity.renewal().renew(due).await.unwrap();
    let after = bench.identity.expiry().unwrap();
    assert_eq!(after.coordinator, before.coordinator + LEAF_LIFE / 3 * 2);
    assert_eq!(after.authority, before.authority);
    let shown = bench
        .identity
        .credentials
        .peer()
        .borrow()
        .certificate
        .clone();
    assert!(peer.has_changed().unwrap());
    assert!(shown.contains("CERTIFICATE"));
    assert_eq!(bench.published(), bundle, "the authority is the same");
}

#[tokio::test]
async fn a_new_authority_signs_only_after_agents_could_learn_of_it() {
    let bench = bench().await;
    let old = bench.published();
    let first = handshake(&bench.identity, &old, "localhost").await.unwrap();
    // Two thirds of the authority's life: the next one joins the bundle and signs nothing yet.
    let due = bench.clock.wall() + Duration::from_secs(487 * 86_400);
    bench.identity.renewal().renew(due).await.unwrap();
    let both = bench.published();
    assert_eq!(all_certificates(&both, "bundle").unwrap().len(), 2);
    assert!(both.starts_with(&old));
    assert_eq!(bench.identity.peer_tls().borrow().ca, both);
    let peer = bench.identity.peer_tls().borrow().certificate.clone();
    bench
        .identity
        .renewal()
        .renew(due + Duration::from_secs(3_700))
        .await
        .unwrap();
    let after = bench.published();
    assert_eq!(all_certificates(&after, "bundle").unwrap().len(), 2);
    assert!(after.ends_with(&old), "the former one is still trusted");
    assert_ne!(
        bench.identity.peer_tls().borrow().certificate,
        peer,
        "the new one signs"
    );
    assert_ne!(first, Vec::<u8>::new());
}

#[tokio::test]
async fn a_secret_that_holds_something_else_is_left_alone() {
    let (api, client) = ApiServer::new();
    let secret = store(&api, SECRETS, SECRET);
    store(&api, CONFIG_MAPS, CONFIG_MAP);
    let foreign = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "neap-ca", "resourceVersion": "5"},
                         "data": {"tls.crt": "aGVsbG8=", "tls.key": "aGVsbG8="}});
    *secret.lock().unwrap() = Some(foreign.clone());
    let clock = ManualClock::new(Boottime::from_micros(1), crate::clock::SystemClock.wall());
    let shutdown = CancellationToken::new();
    let config = IdentityConfig::new("neap", "neap-coordinator-0");
    let error = Identity::start(client, config, Arc::new(clock), &shutdown)
        .await
        .unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("Secret neap/neap-ca: tls.crt: not a certificate"),
        "{error}"
    );
    assert_eq!(*secret.lock().unwrap(), Some(foreign));
}

#[tokio::test]
async fn a_token_is_checked_by_the_key_it_names() {
    let bench = bench().await;
    let maker = TokenMaker::rs256("k1");
    bench.api.get(
        "/.well-known/openid-configuration",
        json!({"issuer": ISSUER}),
    );
    bench
        .api
        .get("/openid/v1/jwks", TokenMaker::jwks(&[&maker]));
    let now = bench.clock.wall();
    let token = maker.agent("node-1", now).sign();
    assert_eq!(
        bench.identity.verify(&token).await.unwrap().node_name,
        "node-1"
    );
    let stranger = TokenMaker::es256("k2").agent("node-1", now).sign();
    let error = bench.identity.verify(&stranger).await.unwrap_err();
    assert!(
        matches!(error, CallerError::Token(TokenError::UnknownKey)),
        "{error}"
    );
    bench.clock.advance(Duration::from_secs(3_631));
    let error = bench.identity.verify(&token).await.unwrap_err();
    assert!(
        matches!(error, CallerError::Token(TokenError::Expired(_))),
        "{error}"
    );
    assert!(!error.to_string().contains(&token));
}
