//! What the process is told: flags, and `NEAP_*` in the environment where a flag is absent.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};

/// The form of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// A new cluster is formed from so many members; further ones join it.
const MOST_FOUNDERS: usize = 9;

const fn any(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port)
}

/// Neap's coordinator: decides replicas, and scales.
#[derive(Debug, Clone, PartialEq, Parser)]
#[command(name = "neap-coordinator", version)]
pub struct Config {
    /// Directory of the log and of what identifies this member; one process at a time.
    #[arg(long, env = "NEAP_DATA_DIR", default_value = "/var/lib/neap")]
    pub data_dir: PathBuf,
    /// Where agents connect (gRPC over TLS).
    #[arg(long, env = "NEAP_NODE_LISTEN", default_value_t = any(9700))]
    pub node_listen: SocketAddr,
    /// Where other coordinators connect (Raft over mTLS).
    #[arg(long, env = "NEAP_PEER_LISTEN", default_value_t = any(9701))]
    pub peer_listen: SocketAddr,
    /// Metrics, health and the read-only API (plain HTTP).
    #[arg(long, env = "NEAP_HTTP_LISTEN", default_value_t = any(9702))]
    pub http_listen: SocketAddr,
    /// Namespace that Neap runs in.
    #[arg(long, env = "NEAP_NAMESPACE", value_parser = dns_label)]
    pub namespace: String,
    /// Name of this pod, `NAME-ORDINAL` as a StatefulSet gives it.
    #[arg(long, env = "NEAP_POD_NAME", value_parser = ordinal_name)]
    pub pod_name: String,
    /// Service that agents reach the coordinators by.
    #[arg(long, env = "NEAP_SERVICE", default_value = "neap-coordinator", value_parser = dns_label)]
    pub service: String,
    /// Headless Service that gives each coordinator its name.
    #[arg(long, env = "NEAP_PEERS_SERVICE", default_value = "neap-coordinator-peers", value_parser = dns_label)]
    pub peers_service: String,
    /// Namespaces whose ScaledObjects are acted on, separated by commas; all if empty.
    #[arg(
        long,
        env = "NEAP_WATCH_NAMESPACES",
        value_delimiter = ',',
        default_value = ""
    )]
    pub watch_namespaces: Vec<String>,
    /// Namespace of KEDA's operator, whose Lease tells whether it lives; looked for in all if empty.
    #[arg(long, env = "NEAP_KEDA_NAMESPACE", default_value = "", value_parser = dns_label_or_empty)]
    pub keda_namespace: String,
    /// ServiceAccounts that agents run as, separated by commas: `NAME`, or `NAMESPACE/NAME` with Neap's
    /// own namespace.
    #[arg(
        long,
        env = "NEAP_AGENT_SERVICE_ACCOUNTS",
        value_delimiter = ',',
        default_value = "neap-agent"
    )]
    pub agent_service_accounts: Vec<String>,
    /// Directory of tls.crt, tls.key and ca.crt that cert-manager, or someone else, makes and renews for
    /// all coordinators; without it they make their own.
    #[arg(long, env = "NEAP_TLS_DIR")]
    pub tls_dir: Option<PathBuf>,
    /// Tolerance of the HPA's ratio, both ways.
    #[arg(long, env = "NEAP_TOLERANCE", default_value_t = 0.1, value_parser = tolerance)]
    pub tolerance: f64,
    /// Stabilisation window of scaling down, in seconds, where an object sets none.
    #[arg(long, env = "NEAP_DOWNSCALE_STABILIZATION", default_value_t = 300, value_parser = clap::value_parser!(u32).range(0..=3600))]
    pub downscale_stabilization: u32,
    /// A change against the direction of the last one waits so many seconds from it.
    #[arg(long, env = "NEAP_REVERSAL_HOLD", default_value_t = 15, value_parser = clap::value_parser!(u32).range(0..=3600))]
    pub reversal_hold: u32,
    /// Form of log lines.
    #[arg(long, env = "NEAP_LOG_FORMAT", value_enum, default_value = "text")]
    pub log_format: LogFormat,
}

fn dns_label(text: &str) -> Result<String, String> {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let ends = |c: Option<char>| c.is_some_and(|c| c != '-');
    if text.len() <= 63
        && text.chars().all(allowed)
        && ends(text.chars().next())
        && ends(text.chars().last())
    {
        Ok(text.to_owned())
    } else {
        Err(
            "it must be 1 to 63 of a-z, 0-9 and -, and begin and end with a letter or digit"
                .to_owned(),
        )
    }
}

fn dns_label_or_empty(text: &str) -> Result<String, String> {
    if text.is_empty() {
        return Ok(String::new());
    }
    dns_label(text)
}

/// The name of a StatefulSet's pod, or why it is none.
pub(crate) fn ordinal_name(text: &str) -> Result<String, String> {
    match text
        .rsplit_once('-')
        .map(|(name, ordinal)| (dns_label(name), ordinal.parse::<u32>()))
    {
        Some((Ok(_), Ok(_))) => Ok(text.to_owned()),
        _ => {
            Err("it must be the name of a StatefulSet's pod, such as neap-coordinator-0".to_owned())
        }
    }
}

fn tolerance(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if (0.0..1.0).contains(&value) => Ok(value),
        _ => Err("it must be a number from 0 to below 1, such as 0.1".to_owned()),
    }
}

impl Config {
    /// The namespaces to watch; empty means all.
    pub fn watched(&self) -> Vec<String> {
        self.watch_namespaces
            .iter()
            .map(|name| name.trim().to_owned())
            .filter(|name| !name.is_empty())
            .collect()
    }

    /// The namespace to look for KEDA's operator in; `None` means all.
    pub fn keda_in(&self) -> Option<&str> {
        Some(self.keda_namespace.as_str()).filter(|name| !name.is_empty())
    }

    /// Names of the agents' ServiceAccounts, all in Neap's own namespace.
    pub fn agent_accounts(&self) -> Vec<String> {
        let own = format!("{}/", self.namespace);
        self.agent_service_accounts
            .iter()
            .map(|account| account.trim())
            .map(|account| account.strip_prefix(&own).unwrap_or(account).to_owned())
            .filter(|account| !account.is_empty())
            .collect()
    }

    /// Name of the StatefulSet that this pod belongs to.
    pub fn stateful_set(&self) -> &str {
        self.pod_name
            .rsplit_once('-')
            .map_or(&self.pod_name, |(name, _)| name)
    }

    /// Ordinal of this pod in the StatefulSet.
    pub fn ordinal(&self) -> i32 {
        let ordinal = self.pod_name.rsplit_once('-');
        // The flag's parser has let nothing else pass.
        ordinal.map_or(0, |(_, ordinal)| ordinal.parse().unwrap_or(i32::MAX))
    }

    /// DNS name of one of the coordinators' pods.
    pub fn peer_host(&self, pod: &str) -> String {
        format!("{pod}.{}.{}.svc", self.peers_service, self.namespace)
    }

    /// `host:port` at which the other coordinators reach this one.
    pub fn own_address(&self) -> String {
        format!(
            "{}:{}",
            self.peer_host(&self.pod_name),
            self.peer_listen.port()
        )
    }

    /// Name and `host:port` of each member that a new cluster is formed from, where the StatefulSet
    /// wants pods of these ordinals, and of this one: a pod may start that is not wanted any more. The
    /// first of them is always there, so that such a pod forms no cluster of its own.
    pub fn members(&self, wanted: &Range<i32>) -> Vec<(String, String)> {
        let set = self.stateful_set();
        let end = wanted.end.max(wanted.start.saturating_add(1));
        let mut pods: Vec<String> = (wanted.start..end)
            .take(MOST_FOUNDERS)
            .map(|ordinal| format!("{set}-{ordinal}"))
            .collect();
        if !pods.contains(&self.pod_name) {
            pods.push(self.pod_name.clone());
        }
        self.with_addresses(pods)
    }

    /// Name and `host:port` of each of these pods, of others than this one.
    pub fn leaving(&self, pods: &[String]) -> Vec<(String, String)> {
        let others = pods.iter().filter(|pod| **pod != self.pod_name);
        self.with_addresses(others.cloned().collect())
    }

    fn with_addresses(&self, pods: Vec<String>) -> Vec<(String, String)> {
        let port = self.peer_listen.port();
        pods.into_iter()
            .map(|pod| {
                let address = format!("{}:{port}", self.peer_host(&pod));
                (pod, address)
            })
            .collect()
    }

    /// The engine's settings.
    pub fn engine(&self) -> neap_engine::Settings {
        let seconds = |seconds: u32| Duration::from_secs(u64::from(seconds));
        neap_engine::Settings {
            tolerance: self.tolerance,
            downscale_stabilization: seconds(self.downscale_stabilization),
            reversal_hold: seconds(self.reversal_hold),
            ..neap_engine::Settings::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(more: &[&str]) -> Result<Config, clap::Error> {
        let mut args = vec![
            "neap-coordinator",
            "--namespace",
            "neap",
            "--pod-name",
            "neap-coordinator-1",
        ];
        args.extend(more);
        Config::try_parse_from(args)
    }

    #[test]
    fn members_have_the_names_of_the_stateful_set() {
        let config = parse(&["--watch-namespaces", "a, b,"]).unwrap();
        assert_eq!(config.stateful_set(), "neap-coordinator");
        assert_eq!(config.ordinal(), 1);
        let members = config.members(&(0..3));
        assert_eq!(members.len(), 3);
        // This pod is the second; where it is not wanted it joins the first all the same.
        for wanted in [0..1, 0..0] {
            assert_eq!(config.members(&wanted), members[..2]);
        }
        let names = |wanted| -> Vec<String> {
            let members = config.members(&wanted).into_iter();
            members
                .map(|(name, _)| name.replace("neap-coordinator-", ""))
                .collect()
        };
        assert_eq!(names(2..5), ["2", "3", "4", "1"]);
        assert_eq!(names(0..50).len(), 9);
        let second = (
            "neap-coordinator-1",
            "neap-coordinator-1.neap-coordinator-peers.neap.svc:9701",
        );
        assert_eq!((members[1].0.as_str(), members[1].1.as_str()), second);
        assert_eq!(config.watched(), ["a", "b"]);
        assert_eq!(parse(&[]).unwrap().watched(), [] as [&str; 0]);
        assert_eq!(config.keda_in(), None);
        let keda = parse(&["--keda-namespace", "keda"]).unwrap();
        assert_eq!(keda.keda_in(), Some("keda"));
        assert_eq!(config.agent_accounts(), ["neap-agent"]);
        let accounts = parse(&["--agent-service-accounts", "neap/a,b"])
            .unwrap()
            .agent_accounts();
        assert_eq!(accounts, ["a", "b"]);
        assert_eq!(config.engine(), neap_engine::Settings::default());
    }

    #[test]
    fn what_is_not_allowed_is_named() {
        for (flag, value, allowed) in [
            ("--tolerance", "1.5", "from 0 to below 1"),
            ("--namespace", "Neap", "a-z, 0-9 and -"),
            ("--keda-namespace", "Keda", "a-z, 0-9 and -"),
            ("--pod-name", "coordinator", "such as neap-coordinator-0"),
            ("--node-listen", "9700", "invalid socket address"),
        ] {
            let mut args = vec!["neap-coordinator"];
            for (given, good) in [
                ("--namespace", "neap"),
                ("--pod-name", "neap-coordinator-1"),
            ] {
                if given != flag {
                    args.extend([given, good]);
                }
            }
            args.extend([flag, value]);
            let error = Config::try_parse_from(args).unwrap_err().to_string();
            assert!(
                error.contains(flag) && error.contains(value) && error.contains(allowed),
                "{error}"
            );
        }
    }
}
