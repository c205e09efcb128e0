//! The processes of the agents, seen from outside.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use neap_load::replicas::coordinators::PATIENCE;
use neap_load::usage;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::mpsc;

/// An agent opens three descriptors for itself and two streams, and more while it moves: with so many a process
/// stays below 20,000.
const EACH: usize = 2_500;

enum Said {
    Active { index: usize, at: u64 },
    Ended { reason: String, count: u64 },
    Counted,
}

/// All agents.
pub(crate) struct Clients {
    running: Vec<(Child, ChildStdin)>,
    said: mpsc::UnboundedReceiver<Said>,
    count: usize,
    /// When each agent became active last.
    active: HashMap<usize, u64>,
}

fn parse(line: &str) -> Option<Said> {
    let mut words = line.split(' ');
    Some(match words.next()? {
        "active" => Said::Active {
            index: words.next()?.parse().ok()?,
            at: words.next()?.parse().ok()?,
        },
        "ended" => Said::Ended {
            reason: words.next()?.to_owned(),
            count: words.next()?.parse().ok()?,
        },
        "counted" => Said::Counted,
        _ => return None,
    })
}

impl Clients {
    /// Starts `count` agents whose tokens lie in `root`.
    pub(crate) fn start(root: &Path, count: usize) -> Result<Self> {
        // As many lines as agents come at once, and they are read while nothing else is done.
        let (sender, said) = mpsc::unbounded_channel();
        let mut running = Vec::new();
        for first in (0..count).step_by(EACH) {
            let mut child = Command::new(std::env::current_exe()?)
                .args(["agents", &first.to_string()])
                .arg(EACH.min(count - first).to_string())
                .arg(root)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .kill_on_drop(true)
                .spawn()?;
            let input = child.stdin.take().context("no standard input")?;
            let output = child.stdout.take().context("no standard output")?;
            let sender = sender.clone();
            tokio::spawn(async move {
                let mut lines = BufReader::new(output).lines();
                while let Ok(Some(line)) = lines.next_line().await {
                    if parse(&line).is_some_and(|said| sender.send(said).is_err()) {
                        return;
                    }
                }
            });
            running.push((child, input));
        }
        Ok(Self {
            running,
            said,
            count,
            active: HashMap::new(),
        })
    }

    async fn next(&mut self) -> Result<Said> {
        let said = tokio::time::timeout(PATIENCE, self.said.recv()).await;
        let said = said
            .context("the agents have gone silent")?
            .context("the agents have ended")?;
        if let Said::Active { index, at } = &said {
            self.active.insert(*index, *at);
        }
        Ok(said)
    }

    /// When each agent became active again after `since`, once all have.
    pub(crate) async fn all_active(&mut self, since: u64) -> Result<Vec<u64>> {
        while self.back(since) < self.count {
            if let Err(error) = self.next().await {
                return Err(error.context(format!(
                    "{} of {} are back",
                    self.back(since),
                    self.count
                )));
            }
            self.resting();
        }
        Ok(self.active.values().copied().collect())
    }

    /// Whether no agent has moved since this was asked last.
    pub(crate) fn resting(&mut self) -> bool {
        let mut resting = true;
        while let Ok(said) = self.said.try_recv() {
            if let Said::Active { index, at } = said {
                self.active.insert(index, at);
                resting = false;
            }
        }
        resting
    }

    /// How many have been active since.
    fn back(&self, since: u64) -> usize {
        self.active.values().filter(|at| **at > since).count()
    }

    /// How many streams have ended since the start, by reason.
    pub(crate) async fn ended(&mut self) -> Result<BTreeMap<String, u64>> {
        let mut ended = BTreeMap::new();
        for at in 0..self.running.len() {
            let (_, input) = self.running.get_mut(at).context("no such process")?;
            input.write_all(b"counts\n").await?;
            input.flush().await?;
            loop {
                match self.next().await? {
                    Said::Ended { reason, count } => *ended.entry(reason).or_default() += count,
                    Said::Counted => break,
                    Said::Active { .. } => {}
                }
            }
        }
        Ok(ended)
    }

    /// CPU time of all agents.
    pub(crate) fn cpu(&self) -> Result<Duration> {
        let ids = self.running.iter().filter_map(|(child, _)| child.id());
        ids.map(|id| Ok(usage(id)?.cpu)).sum()
    }

    /// Fails if one of the processes is gone.
    pub(crate) fn check(&mut self) -> Result<()> {
        for (child, _) in &mut self.running {
            if let Some(status) = child.try_wait()? {
                bail!("a process of agents ended: {status}");
            }
        }
        ensure!(
            self.active.len() <= self.count,
            "more agents than there are"
        );
        Ok(())
    }
}
