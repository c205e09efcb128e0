//! The simulated workload: pods that become ready after a while, newest first to go.

use std::collections::VecDeque;
use std::str::FromStr;
use std::time::Duration;

use neap_engine::{Container, ContainerKind, Pod, PodPhase, Ready, ReadyStatus, Requests};
use neap_units::{MilliValue, Quantity, Timestamp};

use crate::duration;

/// What every pod of the workload is like: `ready=10s,cpu=500m,memory=256Mi,cpu-limit=1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PodModel {
    /// From its creation until it is ready; 10 s.
    pub ready_after: Duration,
    /// Its requests; needed where a target is a utilization.
    pub requests: Requests,
    /// Its CPU is never above this.
    pub cpu_limit: Option<MilliValue>,
}

impl Default for PodModel {
    fn default() -> Self {
        Self {
            ready_after: Duration::from_secs(10),
            requests: Requests::default(),
            cpu_limit: None,
        }
    }
}

impl FromStr for PodModel {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut model = Self::default();
        for part in text
            .split(',')
            .map(str::trim)
            .filter(|part| !part.is_empty())
        {
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            let quantity = || match value.parse::<Quantity>() {
                Ok(quantity) if !quantity.is_zero() && !quantity.is_negative() => {
                    Ok(quantity.milli())
                }
                _ => Err(format!(
                    "{key}: {value:?} is not allowed: it must be a quantity above 0, such as 500m or 256Mi"
                )),
            };
            match key {
                "ready" => {
                    model.ready_after =
                        duration::parse(value).map_err(|fault| format!("ready: {fault}"))?;
                }
                "cpu" => model.requests.cpu = Some(quantity()?),
                "memory" => model.requests.memory = Some(quantity()?),
                "cpu-limit" => model.cpu_limit = Some(quantity()?),
                _ => {
                    return Err(format!(
                        "{key:?} is not allowed: it must be ready=DURATION, cpu=QUANTITY, memory=QUANTITY or cpu-limit=QUANTITY"
                    ));
                }
            }
        }
        Ok(model)
    }
}

/// The pods there are.
#[derive(Debug)]
pub(super) struct Workload {
    model: PodModel,
    count: usize,
    /// When each pod that is not ready yet will be; the newest last.
    starting: VecDeque<Timestamp>,
    /// The pods themselves, oldest first; empty where nobody looks at them.
    pods: Vec<Pod>,
    kept: bool,
    named: u64,
}

/// Pods that are there at the start are older than any period of the engine.
const LONG_AGO: Duration = Duration::from_secs(86_400);

impl Workload {
    /// `replicas` ready pods at `start`. Their facts are only kept where `kept`.
    pub(super) fn new(model: PodModel, kept: bool, replicas: i32, start: Timestamp) -> Self {
        let mut workload = Self {
            model,
            count: 0,
            starting: VecDeque::new(),
            pods: Vec::new(),
            kept,
            named: 0,
        };
        let since = start - LONG_AGO;
        for _ in 0..replicas.max(0) {
            workload.create(since);
        }
        workload.starting.clear();
        for pod in &mut workload.pods {
            make_ready(pod, since);
        }
        workload
    }

    fn create(&mut self, now: Timestamp) {
        self.count += 1;
        self.starting.push_back(now + self.model.ready_after);
        if !self.kept {
            return;
        }
        self.named += 1;
        self.pods.push(Pod {
            name: format!("pod-{}", self.named),
            phase: PodPhase::Pending,
            started: Some(now),
            ready: Some(Ready {
                status: ReadyStatus::False,
                since: Some(now),
            }),
            containers: vec![Container {
                name: "main".to_owned(),
                kind: ContainerKind::Main,
                requests: self.model.requests,
            }],
            ..Pod::default()
        });
    }

    /// Creates or removes pods until there are `replicas`.
    pub(super) fn scale(&mut self, replicas: i32, now: Timestamp) {
        let wanted = usize::try_from(replicas).unwrap_or(0);
        while self.count < wanted {
            self.create(now);
        }
        let surplus = self.count - wanted;
        self.count = wanted;
        // Pods that are not ready are the newest.
        let starting = self.starting.len().saturating_sub(surplus);
        self.starting.truncate(starting);
        self.pods.truncate(wanted);
    }

    /// Makes ready what is due at `now`; true if anything was.
    pub(super) fn advance(&mut self, now: Timestamp) -> bool {
        let mut any = false;
        while self.starting.front().is_some_and(|due| *due <= now) {
            let first = self.count - self.starting.len();
            if let Some(due) = self.starting.pop_front()
                && let Some(pod) = self.pods.get_mut(first)
            {
                make_ready(pod, due);
            }
            any = true;
        }
        any
    }

    /// When the next pod becomes ready.
    pub(super) fn next_ready(&self) -> Option<Timestamp> {
        self.starting.front().copied()
    }

    /// How many there are.
    pub(super) fn replicas(&self) -> i32 {
        i32::try_from(self.count).unwrap_or(i32::MAX)
    }

    /// How many are ready.
    pub(super) fn ready(&self) -> i32 {
        i32::try_from(self.count - self.starting.len()).unwrap_or(i32::MAX)
    }

    /// The pods, the ready ones first.
    pub(super) fn pods(&self) -> &[Pod] {
        &self.pods
    }

    /// What they are like.
    pub(super) fn model(&self) -> &PodModel {
        &self.model
    }
}

fn make_ready(pod: &mut Pod, since: Timestamp) {
    pod.phase = PodPhase::Running;
    pod.ready = Some(Ready {
        status: ReadyStatus::True,
        since: Some(since),
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn second(second: i64) -> Timestamp {
        Timestamp::from_millis(second * 1000)
    }

    #[test]
    fn pods_become_ready_and_the_newest_go_first() {
        let mut workload = Workload::new(PodModel::default(), true, 2, second(0));
        assert_eq!((workload.replicas(), workload.ready()), (2, 2));
        workload.scale(4, second(5));
        assert_eq!((workload.replicas(), workload.ready()), (4, 2));
        assert_eq!(workload.next_ready(), Some(second(15)));
        workload.scale(3, second(6));
        assert_eq!((workload.replicas(), workload.ready()), (3, 2));
        assert!(!workload.advance(second(14)));
        assert!(workload.advance(second(15)));
        assert_eq!((workload.replicas(), workload.ready()), (3, 3));
        let phases: Vec<PodPhase> = workload.pods().iter().map(|pod| pod.phase).collect();
        assert_eq!(phases, [PodPhase::Running; 3]);
        workload.scale(0, second(20));
        assert_eq!(
            (workload.replicas(), workload.ready(), workload.pods().len()),
            (0, 0, 0)
        );
    }

    #[test]
    fn the_model_is_read_from_text() {
        let model: PodModel = "ready=2s, cpu=500m,memory=1Gi,cpu-limit=1".parse().unwrap();
        assert_eq!(model.ready_after, Duration::from_secs(2));
        assert_eq!(model.requests.cpu, Some(MilliValue::new(500)));
        assert_eq!(model.cpu_limit, Some(MilliValue::from_units(1)));
        for (text, part) in [
            (
                "cpus=1",
                "\"cpus\" is not allowed: it must be ready=DURATION",
            ),
            ("cpu=0", "cpu: \"0\" is not allowed"),
            ("ready=soon", "ready: \"soon\" is no duration"),
        ] {
            let fault = text.parse::<PodModel>().unwrap_err();
            assert!(fault.contains(part), "{text}: {fault}");
        }
    }
}
