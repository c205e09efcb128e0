//! The agent's streams to the coordinators: who is asked, who is followed, who takes samples.

mod backoff;
mod credentials;
mod link;
mod pool;

use std::collections::HashMap;
use std::sync::Arc;

use neap_proto::node::Hello;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::link::{Ended, Event, Link};
use self::pool::{Action, LinkId, Pool};
use crate::config::Config;
use crate::metrics::{EndLabels, Metrics};
use crate::sampler::Mailbox;

/// Reports of streams that wait to be looked at: a few per stream and second come.
const EVENTS: usize = 64;

/// Holds the streams until it is cancelled.
pub struct Sessions {
    config: Arc<Config>,
    hello: Hello,
    mailbox: Arc<Mailbox>,
    metrics: Arc<Metrics>,
    pool: Pool,
    links: HashMap<LinkId, Link>,
    /// Generation that is in force, if the active stream has sent one.
    generation: Option<u64>,
    /// What was logged last, so that a lasting state is one line.
    logged: Option<String>,
}

impl Sessions {
    /// Nothing opened yet.
    pub fn new(
        config: Arc<Config>,
        hello: Hello,
        mailbox: Arc<Mailbox>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let pool = Pool::new(config.coordinator.clone());
        Self {
            config,
            hello,
            mailbox,
            metrics,
            pool,
            links: HashMap::new(),
            generation: None,
            logged: None,
        }
    }

    /// Opens, follows and closes streams.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let (sender, mut events) = mpsc::channel(EVENTS);
        loop {
            let (actions, wait) = self
                .pool
                .plan(Instant::now(), |below| fastrand::usize(..below.max(1)));
            for action in actions {
                self.act(action, &sender);
            }
            let pause = async {
                match wait {
                    Some(wait) => tokio::time::sleep(wait).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = shutdown.cancelled() => break,
                () = pause => {}
                Some((id, event)) = events.recv() => self.take(id, event),
            }
        }
        self.mailbox.set_outlet(None);
        self.metrics.connected.set(0);
    }

    fn act(&mut self, action: Action, events: &mpsc::Sender<(LinkId, Event)>) {
        match action {
            Action::Open(id, address) => {
                tracing::debug!(stream = id, %address, "opening a stream");
                let link = Link::start(
                    id,
                    address,
                    self.config.clone(),
                    self.hello.clone(),
                    events.clone(),
                );
                self.links.insert(id, link);
            }
            Action::Close(id) => {
                tracing::debug!(stream = id, "closing a stream");
                self.links.remove(&id);
            }
            Action::Activate(id) => {
                let outlet = id
                    .and_then(|id| self.links.get(&id))
                    .map(|link| link.outlet.clone());
                self.metrics.connected.set(i64::from(outlet.is_some()));
                self.generation = None;
                self.mailbox.set_outlet(outlet);
            }
        }
    }

    fn take(&mut self, id: LinkId, event: Event) {
        match event {
            Event::Hint(hint) => {
                let was_active = self.pool.active() == Some(id);
                if hint.is_leader && !was_active {
                    self.log(
                        format!(
                            "samples go to {}, leader of term {}",
                            hint.address, hint.term
                        ),
                        None,
                    );
                } else if !hint.is_leader
                    && hint.leader_address.is_empty()
                    && self.pool.active().is_none()
                {
                    self.log(format!("{} knows no leader", hint.address), None);
                }
                self.pool.hinted(id, hint);
            }
            Event::Directives(directives) => {
                let newer = self
                    .generation
                    .is_none_or(|generation| directives.generation > generation);
                if self.pool.active() == Some(id) && newer {
                    self.generation = Some(directives.generation);
                    self.mailbox.set_directives(directives);
                }
            }
            Event::Ended(ended) => {
                self.links.remove(&id);
                let was_active = self.pool.active() == Some(id);
                self.metrics
                    .streams_ended
                    .get_or_create(&EndLabels {
                        reason: ended.reason(),
                    })
                    .inc();
                if was_active || self.pool.active().is_none() {
                    let what = if was_active {
                        "the stream to the leader ended"
                    } else {
                        "no coordinator"
                    };
                    self.log(format!("{what}: {ended}"), Some(&ended));
                }
                self.pool.ended(id, Instant::now(), fastrand::f64());
            }
        }
    }

    /// One line per change: a failure that repeats is silent.
    fn log(&mut self, line: String, problem: Option<&Ended>) {
        if self.logged.as_ref() == Some(&line) {
            return;
        }
        match problem {
            None => tracing::info!("{line}"),
            Some(ended) => {
                let cause =
                    std::iter::successors(std::error::Error::source(ended), |error| error.source())
                        .last();
                tracing::warn!(
                    reason = ended.reason(),
                    cause = cause.map(tracing::field::display),
                    "{line}"
                );
            }
        }
        self.logged = Some(line);
    }
}
