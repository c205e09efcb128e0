//! Certificates from files, through [`Identity`].

use std::sync::Mutex;

use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_RSA_SHA256,
};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::super::authority::{Authority, CertificateKind, LEAF_LIFE};
use super::super::bundle::SETTLE;
use super::super::testing::{CONFIG_MAP, CONFIG_MAPS, SECRET, SECRETS, handshake, store};
use super::*;
use crate::clock::{Boottime, ManualClock};
use crate::testing::api_server::ApiServer;

const PODS: &str = "/api/v1/namespaces/neap/pods";
const SERVICE: &str = "neap-coordinator.neap.svc";
const PEERS: &str = "*.neap-coordinator-peers.neap.svc";

/// The mounted Secret, and the API server.
struct Bench {
    api: ApiServer,
    client: kube::Client,
    clock: ManualClock,
    files: TempDir,
    bundle: Arc<Mutex<Option<Value>>>,
}

impl Bench {
    fn new() -> Self {
        let (api, client) = ApiServer::new();
        let bundle = store(&api, CONFIG_MAPS, CONFIG_MAP);
        // The role has no right to them.
        api.fail(SECRET, 403);
        api.fail(SECRETS, 403);
        Self {
            api,
            client,
            clock: ManualClock::new(Boottime::from_micros(1), crate::clock::SystemClock.wall()),
            files: tempfile::tempdir().unwrap(),
            bundle,
        }
    }

    fn now(&self) -> Timestamp {
        self.clock.wall()
    }

    fn authority(&self) -> Authority {
        Authority::generate(self.now()).unwrap()
    }

    /// Writes the files as the kubelet does: all in one step.
    fn write(&self, certificate: &str, key: &str, authorities: &str) {
        let fresh = tempfile::tempdir_in(self.files.path()).unwrap().keep();
        for (name, text) in [
            ("tls.crt", certificate),
            ("tls.key", key),
            ("ca.crt", authorities),
        ] {
            std::fs::write(fresh.join(name), text).unwrap();
        }
        let link = self.files.path().join("..new");
        std::os::unix::fs::symlink(&fresh, &link).unwrap();
        std::fs::rename(&link, self.files.path().join("..data")).unwrap();
    }

    /// A new certificate of `authority` for all coordinators. Gives it in PEM form.
    fn renew(&self, authority: &Authority) -> String {
        let leaf = sign(
            authority,
            CertificateKind::Peer,
            &[SERVICE, PEERS],
            self.now(),
        );
        self.write(&leaf.0, &leaf.1, authority.certificate_pem());
        leaf.0
    }

    fn config(&self) -> IdentityConfig {
        IdentityConfig {
            tls_dir: Some(self.files.path().to_owned()),
            ..IdentityConfig::new("neap", "neap-coordinator-0")
        }
    }

    async fn start(&self) -> Arc<Identity> {
        let shutdown = CancellationToken::new();
        let clock = Arc::new(self.clock.clone());
        Identity::start(self.client.clone(), self.config(), clock, &shutdown)
            .await
            .unwrap()
            .unwrap()
    }

    fn published(&self) -> String {
        let bundle = self.bundle.lock().unwrap();
        let text = bundle.as_ref().unwrap()["data"]["ca.crt"].as_str();
        text.unwrap().to_owned()
    }

    /// Why the set that stands in the files is refused.
    async fn refusal(&self) -> String {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let files = CertificateFiles::new(self.files.path(), &self.config(), provider);
        let checked = match files.read().await {
            Ok(texts) => files.check(texts, self.now()).err(),
            Err(refused) => Some(refused),
        };
        checked.unwrap().to_string()
    }
}

/// Certificate and key in PEM form.
fn sign(
    authority: &Authority,
    kind: CertificateKind,
    names: &[&str],
    at: Timestamp,
) -> (String, String) {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let leaf = authority.sign(kind, &names, &[], at).unwrap();
    (leaf.certificate_pem, leaf.key_pem)
}

/// The other coordinators, ready or not.
fn others(ready: bool) -> Value {
    let ready = if ready { "True" } else { "False" };
    let pod = |name: &str, ready: &str| {
        json!({"metadata": {"name": name},
               "status": {"conditions": [{"type": "Ready", "status": ready}]}})
    };
    json!({"apiVersion": "v1", "kind": "PodList", "metadata": {},
           "items": [pod("neap-coordinator-0", "True"), pod("neap-coordinator-1", ready)]})
}

#[tokio::test]
async fn one_certificate_of_someone_else_serves_agents_and_peers() {
    let bench = Bench::new();
    let authority = bench.authority();
    let certificate = bench.renew(&authority);
    let identity = bench.start().await;
    assert_eq!(bench.published(), authority.certificate_pem());
    for name in [
        SERVICE,
        "neap-coordinator-0.neap-coordinator-peers.neap.svc",
    ] {
        handshake(&identity, &bench.published(), name)
            .await
            .unwrap();
    }
    let peer = identity.peer_tls().borrow().clone();
    assert_eq!(peer.certificate, certificate);
    assert_eq!(peer.ca, authority.certificate_pem());
    let expiry = identity.expiry().unwrap();
    assert_eq!(expiry.authority, authority.not_after());
    assert_eq!(
        expiry.coordinator.as_second(),
        (bench.now() + LEAF_LIFE).as_second()
    );
    assert_eq!(bench.api.count(SECRET) + bench.api.count(SECRETS), 0);
}

#[tokio::test]
async fn a_renewed_set_is_taken_live() {
    let bench = Bench::new();
    let authority = bench.authority();
    bench.renew(&authority);
    let identity = bench.start().await;
    let first = handshake(&identity, &bench.published(), SERVICE)
        .await
        .unwrap();
    let mut peer = identity.peer_tls();
    peer.mark_unchanged();
    let shutdown = CancellationToken::new();
    let keeping = tokio::spawn({
        let (identity, shutdown) = (identity.clone(), shutdown.clone());
        async move { identity.keep(shutdown).await }
    });
    let certificate = bench.renew(&authority);
    // The clock stands still but for these steps, and the task may begin to wait after any of them.
    while !peer.has_changed().unwrap() {
        bench.clock.advance(Duration::from_secs(1));
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert_eq!(peer.borrow_and_update().certificate, certificate);
    let second = handshake(&identity, &bench.published(), SERVICE)
        .await
        .unwrap();
    assert_ne!(first, second);
    shutdown.cancel();
    keeping.await.unwrap();

    // Nothing new: nothing is handed out again.
    let renewed = identity.renewal().renew(bench.now()).await.unwrap();
    assert_eq!(renewed, Renewed::InForce);
    assert!(!peer.has_changed().unwrap());
    assert_eq!(bench.api.count(SECRET) + bench.api.count(SECRETS), 0);
}

#[tokio::test]
async fn what_cannot_be_used_is_refused_and_the_last_one_stays() {
    let bench = Bench::new();
    let authority = bench.authority();
    let stranger = bench.authority();
    let all = [SERVICE, PEERS];
    let good = sign(&authority, CertificateKind::Peer, &all, bench.now());
    let trusted = authority.certificate_pem();
    bench.write(&good.0, &good.1, trusted);
    let identity = bench.start().await;
    let before = identity.expiry();

    let renewed = sign(&authority, CertificateKind::Peer, &all, bench.now());
    let server_only = sign(&authority, CertificateKind::Server, &all, bench.now());
    let no_peers = sign(&authority, CertificateKind::Peer, &all[..1], bench.now());
    let no_service = sign(&authority, CertificateKind::Peer, &all[1..], bench.now());
    let long_ago = bench.now() - 2 * LEAF_LIFE;
    let old = Authority::generate(long_ago).unwrap();
    let expired = sign(&old, CertificateKind::Peer, &all, long_ago);
    let later = sign(
        &authority,
        CertificateKind::Peer,
        &all,
        bench.now() + LEAF_LIFE,
    );
    for (certificate, key, authorities, file, found) in [
        (
            "hello",
            &*good.1,
            trusted,
            "tls.crt",
            "no certificate in PEM form",
        ),
        (
            &*renewed.0,
            "hello",
            trusted,
            "tls.key",
            "not a private key",
        ),
        (
            &*renewed.0,
            &*good.1,
            trusted,
            "tls.key",
            "it does not belong to tls.crt",
        ),
        (
            &*renewed.0,
            &*renewed.1,
            "",
            "ca.crt",
            "no certificate in PEM form",
        ),
        (
            &*renewed.0,
            &*renewed.1,
            stranger.certificate_pem(),
            "tls.crt",
            "not signed by an authority of ca.crt",
        ),
        (
            &*server_only.0,
            &*server_only.1,
            trusted,
            "tls.crt",
            "client",
        ),
        (
            &*no_peers.0,
            &*no_peers.1,
            trusted,
            "tls.crt",
            "not valid for name \"neap-coordinator-0.neap-coordinator-peers.neap.svc\"",
        ),
        (
            &*no_service.0,
            &*no_service.1,
            trusted,
            "tls.crt",
            "not valid for name \"neap-coordinator.neap.svc\"",
        ),
        (
            &*expired.0,
            &*expired.1,
            old.certificate_pem(),
            "tls.crt",
            "it expired at",
        ),
        (
            &*later.0,
            &*later.1,
            trusted,
            "tls.crt",
            "it is not valid before",
        ),
    ] {
        bench.write(certificate, key, authorities);
        let said = bench.refusal().await;
        let path = bench.files.path().join(file).display().to_string();
        assert!(
            said.starts_with(&format!("{path}: ")) && said.contains(found),
            "{said}"
        );
        assert!(said.contains("; needed: "), "{said}");
        assert!(!said.contains("PRIVATE"), "{said}");
        if file == "tls.crt" {
            assert!(
                said.contains("neap-coordinator.neap.svc and *.neap-coordinator-peers.neap.svc"),
                "{said}"
            );
        }
        let looked = identity.renewal().renew(bench.now()).await.unwrap();
        assert_eq!(looked, Renewed::Waits, "{said}");
        assert_eq!(identity.peer_tls().borrow().certificate, good.0, "{said}");
    }
    assert_eq!(identity.expiry(), before);
    handshake(&identity, trusted, SERVICE).await.unwrap();

    std::fs::remove_file(bench.files.path().join("..data")).unwrap();
    assert!(bench.refusal().await.contains("tls.crt: No such file"));

    bench.write(&renewed.0, &renewed.1, trusted);
    let looked = identity.renewal().renew(bench.now()).await.unwrap();
    assert_eq!(looked, Renewed::InForce);
    assert_eq!(identity.peer_tls().borrow().certificate, renewed.0);
    assert_eq!(bench.api.count(SECRET) + bench.api.count(SECRETS), 0);
}

#[tokio::test]
async fn it_waits_for_a_first_set_that_can_be_used() {
    let bench = Bench::new();
    let starting = bench.start();
    tokio::pin!(starting);
    let early = tokio::time::timeout(Duration::from_millis(300), &mut starting).await;
    assert!(early.is_err(), "there are no files yet");
    assert_eq!(*bench.bundle.lock().unwrap(), None);
    bench.renew(&bench.authority());
    assert!(starting.await.expiry().is_some());
}

#[tokio::test]
async fn a_new_authority_is_shown_once_others_could_learn_of_it() {
    let bench = Bench::new();
    let (old, new) = (bench.authority(), bench.authority());
    let first = bench.renew(&old);
    let identity = bench.start().await;
    bench.api.get(PODS, others(true));
    let second = bench.renew(&new);
    let renewal = identity.renewal();
    assert_eq!(renewal.renew(bench.now()).await.unwrap(), Renewed::Waits);
    let peer = identity.peer_tls().borrow().clone();
    assert_eq!(peer.certificate, first);
    for authority in [&old, &new] {
        assert!(
            peer.ca.contains(authority.certificate_pem()),
            "both are trusted"
        );
        assert!(bench.published().contains(authority.certificate_pem()));
    }
    bench.clock.advance(SETTLE + Duration::from_secs(1));
    assert_eq!(renewal.renew(bench.now()).await.unwrap(), Renewed::InForce);
    let peer = identity.peer_tls().borrow().clone();
    assert_eq!(peer.certificate, second);
    assert!(peer.ca.contains(old.certificate_pem()), "still trusted");
}

#[tokio::test]
async fn nobody_waits_where_no_other_coordinator_serves() {
    let bench = Bench::new();
    let (old, new) = (bench.authority(), bench.authority());
    bench.renew(&old);
    let identity = bench.start().await;
    bench.api.get(PODS, others(false));
    let second = bench.renew(&new);
    let renewal = identity.renewal();
    assert_eq!(renewal.renew(bench.now()).await.unwrap(), Renewed::InForce);
    assert_eq!(identity.peer_tls().borrow().certificate, second);
    // The next one finds this one ready, and must not wait for what is in use.
    assert!(!bench.published().contains("# since"));
}

#[tokio::test]
async fn old_and_new_pods_trust_each_other_in_a_change_of_kind() {
    let bench = Bench::new();
    let secret = store(&bench.api, SECRETS, SECRET);
    let shutdown = CancellationToken::new();
    let own = Identity::start(
        bench.client.clone(),
        IdentityConfig::new("neap", "neap-coordinator-1"),
        Arc::new(bench.clock.clone()),
        &shutdown,
    );
    let own = own.await.unwrap().unwrap();
    let before = bench.published();
    // The upgrade takes the right to the Secret away from both.
    bench.api.fail(SECRET, 403);
    let authority = bench.authority();
    bench.renew(&authority);
    bench.api.get(PODS, others(true));
    let starting = bench.start();
    tokio::pin!(starting);
    let early = tokio::time::timeout(Duration::from_millis(300), &mut starting).await;
    assert!(
        early.is_err(),
        "the old pod serves, and nobody knows the new authority"
    );
    assert!(own.renewal().renew(bench.now()).await.is_err());
    assert!(
        own.peer_tls()
            .borrow()
            .ca
            .contains(authority.certificate_pem())
    );
    bench.clock.advance(SETTLE + Duration::from_secs(1));
    let new = starting.await;
    assert!(new.peer_tls().borrow().ca.contains(&before));
    for identity in [&own, &new] {
        handshake(identity, &bench.published(), SERVICE)
            .await
            .unwrap();
    }
    // The new pod has taken the old one's authority out, as after a day, and the old one still waits for its turn.
    let mut bundle = bench.bundle.lock().unwrap().take().unwrap();
    bundle["data"]["ca.crt"] = json!(authority.certificate_pem());
    *bench.bundle.lock().unwrap() = Some(bundle);
    assert!(own.renewal().renew(bench.now()).await.is_err());
    assert!(bench.published().contains(&before));
    assert!(bench.published().contains(authority.certificate_pem()));
    assert!(secret.lock().unwrap().is_some(), "for the way back");
}

#[tokio::test]
async fn certificates_between_are_shown_and_keys_may_be_of_another_kind() {
    let bench = Bench::new();
    let authority_of = |name: &str| {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params
    };
    let root_key = KeyPair::generate_for(&PKCS_RSA_SHA256).unwrap();
    let root_params = authority_of("root");
    let root = root_params.self_signed(&root_key).unwrap();
    let root_issuer = Issuer::new(root_params, root_key);
    let between_key = KeyPair::generate().unwrap();
    let between = authority_of("between")
        .signed_by(&between_key, &root_issuer)
        .unwrap();
    let between = Authority::from_pem(&between.pem(), &between_key.serialize_pem()).unwrap();
    let leaf = sign(
        &between,
        CertificateKind::Peer,
        &[SERVICE, PEERS],
        bench.now(),
    );
    let chain = format!("{}{}", leaf.0, between.certificate_pem());
    bench.write(&chain, &leaf.1, &root.pem());
    let identity = bench.start().await;
    handshake(&identity, &bench.published(), SERVICE)
        .await
        .unwrap();
    assert_eq!(identity.peer_tls().borrow().certificate, chain);
}
