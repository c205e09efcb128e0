//! A process that is killed in the middle of its writes loses nothing that it acknowledged.

#![allow(clippy::unwrap_used)] // the helpers of tests are tests too

mod common;

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use common::cluster::DEADLINE;
use common::list::{List, command};
use neap_consensus::{BootClock, Config, Consensus};

const DIR: &str = "NEAP_CRASH_DIR";
const FIRST: &str = "NEAP_CRASH_FIRST";
const KILLS: u64 = 12;

async fn lead(dir: &Path) -> (Consensus, common::ListView) {
    let (list, view) = List::new();
    let config = Config {
        snapshot_every: 50,
        ..Config::single(dir, 1)
    };
    let member = Consensus::open(config, list, Arc::new(BootClock))
        .await
        .unwrap();
    let mut leadership = member.leadership();
    let leading = leadership.wait_for(|now| now.is_self);
    tokio::time::timeout(DEADLINE, leading)
        .await
        .unwrap()
        .unwrap();
    (member, view)
}

/// Not a test of its own: the process that the test below kills. It proposes numbers, several at a
/// time, and says which are committed.
#[tokio::test(flavor = "multi_thread")]
async fn child() {
    let Ok(dir) = std::env::var(DIR) else { return };
    let first: u64 = std::env::var(FIRST).unwrap().parse().unwrap();
    let (member, _) = lead(Path::new(&dir)).await;
    let mut proposals = tokio::task::JoinSet::new();
    for value in first.. {
        let member = member.clone();
        proposals.spawn(async move {
            member.propose(1, command(value)).await.unwrap();
            value
        });
        if proposals.len() == 8 {
            let done = proposals.join_next().await.unwrap().unwrap();
            let mut out = std::io::stdout().lock();
            writeln!(out, "\ncommitted {done}").unwrap();
            out.flush().unwrap();
        }
    }
}

fn start(dir: &Path, first: u64) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--nocapture"])
        .env(DIR, dir)
        .env(FIRST, first.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_survives_sigkill() {
    let dir = tempfile::tempdir().unwrap();
    let mut acknowledged = Vec::new();
    for round in 0..KILLS {
        let first = round * 1_000_000;
        let mut child = start(dir.path(), first);
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        // Some rounds end within the first commits, some after snapshots have cut the log.
        let wanted = 3 + (round as usize * 37) % 180;
        let mut seen = 0;
        let reader = std::thread::spawn(move || {
            let mut values = Vec::new();
            let mut kill = true;
            for line in lines {
                let Ok(line) = line else { break };
                if let Some(value) = line.strip_prefix("committed ") {
                    values.push(value.parse::<u64>().unwrap());
                    seen += 1;
                }
                if seen == wanted && kill {
                    child.kill().unwrap();
                    kill = false;
                }
            }
            child.wait().unwrap();
            values
        });
        let values = tokio::task::spawn_blocking(|| reader.join().unwrap())
            .await
            .unwrap();
        assert!(
            values.len() >= wanted,
            "round {round}: only {} commits",
            values.len()
        );
        acknowledged.extend(values);

        let (member, view) = lead(dir.path()).await;
        let there = view.values();
        for value in &acknowledged {
            assert!(
                there.contains(value),
                "round {round}: {value} was acknowledged and is gone"
            );
        }
        let status = member.status();
        assert!(status.last_index - status.snapshot_index.min(status.last_index) < 200);
        member.shutdown().await;
    }
    assert!(
        acknowledged.len() > 500,
        "{} acknowledged",
        acknowledged.len()
    );
}
