//! The README's first command, as a newcomer runs it. Needs a minute, and a terminal program
//! (`script` of util-linux): run by `tests/run quickstart`.

#![allow(clippy::unwrap_used, clippy::expect_used)] // helpers of tests are not seen as tests by clippy
#![expect(clippy::disallowed_methods, reason = "the tests' own deadlines")]

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde_json::Value;

/// Within this time after the start, the example has to have scaled both ways and back.
const WITHIN: Duration = Duration::from_secs(60);
/// And to have stopped everything after it was asked to.
const STOP_WITHIN: Duration = Duration::from_secs(20);
/// What is scaled, and its fewest replicas.
const TARGETS: &[(&str, i64)] = &[("default/web", 1), ("default/worker", 0)];
/// The example's spool folder. Processes with this word in their arguments are the example's.
const REPLICAS: &str = "/tmp/neap-quickstart/spool";

fn repository() -> PathBuf {
    Path::new("..").canonicalize().unwrap()
}

/// The command of the README's first block that runs `neap up`.
fn command_of_the_readme() -> String {
    let readme = fs::read_to_string(repository().join("README.md")).unwrap();
    let command = readme
        .lines()
        .find(|line| line.contains(" up examples/quickstart"));
    command
        .expect("the README has no command")
        .trim()
        .to_owned()
}

/// Processes that serve, work or ask for the example.
fn replicas() -> Vec<u32> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid: &u32| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let words: Vec<&[u8]> = line.split(|byte| *byte == 0).collect();
            let is = |at: usize, word: &str| words.get(at).is_some_and(|w| *w == word.as_bytes());
            is(1, "demo") && (is(2, "web") || words.iter().any(|w| *w == REPLICAS.as_bytes()))
        })
        .collect()
}

fn no_replica_is_left() {
    let until = Instant::now() + STOP_WITHIN;
    while !replicas().is_empty() {
        assert!(Instant::now() < until, "left running: {:?}", replicas());
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// `neap up` in a terminal.
struct Up {
    terminal: Child,
    output: mpsc::Receiver<String>,
    rest: String,
    began: Instant,
}

impl Up {
    /// Runs `command` in a pseudo terminal, in the repository.
    fn start(command: &str) -> Self {
        let mut terminal = Command::new("script")
            .args(["-qefc", command, "/dev/null"])
            .current_dir(repository())
            .env("TERM", "xterm-256color")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("script of util-linux");
        let (send, output) = mpsc::channel();
        let mut screen = terminal.stdout.take().unwrap();
        std::thread::spawn(move || {
            let mut bytes = [0; 8192];
            while let Ok(read @ 1..) = screen.read(&mut bytes) {
                let text = String::from_utf8_lossy(&bytes[..read]).into_owned();
                if send.send(text).is_err() {
                    return;
                }
            }
        });
        Self {
            terminal,
            output,
            rest: String::new(),
            began: Instant::now(),
        }
    }

    /// Takes output until `done` finds in it what it looks for, or fails with what came. The deadline
    /// counts from the start.
    fn read(&mut self, what: &str, within: Duration, mut done: impl FnMut(&mut String) -> bool) {
        let mut seen = String::new();
        let mut rest = std::mem::take(&mut self.rest);
        while !done(&mut rest) {
            let left = within.saturating_sub(self.began.elapsed());
            match self.output.recv_timeout(left) {
                Ok(text) => {
                    seen.push_str(&text);
                    rest.push_str(&text);
                }
                Err(_) => panic!("{what}: not within {within:?} of the start; came:\n{seen}"),
            }
        }
        self.rest = rest;
    }

    /// Takes JSON lines until `done` says so.
    fn until(&mut self, what: &str, within: Duration, mut done: impl FnMut(&Value) -> bool) {
        self.read(what, within, |rest| {
            while let Some((line, after)) = rest.split_once('\n') {
                let object = serde_json::from_str(line.trim()).unwrap_or_default();
                let after = after.to_owned();
                *rest = after;
                if done(&object) {
                    return true;
                }
            }
            false
        });
    }

    fn press(&mut self, key: &[u8]) {
        let keys = self.terminal.stdin.as_mut().unwrap();
        keys.write_all(key).unwrap();
        keys.flush().unwrap();
    }

    fn ended(mut self) {
        let until = Instant::now() + STOP_WITHIN;
        while self.terminal.try_wait().unwrap().is_none() {
            assert!(Instant::now() < until, "it does not stop");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Up {
    /// A failed test leaves nothing running either: without its terminal the command stops.
    fn drop(&mut self) {
        let _ = self.terminal.kill();
        let _ = self.terminal.wait();
    }
}

/// How far a target has come: the most replicas it was seen with, and the last number.
#[derive(Default)]
struct Course {
    first: Option<i64>,
    most: i64,
    last: i64,
}

fn text<'a>(object: &'a Value, field: &str) -> &'a str {
    object[field].as_str().unwrap_or_default()
}

/// Follows the example until all targets went up and came back. Prints the figures.
fn scales_both_ways_and_back(up: &mut Up) {
    let mut courses: BTreeMap<String, Course> = BTreeMap::new();
    let mut last = 0;
    up.until("both ways and back", WITHIN, |object| {
        last = object["ms"].as_u64().unwrap_or(last);
        match text(object, "type") {
            "firstDecision" => {
                println!("figure first_decision {} ms", object["afterMs"]);
                println!("figure rss {} bytes", object["rssBytes"]);
            }
            "fault" => panic!("{object}"),
            "target" => {
                let course = courses
                    .entry(text(object, "scaledObject").to_owned())
                    .or_default();
                if let Some(replicas) = object["replicas"].as_i64() {
                    course.first.get_or_insert(replicas);
                    course.most = course.most.max(replicas);
                    // Back is when the processes are gone, not when it was decided.
                    course.last = replicas.max(object["running"].as_i64().unwrap_or(0));
                }
            }
            _ => {}
        }
        let back = |name: &str, fewest: i64| {
            courses.get(name).is_some_and(|course| {
                course.first == Some(fewest) && course.most > fewest + 1 && course.last == fewest
            })
        };
        TARGETS.iter().all(|(name, fewest)| back(name, *fewest))
    });
    println!("figure both_ways_and_back {last} ms");
}

#[test]
#[ignore = "tests/run quickstart"]
fn the_readmes_command_scales_both_ways_and_back_and_leaves_nothing() {
    // Files that a killed run left would be worked off first: the worker begins at none.
    let _ = fs::remove_dir_all(REPLICAS);
    let state = tempfile::tempdir().unwrap();
    let command = format!(
        "{} --json --state {}",
        command_of_the_readme(),
        state.path().display()
    );
    let mut up = Up::start(&command);
    scales_both_ways_and_back(&mut up);
    up.press(b"\x03");
    up.until("stopped", WITHIN + STOP_WITHIN, |object| {
        text(object, "type") == "stopped"
    });
    up.ended();
    no_replica_is_left();
}

/// The process id that `neap up --json` says.
fn pid_of(up: &mut Up) -> u32 {
    let mut pid = None;
    up.until("started", WITHIN, |object| {
        pid = object["pid"].as_u64();
        text(object, "type") == "started"
    });
    u32::try_from(pid.unwrap()).unwrap()
}

fn wait_for_ready(up: &mut Up, workload: &str) {
    up.until("a ready replica", WITHIN, |object| {
        text(object, "change") == "ready" && text(object, "workload") == workload
    });
}

#[test]
#[ignore = "tests/run quickstart"]
fn a_killed_one_leaves_no_orphan_and_no_lost_scale() {
    let state = tempfile::tempdir().unwrap();
    let command = format!(
        "{} up examples/quickstart --json --state {}",
        env!("CARGO_BIN_EXE_neap"),
        state.path().display()
    );
    let mut up = Up::start(&command);
    let pid = pid_of(&mut up);
    // Killed in the middle of a rush, with more replicas than the manifest has.
    let mut replicas_before = 0;
    up.until("more than one replica", WITHIN, |object| {
        if text(object, "scaledObject") == "default/web" {
            replicas_before = object["replicas"].as_i64().unwrap_or(0);
        }
        replicas_before > 1
    });
    let kill = Command::new("kill")
        .args(["-KILL", &pid.to_string()])
        .status();
    assert!(kill.unwrap().success());
    up.ended();

    let mut again = Up::start(&command);
    pid_of(&mut again);
    let mut first = None;
    again.until("the first look", WITHIN, |object| {
        if text(object, "scaledObject") == "default/web" {
            first = object["replicas"].as_i64();
        }
        first.is_some()
    });
    let first = first.unwrap();
    assert!(
        first > 1,
        "the scale of {replicas_before} is forgotten: {first}"
    );
    wait_for_ready(&mut again, "Deployment default/web");
    again.press(b"\x03");
    again.ended();
    no_replica_is_left();
}

#[test]
#[ignore = "tests/run quickstart"]
fn the_live_view_shows_targets_and_gives_the_terminal_back() {
    let state = tempfile::tempdir().unwrap();
    let command = format!(
        "stty rows 40 cols 120; {} up examples/quickstart --state {}; echo the end: $?",
        env!("CARGO_BIN_EXE_neap"),
        state.path().display()
    );
    let mut up = Up::start(&command);
    for word in ["default/web", "happens"] {
        up.read(word, WITHIN, |shown| shown.contains(word));
    }
    up.press(b"q");
    up.read("the end", WITHIN, |shown| shown.contains("the end: 0"));
    up.ended();
    no_replica_is_left();
}
