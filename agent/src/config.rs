//! Settings of the agent: flags, each with an environment variable `NEAP_*`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Parser, ValueEnum};

use crate::directives::MAX_SPOOL_PATH;

/// What the agent may do on its node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Profile {
    /// hostPID and the capabilities that namespaces need: everything.
    Full,
    /// No hostPID, no capabilities, read-only cgroups: CPU, memory and pressure.
    Restricted,
}

impl Profile {
    /// As the flag has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Restricted => "restricted",
        }
    }
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Reads what the kernel counts for the pods of this node and streams it to Neap's coordinator.
#[derive(Clone, Debug, Parser)]
#[command(name = "neap-agent", version)]
pub struct Config {
    /// Address of the coordinators' Service, host:port.
    #[arg(long, env = "NEAP_COORDINATOR", default_value = "neap-coordinator.neap.svc:9700", value_parser = address)]
    pub coordinator: String,
    /// Name to check in the server's certificate, instead of the host that is dialled.
    #[arg(long, env = "NEAP_SERVER_NAME")]
    pub server_name: Option<String>,
    /// Projected ServiceAccount token with audience `neap`.
    #[arg(
        long,
        env = "NEAP_TOKEN_FILE",
        default_value = "/var/run/secrets/neap/token"
    )]
    pub token_file: PathBuf,
    /// Neap's CA bundle, PEM. May appear after the agent has started.
    #[arg(long, env = "NEAP_CA_FILE", default_value = "/var/run/neap-ca/ca.crt")]
    pub ca_file: PathBuf,
    /// Name of the Node object.
    #[arg(long, env = "NEAP_NODE_NAME", value_parser = node_name)]
    pub node_name: String,
    /// The node's cgroup file systems.
    #[arg(long, env = "NEAP_CGROUP_ROOT", default_value = "/sys/fs/cgroup")]
    pub cgroup_root: PathBuf,
    /// The kubelet's cgroupRoot, if it has one of its own (such as /kubelet). Without, pods are looked for in
    /// the cgroup root and one level below.
    #[arg(long, env = "NEAP_KUBELET_CGROUP_ROOT")]
    pub kubelet_cgroup_root: Option<PathBuf>,
    /// The node's /proc.
    #[arg(long, env = "NEAP_PROC_ROOT", default_value = "/proc")]
    pub proc_root: PathBuf,
    /// Where /metrics, /healthz and /readyz are served.
    #[arg(long, env = "NEAP_HTTP_LISTEN", default_value = "0.0.0.0:9710")]
    pub http_listen: SocketAddr,
    /// What the agent may do on its node.
    #[arg(long, env = "NEAP_PROFILE", value_enum, default_value = "full")]
    pub profile: Profile,
    /// A directory of the node below which spools may be read, absolute; may be given several times (in the
    /// environment: parted by commas). Without, none may.
    #[arg(long = "spool-root", env = "NEAP_SPOOL_ROOTS", value_delimiter = ',', value_parser = spool_root)]
    pub spool_roots: Vec<PathBuf>,
    /// Where the node's file system is seen, for spools.
    #[arg(long, env = "NEAP_SPOOL_PREFIX", default_value = "/")]
    pub spool_prefix: PathBuf,
    /// How log lines look.
    #[arg(long, env = "NEAP_LOG_FORMAT", value_enum, default_value = "text")]
    pub log_format: LogFormat,
}

fn address(text: &str) -> Result<String, String> {
    let (host, port) = text.rsplit_once(':').ok_or("expected host:port")?;
    let port: u16 = port
        .parse()
        .map_err(|_| format!("port {port:?} is not a number from 1 to 65535"))?;
    if host.is_empty()
        || port == 0
        || host.contains(['/', '@'])
        || host.contains(char::is_whitespace)
    {
        return Err("expected host:port, without a scheme or path".into());
    }
    Ok(text.to_owned())
}

fn spool_root(text: &str) -> Result<PathBuf, String> {
    let path: PathBuf = PathBuf::from(text).components().collect();
    let up = path
        .components()
        .any(|part| part == std::path::Component::ParentDir);
    if !path.is_absolute() || up || text.len() > MAX_SPOOL_PATH {
        return Err(format!(
            "expected an absolute path without \"..\", of at most {MAX_SPOOL_PATH} bytes"
        ));
    }
    Ok(path)
}

fn node_name(text: &str) -> Result<String, String> {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
    if text.is_empty() || text.len() > 253 || !text.chars().all(allowed) {
        return Err("a node's name is 1 to 253 of a-z, 0-9, '-' and '.'".into());
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> Result<Config, String> {
        let args = ["neap-agent"].iter().chain(args);
        Config::try_parse_from(args).map_err(|error| error.to_string())
    }

    #[test]
    fn only_the_nodes_name_has_no_default() {
        let config = parse(&["--node-name", "node-1.example"]).unwrap();
        assert_eq!(config.coordinator, "neap-coordinator.neap.svc:9700");
        assert_eq!(config.http_listen.port(), 9710);
        assert_eq!(
            (config.profile, config.profile.as_str()),
            (Profile::Full, "full")
        );
        assert!(parse(&[]).unwrap_err().contains("--node-name"));
    }

    #[test]
    fn spool_roots_are_as_many_as_are_given_and_none_by_default() {
        let roots = |args: &[&str]| {
            let mut all = vec!["--node-name", "n"];
            all.extend(args);
            parse(&all).unwrap().spool_roots
        };
        assert!(roots(&[]).is_empty());
        let given = ["--spool-root", "/a/", "--spool-root", "/b/./c,/d"];
        assert_eq!(roots(&given), ["/a", "/b/c", "/d"].map(PathBuf::from));
    }

    #[test]
    fn a_bad_value_is_refused_with_its_flag_and_what_is_allowed() {
        for (flag, value, expected) in [
            ("--coordinator", "no-port", "host:port"),
            ("--coordinator", "host:99999", "65535"),
            ("--coordinator", "https://host:1", "without a scheme"),
            ("--node-name", "Not A Name", "a-z, 0-9"),
            ("--profile", "privileged", "restricted"),
            ("--http-listen", "9710", "invalid socket address"),
            ("--log-format", "xml", "json"),
            ("--spool-root", "var/spool", "absolute path"),
            ("--spool-root", "/var/../etc", "without \"..\""),
        ] {
            let mut args = vec!["--node-name", "n"];
            if flag == "--node-name" {
                args.clear();
            }
            args.extend([flag, value]);
            let error = parse(&args).unwrap_err();
            assert!(
                error.contains(flag) && error.contains(value) && error.contains(expected),
                "{error}"
            );
        }
    }
}
