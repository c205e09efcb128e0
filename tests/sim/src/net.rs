//! The simulated network: hosts, links that delay, lose and cut, and parcels on their way.
//!
//! A parcel is drawn a delay when it is sent and looks at its link when it arrives. A lost one comes
//! late, as TCP would send it again; on a cut link it is held back until the link is mended. Parcels
//! of one channel never overtake each other. A host without power takes nothing and sends nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;

use crate::stream::Connections;
use crate::time::{Time, micros, ms};
use crate::trace::Trace;

/// A host, by number.
pub(crate) type Host = usize;

/// Parcels of one channel keep their order.
pub(crate) type Channel = u64;

/// Parcels that may overtake each other.
pub(crate) const UNORDERED: Channel = 0;

/// What does something at a host when it arrives.
pub(crate) type Action<S> = Box<dyn FnOnce(&mut S) + Send>;

/// What travels.
pub(crate) enum Body<S> {
    /// Of a byte stream.
    Stream(Segment),
    /// For whoever plays the host: `S` is the simulation.
    Message(Action<S>),
}

/// One message of the simulated TCP, on connection `connection`. `to_server` is its direction.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) connection: u64,
    pub(crate) to_server: bool,
    pub(crate) what: SegmentKind,
}

/// What a segment carries.
#[derive(Debug, Clone)]
pub(crate) enum SegmentKind {
    Connect,
    Accepted,
    Refused,
    Data(Bytes),
    End,
    Reset,
}

struct Parcel<S> {
    from: Host,
    to: Host,
    body: Body<S>,
}

/// How the network is at the moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Weather {
    /// Shortest and longest delay of a parcel, in microseconds.
    pub(crate) delay: (Time, Time),
    /// How many of a thousand are lost, and sent again.
    pub(crate) loss: u32,
}

impl Weather {
    /// Of a quiet network.
    pub(crate) const FAIR: Self = Self {
        delay: (1_000, 4_000),
        loss: 0,
    };
}

/// A lost parcel is sent again after so long, as Linux does at first.
const AGAIN: Duration = ms(200);

/// The network. Clones are the same one. `S` is the simulation that the messages are for.
pub(crate) struct Net<S>(Arc<Mutex<Inner<S>>>);

impl<S> Clone for Net<S> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

pub(crate) struct Inner<S> {
    now: Time,
    random: fastrand::Rng,
    weather: Weather,
    on_way: BTreeMap<(Time, u64), Parcel<S>>,
    sent: u64,
    last: BTreeMap<Channel, Time>,
    channels: u64,
    cut: BTreeSet<(Host, Host)>,
    held: BTreeMap<(Host, Host), Vec<Parcel<S>>>,
    without_power: BTreeSet<Host>,
    pub(crate) connections: Connections,
    trace: Trace,
}

impl<S> Net<S> {
    /// An idle network.
    pub(crate) fn new(seed: u64, trace: Trace) -> Self {
        Self(Arc::new(Mutex::new(Inner {
            now: 0,
            random: fastrand::Rng::with_seed(seed),
            weather: Weather::FAIR,
            on_way: BTreeMap::new(),
            sent: 0,
            last: BTreeMap::new(),
            // The first ones belong to connections.
            channels: 1 << 32,
            cut: BTreeSet::new(),
            held: BTreeMap::new(),
            without_power: BTreeSet::new(),
            connections: Connections::default(),
            trace,
        })))
    }

    pub(crate) fn inner(&self) -> MutexGuard<'_, Inner<S>> {
        self.0.lock().unwrap()
    }

    /// A channel that nobody else uses.
    pub(crate) fn channel(&self) -> Channel {
        let mut inner = self.inner();
        inner.channels += 1;
        inner.channels
    }

    /// Sends something that is done at `to` when it arrives.
    pub(crate) fn send(
        &self,
        from: Host,
        to: Host,
        channel: Channel,
        what: impl FnOnce(&mut S) + Send + 'static,
    ) {
        self.inner()
            .send(from, to, channel, Body::Message(Box::new(what)));
    }

    /// Moves time on and gives what arrives. Byte streams take theirs in here.
    pub(crate) fn arrivals(&self, now: Time) -> Vec<Action<S>> {
        let mut inner = self.inner();
        inner.now = now;
        let later = inner.on_way.split_off(&(now + 1, 0));
        let due = std::mem::replace(&mut inner.on_way, later);
        let mut actions = Vec::new();
        for (_, parcel) in due {
            let link = (parcel.from, parcel.to);
            if inner.cut.contains(&link) {
                inner.held.entry(link).or_default().push(parcel);
                continue;
            }
            if inner.without_power.contains(&parcel.to) {
                continue;
            }
            inner.trace.fold((parcel.from, parcel.to));
            match parcel.body {
                Body::Message(action) => actions.push(action),
                Body::Stream(segment) => inner.take_segment(parcel.to, segment),
            }
        }
        actions
    }

    pub(crate) fn set_weather(&self, weather: Weather) {
        self.inner().weather = weather;
    }

    /// Cuts one direction.
    pub(crate) fn cut(&self, from: Host, to: Host) {
        self.inner().cut.insert((from, to));
    }

    /// Mends one direction: what was held back comes next.
    pub(crate) fn mend(&self, from: Host, to: Host) {
        let mut inner = self.inner();
        if !inner.cut.remove(&(from, to)) {
            return;
        }
        for parcel in inner.held.remove(&(from, to)).unwrap_or_default() {
            // In their order, whatever their channels, and before all that is on its way or sent from now on.
            inner.sent += 1;
            let at = (inner.now, inner.sent);
            inner.on_way.insert(at, parcel);
        }
    }

    /// A host loses its power, without a word to anyone, or has it back.
    pub(crate) fn set_power(&self, host: Host, on: bool) {
        let mut inner = self.inner();
        if on {
            inner.without_power.remove(&host);
        } else {
            inner.without_power.insert(host);
        }
    }
}

impl<S> Inner<S> {
    pub(crate) fn has_power(&self, host: Host) -> bool {
        !self.without_power.contains(&host)
    }

    pub(crate) fn now(&self) -> Time {
        self.now
    }

    pub(crate) fn send(&mut self, from: Host, to: Host, channel: Channel, body: Body<S>) {
        if self.without_power.contains(&from) {
            return;
        }
        let (least, most) = self.weather.delay;
        let mut delay = self.random.u64(least..=most);
        while self.random.u32(0..1_000) < self.weather.loss {
            delay += micros(AGAIN);
        }
        // Never within the step that is under way.
        let at = self.now + delay.max(micros(crate::time::TICK));
        let at = if channel == UNORDERED {
            at
        } else {
            let last = self.last.entry(channel).or_default();
            *last = at.max(*last);
            *last
        };
        self.sent += 1;
        match &body {
            Body::Stream(segment) => {
                let bytes = match &segment.what {
                    SegmentKind::Data(bytes) => bytes.clone(),
                    _ => Bytes::new(),
                };
                self.trace.fold((from, to, at, segment.connection, bytes));
            }
            Body::Message(_) => self.trace.fold((from, to, at)),
        }
        self.on_way
            .insert((at, self.sent), Parcel { from, to, body });
    }

    /// Has a channel forgotten that will not be used again.
    pub(crate) fn close(&mut self, channel: Channel) {
        self.last.remove(&channel);
    }
}
