//! Whether a replica may get connections: its readinessProbe.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use tokio::net::TcpStream;
use tokio::process::Command;

use super::pod::PodPort;

/// Looks before the first success are at most this far apart: here a person waits.
const UNTIL_READY: Duration = Duration::from_millis(500);

/// The times and thresholds of a probe, with Kubernetes' defaults.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pace {
    pub(super) delay: Duration,
    period: Duration,
    timeout: Duration,
    successes: u32,
    failures: u32,
}

impl Pace {
    pub(super) fn of(probe: &Probe) -> Self {
        let seconds = |given: Option<i32>, default: u64| {
            let given = given.and_then(|given| u64::try_from(given).ok());
            Duration::from_secs(given.filter(|given| *given > 0).unwrap_or(default))
        };
        let count = |given: Option<i32>, default| {
            let given = given.and_then(|given| u32::try_from(given).ok());
            given.filter(|given| *given > 0).unwrap_or(default)
        };
        Self {
            delay: seconds(probe.initial_delay_seconds, 0),
            period: seconds(probe.period_seconds, 10),
            timeout: seconds(probe.timeout_seconds, 1),
            successes: count(probe.success_threshold, 1),
            failures: count(probe.failure_threshold, 3),
        }
    }

    /// The pause before the next look.
    pub(super) fn pause(&self, ready: bool) -> Duration {
        if ready {
            self.period
        } else {
            self.period.min(UNTIL_READY)
        }
    }
}

/// Counts answers in a row until they change the verdict.
#[derive(Debug, Default)]
pub(super) struct Verdict {
    pub(super) ready: bool,
    against: u32,
}

impl Verdict {
    /// Takes an answer. True when the verdict changed.
    pub(super) fn take(&mut self, success: bool, pace: &Pace) -> bool {
        if success == self.ready {
            self.against = 0;
            return false;
        }
        self.against += 1;
        let needed = if success {
            pace.successes
        } else {
            pace.failures
        };
        if self.against < needed {
            return false;
        }
        self.ready = success;
        self.against = 0;
        true
    }
}

/// Makes the checks of one container.
pub(super) struct Prober<'a> {
    pub(super) probe: &'a Probe,
    pub(super) container: &'a Container,
    pub(super) ports: &'a [PodPort],
    pub(super) env: &'a BTreeMap<String, String>,
    pub(super) folder: &'a Path,
    pub(super) http: &'a reqwest::Client,
}

impl Prober<'_> {
    /// One look. Taking too long is a failure.
    pub(super) async fn check(&self, pace: &Pace) -> bool {
        tokio::time::timeout(pace.timeout, self.look())
            .await
            .unwrap_or(false)
    }

    async fn look(&self) -> bool {
        if let Some(http) = &self.probe.http_get {
            let Some(port) = actual_port(&http.port, self.container, self.ports) else {
                return false;
            };
            let scheme = http.scheme.as_deref().unwrap_or("HTTP").to_lowercase();
            let path = http.path.as_deref().unwrap_or("/").trim_start_matches('/');
            let mut request = self.http.get(format!("{scheme}://127.0.0.1:{port}/{path}"));
            for header in http.http_headers.iter().flatten() {
                request = request.header(&header.name, &header.value);
            }
            return match request.send().await {
                Ok(answer) => (200..400).contains(&answer.status().as_u16()),
                Err(_) => false,
            };
        }
        if let Some(tcp) = &self.probe.tcp_socket {
            let Some(port) = actual_port(&tcp.port, self.container, self.ports) else {
                return false;
            };
            let address = (IpAddr::V4(Ipv4Addr::LOCALHOST), port);
            return TcpStream::connect(address).await.is_ok();
        }
        let command = self
            .probe
            .exec
            .as_ref()
            .and_then(|exec| exec.command.as_deref());
        let Some((name, arguments)) = command.and_then(<[String]>::split_first) else {
            return false;
        };
        let status = Command::new(name)
            .args(arguments)
            .env_clear()
            .envs(self.env)
            .current_dir(self.folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .status()
            .await;
        status.is_ok_and(|status| status.success())
    }
}

/// The port that stands for the one that a probe or a Service names by number or name.
pub(super) fn actual_port(
    port: &IntOrString,
    container: &Container,
    ports: &[PodPort],
) -> Option<u16> {
    let declared = match port {
        IntOrString::Int(number) => u16::try_from(*number).ok()?,
        IntOrString::String(name) => {
            let declared = container.ports.iter().flatten();
            let named = declared
                .filter(|port| port.name.as_deref() == Some(name))
                .map(|port| port.container_port)
                .next();
            u16::try_from(named?).ok()?
        }
    };
    let stands = ports.iter().find(|port| port.declared == declared);
    Some(stands.map_or(declared, |port| port.actual))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_turns_after_as_many_answers_as_asked_for() {
        let pace = Pace::of(&Probe {
            failure_threshold: Some(2),
            ..Probe::default()
        });
        let mut verdict = Verdict::default();
        assert!(!verdict.take(false, &pace));
        assert!(verdict.take(true, &pace) && verdict.ready);
        assert!(!verdict.take(false, &pace));
        assert!(!verdict.take(true, &pace), "one failure is forgotten");
        assert!(!verdict.take(false, &pace));
        assert!(verdict.take(false, &pace) && !verdict.ready);
        assert_eq!(pace.pause(false), UNTIL_READY);
        assert_eq!(pace.pause(true), Duration::from_secs(10));
    }
}
