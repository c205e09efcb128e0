//! The coordinators of a bed, one by one: who leads, and ways to disturb one.

use std::io::Write as _;
use std::net::IpAddr;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use serde_json::Value;

use crate::bed::NEAP;
use crate::{Bed, Probe, until};

/// The program's name.
pub const COORDINATOR: &str = "neap-coordinator";
/// A member that was silent for longer is not there.
const SILENT_MILLIS: u64 = 1_000;

/// Which way packets between one coordinator and the others are dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// To it and from it.
    Both,
    /// To it alone: it is heard and hears nobody.
    Inbound,
    /// From it alone: it hears and is heard by nobody.
    Outbound,
}

/// One coordinator.
#[derive(Debug, Clone)]
pub struct Coordinator {
    /// Its pod.
    pub pod: Pod,
    /// What it answers at `/api/v1/status`.
    pub status: Value,
}

impl Coordinator {
    /// Name of the pod.
    #[must_use]
    pub fn name(&self) -> String {
        self.pod.name_any()
    }

    /// Whether it knows no leader, itself included: one that hears no other member has no lease.
    #[must_use]
    pub fn is_alone(&self) -> bool {
        self.status["leader"].is_null()
    }

    fn address(&self) -> Result<IpAddr> {
        let ip = self.pod.status.as_ref().and_then(|s| s.pod_ip.as_deref());
        Ok(ip.context("no IP")?.parse()?)
    }
}

impl Bed {
    /// The coordinators that answer, with what they say.
    ///
    /// # Errors
    /// When the API server or one of them does not answer.
    pub async fn coordinators(&self) -> Result<Vec<Coordinator>> {
        let mut found = Vec::new();
        for pod in self
            .pods(NEAP, "app.kubernetes.io/name=neap-coordinator")
            .await?
        {
            found.push(self.coordinator(pod).await?);
        }
        Ok(found)
    }

    /// The coordinator of `pod`, with what it says.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn coordinator(&self, pod: Pod) -> Result<Coordinator> {
        let ip = pod.status.as_ref().and_then(|s| s.pod_ip.clone());
        let ip = ip.with_context(|| format!("{} has no IP", pod.name_any()))?;
        let answer = self.get_from(&ip, "/api/v1/status").await;
        let answer = answer.with_context(|| pod.name_any())?;
        let status = serde_json::from_str(&answer)?;
        Ok(Coordinator { pod, status })
    }

    /// Waits until `count` coordinators run, are in touch and have the same log, and gives them with
    /// the leader first.
    ///
    /// # Errors
    /// When the time is over, with what was seen last.
    pub async fn settled(&self, count: usize, limit: Duration) -> Result<Vec<Coordinator>> {
        until("settled coordinators", limit, || async {
            let mut all = self.coordinators().await?;
            Ok(match unsettled(&all, count) {
                Some(why) => Probe::NotYet(why),
                None => {
                    all.sort_by_key(|one| one.status["leads"] != true);
                    Probe::Is(all)
                }
            })
        })
        .await
    }

    /// Drops packets between `one` and `others`, in the network of its pod.
    ///
    /// # Errors
    /// What nft says.
    pub fn cut(&self, one: &Coordinator, others: &[Coordinator], cut: Cut) -> Result<()> {
        let addresses: Result<Vec<String>> = others
            .iter()
            .map(|other| Ok(other.address()?.to_string()))
            .collect();
        let set = addresses?.join(", ");
        let mut rules = String::from("table inet neap_test {\n");
        if cut != Cut::Outbound {
            rules += &format!(
                "chain in {{ type filter hook input priority 0; ip saddr {{ {set} }} drop; }}\n"
            );
        }
        if cut != Cut::Inbound {
            rules += &format!(
                "chain out {{ type filter hook output priority 0; ip daddr {{ {set} }} drop; }}\n"
            );
        }
        self.nft(&one.pod, &(rules + "}\n"))
    }

    /// Drops packets from `one` to the API server, in the network of its pod.
    ///
    /// # Errors
    /// What nft says, or the API server.
    pub async fn cut_from_api_server(&self, one: &Coordinator) -> Result<()> {
        let server = self.cluster_address("default", "kubernetes").await?.ip();
        let rule = format!("ip daddr {server} drop;");
        let chain = format!("chain out {{ type filter hook output priority 0; {rule} }}");
        self.nft(&one.pod, &format!("table inet neap_test {{\n{chain}\n}}\n"))
    }

    /// Ends a [`cut`](Self::cut), from the API server too.
    ///
    /// # Errors
    /// What nft says.
    pub fn heal(&self, one: &Coordinator) -> Result<()> {
        self.nft(&one.pod, "delete table inet neap_test\n")
    }

    fn nft(&self, pod: &Pod, rules: &str) -> Result<()> {
        let process = self.process(pod, COORDINATOR)?;
        let mut nft = Command::new("nsenter")
            .arg(format!("--net=/proc/{process}/ns/net"))
            .args(["nft", "-f", "-"])
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let mut input = nft.stdin.take().context("no stdin")?;
        input.write_all(rules.as_bytes())?;
        drop(input);
        let done = nft.wait_with_output()?;
        if !done.status.success() {
            bail!("nft: {}\n{rules}", String::from_utf8_lossy(&done.stderr));
        }
        Ok(())
    }
}

/// What is missing, if anything is.
fn unsettled(all: &[Coordinator], count: usize) -> Option<String> {
    let check = || -> Result<()> {
        ensure!(all.len() == count, "{} coordinators", all.len());
        let mut leaders = all.iter().filter(|one| one.status["leads"] == true);
        let leader = leaders.next().context("nobody leads")?;
        ensure!(leaders.next().is_none(), "two lead");
        for one in all {
            ensure!(is_ready(&one.pod), "{} is not ready", one.name());
            let known = &one.status["leader"]["name"];
            ensure!(*known == leader.name(), "{} follows {known}", one.name());
        }
        let members = leader.status["members"].as_array().context("no members")?;
        ensure!(members.len() == count, "members: {members:?}");
        for member in members {
            let name = member["name"].as_str().unwrap_or_default();
            let lately = heard_lately(member);
            let close = member["lag"].as_u64().is_some_and(|lag| lag <= 2);
            let there = name == leader.name() || (lately && close);
            ensure!(member["voter"] == true && there, "members: {members:?}");
        }
        Ok(())
    };
    check().err().map(|error| format!("{error:#}"))
}

fn heard_lately(member: &Value) -> bool {
    member["silentMillis"]
        .as_u64()
        .is_some_and(|ago| ago < SILENT_MILLIS)
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|s| s.conditions.as_ref());
    conditions
        .into_iter()
        .flatten()
        .any(|c| c.type_ == "Ready" && c.status == "True")
}
