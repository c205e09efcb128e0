//! Accept queues: from the connects that put the windowed mean over target to the PATCH.
//!
//! Servers are held by SIGSTOP, so that what is connected stays in their accept queues. Each
//! step connects as many as put the windowed mean over what the present replicas may hold, and
//! the crossing is computed from the instants of those connects.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures::future::try_join_all;
use jiff::Timestamp;
use neap_e2e::{Bed, Workload, scaled_object, until, within};
use serde_json::json;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, sleep_until};

/// Targets, and steps on each: their product is the number of changes measured.
const TARGETS: usize = 25;
const STEPS: usize = 8;
/// Targets that are stepped at the same time.
const AT_ONCE: usize = 5;
/// Connections that may wait per pod.
const VALUE: f64 = 3.0;
/// The trigger's default window.
const WINDOW: Duration = Duration::from_secs(2);
/// Kubernetes' tolerance: the ratio must exceed 1.1.
const TOLERANCE: f64 = 1.1;
const NAMESPACE: &str = "latency";

/// Measures every change; milliseconds.
pub(crate) async fn measure(bed: &Bed) -> Result<Vec<f64>> {
    bed.namespace(NAMESPACE).await?;
    println!("starting {TARGETS} servers");
    try_join_all((0..TARGETS).map(|i| start(bed, i))).await?;
    let mut latencies = Vec::new();
    for batch in (0..TARGETS).collect::<Vec<_>>().chunks(AT_ONCE) {
        let seen = try_join_all(batch.iter().map(|i| step_through(bed, *i))).await?;
        latencies.extend(seen.into_iter().flatten());
        println!("{} changes seen", latencies.len());
    }
    bed.drop_namespace(NAMESPACE).await;
    ensure!(
        latencies.len() == TARGETS * STEPS,
        "{} changes of {}",
        latencies.len(),
        TARGETS * STEPS
    );
    Ok(latencies)
}

/// Starts one server with its ScaledObject, and holds it.
async fn start(bed: &Bed, index: usize) -> Result<()> {
    let name = format!("queue-{index}");
    let mut app = Workload {
        name: &name,
        kind: "Deployment",
        args: &["serve"],
        replicas: 1,
        cpu_request: None,
    }
    .object();
    // One pod a node can have this port: further replicas stay Pending and change nothing.
    app["spec"]["template"]["spec"]["containers"][0]["ports"][0]["hostPort"] =
        json!(20_000 + index);
    bed.apply(NAMESPACE, &app).await?;
    bed.await_ready("Deployment", NAMESPACE, &name, Duration::from_secs(120))
        .await?;
    let trigger = json!([{"type": "node-accept-queue", "metadata": {"port": "8080", "value": format!("{VALUE}")}}]);
    let rest = json!({"minReplicaCount": 1, "maxReplicaCount": 50, "advanced": {"horizontalPodAutoscalerConfig":
        {"behavior": {"scaleUp": {"policies": [{"type": "Pods", "value": 50, "periodSeconds": 15}]}}}}});
    bed.apply(
        NAMESPACE,
        &scaled_object(&name, "Deployment", &name, trigger, rest),
    )
    .await?;
    bed.await_condition(NAMESPACE, &name, "Ready", "True")
        .await?;
    Ok(())
}

/// Raises the backlog of one server step by step; gives the latency of each change in ms.
async fn step_through(bed: &Bed, index: usize) -> Result<Vec<f64>> {
    let name = format!("queue-{index}");
    let pods = bed.pods(NAMESPACE, &format!("app={name}")).await?;
    let pod = pods.first().context("no pod")?;
    let address: SocketAddr = format!(
        "{}:8080",
        pod.status
            .as_ref()
            .and_then(|s| s.pod_ip.clone())
            .context("no IP")?
    )
    .parse()?;
    bed.signal(pod, "neap-workload", "STOP")?;
    let began = Timestamp::now();
    let mut held = Vec::new();
    let mut connects = Vec::new();
    let mut crossings = Vec::new();
    // Targets of one batch are out of step with each other.
    sleep(Duration::from_millis(700 * (index % AT_ONCE) as u64)).await;
    for step in 1..=STEPS {
        let next = Instant::now() + Duration::from_millis(3500);
        while held.len() < (VALUE as usize) * (step + 1) {
            held.push(TcpStream::connect(address).await?);
            connects.push(Timestamp::now());
        }
        crossings.push(
            crossing(&connects, VALUE * TOLERANCE * step as f64)
                .context("the step does not cross")?,
        );
        sleep_until(next).await;
    }
    let writes = until("a PATCH for each step", Duration::from_secs(20), || async {
        within(bed.audit.scale_writes(NAMESPACE, &name, began)?, |w| {
            w.len() >= STEPS
        })
    })
    .await;
    let writes = match writes {
        Ok(writes) => writes,
        Err(error) => {
            let why = bed.explain(NAMESPACE, &name).await?;
            return Err(error.context(format!("{why:#}")));
        }
    };
    bed.signal(pod, "neap-workload", "CONT")?;
    drop(held);
    let mut latencies = Vec::new();
    for (step, crossed) in (1..).zip(crossings) {
        let wanted = step + 1;
        let write = writes
            .iter()
            .find(|w| w.replicas == wanted)
            .with_context(|| format!("no PATCH to {wanted}"))?;
        latencies.push(write.at.duration_since(crossed).as_secs_f64() * 1000.0);
    }
    Ok(latencies)
}

/// When the mean of the queue's length over the window first exceeds `limit`.
///
/// With all connects done at the instants given, the mean at `t` is the sum of the time that
/// each has been waiting inside the window, over the window.
fn crossing(connects: &[Timestamp], limit: f64) -> Option<Timestamp> {
    let window = WINDOW.as_secs_f64();
    let mean = |at: Timestamp| -> f64 {
        connects
            .iter()
            .map(|c| at.duration_since(*c).as_secs_f64().clamp(0.0, window))
            .sum::<f64>()
            / window
    };
    let last = *connects.last()?;
    // The mean only grows after the last connect; 1 ms steps are finer than anything measured.
    (0..=WINDOW.as_millis() as u64)
        .map(|ms| last + Duration::from_millis(ms))
        .find(|at| mean(*at) > limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crossing_of_the_windowed_mean() {
        let start = Timestamp::UNIX_EPOCH;
        // Six at once: the mean is 6 t / 2 and exceeds 3.3 after 1.1 s.
        let at = crossing(&[start; 6], 3.3).unwrap();
        assert!((at.as_millisecond() - 1100).abs() <= 1, "{at}");
        assert_eq!(crossing(&[start; 6], 6.5), None);
    }
}
