//! Starting processes that do not outlive this one.
//!
//! The kernel's "signal me when my parent dies" speaks of the *thread* that forked, so all
//! processes are forked by one thread that lives as long as anything can be started.

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::mpsc;

use tokio::process::{Child, Command};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

/// What is to be started.
#[derive(Debug)]
pub(super) struct Program {
    /// The program and its arguments; at least one.
    pub argv: Vec<String>,
    /// All of its environment.
    pub env: Vec<(String, String)>,
    /// The folder it runs in.
    pub folder: PathBuf,
    /// Where its output goes.
    pub log: File,
    /// `cgroup.procs` of the groups that it joins before it runs.
    pub groups: Vec<File>,
}

struct Request {
    program: Program,
    reply: oneshot::Sender<io::Result<Child>>,
}

/// Starts processes. Cloning shares the thread.
#[derive(Debug, Clone)]
pub(super) struct Spawner {
    requests: mpsc::Sender<Request>,
}

impl Spawner {
    /// Starts the thread. Must be called inside a runtime, which waits for the processes.
    ///
    /// # Errors
    /// No thread is left.
    pub(super) fn start() -> io::Result<Self> {
        let (requests, queue) = mpsc::channel::<Request>();
        let runtime = Handle::current();
        std::thread::Builder::new()
            .name("neap-spawner".into())
            .spawn(move || {
                let _inside = runtime.enter();
                for request in queue {
                    // Fails when nobody waits any more; the dropped child is killed.
                    let _ = request.reply.send(spawn(request.program));
                }
            })?;
        Ok(Self { requests })
    }

    /// Starts `program` as the leader of a process group of its own.
    ///
    /// # Errors
    /// The system's: there is no such program, it is not executable, there is no such folder.
    pub(super) async fn spawn(&self, program: Program) -> io::Result<Child> {
        let (reply, answer) = oneshot::channel();
        let ended = || io::Error::other("the thread that starts processes has ended");
        self.requests
            .send(Request { program, reply })
            .map_err(|_| ended())?;
        answer.await.map_err(|_| ended())?
    }
}

fn spawn(program: Program) -> io::Result<Child> {
    let Some((name, arguments)) = program.argv.split_first() else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "no command"));
    };
    let mut command = Command::new(name);
    command
        .args(arguments)
        .env_clear()
        .envs(program.env)
        .current_dir(program.folder)
        .stdin(Stdio::null())
        .stdout(program.log.try_clone()?)
        .stderr(program.log)
        .process_group(0)
        .kill_on_drop(true);
    before_exec(&mut command, program.groups);
    command.spawn()
}

#[allow(unsafe_code)]
fn before_exec(command: &mut Command, groups: Vec<File>) {
    let parent = rustix::process::getpid();
    // SAFETY: between fork and exec the closure makes system calls only (write, prctl, getppid) on
    // descriptors that are open already. It allocates nothing and takes no lock.
    unsafe {
        command.pre_exec(move || {
            for group in &groups {
                rustix::io::write(group, b"0")?;
            }
            rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
            // It may have died before the wish was heard.
            if rustix::process::getppid() != Some(parent) {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            Ok(())
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_process_leads_its_group_and_hears_of_its_parents_death() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        let spawner = Spawner::start().unwrap();
        let program = |argv: &[&str]| Program {
            argv: argv.iter().map(|word| (*word).to_owned()).collect(),
            env: vec![("PATH".into(), std::env::var("PATH").unwrap())],
            folder: dir.path().to_owned(),
            log: File::create(&log).unwrap(),
            groups: Vec::new(),
        };
        let mut child = spawner
            .spawn(program(&[
                "sh",
                "-c",
                "echo $$; cut -d' ' -f5 /proc/$$/stat; pwd",
            ]))
            .await
            .unwrap();
        let pid = child.id().unwrap();
        assert!(child.wait().await.unwrap().success());
        let said = std::fs::read_to_string(&log).unwrap();
        let folder = std::fs::canonicalize(dir.path()).unwrap();
        assert_eq!(said, format!("{pid}\n{pid}\n{}\n", folder.display()));

        let error = spawner
            .spawn(program(&["no-such-program"]))
            .await
            .unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
