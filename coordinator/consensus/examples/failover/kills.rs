//! SIGKILLs of the leader's process.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use neap_consensus::{BootClock, Clock};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::mpsc;

use crate::common::Cluster;
use crate::common::cluster::DEADLINE;
use crate::history::{History, Step};
use crate::member::{Arguments, tls_files};

/// What a member's process said.
enum Said {
    /// A command was committed; `held` where the lease still held at that moment.
    Commit {
        term: u64,
        value: u64,
        at: Duration,
        held: bool,
    },
    Settled {
        term: u64,
    },
    Value(u64),
    Dumped,
    Stopped(String),
    Step(Step),
}

struct Process {
    child: Child,
    input: ChildStdin,
}

struct Processes {
    root: tempfile::TempDir,
    addresses: Vec<String>,
    running: Vec<Option<Process>>,
    said: mpsc::UnboundedReceiver<(usize, Said)>,
    sender: mpsc::UnboundedSender<(usize, Said)>,
    runs: usize,
    acknowledged: BTreeSet<u64>,
    /// When what was done under a lease, and of which term it was.
    acts: BTreeSet<(Duration, u64)>,
    history: History,
}

fn parse(line: &str) -> Option<Said> {
    let (kind, rest) = line.split_once(' ')?;
    let mut numbers = rest.split(' ').map(|word| word.parse::<u64>().ok());
    Some(match kind {
        "act" | "commit" => Said::Commit {
            term: numbers.next()??,
            value: numbers.next()??,
            at: Duration::from_nanos(numbers.next()??),
            held: kind == "act",
        },
        "settled" => Said::Settled {
            term: numbers.next()??,
        },
        "value" => Said::Value(numbers.next()??),
        "dumped" => Said::Dumped,
        "called" => Said::Step(Step::Called {
            client: numbers.next()??,
            value: numbers.next()??,
            at: numbers.next()??,
        }),
        "done" => Said::Step(Step::Done {
            value: numbers.next()??,
            outcome: numbers.next()??,
            at: numbers.next()??,
        }),
        "read" => Said::Step(Step::Read {
            client: numbers.next()??,
            register: numbers.next()??,
            value: numbers.next()??,
            called: numbers.next()??,
            at: numbers.next()??,
        }),
        "stopped" => Said::Stopped(rest.into()),
        _ => return None,
    })
}

impl Processes {
    fn new(count: usize) -> Self {
        // The seats of a cluster in this process know how to get addresses and certificates.
        let cluster = Cluster::new(count);
        let root = tempfile::tempdir().unwrap();
        for (seat, own) in cluster.seats.iter().enumerate() {
            let tls = own.tls.borrow().clone();
            for (path, pem) in
                tls_files(root.path(), seat)
                    .iter()
                    .zip([&tls.ca, &tls.certificate, &tls.key])
            {
                std::fs::write(path, pem).unwrap();
            }
        }
        let (sender, said) = mpsc::unbounded_channel();
        Self {
            root,
            addresses: cluster
                .seats
                .iter()
                .map(|seat| seat.address.to_string())
                .collect(),
            running: (0..count).map(|_| None).collect(),
            said,
            sender,
            runs: 0,
            acknowledged: BTreeSet::new(),
            acts: BTreeSet::new(),
            history: History::default(),
        }
    }

    fn start(&mut self, seat: usize) {
        self.runs += 1;
        let arguments = Arguments {
            root: self.root.path().into(),
            seat,
            run: self.runs,
            addresses: self.addresses.clone(),
        };
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(arguments.to_line())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let input = child.stdin.take().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let sender = self.sender.clone();
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                if let Some(said) = parse(&line)
                    && sender.send((seat, said)).is_err()
                {
                    return;
                }
            }
        });
        self.running[seat] = Some(Process { child, input });
    }

    /// The next thing said. Every commit is acknowledged, whoever waits for what.
    async fn next(&mut self) -> (usize, Said) {
        let next = tokio::time::timeout(DEADLINE, self.said.recv()).await;
        let (seat, said) = next.expect("the cluster has gone silent").unwrap();
        match &said {
            Said::Commit {
                term,
                value,
                at,
                held,
            } => {
                self.acknowledged.insert(*value);
                if *held {
                    self.acts.insert((*at, *term));
                }
            }
            Said::Step(step) => self.history.take(*step),
            Said::Stopped(reason) => panic!("seat {seat} stopped: {reason}"),
            _ => {}
        }
        (seat, said)
    }

    /// Waits for a leader of at least this term to whom everybody has caught up.
    async fn settled(&mut self, least: u64) -> (usize, u64) {
        loop {
            if let (seat, Said::Settled { term }) = self.next().await
                && term >= least
            {
                return (seat, term);
            }
        }
    }

    /// What a seat has applied.
    async fn dump(&mut self, seat: usize) -> Vec<u64> {
        let input = &mut self.running[seat].as_mut().unwrap().input;
        input.write_all(b"dump\n").await.unwrap();
        input.flush().await.unwrap();
        let mut values = Vec::new();
        loop {
            match self.next().await {
                (from, Said::Value(value)) if from == seat => values.push(value),
                (from, Said::Dumped) if from == seat => return values,
                _ => {}
            }
        }
    }
}

/// Times from SIGKILL to the first act of the next leader.
pub(crate) async fn series(kills: usize, save: Option<&Path>) -> Vec<Duration> {
    let mut processes = Processes::new(3);
    for seat in 0..3 {
        processes.start(seat);
    }
    let mut times = Vec::new();
    let (mut leader, mut term) = processes.settled(0).await;
    for kill in 0..kills {
        let mut victim = processes.running[leader].take().unwrap();
        processes.history.fault("kill");
        let killed = BootClock.boottime();
        victim.child.start_kill().unwrap();
        let acted = loop {
            match processes.next().await {
                (
                    seat,
                    Said::Commit {
                        term: now,
                        at,
                        held: true,
                        ..
                    },
                ) if seat != leader && now > term => break at,
                _ => {}
            }
        };
        times.push(acted.saturating_sub(killed));
        victim.child.wait().await.unwrap();
        if std::env::var_os("FAILOVER_VERBOSE").is_some() {
            eprintln!(
                "kill {kill} of seat {leader}: {:?}",
                acted.saturating_sub(killed)
            );
        }
        processes.start(leader);
        (leader, term) = processes.settled(term + 1).await;
    }
    check(&mut processes, leader).await;
    if let Some(path) = save {
        processes.history.save(path).unwrap();
    }
    times
}

/// Nothing that was acknowledged is gone, nothing is there twice, and all have the same.
async fn check(processes: &mut Processes, leader: usize) {
    let mut states = Vec::new();
    for seat in 0..3 {
        states.push(processes.dump(seat).await);
    }
    let shortest = states.iter().map(Vec::len).min().unwrap();
    for (seat, state) in states.iter().enumerate() {
        // They go on while they are asked, so the later ones have more; what they share is equal.
        assert_eq!(
            state[..shortest],
            states[0][..shortest],
            "seat {seat} differs"
        );
        let distinct: BTreeSet<u64> = state.iter().copied().collect();
        assert_eq!(
            distinct.len(),
            state.len(),
            "seat {seat} applied a command twice"
        );
    }
    // What is acknowledged while the leader is asked need not be in its answer.
    let acknowledged = processes.acknowledged.clone();
    let last: BTreeSet<u64> = processes.dump(leader).await.into_iter().collect();
    let lost: Vec<&u64> = acknowledged.difference(&last).collect();
    assert!(lost.is_empty(), "acknowledged and gone: {lost:?}");
    assert!(
        acknowledged.len() > shortest / 2,
        "hardly anything was acknowledged"
    );
    // All read the same clock. Whoever acted after a later leader had, did so under an ended lease.
    let mut latest = 0;
    for (at, term) in &processes.acts {
        assert!(
            *term >= latest,
            "acted in term {term} at {at:?}, after {latest}"
        );
        latest = *term;
    }
    println!(
        "checked {} acknowledged commands on 3 members, {} acts under a lease",
        acknowledged.len(),
        processes.acts.len()
    );
}
