//! Targets whose decision state must survive whatever happens to leaders: each would be written otherwise, had a leader
//! forgotten what the one before knew.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use jiff::{SignedDuration, Timestamp};
use kube::api::DeleteParams;
use neap_e2e::{ScaleWrite, podless, scaled_object};
use serde_json::{Value, json};

use crate::targets::{MINUTE, SECOND, Targets, counting};

/// Bounds that the load leaves on both sides.
const TIGHT: usize = 10;
const TIGHT_MIN: i64 = 3;
const TIGHT_MAX: i64 = 5;
/// Longer than any test: a window and a cooldown that never end.
const FOR_EVER: u32 = 3_600;
/// The policy of `limited`: so many replicas more within its period, the longest that there is.
const MORE: i64 = 2;
const PERIOD: SignedDuration = SignedDuration::from_secs(1_800);
/// What the failing triggers fall back to, and after how many failures of one a second.
const FALLBACK: i64 = 7;
const FAILURES_SOON: u32 = 3;
const FAILURES_SLOW: u32 = 30;
/// The cooldown of `drowsy`, which ends during the faults.
const COOLDOWN: Duration = Duration::from_secs(90);
/// A leader that dies takes at most so much of any history with it.
const AT_RISK: Duration = Duration::from_secs(5);

fn tight(n: usize) -> String {
    format!("tight-{n}")
}

/// Rests at zero once there was no pod with the label `load=LOAD` for `cooldown` seconds.
fn resting(name: &str, load: &str, cooldown: u32) -> Value {
    let mut object = counting(name, load, 0);
    object["spec"]["minReplicaCount"] = json!(0);
    object["spec"]["cooldownPeriod"] = json!(cooldown);
    object
}

/// Nobody answers its trigger; after more than so many failures it falls back.
fn failing(name: &str, failures: u32) -> Value {
    let trigger = json!([{"type": "metrics-api", "metadata": {
        "url": "http://127.0.0.1:9/nobody", "valueLocation": "value", "targetValue": "1",
    }}]);
    let rest = json!({
        "minReplicaCount": 1,
        "maxReplicaCount": 50,
        "pollingInterval": 1,
        "fallback": {"failureThreshold": failures, "replicas": FALLBACK},
        "advanced": {"horizontalPodAutoscalerConfig": {"behavior": {
            "scaleUp": {"policies": [{"type": "Pods", "value": 100, "periodSeconds": 1}]},
        }}},
    });
    scaled_object(name, "Deployment", name, trigger, rest)
}

/// What ends by itself during the faults, and when it began.
pub(crate) struct Passing {
    began: Timestamp,
}

impl Targets {
    /// Targets that must not be written whatever happens to leaders, or not beyond what is allowed. When this returns, each
    /// has the state that must not be forgotten.
    pub(crate) async fn guarded(&self) -> Result<()> {
        let ns = self.ns;
        // Inside its stabilisation window.
        for n in 0..5 {
            self.pod(&format!("held-{n}"), "held").await?;
        }
        self.put("held", 1, counting("held", "held", FOR_EVER))
            .await?;
        self.bed
            .await_replicas("Deployment", ns, "held", MINUTE, |n| n == 5)
            .await?;
        self.remove_pods("held", 1..5).await?;

        let mut paused = counting("paused", "all", 0);
        paused["metadata"]["annotations"] = json!({"autoscaling.keda.sh/paused": "true"});
        self.put("paused", 2, paused).await?;
        self.bed
            .await_condition(ns, "paused", "Paused", "True")
            .await?;

        for n in 0..TIGHT {
            let mut object = counting(&tight(n), "all", 300);
            object["spec"]["minReplicaCount"] = json!(TIGHT_MIN);
            object["spec"]["maxReplicaCount"] = json!(TIGHT_MAX);
            self.put(&tight(n), 1, object).await?;
        }
        let mut limited = counting("limited", "all", 300);
        limited["spec"]["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]["scaleUp"] = json!(
            {"policies": [{"type": "Pods", "value": MORE, "periodSeconds": PERIOD.as_secs()}]});
        self.put("limited", 1, limited).await?;
        self.put("fallen", 1, failing("fallen", FAILURES_SOON))
            .await?;

        // Inside its cooldown.
        self.pod("resting-0", "resting").await?;
        self.put("resting", 0, resting("resting", "resting", FOR_EVER))
            .await?;
        self.bed
            .await_replicas("Deployment", ns, "resting", MINUTE, |n| n > 0)
            .await?;
        self.remove_pods("resting", 0..1).await?;
        for n in 0..TIGHT {
            self.bed
                .await_replicas("Deployment", ns, &tight(n), MINUTE, |n| n >= TIGHT_MIN)
                .await?;
        }
        self.bed
            .await_replicas("Deployment", ns, "fallen", MINUTE, |n| n == FALLBACK)
            .await?;
        Ok(())
    }

    /// Begins what is to end by itself while leaders go: a cooldown, and failures that are counted up to a fallback.
    pub(crate) async fn passing(&self) -> Result<Passing> {
        self.pod("drowsy-0", "drowsy").await?;
        let seconds = u32::try_from(COOLDOWN.as_secs())?;
        self.put("drowsy", 0, resting("drowsy", "drowsy", seconds))
            .await?;
        self.bed
            .await_replicas("Deployment", self.ns, "drowsy", MINUTE, |n| n > 0)
            .await?;
        let began = Timestamp::now();
        self.remove_pods("drowsy", 0..1).await?;
        self.put("falling", 1, failing("falling", FAILURES_SLOW))
            .await?;
        Ok(Passing { began })
    }

    /// Checks that both ended when they had to, although leaders went.
    pub(crate) async fn passed(&self, passing: &Passing) -> Result<()> {
        let began = passing.began;
        let faults = Duration::try_from(Timestamp::now().duration_since(began))?;
        self.bed
            .await_replicas("Deployment", self.ns, "drowsy", 2 * COOLDOWN, |n| n == 0)
            .await?;
        let writes = self.bed.audit.scale_writes(self.ns, "drowsy", began)?;
        let slept = writes.iter().find(|write| write.replicas == 0);
        let slept = slept.context("drowsy went to zero, and nobody wrote that")?;
        let after = Duration::try_from(slept.at.duration_since(began))?;
        println!(
            "figure bed_cooldown_held {:.0} ms",
            after.as_secs_f64() * 1e3
        );
        ensure!(
            after + AT_RISK + SECOND >= COOLDOWN,
            "a cooldown of {COOLDOWN:?} ended after {after:?}: {writes:?}"
        );

        let needed = FAILURES_SLOW * SECOND;
        self.bed
            .await_replicas("Deployment", self.ns, "falling", 4 * needed, |n| {
                n == FALLBACK
            })
            .await?;
        let writes = self.bed.audit.scale_writes(self.ns, "falling", began)?;
        let fell = writes.first().context("falling was not written")?;
        let after = Duration::try_from(fell.at.duration_since(began))?;
        println!(
            "figure bed_fallback_after {:.0} ms",
            after.as_secs_f64() * 1e3
        );
        // A leader that begins to count anew with each fault would come to it only after the last one.
        ensure!(
            faults < 3 * needed || after < faults,
            "{FAILURES_SLOW} failures took {after:?}, while leaders went for {faults:?}"
        );
        // Each leader asks at once, so that some failures come sooner than one a second.
        ensure!(
            after >= needed / 2,
            "{FAILURES_SLOW} failures of one a second after {after:?}"
        );
        Ok(())
    }

    /// Takes away the target whose trigger fails: for tests in which all is well at first.
    pub(crate) async fn without_failing(&self) -> Result<()> {
        let objects = self
            .bed
            .objects("keda.sh/v1alpha1", "ScaledObject", self.ns)?;
        objects.delete("fallen", &DeleteParams::default()).await?;
        Ok(())
    }

    async fn put(&self, name: &str, replicas: i64, object: Value) -> Result<()> {
        self.bed.apply(self.ns, &podless(name, replicas)).await?;
        self.bed.apply(self.ns, &object).await
    }

    async fn remove_pods(&self, load: &str, which: std::ops::Range<usize>) -> Result<()> {
        let params = DeleteParams::default().grace_period(0);
        for n in which {
            self.pods.delete(&format!("{load}-{n}"), &params).await?;
        }
        Ok(())
    }

    /// What was written of each guarded target, `of` by its name.
    pub(crate) async fn check_guarded(
        &self,
        of: &mut BTreeMap<String, Vec<ScaleWrite>>,
    ) -> Result<()> {
        let mut take = |name: &str| of.remove(name).unwrap_or_default();
        let held = take("held");
        ensure!(
            held.iter().all(|write| write.replicas > 1)
                && held.last().is_some_and(|w| w.replicas == 5),
            "its window was forgotten: {held:?}"
        );
        let paused = take("paused");
        ensure!(paused.is_empty(), "its pause was forgotten: {paused:?}");
        let resting = take("resting");
        ensure!(
            !resting.is_empty() && resting.iter().all(|write| write.replicas > 0),
            "its cooldown was forgotten: {resting:?}"
        );
        let fallen = take("fallen");
        ensure!(
            !fallen.is_empty() && fallen.iter().all(|write| write.replicas == FALLBACK),
            "its fallback was forgotten: {fallen:?}"
        );
        let limited = take("limited");
        ensure!(
            !limited.is_empty() && most_risen(1, &limited, PERIOD) <= MORE,
            "its policy was forgotten: {limited:?}"
        );
        let deployments = self.bed.objects("apps/v1", "Deployment", self.ns)?;
        for n in 0..TIGHT {
            let name = tight(n);
            let writes = take(&name);
            let within = |replicas: i64| (TIGHT_MIN..=TIGHT_MAX).contains(&replicas);
            ensure!(
                !writes.is_empty() && writes.iter().all(|write| within(write.replicas)),
                "{name}: not within {TIGHT_MIN}..{TIGHT_MAX}: {writes:?}"
            );
            let now = deployments.get(&name).await?.data["spec"]["replicas"].clone();
            let wanted = self.load.clamp(TIGHT_MIN, TIGHT_MAX);
            ensure!(
                now == wanted,
                "{name} has {now} replicas at the end, and not {wanted}: {writes:?}"
            );
        }
        Ok(())
    }

    /// Whether the load was above what the bounds and the policy allow: else neither was put to the test.
    pub(crate) fn loaded(&self) -> Result<()> {
        let load = self.load;
        ensure!(
            load > TIGHT_MAX.max(1 + MORE),
            "a load of {load} shows nothing of a maximum of {TIGHT_MAX}"
        );
        Ok(())
    }
}

/// The most replicas that were added within one period, from `first` on.
fn most_risen(first: i64, writes: &[ScaleWrite], period: SignedDuration) -> i64 {
    let before = std::iter::once(first).chain(writes.iter().map(|write| write.replicas));
    let rises: Vec<(Timestamp, i64)> = writes
        .iter()
        .zip(before)
        .map(|(write, before)| (write.at, (write.replicas - before).max(0)))
        .collect();
    let sums = rises.iter().enumerate().map(|(from, (began, _))| {
        let later = rises.iter().skip(from);
        let inside = later.take_while(|(at, _)| at.duration_since(*began) < period);
        inside.map(|(_, rise)| rise).sum::<i64>()
    });
    sums.max().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rises_are_summed_over_each_period() {
        let write = |seconds: i64, replicas| ScaleWrite {
            name: String::new(),
            at: Timestamp::UNIX_EPOCH + SignedDuration::from_secs(seconds),
            replicas,
            user_agent: String::new(),
            code: 200,
        };
        let writes = [write(0, 2), write(10, 3), write(60, 2), write(65, 4)];
        let most = |seconds| most_risen(1, &writes, SignedDuration::from_secs(seconds));
        assert_eq!((most(5), most(11), most(100)), (2, 2, 4));
        assert_eq!(most_risen(1, &[], SignedDuration::from_secs(5)), 0);
    }
}
