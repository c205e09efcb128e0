//! The agent of this machine, in this process.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use neap_agent::config::{LogFormat, Profile};
use neap_agent::local::{LocalContainer, LocalPod, LocalPods};
use neap_agent::net::diag::DiagSocket;
use neap_agent::{Config, Local};
use neap_coordinator::local::{CGROUPS, LocalCoordinator, NODE, RunningPod};

/// Settings of an agent that reads the replicas of `coordinator`. What it shows and whom it believes
/// is written below `state`, for this user only.
pub(super) fn config(coordinator: &LocalCoordinator, state: &Path) -> io::Result<Config> {
    let folder = state.join("agent");
    fs::create_dir_all(&folder)?;
    let (ca_file, token_file) = (folder.join("ca.crt"), folder.join("token"));
    private(&ca_file, &coordinator.credentials.ca_pem)?;
    private(&token_file, &coordinator.credentials.token)?;
    Ok(Config {
        coordinator: coordinator.agents.to_string(),
        server_name: None,
        token_file,
        ca_file,
        node_name: NODE.to_owned(),
        cgroup_root: CGROUPS.into(),
        kubelet_cgroup_root: coordinator.cgroup_root.clone(),
        proc_root: "/proc".into(),
        http_listen: ([127, 0, 0, 1], 0).into(),
        profile: Profile::Full,
        // What may be read is up to the user's own rights.
        spool_roots: vec!["/".into()],
        spool_prefix: "/".into(),
        log_format: LogFormat::Text,
    })
}

fn private(file: &Path, text: &str) -> io::Result<()> {
    // A file of a former run may have been made with other rights.
    match fs::remove_file(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut open = OpenOptions::new();
    open.write(true).create_new(true).mode(0o600);
    open.open(file)?.write_all(text.as_bytes())
}

/// What the agent is told of pods.
pub(super) fn local(coordinator: &LocalCoordinator, pods: Arc<LocalPods>) -> Local {
    Local {
        pods,
        groups: coordinator.cgroup_root.is_some(),
    }
}

/// From the supervisor's words to the agent's.
pub(super) fn pod(running: RunningPod) -> LocalPod {
    let containers = running.containers.into_iter();
    LocalPod {
        uid: running.uid.into(),
        containers: containers
            .map(|(id, pid)| LocalContainer { id: id.into(), pid })
            .collect(),
        ports: running.ports,
    }
}

/// What this machine does not allow, each with what follows from it.
pub(super) fn missing(coordinator: &LocalCoordinator) -> Vec<String> {
    let mut missing = Vec::new();
    if let Some(why) = &coordinator.without_groups {
        missing.push(format!(
            "no cgroup rights ({why}): cpu and memory are read from /proc, node-pressure triggers have no value"
        ));
    }
    if let Err(error) = DiagSocket::open() {
        missing.push(format!(
            "no sock_diag ({error}): node-accept-queue triggers have no value"
        ));
    }
    missing
}
