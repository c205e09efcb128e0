//! What the HTTP port answers about targets and signals.

use std::time::Duration;

use neap_coordinator::world::{HpaFacts, KedaPresence};
use serde_json::{Value, json};

use crate::bench::{Bench, NS, key, target_id};

fn producers(value: &str) -> Value {
    json!({
        "minReplicaCount": 1,
        "maxReplicaCount": 9,
        "triggers": [
            {"type": "kubernetes-workload", "metadata": {"podSelector": "app=producer", "value": value}},
            {"type": "cpu", "metricType": "Utilization", "metadata": {"value": "70"}},
        ],
    })
}

async fn with_three_producers() -> Bench {
    let bench = Bench::start().await;
    bench.world.set_keda(KedaPresence::Gone);
    bench.deployment("web", 1);
    (0..3).for_each(|n| bench.pod("producer", n));
    bench
}

async fn line(bench: &Bench, name: &str) -> Value {
    let (code, answer) = bench.get("/api/v1/targets").await;
    assert_eq!(code, 200);
    let lines = answer["targets"].as_array().unwrap().iter();
    let mut found = lines.filter(|line| line["name"] == name);
    found
        .next()
        .unwrap_or_else(|| panic!("{name} in {answer}"))
        .clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_list_has_what_an_hpa_shows() {
    let bench = with_three_producers().await;
    bench.apply("web", producers("1"), json!({"labels": {"team": "a"}}));
    bench.advance(Duration::from_millis(50));
    assert_eq!(bench.write(0).await.replicas, 3);
    bench.evaluate("web").await;
    let web = line(&bench, "web").await;
    let expected = [
        ("targetKind", json!("Deployment")),
        ("targetName", json!("web")),
        ("minReplicas", json!(1)),
        ("maxReplicas", json!(9)),
        ("specReplicas", json!(3)),
        ("statusReplicas", json!(3)),
        ("ownerKind", json!("neap")),
        ("owner", json!("Neap")),
        ("scaled", json!(true)),
        ("labels", json!({"team": "a"})),
        ("fault", json!(null)),
    ];
    for (field, value) in expected {
        assert_eq!(web[field], value, "{field} of {web}");
    }
    assert!(web["created"].is_string(), "{web}");
    let queue = &web["triggers"][0];
    assert_eq!(
        (&queue["value"], &queue["target"], &queue["targetType"]),
        (&json!("1"), &json!("1"), &json!("AverageValue")),
        "three producers over three replicas: {queue}"
    );
    // Nobody measures cpu here: its target is known, its value is not.
    let cpu = &web["triggers"][1];
    assert_eq!(
        (&cpu["name"], &cpu["target"], &cpu["targetType"]),
        (&json!("cpu"), &json!("70"), &json!("Utilization"))
    );
    assert!(
        cpu.get("value").is_none() && cpu["error"].is_string(),
        "{cpu}"
    );
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_list_names_the_owner_that_is_only_observed_and_what_neap_would_set() {
    let bench = with_three_producers().await;
    bench.world.apply_hpa(HpaFacts {
        namespace: NS.into(),
        name: "mine".into(),
        uid: "hpa-mine".into(),
        resource_version: "1".into(),
        target: target_id("web"),
        scaled_object: None,
        is_no_owner: false,
        external_metrics_answered: false,
        deleting: false,
    });
    bench.scaled_object("web", producers("1"));
    bench.evaluate("web").await;
    let web = line(&bench, "web").await;
    assert_eq!(
        (&web["ownerKind"], &web["ownerName"]),
        (&json!("hpa"), &json!("mine"))
    );
    assert_eq!(
        (&web["current"], &web["desired"], &web["scaled"]),
        (&json!(1), &json!(3), &json!(false))
    );
    let (_, why) = bench.get("/api/v1/targets/ns/web").await;
    let events = &why["latest"]["evaluation"]["events"];
    assert!(
        events[0]["message"].is_string(),
        "the reason for diff: {why}"
    );

    bench.world.remove_hpa(&key("mine"));
    bench.world.set_keda(KedaPresence::Alive {
        namespace: "keda".into(),
    });
    let web = line(&bench, "web").await;
    assert_eq!(
        (&web["ownerKind"], &web["ownerName"]),
        (&json!("keda"), &Value::Null)
    );
    assert_eq!(bench.scaler.writes(), []);
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_that_cannot_be_acted_on_is_listed_with_its_fault() {
    let bench = with_three_producers().await;
    bench.scaled_object("web", producers("none"));
    bench
        .passing(bench.publisher.condition("web", "Ready", "False"))
        .await;
    let web = line(&bench, "web").await;
    assert!(web["fault"].as_str().unwrap().contains("none"), "{web}");
    assert_eq!(
        (&web["maxReplicas"], &web["desired"]),
        (&json!(9), &Value::Null)
    );
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_agents_see_is_answered_by_the_leader_and_bad_questions_are_refused() {
    let bench = with_three_producers().await;
    let mut agent = bench.agent();
    let backlog = agent.backlog("web-0", 8080);
    agent.gauge(backlog, 0.0, 4);
    let (code, top) = bench.get("/api/v1/top/pods?namespace=ns&sort=queue").await;
    assert_eq!(code, 200, "{top}");
    assert_eq!((&top["total"], &top["omitted"]), (&json!(4), &json!(0)));
    let first = &top["items"][0];
    assert_eq!(
        (&first["name"], &first["queue"]),
        (&json!("web-0"), &json!(4))
    );
    assert_eq!(first["cpuCores"], Value::Null);
    let (code, nodes) = bench.get("/api/v1/top/nodes").await;
    assert_eq!((code, &nodes["items"][0]["queue"]), (200, &json!(4)));

    let refusals = [
        (
            "/api/v1/top/pods?sort=disk",
            400,
            "allowed: cpu, memory, queue, pressure",
        ),
        ("/api/v1/top/pods?limit=10001", 400, "allowed: 1 to 10000"),
        ("/api/v1/top/nodes?selector=a%3Db", 400, "labels of nodes"),
        ("/api/v1/top/jobs", 404, "allowed: pods, nodes"),
    ];
    for (path, code, part) in refusals {
        let (answered, refusal) = bench.get(path).await;
        assert_eq!(answered, code, "{path}");
        let error = refusal["error"].as_str().unwrap();
        assert!(error.contains(part), "{path}: {error}");
    }
    bench.stop().await;
}
