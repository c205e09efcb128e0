//! Puts the parts together and runs them until told to stop.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use neap_proto::node::{self, capabilities};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::cgroup::hierarchy::{Hierarchies, Mode, NoHierarchy, find_kubepods};
use crate::cgroup::names::Driver;
use crate::cgroup::tree::Tree;
use crate::clock::{BootClock, SystemBootClock};
use crate::config::{Config, Profile};
use crate::http;
use crate::local::{LocalPods, PodSource, ProcessList};
use crate::metrics::Metrics;
use crate::net::namespace::Namespaces;
use crate::node::NodeReader;
use crate::psi_trigger::PsiTrigger;
use crate::sampler::{Mailbox, Sampler, Sources};
use crate::session::Sessions;
use crate::spool::Roots;

/// Why the agent cannot start, or had to end.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// --cgroup-root shows no cgroups.
    #[error(transparent)]
    Cgroups(#[from] NoHierarchy),
    /// --proc-root is not a /proc.
    #[error("cannot read the node's /proc at {path} (--proc-root)")]
    Proc {
        /// --proc-root
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// --http-listen is taken or not allowed.
    #[error("cannot listen on {address} (--http-listen)")]
    Listen {
        /// --http-listen
        address: std::net::SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// No file descriptor, or no thread, left.
    #[error("cannot start the sampler")]
    Start(#[source] io::Error),
    /// The sampler's thread ended by itself.
    #[error("the sampler ended: {0}")]
    Sampler(String),
}

/// Runs an agent until `shutdown` is cancelled. The caller has installed the process's
/// rustls provider and a tracing subscriber.
///
/// # Errors
/// [`Error`]; a coordinator that cannot be reached is none: the agent waits for it.
pub async fn run(config: Config, shutdown: CancellationToken) -> Result<(), Error> {
    let sources = open_sources(&config)?;
    run_on(config, sources, shutdown).await
}

/// The pods of this machine that are no kubelet's.
#[derive(Clone, Debug)]
pub struct Local {
    /// The pods.
    pub pods: Arc<LocalPods>,
    /// Whether their processes are in groups, below `kubelet_cgroup_root` of the settings. Else they
    /// are read by /proc: CPU time and memory, and no pressure.
    pub groups: bool,
}

/// Runs an agent that reads `local` pods, which share this machine's network, until `shutdown` is
/// cancelled. As [`run`] else.
///
/// # Errors
/// [`Error`].
pub async fn run_local(
    config: Config,
    local: Local,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    let proc_failed = |source| Error::Proc {
        path: config.proc_root.clone(),
        source,
    };
    let pods = if local.groups {
        let hierarchies = Hierarchies::detect(&config.cgroup_root)?;
        let tree = Tree::new(hierarchies, config.kubelet_cgroup_root.clone());
        PodSource::Cgroups(tree, Some(local.pods))
    } else {
        PodSource::Processes(ProcessList::new(local.pods))
    };
    let sources = Sources {
        pods,
        node: NodeReader::open(&config.proc_root).map_err(proc_failed)?,
        namespaces: Some(Namespaces::new(&config.proc_root).map_err(proc_failed)?),
        trigger: None,
        spool_roots: Roots::new(config.spool_roots.clone(), config.spool_prefix.clone()),
    };
    run_on(config, sources, shutdown).await
}

async fn run_on(
    config: Config,
    sources: Sources,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    // A node full of pods needs a few thousand descriptors, and the soft limit is often 1,024.
    if let Err(error) = rlimit::increase_nofile_limit(u64::MAX) {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
    let config = Arc::new(config);
    let metrics = Arc::new(Metrics::new(config.profile.as_str()));
    let hello = hello(&config, &sources)?;
    tracing::info!(node = %config.node_name, capabilities = ?hello.capabilities, "agent starts");

    let listen_failed = |source| Error::Listen {
        address: config.http_listen,
        source,
    };
    let listener = tokio::net::TcpListener::bind(config.http_listen)
        .await
        .map_err(listen_failed)?;
    let mailbox = Arc::new(Mailbox::new().map_err(Error::Start)?);
    let mut sampler = start_sampler(sources, mailbox.clone(), metrics.clone())?;

    let stop = shutdown.child_token();
    let router = http::router(metrics.clone(), mailbox.clone());
    let server = tokio::spawn({
        let stop = stop.clone();
        async move {
            axum::serve(listener, router)
                .with_graceful_shutdown(stop.cancelled_owned())
                .await
        }
    });
    let sessions =
        tokio::spawn(Sessions::new(config, hello, mailbox.clone(), metrics).run(stop.clone()));

    let ended = tokio::select! {
        () = shutdown.cancelled() => None,
        ended = &mut sampler => Some(ended),
    };
    stop.cancel();
    // Neither task returns an error that is news at this point.
    let _ = sessions.await;
    server.abort();
    let result = match ended {
        Some(ended) => Err(Error::Sampler(cause(ended))),
        None => {
            mailbox.stop();
            match sampler.await {
                Ok(Ok(())) => Ok(()),
                ended => Err(Error::Sampler(cause(ended))),
            }
        }
    };
    tracing::info!("agent stopped");
    result
}

fn cause(ended: Result<io::Result<()>, oneshot::error::RecvError>) -> String {
    match ended {
        Ok(Ok(())) => "it was not asked to".into(),
        Ok(Err(error)) => error.to_string(),
        Err(_) => "it panicked".into(),
    }
}

fn open_sources(config: &Config) -> Result<Sources, Error> {
    let hierarchies = Hierarchies::detect(&config.cgroup_root)?;
    let proc_failed = |source| Error::Proc {
        path: config.proc_root.clone(),
        source,
    };
    let node = NodeReader::open(&config.proc_root).map_err(proc_failed)?;
    let (namespaces, trigger) = match config.profile {
        Profile::Restricted => (None, None),
        Profile::Full => {
            let namespaces = Namespaces::new(&config.proc_root).map_err(proc_failed)?;
            if !namespaces.permitted() {
                tracing::warn!(
                    "pods' network namespaces cannot be entered: no accept queues. Profile full needs hostPID, CAP_SYS_ADMIN and CAP_SYS_PTRACE"
                );
            }
            let trigger = PsiTrigger::arm(&config.proc_root).inspect_err(
                |error| tracing::info!(%error, "no PSI trigger: pressure is read at its interval"),
            );
            (Some(namespaces).filter(Namespaces::permitted), trigger.ok())
        }
    };
    let tree = Tree::new(hierarchies, config.kubelet_cgroup_root.clone());
    Ok(Sources {
        pods: PodSource::Cgroups(tree, None),
        node,
        namespaces,
        trigger,
        spool_roots: Roots::new(config.spool_roots.clone(), config.spool_prefix.clone()),
    })
}

fn hello(config: &Config, sources: &Sources) -> Result<node::Hello, Error> {
    let path = config.proc_root.join("sys/kernel/random/boot_id");
    let boot_id = std::fs::read_to_string(&path).map_err(|source| Error::Proc { path, source })?;
    let hierarchies = sources.pods.hierarchies();
    let kubelet_root = config.kubelet_cgroup_root.as_deref();
    let driver = hierarchies.discovery_order().find_map(|root| {
        let found = find_kubepods(root, kubelet_root);
        found.first().map(|(_, driver)| *driver)
    });
    let v2 = hierarchies.mode == Mode::V2;
    let controllers = hierarchies
        .unified
        .as_ref()
        .map(|root| root.join("cgroup.controllers"));
    let controllers = controllers
        .and_then(|path| std::fs::read_to_string(path).ok())
        .unwrap_or_default();
    let has = |name: &str| v2 && controllers.split_whitespace().any(|found| found == name);
    let mut buffer = vec![0; crate::cgroup::file::BUFFER];
    let capabilities = node::Capabilities {
        cgroup_mode: match hierarchies.mode {
            Mode::V2 => capabilities::CgroupMode::V2,
            Mode::Hybrid => capabilities::CgroupMode::Hybrid,
            Mode::V1 => capabilities::CgroupMode::V1,
        }
        .into(),
        cgroup_driver: match driver {
            None => capabilities::CgroupDriver::Unspecified,
            Some(Driver::Cgroupfs) => capabilities::CgroupDriver::Cgroupfs,
            Some(Driver::Systemd) => capabilities::CgroupDriver::Systemd,
        }
        .into(),
        kernel: rustix::system::uname()
            .release()
            .to_string_lossy()
            .into_owned(),
        cpus: std::thread::available_parallelism()
            .map_or(0, |cpus| u32::try_from(cpus.get()).unwrap_or(u32::MAX)),
        memory_bytes: sources
            .node
            .memory(&mut buffer)
            .map_or(0, |memory| memory.total),
        pod_pressure: hierarchies.unified.is_some() && sources.node.has_pressure(),
        node_pressure: sources.node.has_pressure(),
        pressure_trigger: sources.trigger.is_some(),
        cpu_throttling: has("cpu") || hierarchies.cpu.is_some(),
        memory: has("memory")
            || hierarchies.memory.is_some()
            || matches!(sources.pods, PodSource::Processes(_)),
        sockets: sources.namespaces.is_some(),
        profile: config.profile.as_str().into(),
        spool_roots: sources
            .spool_roots
            .iter()
            .map(|root| root.display().to_string())
            .collect(),
    };
    Ok(node::Hello {
        protocol_version: node::PROTOCOL_VERSION,
        node_name: config.node_name.clone(),
        boot_id: boot_id.trim().to_owned(),
        agent_version: env!("CARGO_PKG_VERSION").into(),
        agent_start_boottime_ns: SystemBootClock.now().as_nanos(),
        capabilities: Some(capabilities),
    })
}

/// The sampler on a thread of its own; the receiver says how it ended.
fn start_sampler(
    sources: Sources,
    mailbox: Arc<Mailbox>,
    metrics: Arc<Metrics>,
) -> Result<oneshot::Receiver<io::Result<()>>, Error> {
    let (ended, receiver) = oneshot::channel();
    let sampler = Sampler::new(SystemBootClock, sources, mailbox, metrics);
    std::thread::Builder::new()
        .name("neap-sampler".into())
        .spawn(move || {
            // Fails when nobody waits any more.
            let _ = ended.send(sampler.run());
        })
        .map_err(Error::Start)?;
    Ok(receiver)
}
