//! What the agent's own code for streams asks for, and the part of a sampler that does not depend on
//! what is sampled.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use anyhow::Result;
use neap_agent::Config;
use neap_agent::clock::{BootClock, SystemBootClock};
use neap_agent::config::{LogFormat, Profile};
use neap_agent::sampler::{Mailbox, Outlet};
use neap_proto::node::agent_message::Message;
use neap_proto::node::{AgentMessage, Capabilities, Hello, PROTOCOL_VERSION, Replay, Samples};

use super::names::{NODE_PORT, host, node};
use super::tokens;

/// The flags of the agent of node `index`, whose CA and token lie in `root`. It dials the
/// coordinator of `seat` first.
#[must_use]
pub fn config(root: &Path, index: usize, seat: u8) -> Config {
    Config {
        coordinator: format!("{}:{NODE_PORT}", host(seat)),
        server_name: None,
        token_file: tokens::file(root, index),
        ca_file: root.join("ca.crt"),
        node_name: node(index),
        cgroup_root: "/nonexistent".into(),
        kubelet_cgroup_root: None,
        proc_root: "/proc".into(),
        http_listen: ([127, 0, 0, 1], 0).into(),
        profile: Profile::Full,
        spool_roots: Vec::new(),
        spool_prefix: "/".into(),
        log_format: LogFormat::Text,
    }
}

/// The hello of the agent of node `index`, started at CLOCK_BOOTTIME `started`, nanoseconds.
#[must_use]
pub fn hello(index: usize, started: u64, capabilities: Capabilities) -> Hello {
    Hello {
        protocol_version: PROTOCOL_VERSION,
        node_name: node(index),
        boot_id: format!("{index:08x}-0000-4000-8000-000000000000"),
        agent_version: env!("CARGO_PKG_VERSION").into(),
        agent_start_boottime_ns: started,
        capabilities: Some(capabilities),
    }
}

/// Says to the active stream what a stand-in for the sampler has to say.
pub struct Feed {
    mailbox: Arc<Mailbox>,
    outlet: Option<Outlet>,
    sequence: u64,
    generation: u64,
}

/// What the streams have wished.
pub struct News {
    /// Another stream is the active one, or none is any more.
    pub moved: bool,
    /// Generation of new directives, for [`Feed::follow`].
    pub directives: Option<u64>,
}

impl Feed {
    /// One without a stream yet.
    ///
    /// # Errors
    /// No file descriptor left.
    pub fn new() -> Result<Self> {
        Ok(Self {
            mailbox: Arc::new(Mailbox::new()?),
            outlet: None,
            sequence: 0,
            generation: 0,
        })
    }

    /// Where the streams leave their wishes.
    #[must_use]
    pub fn mailbox(&self) -> &Arc<Mailbox> {
        &self.mailbox
    }

    /// Whether there is an active stream.
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.outlet.is_some()
    }

    /// Takes what the streams have wished since the last time.
    pub fn take(&mut self) -> News {
        let wishes = self.mailbox.take();
        let moved = wishes.outlet.is_some();
        if let Some(outlet) = wishes.outlet {
            self.outlet = outlet;
            self.sequence = 0;
        }
        News {
            moved,
            directives: wishes.directives.map(|directives| directives.generation),
        }
    }

    /// Later samples are those of the directives of `generation`.
    pub fn follow(&mut self, generation: u64) {
        self.generation = generation;
    }

    /// Tells a new leader of the past.
    pub fn send_replay(&self, replay: Replay) {
        self.send(Message::Replay(replay));
    }

    /// The next samples, still without a point, as of now. Those of sequence 1 are a stream's first.
    /// `None` where no stream is active.
    #[must_use]
    pub fn next_samples(&self) -> Option<Samples> {
        self.is_active().then(|| Samples {
            sequence: self.sequence + 1,
            boottime_ns: SystemBootClock.now().as_nanos(),
            directives_generation: self.generation,
            ..Samples::default()
        })
    }

    /// Sends what [`Self::next_samples`] began. Gives whether there was room.
    pub fn send_samples(&mut self, samples: Samples) -> bool {
        let sent = self.send(Message::Samples(samples));
        if sent && let Some(outlet) = &self.outlet {
            self.sequence += 1;
            outlet.sent.store(self.sequence, Ordering::Release);
        }
        sent
    }

    /// Whether there was room.
    fn send(&self, message: Message) -> bool {
        let message = AgentMessage {
            message: Some(message),
        };
        match &self.outlet {
            Some(outlet) => outlet.messages.try_send(message).is_ok(),
            None => false,
        }
    }
}
