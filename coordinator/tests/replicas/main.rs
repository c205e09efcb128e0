//! Three coordinators in this process: real engines, real logs on temporary disks, mutual TLS between
//! them; one clock that the tests move, and one fake set of scales that all of them write.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a failed expectation is a failed test
#![allow(dead_code)] // the fakes are shared with the tests of one coordinator

mod bench;
#[path = "../deciding/fakes.rs"]
mod fakes;
mod figures;
#[path = "../deciding/objects.rs"]
mod objects;
mod peers;

use std::time::Duration;

use bench::Bench;
use serde_json::{Value, json};

fn spec() -> Value {
    json!({
        "minReplicaCount": 1,
        "maxReplicaCount": 50,
        "advanced": {"horizontalPodAutoscalerConfig": {"behavior": {
            "scaleUp": {"policies": [{"type": "Pods", "value": 100, "periodSeconds": 15}]},
            "scaleDown": {"stabilizationWindowSeconds": 300},
        }}},
        "triggers": [{"type": "kubernetes-workload", "metadata": {"podSelector": "app=producer", "value": "1"}}],
    })
}

/// A target that was scaled from one to five.
async fn at_five(bench: &Bench) {
    bench.deployment("web", 1);
    (0..5).for_each(|n| bench.pod("producer", n));
    bench.scaled_object("web", spec());
    bench.advance(Duration::from_millis(50));
    assert_eq!(bench.scaler.write(0).await.replicas, 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_next_leader_goes_on_inside_the_window_of_the_one_that_died() {
    let mut bench = Bench::start().await;
    at_five(&bench).await;
    // The load goes: one replica is recommended, and five are held for 300 s.
    (1..5).for_each(|n| bench.remove_pod("producer", n));
    for _ in 0..20 {
        bench.advance(Duration::from_secs(10));
        bench.decided("web").await;
    }
    let writes = bench.scaler.writes().len();
    let former = bench.leader().await;
    bench.kill(former).await;
    let next = bench.leader().await;
    assert_ne!(next, former);
    // 200 s of the window are over; the rest holds under the next leader, and then it ends.
    for _ in 0..8 {
        bench.advance(Duration::from_secs(10));
        bench.decided("web").await;
        assert_eq!(bench.scaler.writes().len(), writes, "inside the window");
    }
    let down = async {
        while bench.scaler.writes().len() == writes {
            bench.advance(Duration::from_secs(1));
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), down)
        .await
        .expect("the window ends");
    assert_eq!(bench.scaler.writes()[writes].replicas, 1);
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn followers_answer_what_the_leader_told_and_say_how_old_it_is() {
    let mut bench = Bench::start().await;
    at_five(&bench).await;
    let leader = bench.leader().await;
    let follower = (leader + 1) % 3;
    let path = "/api/v1/targets/ns/web";
    // Told once a second; what the leader shows is what the follower shows.
    let told = bench
        .until("the follower shows the change", async |bench| {
            bench.second().await;
            let told = bench.get(follower, path).await?;
            (!told["changes"].as_array()?.is_empty()).then_some(told)
        })
        .await;
    let own = bench.get(leader, path).await.unwrap();
    assert_eq!(told["changes"], own["changes"]);
    assert_eq!(told["owner"], own["owner"]);
    assert_eq!(own["asOf"]["ageMillis"], 0);
    assert_eq!(told["asOf"]["leader"], own["asOf"]["leader"]);
    assert!(
        told["asOf"]["ageMillis"].as_u64().unwrap() <= 2_000,
        "{told}"
    );
    let list = bench.get(follower, "/api/v1/targets").await.unwrap();
    let line = &list["targets"][0];
    assert_eq!(line["desired"], 5, "{list}");
    // What the leader decided, beside what this replica's own watches say.
    assert_eq!(
        (&line["triggers"][0]["target"], &line["maxReplicas"]),
        (&json!("1"), &json!(50)),
        "{list}"
    );
    let own_status = bench.get(leader, "/api/v1/status").await.unwrap();
    assert!(own_status["name"].is_string(), "{own_status}");
    assert_eq!(list["asOf"]["name"], own_status["name"], "{list}");
    let status = bench.get(follower, "/api/v1/status").await.unwrap();
    assert_eq!(
        (&status["leads"], &status["role"]),
        (&json!(false), &json!("follower"))
    );
    let lags: Vec<&Value> = status["members"]
        .as_array()
        .unwrap()
        .iter()
        .map(|member| &member["lag"])
        .collect();
    assert!(
        lags.iter().any(|lag| lag.is_u64()),
        "only the leader knows: {status}"
    );
    let (code, refusal) = bench.answer(follower, "/api/v1/top/pods").await;
    let error = refusal["error"].as_str().unwrap();
    let name = own_status["name"].as_str().unwrap();
    assert_eq!(code, 503);
    assert!(
        error.ends_with(&format!("ask the leader {name}")),
        "{error}"
    );
    let (code, seen) = bench.answer(leader, "/api/v1/top/pods?limit=2").await;
    assert_eq!((code, &seen["omitted"]), (200, &json!(4)), "{seen}");

    // Without a leader the last word stays, and grows old.
    for seat in (0..3).filter(|seat| *seat != follower) {
        bench.kill(seat).await;
    }
    bench.advance(Duration::from_secs(30));
    let late = bench.get(follower, path).await.unwrap();
    assert_eq!(late["changes"], told["changes"]);
    assert!(
        late["asOf"]["ageMillis"].as_u64().unwrap() >= 30_000,
        "{late}"
    );
    assert_eq!(
        bench.status_code(follower, "/readyz").await,
        200,
        "a quorum is no part of it"
    );
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_without_a_lease_decides_and_shows_nothing_and_says_how_old_its_answers_are() {
    let mut bench = Bench::start().await;
    at_five(&bench).await;
    bench.decided("web").await;
    let leader = bench.leader().await;
    assert_eq!(bench.figure(leader, "neap_leader"), 1);
    for seat in (0..3).filter(|seat| *seat != leader) {
        bench.kill(seat).await;
    }
    bench.leads_no_more(leader).await;
    // What was on its way arrives.
    bench.second().await;
    let before = bench.evaluated_and_shown(leader);
    let writes = bench.scaler.writes().len();
    // What would be shown and scaled at once by one that leads.
    (5..9).for_each(|n| bench.pod("producer", n));
    bench.remove_pod("web", 0);
    for _ in 0..5 {
        bench.second().await;
    }
    assert_eq!(bench.evaluated_and_shown(leader), before);
    assert_eq!(bench.scaler.writes().len(), writes);
    assert_eq!(bench.figure(leader, "neap_leader"), 0);
    let own = bench.get(leader, "/api/v1/targets/ns/web").await.unwrap();
    assert!(own["asOf"]["ageMillis"].as_u64().unwrap() >= 5_000, "{own}");
    let changes = own["changes"].as_array().unwrap();
    assert!(
        changes
            .iter()
            .any(|change| change["evaluation"]["write"] == 5),
        "it still knows what it did: {own}"
    );
    let status = bench.get(leader, "/api/v1/status").await.unwrap();
    assert_eq!(
        (&status["leads"], &status["leader"]),
        (&json!(false), &Value::Null)
    );
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_is_ready_once_it_has_been_a_voter_and_needs_no_quorum_for_it() {
    let mut bench = Bench::empty();
    bench.open(0).await;
    // The others do not answer, so there is no cluster yet. All objects are listed.
    let told = bench
        .until("what is missing", async |bench| {
            let (code, text) = bench.text(0, "/readyz").await;
            assert_eq!(code, 503, "{text}");
            (text.lines().count() == 1).then_some(text)
        })
        .await;
    assert_eq!(told, "membership: no voter yet, this replica is joining\n");
    bench.open(1).await;
    bench.open(2).await;
    bench.voters().await;
    for seat in 0..3 {
        bench
            .until("a ready replica", async |bench| {
                (bench.status_code(seat, "/readyz").await == 200).then_some(())
            })
            .await;
    }
    // One that comes back alone finds on its disk that it votes.
    for seat in 0..3 {
        bench.kill(seat).await;
    }
    bench.open(2).await;
    bench
        .until("a ready replica without a quorum", async |bench| {
            (bench.status_code(2, "/readyz").await == 200).then_some(())
        })
        .await;
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_followers_were_told_stays_when_one_of_them_leads() {
    let bench = Bench::start().await;
    at_five(&bench).await;
    let leader = bench.leader().await;
    bench
        .until("all were told", async |bench| {
            bench.second().await;
            for seat in 0..3 {
                let told = bench.get(seat, "/api/v1/targets/ns/web").await?;
                (!told["changes"].as_array()?.is_empty()).then_some(())?;
            }
            Some(())
        })
        .await;
    bench.hand_over(leader).await;
    let next = bench.leader().await;
    assert_ne!(next, leader);
    let shown = bench
        .until("the next leader's own decision", async |bench| {
            bench.second().await;
            bench.get(next, "/api/v1/targets/ns/web").await
        })
        .await;
    let changes = shown["changes"].as_array().unwrap();
    assert!(
        changes
            .iter()
            .any(|change| change["evaluation"]["write"] == 5),
        "the former leader's change is still there: {shown}"
    );
    assert_eq!(shown["asOf"]["ageMillis"], 0);
    bench.stop().await;
}
