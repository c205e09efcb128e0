//! The main path on real pods: a node's counters become replicas. Needs a bed with Neap in it:
//! `tests/run main-path`.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use jiff::{Timestamp, ToSpan, Zoned};
use neap_e2e::{Bed, NEAP, Workload, scaled_object, service, until, within};
use serde_json::{Value, json};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// Prints a figure on one line; scenarios run side by side.
fn saw(line: &str) {
    static OUT: Mutex<()> = Mutex::new(());
    let _guard = OUT.lock().unwrap_or_else(PoisonError::into_inner);
    println!("saw: {line}");
}

fn seconds(from: Timestamp, to: Timestamp) -> f64 {
    to.duration_since(from).as_secs_f64()
}

/// How often a series of replica counts turns: up after down, or down after up.
fn turns(replicas: &[i64]) -> usize {
    let steps: Vec<bool> = replicas
        .windows(2)
        .filter(|w| w[0] != w[1])
        .map(|w| w[1] > w[0])
        .collect();
    steps.windows(2).filter(|w| w[0] != w[1]).count()
}

/// Show 1: one worker, 100 ms a request, 25 requests/s for three minutes.
async fn accept_queue(metric: &str, value: &str, limit: f64) -> Result<()> {
    let bed = Bed::connect().await?;
    let ns = format!("queue-{metric}");
    bed.namespace(&ns).await?;
    let app = Workload {
        name: "prefork",
        kind: "Deployment",
        args: &["serve", "--service-ms", "100"],
        replicas: 1,
        cpu_request: Some("10m"),
    };
    bed.apply(&ns, &app.object()).await?;
    bed.apply(&ns, &service("prefork")).await?;
    bed.await_ready("Deployment", &ns, "prefork", MINUTE)
        .await?;
    let trigger = json!([{"type": "node-accept-queue", "metadata": {"port": "8080", "metric": metric, "value": value}}]);
    let so = scaled_object(
        "prefork",
        "Deployment",
        "prefork",
        trigger,
        json!({"minReplicaCount": 1, "maxReplicaCount": 10}),
    );
    bed.apply(&ns, &so).await?;
    bed.await_condition(&ns, "prefork", "Ready", "True").await?;
    // The agent has its directives once the coordinator has a value for the trigger.
    until("a first value", 30 * SECOND, || async {
        let explained = bed.explain(&ns, "prefork").await?;
        within(
            explained["latest"]["evaluation"]["why"]["triggers"][0]["outcome"].clone(),
            |outcome| outcome["Proposed"].is_object(),
        )
    })
    .await?;

    let load = bed.drive(&ns, "prefork", 25.0, 180 * SECOND).await?;
    let end = Timestamp::now();
    let writes = bed.audit.scale_writes(&ns, "prefork", load.began)?;
    let first = writes.first().context("no scale write during the load")?;
    ensure!(
        first.user_agent.starts_with("neap/"),
        "written by {}",
        first.user_agent
    );
    let mut counts = vec![1];
    counts.extend(writes.iter().filter(|w| w.at <= end).map(|w| w.replicas));
    saw(&format!(
        "{metric}: first PATCH {:.2} s after the load began, replicas {counts:?}, {} answered, {} failed",
        seconds(load.began, first.at),
        load.answered,
        load.failed
    ));
    if metric == "backlog" {
        let crossed = load
            .crossing(2 * SECOND, 1.0, limit * 1.1)
            .context("the backlog never crossed its target")?;
        let took = seconds(crossed, first.at);
        saw(&format!(
            "{metric}: PATCH {:.0} ms after the windowed backlog crossed its target",
            took * 1000.0
        ));
        ensure!(
            took <= 1.0,
            "PATCH {took:.2} s after the windowed backlog crossed its target"
        );
    }
    ensure!(
        turns(&counts) <= 1,
        "replicas turned more than once under a steady load: {counts:?}"
    );
    // It falls under target: what is outstanding at the end fits in service and queue of the pods.
    let last = load.outstanding.last().map_or(0, |(_, n)| *n);
    let pods = *counts.last().unwrap_or(&1);
    saw(&format!(
        "{metric}: {last} requests outstanding on {pods} pods at the end of the load"
    ));
    ensure!(
        last as f64 <= pods as f64 * (limit.max(1.0) + 1.0),
        "{last} outstanding on {pods} pods"
    );
    ensure!(
        load.failed == 0,
        "{} requests failed, the first: {:?}",
        load.failed,
        load.first_failure
    );

    // The HPA's default behaviour, with a shorter window: replicas go back to min.
    let shorter = json!({"spec": {"advanced": {"horizontalPodAutoscalerConfig": {"behavior": {"scaleDown": {"stabilizationWindowSeconds": 20}}}}}});
    let eased = Timestamp::now();
    bed.merge("keda.sh/v1alpha1", "ScaledObject", &ns, "prefork", shorter)
        .await?;
    bed.await_replicas("Deployment", &ns, "prefork", 2 * MINUTE, |n| n == 1)
        .await?;
    saw(&format!(
        "{metric}: back at min {:.1} s after the window was shortened to 20 s",
        seconds(eased, Timestamp::now())
    ));
    bed.drop_namespace(&ns).await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a bed: tests/run main-path"]
async fn show_1_accept_queue_backlog() -> Result<()> {
    accept_queue("backlog", "5", 5.0).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a bed: tests/run main-path"]
async fn show_1_accept_queue_delay() -> Result<()> {
    // 500 ms of waiting at 10 requests/s of service is a queue of five.
    accept_queue("delay", "500", 5.0).await
}

/// Show 2: a fixed amount of CPU work a second, shared by the pods: the formula has one answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a bed: tests/run main-path"]
async fn show_2_cpu_utilization() -> Result<()> {
    let bed = Bed::connect().await?;
    let ns = "cpu";
    bed.namespace(ns).await?;
    let app = Workload {
        name: "burner",
        kind: "Deployment",
        args: &["serve", "--cpu-ms", "12"],
        replicas: 1,
        cpu_request: Some("100m"),
    };
    bed.apply(ns, &app.object()).await?;
    bed.apply(ns, &service("burner")).await?;
    bed.await_ready("Deployment", ns, "burner", MINUTE).await?;
    let trigger =
        json!([{"type": "cpu", "metricType": "Utilization", "metadata": {"value": "60"}}]);
    let rest = json!({"minReplicaCount": 1, "maxReplicaCount": 8, "advanced": {"horizontalPodAutoscalerConfig":
        {"behavior": {"scaleUp": {"stabilizationWindowSeconds": 0}}}}});
    bed.apply(
        ns,
        &scaled_object("burner", "Deployment", "burner", trigger, rest),
    )
    .await?;
    bed.await_condition(ns, "burner", "Ready", "True").await?;

    // 12 ms x 12/s = 144 m and what the program itself costs: at 60 % of 100 m, 3 pods, in the
    // steady state with 48 % each, inside no tolerance of a different answer but that of 3.
    let load = tokio::spawn({
        let bed = bed.clone();
        async move { bed.drive(ns, "burner", 12.0, 100 * SECOND).await }
    });
    let began = Timestamp::now();
    bed.await_replicas("Deployment", ns, "burner", 90 * SECOND, |n| n == 3)
        .await?;
    saw(&format!(
        "cpu: 3 replicas {:.1} s after the load began",
        seconds(began, Timestamp::now())
    ));
    let so = bed
        .objects("keda.sh/v1alpha1", "ScaledObject", ns)?
        .get("burner")
        .await?;
    ensure!(
        so.data["status"]["scaleTargetKind"] == "apps/v1.Deployment",
        "status: {}",
        so.data["status"]
    );
    load.await??;
    let writes = bed.audit.scale_writes(ns, "burner", began)?;
    let counts: Vec<i64> = writes.iter().map(|w| w.replicas).collect();
    saw(&format!("cpu: replicas {counts:?} under the load"));
    ensure!(
        counts.iter().all(|n| *n <= 3),
        "more than the formula gives: {counts:?}"
    );
    bed.drop_namespace(ns).await;
    Ok(())
}

/// Show 3, first half: a cron window takes a Deployment up from zero and back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a bed: tests/run main-path"]
async fn show_3_cron() -> Result<()> {
    let bed = Bed::connect().await?;
    let ns = "cron";
    bed.namespace(ns).await?;
    let app = Workload {
        name: "tide",
        kind: "Deployment",
        args: &["wait"],
        replicas: 0,
        cpu_request: None,
    };
    bed.apply(ns, &app.object()).await?;
    // The next whole minute that is at least ten seconds away begins the window; it lasts a minute.
    let start = (Zoned::now().with_time_zone(jiff::tz::TimeZone::UTC) + 70.seconds()).timestamp();
    let edge = |minutes: i64| {
        let at = (start + (60 * minutes).seconds()).to_zoned(jiff::tz::TimeZone::UTC);
        format!("{} {} * * *", at.minute(), at.hour())
    };
    let opens = start.as_second() / 60 * 60;
    let trigger = json!([{"type": "cron", "metadata":
        {"timezone": "UTC", "start": edge(0), "end": edge(1), "desiredReplicas": "3"}}]);
    let rest = json!({"minReplicaCount": 0, "maxReplicaCount": 5, "cooldownPeriod": 2});
    bed.apply(
        ns,
        &scaled_object("tide", "Deployment", "tide", trigger, rest),
    )
    .await?;
    bed.await_condition(ns, "tide", "Ready", "True").await?;
    bed.await_replicas("Deployment", ns, "tide", 3 * MINUTE, |n| n == 3)
        .await?;
    let late = Timestamp::now().as_second() - opens;
    saw(&format!(
        "cron: three replicas {late} s after the window opened"
    ));
    ensure!(late >= 0, "scaled {late} s before the window opened");
    bed.await_replicas("Deployment", ns, "tide", 3 * MINUTE, |n| n == 0)
        .await?;
    saw(&format!(
        "cron: zero {} s after the window closed",
        Timestamp::now().as_second() - opens - 60
    ));
    bed.drop_namespace(ns).await;
    Ok(())
}

fn batch(replicas: i32) -> Value {
    Workload {
        name: "batch",
        kind: "Deployment",
        args: &["wait"],
        replicas,
        cpu_request: None,
    }
    .object()
}

fn workload_trigger(value: &str) -> Value {
    json!({"type": "kubernetes-workload", "metadata": {"podSelector": "app=batch", "value": value}})
}

/// Show 3, second half: other pods' number takes a Deployment, a StatefulSet and a custom
/// resource from zero and back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a bed: tests/run main-path"]
async fn show_3_kubernetes_workload() -> Result<()> {
    let bed = Bed::connect().await?;
    let ns = "workload";
    bed.namespace(ns).await?;
    bed.apply_crd().await?;
    bed.apply(ns, &batch(0)).await?;
    let rest = json!({"minReplicaCount": 0, "maxReplicaCount": 5, "cooldownPeriod": 3, "pollingInterval": 1});
    for kind in ["Deployment", "StatefulSet"] {
        let name = kind.to_lowercase();
        let app = Workload {
            name: &name,
            kind,
            args: &["wait"],
            replicas: 0,
            cpu_request: None,
        };
        bed.apply(ns, &app.object()).await?;
        // Users write kinds in lower case too.
        bed.apply(
            ns,
            &scaled_object(
                &name,
                &name,
                &name,
                json!([workload_trigger("2")]),
                rest.clone(),
            ),
        )
        .await?;
    }
    bed.apply(
        ns,
        &json!({"apiVersion": "e2e.neap.dev/v1", "kind": "Fleet", "metadata": {"name": "fleet"},
        "spec": {"replicas": 0}, "status": {"replicas": 0, "selector": "app=fleet"}}),
    )
    .await?;
    let mut fleet = scaled_object(
        "fleet",
        "Fleet",
        "fleet",
        json!([workload_trigger("2")]),
        rest,
    );
    fleet["spec"]["scaleTargetRef"]["apiVersion"] = json!("e2e.neap.dev/v1");
    bed.apply(ns, &fleet).await?;
    for name in ["deployment", "statefulset", "fleet"] {
        bed.await_condition(ns, name, "Ready", "True").await?;
    }
    let began = Timestamp::now();
    bed.apply(ns, &batch(4)).await?;
    bed.await_replicas("Deployment", ns, "deployment", 30 * SECOND, |n| n == 2)
        .await?;
    bed.await_replicas("StatefulSet", ns, "statefulset", 30 * SECOND, |n| n == 2)
        .await?;
    bed.await_fleet(ns, "fleet", 30 * SECOND, 2).await?;
    saw(&format!(
        "kubernetes-workload: 0 -> 2 on three kinds within {:.1} s",
        seconds(began, Timestamp::now())
    ));
    let down = Timestamp::now();
    bed.apply(ns, &batch(0)).await?;
    bed.await_replicas("Deployment", ns, "deployment", MINUTE, |n| n == 0)
        .await?;
    bed.await_replicas("StatefulSet", ns, "statefulset", MINUTE, |n| n == 0)
        .await?;
    bed.await_fleet(ns, "fleet", MINUTE, 0).await?;
    saw(&format!(
        "kubernetes-workload: 2 -> 0 within {:.1} s, cooldown 3 s",
        seconds(down, Timestamp::now())
    ));
    bed.drop_namespace(ns).await;
    Ok(())
}

/// Show 4: the larger proposal wins; a failing trigger blocks scale-down and not scale-up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a bed: tests/run main-path"]
async fn show_4_two_triggers() -> Result<()> {
    let bed = Bed::connect().await?;
    let ns = "two";
    bed.namespace(ns).await?;
    bed.apply(ns, &batch(4)).await?;
    let app = Workload {
        name: "app",
        kind: "Deployment",
        args: &["wait"],
        replicas: 1,
        cpu_request: None,
    };
    bed.apply(ns, &app.object()).await?;
    let rest = json!({"minReplicaCount": 1, "maxReplicaCount": 9, "pollingInterval": 1, "advanced":
        {"horizontalPodAutoscalerConfig": {"behavior": {"scaleDown": {"stabilizationWindowSeconds": 0}}}}});
    let pair =
        |a: Value, b: Value| scaled_object("app", "Deployment", "app", json!([a, b]), rest.clone());
    // The larger of 4/4 and 4/1.
    bed.apply(ns, &pair(workload_trigger("4"), workload_trigger("1")))
        .await?;
    bed.await_replicas("Deployment", ns, "app", 30 * SECOND, |n| n == 4)
        .await?;
    saw("two triggers: the larger proposal, 4, won");
    // One now fails: fewer pods no longer take it down ...
    let failing = json!({"type": "prometheus", "metadata":
        {"serverAddress": "http://127.0.0.1:9", "query": "up", "threshold": "1"}});
    bed.apply(ns, &pair(workload_trigger("1"), failing)).await?;
    let (reason, message) = until(
        "the failing trigger in the conditions",
        30 * SECOND,
        || async {
            within(bed.events(ns, "app").await?, |events| {
                events.iter().any(|(r, _)| r == "KEDAScalerFailed")
            })
        },
    )
    .await?
    .into_iter()
    .find(|(r, _)| r == "KEDAScalerFailed")
    .context("no event of the failing trigger")?;
    saw(&format!("two triggers: {reason}: {message}"));
    let since = Timestamp::now();
    bed.apply(ns, &batch(2)).await?;
    until("the smaller value to be seen", 30 * SECOND, || async {
        within(bed.explain(ns, "app").await?.to_string(), |text| {
            text.contains("\"2")
        })
    })
    .await?;
    // Held for longer than reversal hold and two polls.
    tokio::time::sleep(20 * SECOND).await;
    ensure!(
        bed.audit.scale_writes(ns, "app", since)?.is_empty(),
        "scaled down with a failing trigger"
    );
    ensure!(
        bed.replicas("Deployment", ns, "app").await? == 4,
        "scaled down with a failing trigger"
    );
    // ... and more pods still take it up.
    bed.apply(ns, &batch(6)).await?;
    bed.await_replicas("Deployment", ns, "app", 30 * SECOND, |n| n == 6)
        .await?;
    saw("two triggers: with one failing, held at 4 and still went up to 6");
    bed.drop_namespace(ns).await;
    Ok(())
}

/// Show 6: a stabilisation window goes on where it was when the coordinator is killed in it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a bed: tests/run main-path; runs after the others, since it kills the coordinator"]
async fn zz_show_6_window_survives_kill() -> Result<()> {
    let bed = Bed::connect().await?;
    let ns = "window";
    bed.namespace(ns).await?;
    bed.apply(ns, &batch(4)).await?;
    let app = Workload {
        name: "app",
        kind: "Deployment",
        args: &["wait"],
        replicas: 1,
        cpu_request: None,
    };
    bed.apply(ns, &app.object()).await?;
    let window = 45;
    let rest = json!({"minReplicaCount": 1, "maxReplicaCount": 9, "pollingInterval": 1, "advanced":
        {"horizontalPodAutoscalerConfig": {"behavior": {"scaleDown": {"stabilizationWindowSeconds": window}}}}});
    bed.apply(
        ns,
        &scaled_object(
            "app",
            "Deployment",
            "app",
            json!([workload_trigger("1")]),
            rest,
        ),
    )
    .await?;
    bed.await_replicas("Deployment", ns, "app", 30 * SECOND, |n| n == 4)
        .await?;
    bed.await_ready("Deployment", ns, "batch", MINUTE).await?;
    let fell = Timestamp::now();
    bed.apply(ns, &batch(1)).await?;
    until("the pods to be gone", 30 * SECOND, || async {
        within(bed.pods(ns, "app=batch").await?.len(), |n| *n == 1)
    })
    .await?;
    let low = Timestamp::now();
    // Kill it well inside the window.
    let third = fell + Duration::from_secs(window / 3);
    tokio::time::sleep(
        Duration::try_from(third.duration_since(Timestamp::now())).unwrap_or_default(),
    )
    .await;
    let pod = bed
        .pods(NEAP, "app.kubernetes.io/name=neap-coordinator")
        .await?
        .into_iter()
        .next()
        .context("no coordinator")?;
    bed.kill(&pod, "neap-coordinator")?;
    let killed = Timestamp::now();
    until("the coordinator back", MINUTE, || async {
        within(bed.explain(ns, "app").await.is_ok(), |back| *back)
    })
    .await?;
    saw(&format!(
        "kill: coordinator answers again after {:.1} s",
        seconds(killed, Timestamp::now())
    ));
    ensure!(
        bed.replicas("Deployment", ns, "app").await? == 4,
        "scaled down inside the window"
    );
    bed.await_replicas("Deployment", ns, "app", 2 * MINUTE, |n| n == 1)
        .await?;
    let write = bed
        .audit
        .scale_writes(ns, "app", fell)?
        .into_iter()
        .next()
        .context("no write")?;
    let held = seconds(fell, write.at);
    saw(&format!(
        "kill: scaled down {held:.1} s after the value fell, window {window} s, killed at {:.1} s",
        seconds(fell, killed)
    ));
    ensure!(
        held >= window as f64 - 1.0,
        "the window was cut short: {held:.1} s"
    );
    // A window that began anew at the restart would end a whole window after it.
    let anew = seconds(fell, killed) + window as f64;
    ensure!(
        held < anew,
        "the window began anew: {held:.1} s, not before {anew:.1} s"
    );
    ensure!(seconds(low, write.at) < anew, "the window began anew");
    bed.drop_namespace(ns).await;
    Ok(())
}
