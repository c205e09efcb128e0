//! One member as a process of its own.
//!
//! It proposes a new number every few milliseconds while it leads, and says on its standard output
//! what became of it, and what its clients saw (history). `dump` on its standard input makes it print all that it has applied.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use neap_consensus::{BootClock, Bootstrap, Clock, Config, Consensus, PeerConfig, PeerTls};
use tokio::sync::watch;

use crate::common::list::{List, ListView};
use crate::history::{Client, Step, Tell, clients};

/// What the other side passes on the command line.
pub(crate) struct Arguments {
    pub(crate) root: PathBuf,
    pub(crate) seat: usize,
    /// Distinguishes the numbers of this process from those of its predecessors on the seat.
    pub(crate) run: usize,
    pub(crate) addresses: Vec<String>,
}

impl Arguments {
    pub(crate) fn to_line(&self) -> Vec<String> {
        vec![
            "member".into(),
            self.root.display().to_string(),
            self.seat.to_string(),
            self.run.to_string(),
            self.addresses.join(","),
        ]
    }

    fn from_line(line: &[String]) -> Self {
        Self {
            root: PathBuf::from(&line[0]),
            seat: line[1].parse().unwrap(),
            run: line[2].parse().unwrap(),
            addresses: line[3].split(',').map(str::to_owned).collect(),
        }
    }
}

/// Where the certificates of a seat lie.
pub(crate) fn tls_files(root: &Path, seat: usize) -> [PathBuf; 3] {
    ["ca", "certificate", "key"].map(|part| root.join(format!("{seat}-{part}.pem")))
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    // The reader is gone only when this process is of no use any more.
    if writeln!(out, "{line}").and_then(|()| out.flush()).is_err() {
        std::process::exit(0);
    }
}

/// A proposal is told before it is made: of a process that is killed, those under way are known.
fn say_step(step: Step) {
    say(&match step {
        Step::Called { client, value, at } => format!("called {client} {value} {at}"),
        Step::Done { value, outcome, at } => format!("done {value} {outcome} {at}"),
        Step::Read {
            client,
            register,
            value,
            called,
            at,
        } => format!("read {client} {register} {value} {called} {at}"),
    });
}

pub(crate) async fn run(line: &[String]) {
    log();
    let arguments = Arguments::from_line(line);
    let (member, view) = open(&arguments).await;
    let tell: Tell = Arc::new(say_step);
    let (seat, run) = (arguments.seat, arguments.run);
    let client = Client::new(member.clone(), seat, run, 0, tell.clone());
    tokio::spawn(act(member.clone(), client));
    clients(&member, &view, (seat, run), &tell);
    tokio::spawn(tell_when_settled(member.clone(), arguments.addresses.len()));
    let stopped = member.clone();
    tokio::spawn(async move {
        say(&format!("stopped {}", stopped.stopped().await));
    });
    let reading = tokio::task::spawn_blocking(move || {
        for line in std::io::stdin().lines() {
            if line.is_ok_and(|line| line == "dump") {
                dump(&member, &view);
            }
        }
    });
    reading.await.unwrap();
    std::process::exit(0);
}

/// The log goes to standard error: standard output is for what the other side reads.
fn log() {
    use tracing_subscriber::EnvFilter;
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("off"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();
}

async fn open(arguments: &Arguments) -> (Consensus, ListView) {
    let name = |seat: usize| format!("member-{seat}");
    let [ca, certificate, key] = tls_files(&arguments.root, arguments.seat)
        .map(|path| std::fs::read_to_string(path).unwrap());
    let tls = PeerTls {
        ca,
        certificate,
        key,
    };
    let own = arguments.addresses[arguments.seat].clone();
    let members = arguments.addresses.iter().enumerate();
    let members = members
        .map(|(seat, address)| (name(seat), address.clone()))
        .collect();
    let config = Config {
        peer: Some(PeerConfig {
            name: name(arguments.seat),
            listen: own.parse().unwrap(),
            advertise: own,
            bootstrap: Bootstrap {
                members,
                leaving: Vec::new(),
                form_without_minority_after: Duration::MAX,
            },
            tls: watch::Sender::new(Arc::new(tls)).subscribe(),
        }),
        ..Config::single(arguments.root.join(name(arguments.seat)), 1)
    };
    let (list, view) = List::new();
    let member = Consensus::open(config, list, Arc::new(BootClock))
        .await
        .unwrap();
    (member, view)
}

/// Acts as a coordinator does: with a lease, by committing.
async fn act(member: Consensus, mut client: Client) {
    let mut leadership = member.leadership();
    loop {
        let leads = leadership.wait_for(|now| now.is_self).await.is_ok();
        if !leads {
            return;
        }
        let Some(lease) = member.lease() else {
            tokio::time::sleep(Duration::from_millis(1)).await;
            continue;
        };
        if let Some(value) = client.write().await {
            // Taken before the lease is looked at, so that it held at that moment.
            let at = BootClock.boottime().as_nanos();
            let held = member.lease().is_some_and(|now| now.term == lease.term);
            let what = if held { "act" } else { "commit" };
            say(&format!("{what} {} {value} {at}", lease.term));
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Says so whenever it leads a cluster in which everyone has everything.
async fn tell_when_settled(member: Consensus, count: usize) {
    loop {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let status = member.status();
        let fresh = |member: &&neap_consensus::MemberStatus| {
            let own = status.node == Some(member.node);
            let heard = member
                .last_ack
                .is_some_and(|ago| ago < Duration::from_millis(300));
            member.voter && (own || (heard && member.lag.is_some_and(|lag| lag <= 2)))
        };
        let settled = status.settled && status.members.iter().filter(fresh).count() == count;
        if settled && member.lease().is_some() {
            say(&format!("settled {}", status.term));
        }
    }
}

fn dump(member: &Consensus, view: &ListView) {
    let status = member.status();
    for (_, value) in view.get() {
        say(&format!("value {value}"));
    }
    say(&format!(
        "dumped {}",
        status.applied.map_or(0, |at| at.index)
    ));
}
