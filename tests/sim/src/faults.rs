//! What goes wrong, and when: drawn as the simulation goes.

use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::agent::AGENTS;
use crate::api::{API, Health};
use crate::net::{Host, Weather};
use crate::process::COMMIT;
use crate::sim::{COORDINATORS, Sim};
use crate::time::{Time, micros, ms};

/// How many may be going on at once.
const AT_ONCE: usize = 3;

/// What ends a fault.
enum Cure {
    Nothing,
    PowerOn(Host),
    Resume(Host),
    Mend(Vec<(Host, Host)>),
    ApiWell,
    FairWeather,
    QuickDisk(Host),
    RightWall(Host),
}

/// Faults under way.
#[derive(Default)]
pub(crate) struct Faults {
    next: Time,
    active: Vec<(Time, Cure)>,
    pub(crate) count: u64,
    /// The most by which two walls may have differed.
    pub(crate) wall_error: Duration,
}

impl Faults {
    /// Whether any wall has been wrong.
    pub(crate) fn walls_moved(&self) -> bool {
        !self.wall_error.is_zero()
    }
}

impl Sim {
    /// Begins and ends faults.
    pub(crate) fn step_faults(&mut self) {
        let now = self.now;
        let mut over = Vec::new();
        self.faults.active.retain_mut(|(until, cure)| {
            let ends = *until <= now;
            if ends {
                over.push(std::mem::replace(cure, Cure::Nothing));
            }
            !ends
        });
        for cure in over {
            self.cure(cure);
        }
        if now < self.faults.next {
            return;
        }
        if self.faults.active.len() < AT_ONCE {
            self.faults.count += 1;
            self.begin_fault();
        }
        self.faults.next = now + micros(ms(self.random.u64(200..3_500)));
    }

    /// Ends all faults at once.
    pub(crate) fn end_faults(&mut self) {
        for (_, cure) in std::mem::take(&mut self.faults.active) {
            self.cure(cure);
        }
        for coordinator in &mut self.coordinators {
            coordinator.starts_at = coordinator.starts_at.map(|_| self.now);
        }
        self.trace.note(format_args!("all faults have ended"));
    }

    /// The leader every other time, else anyone.
    fn victim(&mut self) -> Host {
        let leader = (0..COORDINATORS).find(|host| {
            let process = self.coordinators[*host].process.as_ref();
            process.is_some_and(|process| process.leading.is_some())
        });
        let anyone = self.random.usize(0..COORDINATORS);
        let leader = leader.filter(|_| self.random.bool());
        leader.unwrap_or(anyone)
    }

    fn begin_fault(&mut self) {
        let host = self.victim();
        let kind = self.random.u32(0..16);
        // Short ones are more frequent.
        let most = 2_u64 << self.random.u32(8..13);
        let span = ms(self.random.u64(100..=most));
        let until = self.now + micros(span);
        let cure = match kind {
            0 | 1 => {
                self.say(&format!("coordinator {host} is killed"), until);
                self.kill(host, until);
                Cure::Nothing
            }
            2 => {
                self.say(&format!("coordinator {host} loses its power"), until);
                self.net.set_power(host, false);
                self.kill(host, until + micros(ms(50)));
                Cure::PowerOn(host)
            }
            3 => {
                self.say(&format!("coordinator {host} is asked to end"), self.now);
                self.terminate(host);
                Cure::Nothing
            }
            4 | 5 => {
                self.say(&format!("coordinator {host} is stopped"), until);
                self.stop(host, false);
                Cure::Resume(host)
            }
            6 => {
                self.say(&format!("coordinator {host}'s machine sleeps"), until);
                self.stop(host, true);
                Cure::Resume(host)
            }
            7 | 8 => {
                let peers = (0..COORDINATORS).filter(|peer| *peer != host);
                let links: Vec<_> = match self.random.u32(0..3) {
                    0 => peers.map(|peer| (host, peer)).collect(),
                    1 => peers.map(|peer| (peer, host)).collect(),
                    _ => peers
                        .flat_map(|peer| [(host, peer), (peer, host)])
                        .collect(),
                };
                self.cut(links, until)
            }
            9 => {
                let other = (host + self.random.usize(1..COORDINATORS)) % COORDINATORS;
                self.cut_some(host, other, until)
            }
            10 => self.cut_some(host, API, until),
            11 => {
                let agent = AGENTS + self.random.usize(0..self.agents.len());
                self.cut_some(host, agent, until)
            }
            12 => {
                let answers = [Health::Refusing, Health::Hanging, Health::Throttling];
                let health = answers[self.random.usize(0..answers.len())];
                self.say(&format!("the API server is {health:?}"), until);
                self.api.health = health;
                Cure::ApiWell
            }
            13 => {
                let weather = Weather {
                    delay: (1_000, micros(ms(self.random.u64(5..150)))),
                    loss: self.random.u32(0..150),
                };
                self.say(&format!("bad network: {weather:?}"), until);
                self.net.set_weather(weather);
                Cure::FairWeather
            }
            // In every fourth simulation, for it takes some of the checks away.
            14 if self.walls_move => {
                self.faults.wall_error = Duration::from_secs(20 * 60);
                let minutes = self.random.i64(-10..=10);
                self.say(
                    &format!("coordinator {host}'s wall is {minutes} min ahead"),
                    until,
                );
                let wall = &self.coordinators[host].wall;
                wall.store(minutes * 60_000_000, Ordering::Relaxed);
                Cure::RightWall(host)
            }
            _ => {
                let time = ms(self.random.u64(50..2_000));
                self.say(&format!("coordinator {host}'s disk takes {time:?}"), until);
                self.coordinators[host].disk.set_commit_time(time);
                Cure::QuickDisk(host)
            }
        };
        self.faults.active.push((until, cure));
    }

    fn say(&self, what: &str, until: Time) {
        let span = (until - self.now) / 1_000;
        self.trace
            .note(format_args!("fault: {what}, for {span} ms"));
    }

    /// Cuts one direction between two hosts, or both.
    fn cut_some(&mut self, one: Host, two: Host, until: Time) -> Cure {
        let links = match self.random.u32(0..3) {
            0 => vec![(one, two)],
            1 => vec![(two, one)],
            _ => vec![(one, two), (two, one)],
        };
        self.cut(links, until)
    }

    fn cut(&mut self, links: Vec<(Host, Host)>, until: Time) -> Cure {
        self.say(&format!("links cut: {links:?}"), until);
        for (from, to) in &links {
            self.net.cut(*from, *to);
        }
        Cure::Mend(links)
    }

    fn cure(&mut self, cure: Cure) {
        match cure {
            Cure::Nothing => {}
            Cure::PowerOn(host) => self.net.set_power(host, true),
            Cure::Resume(host) => self.resume(host),
            Cure::Mend(links) => {
                for (from, to) in links {
                    self.net.mend(from, to);
                }
            }
            Cure::ApiWell => self.api.health = Health::Well,
            Cure::FairWeather => self.net.set_weather(Weather::FAIR),
            Cure::RightWall(host) => self.coordinators[host].wall.store(0, Ordering::Relaxed),
            Cure::QuickDisk(host) => self.coordinators[host].disk.set_commit_time(COMMIT),
        }
    }
}
