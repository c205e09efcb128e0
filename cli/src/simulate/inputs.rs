//! What each trigger reads during a simulation.

use std::sync::Arc;
use std::time::Duration;

use neap_engine::{
    Failure, MetricSpec, PodReadings, Reading, Resource, Sample, TriggerSpec, ValueReading,
};
use neap_triggers::CronTrigger;
use neap_units::{MilliValue, Timestamp};

use super::workload::Workload;
use crate::load::Series;

/// Where a trigger's numbers come from.
#[derive(Clone, Debug)]
pub enum Input<'a> {
    /// An event source whose value is the load itself.
    Value(&'a Series),
    /// Something that the pods share evenly: the load is the sum over all pods, and each ready pod
    /// has its part, averaged over `window`.
    PerPod {
        /// The sum.
        total: &'a Series,
        /// The time that a sample averages over.
        window: Duration,
    },
    /// The calendar.
    Calendar(Arc<CronTrigger>),
}

impl Input<'_> {
    pub(super) fn series(&self) -> Option<&Series> {
        match self {
            Self::Value(series) | Self::PerPod { total: series, .. } => Some(series),
            Self::Calendar(_) => None,
        }
    }
}

/// What a trigger last read.
#[derive(Clone, Debug)]
enum Seen {
    Nothing,
    Value {
        value: [MilliValue; 1],
        active: Option<bool>,
        at: Timestamp,
    },
    Failed(Timestamp),
    Pods(Vec<Option<Sample>>),
}

/// All inputs with their places in the load.
#[derive(Debug)]
pub(super) struct Inputs<'a> {
    inputs: &'a [Input<'a>],
    triggers: &'a [TriggerSpec],
    /// For each input the place of the point in force.
    places: Vec<Option<usize>>,
    seen: Vec<Seen>,
    /// The next moment at which some calendar may change.
    edge: Option<Timestamp>,
}

impl<'a> Inputs<'a> {
    pub(super) fn new(inputs: &'a [Input<'a>], triggers: &'a [TriggerSpec]) -> Self {
        Self {
            inputs,
            triggers,
            places: vec![None; inputs.len()],
            seen: vec![Seen::Nothing; inputs.len()],
            edge: None,
        }
    }

    /// Moves on to the points in force at `now`; true if any is another than before.
    pub(super) fn advance(&mut self, now: Timestamp) -> bool {
        let mut any = false;
        for (input, place) in self.inputs.iter().zip(&mut self.places) {
            let Some(series) = input.series() else {
                continue;
            };
            let next = series.index_at(now, place.unwrap_or(0));
            any |= next != *place;
            *place = next;
        }
        any
    }

    /// When the next point comes into force.
    pub(super) fn next_point(&self) -> Option<Timestamp> {
        let next = self
            .inputs
            .iter()
            .zip(&self.places)
            .filter_map(|(input, place)| {
                let after = place.map_or(0, |place| place + 1);
                Some(input.series()?.points().get(after)?.at)
            });
        next.min()
    }

    /// The value in force of input `index`; `None` where its source gives no answer.
    pub(super) fn in_force(&self, index: usize) -> Option<MilliValue> {
        self.inputs[index].series()?.points()[self.places[index]?].value
    }

    /// Asks the event sources at `now`.
    pub(super) fn poll(&mut self, now: Timestamp) {
        for index in 0..self.inputs.len() {
            if matches!(self.inputs[index], Input::Value(_)) {
                self.seen[index] = match self.in_force(index) {
                    Some(value) => Seen::Value {
                        value: [value],
                        active: None,
                        at: now,
                    },
                    None => Seen::Failed(now),
                };
            }
        }
    }

    /// Reads what is not polled: the calendars that are due, and the pods.
    pub(super) fn read(&mut self, now: Timestamp, workload: &Workload) {
        let due = self.edge.is_none_or(|edge| edge <= now);
        let mut next_edge: Option<Timestamp> = None;
        for index in 0..self.inputs.len() {
            match &self.inputs[index] {
                Input::Value(_) => {}
                Input::Calendar(cron) if due => {
                    let wall =
                        jiff::Timestamp::from_millisecond(now.as_millis()).unwrap_or_default();
                    let reading = cron.read(wall);
                    let edge = reading
                        .next_edge
                        .map(|edge| Timestamp::from_millis(edge.as_millisecond()));
                    next_edge = [next_edge, edge].into_iter().flatten().min();
                    let (value, active) = ([reading.value], Some(reading.active));
                    self.seen[index] = Seen::Value {
                        value,
                        active,
                        at: now,
                    };
                }
                Input::Calendar(_) => {}
                Input::PerPod { total, window } => {
                    self.seen[index] = self.per_pod(index, total, *window, now, workload);
                }
            }
        }
        if due {
            self.edge = next_edge;
        }
    }

    fn per_pod(
        &self,
        index: usize,
        total: &Series,
        window: Duration,
        now: Timestamp,
        workload: &Workload,
    ) -> Seen {
        let mean = self.places[index].and_then(|place| total.mean(place, now, window));
        let Some(mean) = mean else {
            return Seen::Failed(now);
        };
        let ready = workload.ready();
        let mut each = MilliValue::new(mean.get() / i64::from(ready.max(1)));
        let cpu = matches!(
            self.triggers[index].metric,
            MetricSpec::Resource {
                resource: Resource::Cpu,
                ..
            }
        );
        if let Some(limit) = workload.model().cpu_limit.filter(|_| cpu) {
            each = each.min(limit);
        }
        // Pods that are still starting come last and are Pending: their samples would not count.
        let sample = Some(Sample {
            value: each,
            at: now,
            window,
        });
        Seen::Pods(vec![sample; usize::try_from(ready).unwrap_or(0)])
    }

    /// The next moment at which a calendar may change.
    pub(super) fn next_edge(&self) -> Option<Timestamp> {
        self.edge
    }

    /// Until when the mean of some per-pod input still moves after its last point.
    pub(super) fn moving_until(&self) -> Option<Timestamp> {
        let until = self
            .inputs
            .iter()
            .zip(&self.places)
            .filter_map(|(input, place)| match input {
                Input::PerPod { total, window } => Some(total.points()[(*place)?].at + *window),
                _ => None,
            });
        until.max()
    }

    /// What the engine is given, in the order of the triggers.
    pub(super) fn readings(&self) -> Vec<Reading<'_>> {
        let readings = self.seen.iter().map(|seen| match seen {
            Seen::Nothing => Reading::Failed(Failure::not_read_yet(Timestamp::MIN)),
            Seen::Failed(at) => Reading::Failed(Failure::source("the load has no value here", *at)),
            Seen::Value { value, active, at } => Reading::Values(ValueReading {
                values: value,
                active: *active,
                at: *at,
            }),
            Seen::Pods(samples) => Reading::Pods(PodReadings {
                samples,
                unknown: &[],
                arrival_rate: None,
            }),
        });
        readings.collect()
    }

    /// The value that trigger `index` of the calendar shows now.
    pub(super) fn calendar(&self, index: usize) -> Option<MilliValue> {
        match (&self.inputs[index], &self.seen[index]) {
            (
                Input::Calendar(_),
                Seen::Value {
                    value: [value],
                    active,
                    ..
                },
            ) => Some(if *active == Some(true) {
                *value
            } else {
                MilliValue::ZERO
            }),
            _ => None,
        }
    }

    /// Whether input `index` is read from the calendar.
    pub(super) fn is_calendar(&self, index: usize) -> bool {
        matches!(self.inputs[index], Input::Calendar(_))
    }
}
