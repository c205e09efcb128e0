//! What clients saw of the replicated state, for a checker of linearizability (tests/linearizability).
//!
//! The state is taken for registers, of which each command writes one: its value is the command itself, and no two are
//! equal. A write is a proposal. A read is what a leader offers: its own state, if it holds its lease before and
//! after. Registers change every few seconds, so that the history of each stays short.

use std::collections::BTreeMap;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use neap_consensus::{BootClock, Clock, Consensus, ProposeError};

use crate::common::ListView;
use crate::common::list::{command, in_register, register};

/// So long the same registers are written.
const PERIOD: Duration = Duration::from_secs(10);
/// Registers that are written at once.
const REGISTERS: u64 = 4;
/// A client that reads does so at this pace, and one that only writes for the history at that.
const READ_EACH: Duration = Duration::from_millis(5);
const WRITE_EACH: Duration = Duration::from_millis(20);

/// A step of a client. Times are those of CLOCK_BOOTTIME, nanoseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    /// A command is proposed.
    Called { client: u64, value: u64, at: u64 },
    /// What became of it.
    Done { value: u64, outcome: u64, at: u64 },
    /// A register was read; 0 where nothing was written to it yet.
    Read {
        client: u64,
        register: u64,
        value: u64,
        called: u64,
        at: u64,
    },
}

/// The proposal was committed.
const OK: u64 = 0;
/// It was not made.
const FAILED: u64 = 1;

/// Takes the steps of clients in the order of each.
pub(crate) type Tell = Arc<dyn Fn(Step) + Send + Sync>;

/// Now, in nanoseconds.
pub(crate) fn now() -> u64 {
    u64::try_from(BootClock.boottime().as_nanos()).unwrap_or(u64::MAX)
}

/// A client of one member, of which no other has the same number.
#[derive(Clone)]
pub(crate) struct Client {
    member: Consensus,
    number: u64,
    tell: Tell,
    written: u64,
}

impl Client {
    /// Numbers of clients are told apart by seat, process on that seat, and `own`, below 4.
    pub(crate) fn new(member: Consensus, seat: usize, run: usize, own: u64, tell: Tell) -> Self {
        let place = ((seat as u64) << 16) | run as u64;
        let number = (place << 2) | own;
        Self {
            member,
            number,
            tell,
            written: 0,
        }
    }

    /// Proposes a new command; gives it, if it was committed.
    pub(crate) async fn write(&mut self) -> Option<u64> {
        let client = self.number;
        // Client numbers have 24 bits at most, so that 20 are left to count below the register's.
        self.written += 1;
        let value = in_register(current(self.written)) | (client << 20) | self.written;
        (self.tell)(Step::Called {
            client,
            value,
            at: now(),
        });
        let outcome = match self.member.propose(1, command(value)).await {
            Ok(_) => Some(OK),
            Err(
                ProposeError::NotLeader { .. }
                | ProposeError::TooLarge { .. }
                | ProposeError::Format { .. },
            ) => Some(FAILED),
            Err(_) => None,
        };
        if let Some(outcome) = outcome {
            (self.tell)(Step::Done {
                value,
                outcome,
                at: now(),
            });
        }
        (outcome == Some(OK)).then_some(value)
    }

    /// Reads a register, if this member leads.
    fn read(&self, view: &ListView, register: u64) {
        let called = now();
        let leads = || {
            let leads = self.member.leadership().borrow().is_self;
            self.member
                .lease()
                .filter(|_| leads)
                .map(|lease| lease.term)
        };
        let before = leads();
        let value = view.read(register).unwrap_or(0);
        if before.is_some() && before == leads() {
            let (client, at) = (self.number, now());
            (self.tell)(Step::Read {
                client,
                register,
                value,
                called,
                at,
            });
        }
    }

    /// Writes now and then, while this member leads.
    pub(crate) async fn write_on(mut self) {
        let mut leadership = self.member.leadership();
        while leadership.wait_for(|now| now.is_self).await.is_ok() {
            if self.member.lease().is_some() {
                self.write().await;
            }
            tokio::time::sleep(WRITE_EACH).await;
        }
    }

    /// Reads one register after the other, while this member leads.
    pub(crate) async fn read_on(self, view: ListView) {
        let mut leadership = self.member.leadership();
        let mut turn = 0;
        while leadership.wait_for(|now| now.is_self).await.is_ok() {
            turn += 1;
            self.read(&view, current(turn));
            tokio::time::sleep(READ_EACH).await;
        }
    }
}

/// The register whose turn it is.
fn current(turn: u64) -> u64 {
    let period = now() / u64::try_from(PERIOD.as_nanos()).unwrap_or(u64::MAX);
    // 20 bits are left for registers.
    (period * REGISTERS + turn % REGISTERS) % (1 << 20)
}

/// The clients of a member beside the one that acts: one that writes and two that read.
pub(crate) fn clients(
    member: &Consensus,
    view: &ListView,
    (seat, run): (usize, usize),
    tell: &Tell,
) -> Vec<tokio::task::JoinHandle<()>> {
    let client = |own| Client::new(member.clone(), seat, run, own, tell.clone());
    vec![
        tokio::spawn(client(1).write_on()),
        tokio::spawn(client(2).read_on(view.clone())),
        tokio::spawn(client(3).read_on(view.clone())),
    ]
}

struct Written {
    client: u64,
    called: u64,
    done: Option<(u64, u64)>,
}

/// A whole history.
#[derive(Default)]
pub(crate) struct History {
    writes: BTreeMap<u64, Written>,
    reads: Vec<[u64; 5]>,
    faults: Vec<(&'static str, u64)>,
}

impl History {
    /// Takes one step.
    pub(crate) fn take(&mut self, step: Step) {
        match step {
            Step::Called { client, value, at } => {
                let write = Written {
                    client,
                    called: at,
                    done: None,
                };
                self.writes.insert(value, write);
            }
            Step::Done { value, outcome, at } => {
                if let Some(write) = self.writes.get_mut(&value) {
                    write.done = Some((outcome, at));
                }
            }
            Step::Read {
                client,
                register,
                value,
                called,
                at,
            } => {
                self.reads.push([client, register, value, called, at]);
            }
        }
    }

    /// A fault begins now.
    pub(crate) fn fault(&mut self, what: &'static str) {
        self.faults.push((what, now()));
    }

    /// Writes it: an operation or a fault a line.
    pub(crate) fn save(&self, path: &Path) -> std::io::Result<()> {
        let mut out = BufWriter::new(std::fs::File::create(path)?);
        for (value, write) in &self.writes {
            let (client, called, key) = (write.client, write.called, register(*value));
            let end = match write.done {
                Some((OK, at)) => format!(r#""return":{at},"outcome":"ok""#),
                Some((_, at)) => format!(r#""return":{at},"outcome":"failed""#),
                None => r#""outcome":"unknown""#.to_owned(),
            };
            writeln!(
                out,
                r#"{{"client":{client},"op":"write","key":{key},"value":{value},"call":{called},{end}}}"#
            )?;
        }
        for [client, key, value, called, at] in &self.reads {
            writeln!(
                out,
                r#"{{"client":{client},"op":"read","key":{key},"value":{value},"call":{called},"return":{at},"outcome":"ok"}}"#
            )?;
        }
        for (what, at) in &self.faults {
            writeln!(out, r#"{{"fault":"{what}","call":{at}}}"#)?;
        }
        out.flush()
    }
}
