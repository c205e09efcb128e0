//! One replica: its containers as processes, started again with backoff, probed, and stopped with grace.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Pid, Signal};
use tokio::process::Child;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::environment::{self, EnvironmentError, expand};
use super::groups::Groups;
use super::ids::container_id;
use super::journal::Journal;
use super::objects::LocalObjects;
use super::probe::{Pace, Prober, Verdict};
use super::report::{Fault, Place, ReplicaChange, Report, Reports};
use super::spawn::{Program, Spawner};
use super::workload::Workload;
use crate::clock::Clock;

const BACKOFF_FIRST: Duration = Duration::from_millis(500);
const BACKOFF_LAST: Duration = Duration::from_secs(30);
/// One that ran this long is not one that dies at once.
const STEADY: Duration = Duration::from_secs(10);
/// As much of the end of a log is looked at for a last word.
const LAST_WORDS: u64 = 4_096;
const LAST_LINE: usize = 200;

/// A declared port and the port that stands for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PodPort {
    pub(super) declared: u16,
    pub(super) actual: u16,
}

/// What a replica is.
#[derive(Debug, Clone)]
pub(super) struct PodSpec {
    pub(super) uid: String,
    pub(super) name: String,
    pub(super) namespace: String,
    pub(super) workload: Arc<Workload>,
    pub(super) ports: Vec<PodPort>,
    pub(super) state_dir: PathBuf,
}

/// What happens to a replica.
#[derive(Debug)]
pub(super) enum PodEvent {
    /// A container's process was started.
    Started {
        container: usize,
        id: String,
        pid: u32,
    },
    /// It ended.
    Exited { container: usize },
    /// Whether a container may get connections.
    Ready { container: usize, ready: bool },
    /// Nothing of it runs any more, and nothing will.
    Gone,
}

/// What replicas share.
pub(super) struct Shared {
    pub(super) objects: Arc<LocalObjects>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) reports: Reports,
    pub(super) spawner: Spawner,
    pub(super) journal: Journal,
    pub(super) groups: Option<Groups>,
    pub(super) http: reqwest::Client,
    pub(super) base_env: Vec<(String, String)>,
    pub(super) logs: PathBuf,
}

/// Runs a replica until `stop` is cancelled and all of it has ended.
pub(super) async fn run(
    spec: Arc<PodSpec>,
    shared: Arc<Shared>,
    stop: CancellationToken,
    events: mpsc::Sender<(String, PodEvent)>,
) {
    let mut containers = JoinSet::new();
    for at in 0..spec.workload.containers().len() {
        let container = ContainerRun {
            spec: spec.clone(),
            shared: shared.clone(),
            events: events.clone(),
            at,
        };
        let stop = stop.clone();
        containers.spawn(async move { container.run(stop).await });
    }
    while containers.join_next().await.is_some() {}
    if let Some(groups) = &shared.groups {
        groups.remove_pod(&spec.uid);
    }
    // Fails when the supervisor is gone.
    let _ = events.send((spec.uid.clone(), PodEvent::Gone)).await;
}

struct ContainerRun {
    spec: Arc<PodSpec>,
    shared: Arc<Shared>,
    events: mpsc::Sender<(String, PodEvent)>,
    at: usize,
}

/// How one life of a process ended.
enum Life {
    Asked,
    Exited(io::Result<std::process::ExitStatus>),
}

impl ContainerRun {
    async fn run(&self, stop: CancellationToken) {
        let mut backoff = BACKOFF_FIRST;
        while !stop.is_cancelled() {
            let began = self.shared.clock.boottime();
            match self.start().await {
                Ok((child, pid, env)) => match self.live(child, pid, &env, &stop).await {
                    Life::Asked => return,
                    Life::Exited(status) => {
                        self.tell(PodEvent::Exited { container: self.at }).await;
                        let ran = self.shared.clock.boottime().since(began);
                        if ran >= STEADY {
                            backoff = BACKOFF_FIRST;
                        }
                        self.say_exit(status, ran);
                    }
                },
                Err(fault) => self.shared.reports.fault(fault),
            }
            let until = self.shared.clock.boottime() + backoff;
            if stop
                .run_until_cancelled(self.shared.clock.sleep_until(until))
                .await
                .is_none()
            {
                return;
            }
            backoff = (backoff * 2).min(BACKOFF_LAST);
        }
    }

    fn container(&self) -> Option<&k8s_openapi::api::core::v1::Container> {
        self.spec.workload.containers().get(self.at)
    }

    fn name(&self) -> &str {
        self.container().map_or("", |container| &container.name)
    }

    /// What faults of this container are about: all replicas of a workload fail alike.
    fn subject(&self) -> String {
        format!("{} container {:?}", self.spec.workload.id, self.name())
    }

    fn log_path(&self) -> PathBuf {
        self.shared.logs.join(format!(
            "{}_{}_{}.log",
            self.spec.namespace,
            self.spec.name,
            self.name()
        ))
    }

    async fn tell(&self, event: PodEvent) {
        // Fails when the supervisor is gone.
        let _ = self.events.send((self.spec.uid.clone(), event)).await;
    }

    fn say(&self, change: ReplicaChange, detail: String) {
        self.shared.reports.say(Report::Replica {
            workload: self.spec.workload.id.to_string(),
            pod: format!("{}/{}", self.spec.namespace, self.spec.name),
            change,
            detail,
        });
    }

    fn fault(&self, field: Option<String>, message: String, advice: String) -> Fault {
        Fault {
            subject: self.subject(),
            place: self.spec.workload.command_place.clone(),
            field,
            message,
            advice,
        }
    }

    async fn start(&self) -> Result<(Child, u32, BTreeMap<String, String>), Fault> {
        let field = |name: &str| format!("spec.template.spec.containers[{}].{name}", self.at);
        let Some(container) = self.container() else {
            return Err(self.fault(None, "it is gone".to_owned(), String::new()));
        };
        let env = environment::environment(
            &self.spec,
            self.at,
            container,
            &self.shared.objects,
            &self.shared.base_env,
        )
        .map_err(|error| {
            let EnvironmentError {
                field,
                message,
                advice,
            } = error;
            Fault {
                place: Place {
                    line: None,
                    ..self.spec.workload.place.clone()
                },
                ..self.fault(Some(field), message, advice)
            }
        })?;
        let words = container.command.iter().chain(&container.args).flatten();
        let argv: Vec<String> = words
            .map(|word| expand(word, |name| env.get(name).cloned()))
            .collect();
        let folder = match &container.working_dir {
            Some(inside) => self.spec.workload.folder.join(inside),
            None => self.spec.workload.folder.clone(),
        };
        let id = container_id();
        let log = open_log(&self.log_path()).map_err(|error| {
            let message = format!("{}: {error}", self.log_path().display());
            self.fault(None, message, "make room for its output".to_owned())
        })?;
        let groups = match &self.shared.groups {
            None => Vec::new(),
            Some(groups) => groups.add(&self.spec.uid, &id).map_err(|error| {
                let message = format!("no cgroup for it: {error}");
                self.fault(
                    None,
                    message,
                    "run as another user to do without groups".to_owned(),
                )
            })?,
        };
        let program = argv.first().cloned().unwrap_or_default();
        let started = self
            .shared
            .spawner
            .spawn(Program {
                argv,
                env: env.clone().into_iter().collect(),
                folder: folder.clone(),
                log,
                groups,
            })
            .await;
        let child = started.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound if !folder.is_dir() => self.fault(
                Some(field("workingDir")),
                format!("there is no folder {}", folder.display()),
                "name a folder of this machine".to_owned(),
            ),
            io::ErrorKind::NotFound => self.fault(
                Some(field("command")),
                format!(
                    "there is no program {program:?} on PATH or in {}",
                    folder.display()
                ),
                "install it, or name it by its path; the rest keeps running".to_owned(),
            ),
            io::ErrorKind::PermissionDenied => self.fault(
                Some(field("command")),
                format!("{program:?} may not be executed"),
                "chmod +x it, or name the interpreter first".to_owned(),
            ),
            _ => self.fault(
                Some(field("command")),
                format!("{program:?} cannot be started: {error}"),
                "it is tried again".to_owned(),
            ),
        })?;
        let pid = child.id().unwrap_or_default();
        self.shared.journal.add(pid, &self.spec.name);
        self.say(ReplicaChange::Started, format!("pid {pid}"));
        let container = self.at;
        self.tell(PodEvent::Started { container, id, pid }).await;
        Ok((child, pid, env))
    }

    /// Watches a process until it ends, by itself or because it was asked to.
    async fn live(
        &self,
        mut child: Child,
        pid: u32,
        env: &BTreeMap<String, String>,
        stop: &CancellationToken,
    ) -> Life {
        let steady = async {
            let until = self.shared.clock.boottime() + STEADY;
            self.shared.clock.sleep_until(until).await;
            self.shared.reports.mended(&self.subject());
            std::future::pending::<()>().await;
        };
        let life = tokio::select! {
            status = child.wait() => Life::Exited(status),
            () = self.probe(env) => Life::Asked,
            () = steady => Life::Asked,
            () = stop.cancelled() => {
                self.end(&mut child, pid).await;
                Life::Asked
            }
        };
        // What the process left of its group goes with it.
        signal_group(pid, Signal::KILL);
        self.shared.journal.remove(pid);
        life
    }

    /// Tells whether the container is ready, whenever that changes. Never ends.
    async fn probe(&self, env: &BTreeMap<String, String>) {
        let Some(container) = self.container() else {
            return std::future::pending().await;
        };
        let ready = |ready| PodEvent::Ready {
            container: self.at,
            ready,
        };
        let Some(probe) = &container.readiness_probe else {
            self.tell(ready(true)).await;
            return std::future::pending().await;
        };
        let (pace, mut verdict) = (Pace::of(probe), Verdict::default());
        let prober = Prober {
            probe,
            container,
            ports: &self.spec.ports,
            env,
            folder: &self.spec.workload.folder,
            http: &self.shared.http,
        };
        let clock = &self.shared.clock;
        clock.sleep_until(clock.boottime() + pace.delay).await;
        loop {
            let success = prober.check(&pace).await;
            if verdict.take(success, &pace) {
                self.tell(ready(verdict.ready)).await;
            }
            let pause = pace.pause(verdict.ready);
            clock.sleep_until(clock.boottime() + pause).await;
        }
    }

    /// SIGTERM to the group, and SIGKILL once its grace is over.
    async fn end(&self, child: &mut Child, pid: u32) {
        signal_group(pid, Signal::TERM);
        let grace = self.spec.workload.grace();
        let until = self.shared.clock.boottime() + grace;
        tokio::select! {
            _ = child.wait() => {}
            () = self.shared.clock.sleep_until(until) => {
                self.shared.reports.note(format!(
                    "pod {}/{} did not end within its terminationGracePeriodSeconds ({} s) and is killed",
                    self.spec.namespace, self.spec.name, grace.as_secs()
                ));
                signal_group(pid, Signal::KILL);
                let _ = child.wait().await;
            }
        }
    }

    fn say_exit(&self, status: io::Result<std::process::ExitStatus>, ran: Duration) {
        let how = match &status {
            Ok(status) => status.to_string(),
            Err(error) => error.to_string(),
        };
        self.say(ReplicaChange::Exited, how.clone());
        if ran >= STEADY {
            return;
        }
        let log = self.log_path();
        let last = last_line(&log);
        let in_use = last
            .as_deref()
            .is_some_and(|line| line.to_lowercase().contains("in use"));
        let message = match &last {
            Some(line) => format!("it ended at once ({how}); its last line: {line}"),
            None => format!("it ended at once ({how}) and said nothing"),
        };
        let advice = if in_use && !self.spec.ports.is_empty() {
            "each replica has a port of its own: let it listen on $PORT, in a command $(PORT)"
                .to_owned()
        } else {
            format!(
                "its output is in {}; it is started again, with longer and longer pauses up to {} s",
                log.display(),
                BACKOFF_LAST.as_secs(),
            )
        };
        let field = format!("spec.template.spec.containers[{}].command", self.at);
        self.shared
            .reports
            .fault(self.fault(Some(field), message, advice));
    }
}

fn signal_group(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        // Fails when nothing of the group is left.
        let _ = rustix::process::kill_process_group(pid, signal);
    }
}

fn open_log(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

/// The last line of a log that is not blank.
fn last_line(path: &Path) -> Option<String> {
    let mut file = File::open(path).ok()?;
    let length = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(LAST_WORDS)))
        .ok()?;
    let mut end = Vec::new();
    file.take(LAST_WORDS).read_to_end(&mut end).ok()?;
    let text = String::from_utf8_lossy(&end).into_owned();
    let line = text.lines().rev().find(|line| !line.trim().is_empty())?;
    Some(line.trim().chars().take(LAST_LINE).collect())
}
