//! Taking in what a stream to the leader says: definitions, points, history.

use std::collections::HashMap;
use std::time::Duration;

use neap_proto::node::{PodDirective, Replay, ReplaySeries, Samples, SeriesDefinition, Spool};
use tonic::Status;

use crate::clock::Boottime;
use crate::ingest::binding::{Bindings, Bound, LastPoint, Skip, Waiting};
use crate::ingest::figures::IngestFigures;
use crate::ingest::series::series_key;
use crate::ingest::serve::IngestParts;
use crate::ingest::spools::{problem, spool};
use crate::signals::{Batch, NodeTime, ReplayPoint, SeriesKey, SignalError, StreamWriter};

/// What a stream to the leader has besides.
pub(super) struct Active {
    pub(super) writer: StreamWriter,
    pub(super) bindings: Bindings,
    pub(super) term: u64,
    pub(super) directed: Option<(Vec<PodDirective>, Vec<Spool>)>,
    pub(super) lacks_addresses: bool,
    pub(super) heard: Boottime,
    pub(super) acked: Option<Boottime>,
}

pub(super) fn refusal(error: &SignalError) -> Status {
    match error {
        SignalError::TooManyNodes { .. } | SignalError::TooManySeries { .. } => {
            Status::resource_exhausted(error.to_string())
        }
        SignalError::Superseded => Status::aborted(error.to_string()),
    }
}

/// What becomes of a definition.
enum Fate {
    Keep(SeriesKey),
    Wait(neap_units::PodUid),
    Leave(Skip),
}

impl Active {
    /// Decides what becomes of each definition. Asks the world, so not while a batch is open.
    fn fates(&self, parts: &IngestParts, defined: &[SeriesDefinition]) -> Vec<Fate> {
        let mut known: HashMap<&str, Bound> = HashMap::new();
        defined
            .iter()
            .map(|definition| {
                let key = match series_key(definition, self.bindings.node()) {
                    Ok(key) => key,
                    Err(error) => {
                        IngestFigures::add(&parts.figures.unknown_series, 1);
                        tracing::debug!(node = %self.bindings.node(), %error, "a series is left out");
                        return Fate::Leave(Skip::Unused);
                    }
                };
                let Some(pod) = key.subject.pod() else { return Fate::Keep(key) };
                let bound = *known
                    .entry(&definition.pod_uid)
                    .or_insert_with(|| self.bindings.check(&parts.world, pod));
                match bound {
                    Bound::Here => Fate::Keep(key),
                    Bound::Elsewhere => Fate::Leave(Skip::Foreign),
                    Bound::Unknown => Fate::Wait(pod.clone()),
                }
            })
            .collect()
    }

    pub(super) fn samples(
        &mut self,
        parts: &IngestParts,
        samples: Samples,
        now: Boottime,
    ) -> Result<(), Status> {
        let fates = self.fates(parts, &samples.defined);
        self.found(parts, now)?;
        let closed = NodeTime::from_nanos(samples.boottime_ns);
        let mut foreign = 0;
        let Self {
            writer, bindings, ..
        } = self;
        let mut batch = writer.batch().map_err(|error| refusal(&error))?;
        for id in samples.gone {
            bindings.forget(id);
            batch.gone(id);
        }
        define(&mut batch, bindings, samples.defined, fates, now)?;
        for point in &samples.counters {
            match bindings.skips(point.series) {
                Some(Skip::Foreign) => foreign += 1,
                Some(Skip::Unused) => {}
                None => {
                    let at = closed.before(u64::from(point.age_us));
                    if !bindings.holds_counter(at, point) {
                        batch.counter(point.series, at, point.value, point.unchanged_us);
                    }
                }
            }
        }
        for point in &samples.gauges {
            match bindings.skips(point.series) {
                Some(Skip::Foreign) => foreign += 1,
                Some(Skip::Unused) => {}
                None => {
                    let at = closed.before(u64::from(point.age_us));
                    if !bindings.holds_gauge(at, point) {
                        batch.gauge(point.series, at, point.integral, point.last, point.peak);
                    }
                }
            }
        }
        for told in samples.spool_problems {
            if let Some(spool) = spool(&told.path, told.max_age_ms) {
                batch.spool_problem(spool, problem(&told.problem));
            }
        }
        batch.heartbeat(closed, now);
        drop(batch);
        IngestFigures::add(&parts.figures.foreign_samples, foreign);
        self.check_size(parts)
    }

    pub(super) fn replay(
        &mut self,
        parts: &IngestParts,
        replay: &Replay,
        now: Boottime,
    ) -> Result<(), Status> {
        let fates = self.fates(parts, &replay.defined);
        let end = NodeTime::from_nanos(replay.boottime_ns);
        let mut foreign = 0;
        let Self {
            writer, bindings, ..
        } = self;
        let mut batch = writer.batch().map_err(|error| refusal(&error))?;
        define(&mut batch, bindings, replay.defined.clone(), fates, now)?;
        for series in &replay.series {
            match bindings.skips(series.series) {
                Some(Skip::Foreign) => foreign += series.values.len(),
                Some(Skip::Unused) => {}
                None => {
                    let Some((points, last)) = history(series, end) else {
                        return Err(Status::invalid_argument(
                            "replay: the columns of a series differ in length",
                        ));
                    };
                    if !bindings.holds_history(series, end) {
                        batch.replay(series.series, &points, last);
                    }
                }
            }
        }
        drop(batch);
        IngestFigures::add(&parts.figures.foreign_samples, foreign);
        self.check_size(parts)
    }

    /// Takes in what waited for pods that have turned up.
    pub(super) fn found(&mut self, parts: &IngestParts, now: Boottime) -> Result<(), Status> {
        let found = self.bindings.look(&parts.world, now);
        if found.is_empty() {
            return Ok(());
        }
        let mut batch = self.writer.batch().map_err(|error| refusal(&error))?;
        for Waiting { definition, last } in found {
            let Ok(key) = series_key(&definition, self.bindings.node()) else {
                continue;
            };
            let interval = Duration::from_millis(u64::from(definition.interval_ms));
            batch
                .define(definition.id, key, interval, definition.since_agent_start)
                .map_err(|error| refusal(&error))?;
            match last {
                LastPoint::None => {}
                LastPoint::Counter(at, point) => batch.counter(definition.id, at, point.value, 0),
                LastPoint::Gauge(at, point) => {
                    batch.gauge(definition.id, at, point.integral, point.last, point.peak);
                }
            }
        }
        Ok(())
    }

    fn check_size(&self, parts: &IngestParts) -> Result<(), Status> {
        let limit = parts.limits.series_per_stream;
        if self.bindings.len() > limit {
            return Err(Status::resource_exhausted(format!(
                "the stream has more than {limit} series"
            )));
        }
        Ok(())
    }
}

fn define(
    batch: &mut Batch<'_>,
    bindings: &mut Bindings,
    defined: Vec<SeriesDefinition>,
    fates: Vec<Fate>,
    now: Boottime,
) -> Result<(), Status> {
    for (definition, fate) in defined.into_iter().zip(fates) {
        match fate {
            Fate::Keep(key) => {
                bindings.forget(definition.id);
                let interval = Duration::from_millis(u64::from(definition.interval_ms));
                batch
                    .define(definition.id, key, interval, definition.since_agent_start)
                    .map_err(|error| refusal(&error))?;
            }
            Fate::Wait(pod) => {
                batch.gone(definition.id);
                bindings.set_waiting(pod, definition, now);
            }
            Fate::Leave(why) => {
                batch.gone(definition.id);
                bindings.skip(definition.id, why);
            }
        }
    }
    Ok(())
}

/// The points of a replayed series and its last value; `None` when its columns do not fit together.
fn history(series: &ReplaySeries, end: NodeTime) -> Option<(Vec<ReplayPoint>, u64)> {
    let count = series.ages_us.len();
    let is_gauge = !series.integrals.is_empty();
    if series.values.len() != count || (is_gauge && series.integrals.len() != count) {
        return None;
    }
    let points = series.ages_us.iter().enumerate().filter_map(|(at, age)| {
        // Counters below 2^53 are exact in a double; those above are centuries of microseconds.
        let total = if is_gauge {
            *series.integrals.get(at)?
        } else {
            *series.values.get(at)? as f64
        };
        Some(ReplayPoint {
            at: end.before(*age),
            total,
        })
    });
    Some((points.collect(), series.values.last().copied().unwrap_or(0)))
}
