//! What is drawn where.

use neap_units::{MilliValue, Timestamp};

use super::axis;
use super::svg::{Anchor, Svg, number};
use crate::load::{Load, Series};
use crate::simulate::Track;

const WIDTH: f64 = 960.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 40.0;
const PLOT: f64 = WIDTH - LEFT - RIGHT;
const TOP: f64 = 64.0;
const LOAD_HEIGHT: f64 = 140.0;
const BETWEEN: f64 = 44.0;
const REPLICAS_HEIGHT: f64 = 240.0;
const BOTTOM: f64 = 44.0;

/// Told apart without seeing red and green apart.
const RUN_COLORS: [&str; 2] = ["#0b62a4", "#c2570c"];
const LOAD_COLORS: [&str; 4] = ["#5b4b9a", "#1b7f79", "#8c5a12", "#a02c6b"];
const NEEDED: &str = "fill=\"#e4e7eb\"";
const SHORT: &str = "fill=\"#d43a2f\" fill-opacity=\"0.35\"";
const GRID: &str = "stroke=\"#e4e7eb\" fill=\"none\"";
const FRAME: &str = "stroke=\"#9aa3ad\" fill=\"none\"";
const QUIET: &str = "fill=\"#5a636d\"";

/// One simulation to draw.
#[derive(Clone, Copy, Debug)]
pub struct Run<'a> {
    /// What it is called.
    pub label: &'a str,
    /// Replicas over time.
    pub track: &'a [Track],
}

/// Draws `runs`, at least one, under `load`. Deterministic: the same input gives the same bytes.
#[must_use]
pub fn draw(load: &Load, runs: &[Run<'_>]) -> String {
    let height = TOP + LOAD_HEIGHT + BETWEEN + REPLICAS_HEIGHT + BOTTOM;
    let labels: Vec<&str> = runs.iter().map(|run| run.label).collect();
    let title = format!("Replicas of {}", labels.join(" and "));
    let most = runs
        .iter()
        .flat_map(|run| run.track)
        .map(|entry| entry.replicas)
        .max()
        .unwrap_or(0);
    let description = format!("Simulated load and replicas over time; at most {most} replicas.");
    let mut svg = Svg::new(WIDTH, height, &title, &description);
    svg.text(
        LEFT,
        24.0,
        Anchor::Start,
        "font-size=\"15\" font-weight=\"600\"",
        &title,
    );
    let time = Time {
        start: load.start(),
        end: load.end(),
        calendar: load.calendar,
    };
    load_panel(&mut svg, load, &time, TOP);
    replicas_panel(&mut svg, runs, &time, TOP + LOAD_HEIGHT + BETWEEN);
    svg.finish()
}

/// The axis of time.
struct Time {
    start: Timestamp,
    end: Timestamp,
    calendar: bool,
}

impl Time {
    fn x(&self, at: Timestamp) -> f64 {
        let whole = self.end.since(self.start).as_secs_f64();
        if whole <= 0.0 {
            return LEFT;
        }
        LEFT + PLOT * (at.since(self.start).as_secs_f64() / whole).min(1.0)
    }

    fn grid(&self, svg: &mut Svg, top: f64, height: f64, labels: bool) {
        let (moments, step) = axis::times(self.start.as_millis(), self.end.as_millis(), 8);
        let mut day = String::new();
        for at in moments {
            let x = self.x(Timestamp::from_millis(at));
            svg.segment((x, top), (x, top + height), GRID);
            if labels {
                let label = self.label(at, step, &mut day);
                svg.text(x, top + height + 18.0, Anchor::Middle, QUIET, &label);
            }
        }
        svg.rectangle([LEFT, top, PLOT, height], FRAME);
    }

    /// The label of a moment. `day` is the one that the label before it was on: it is said once.
    fn label(&self, at: i64, step: i64, day: &mut String) -> String {
        if self.calendar {
            let wall = jiff::Timestamp::from_millisecond(at).unwrap_or_default();
            let date = wall.strftime("%-d %b").to_string();
            if step >= 86_400 {
                return date;
            }
            let clock = wall.strftime("%H:%M").to_string();
            let label = if date == *day {
                clock
            } else {
                format!("{date} {clock}")
            };
            *day = date;
            return label;
        }
        let seconds = at / 1000;
        match step {
            step if step >= 86_400 => format!("{} d", seconds / 86_400),
            step if step >= 3_600 => format!("{} h", seconds / 3_600),
            step if step >= 60 => format!("{} min", seconds / 60),
            _ => format!("{seconds} s"),
        }
    }
}

/// A scale of values.
struct Scale {
    top: f64,
    height: f64,
    most: f64,
}

impl Scale {
    fn y(&self, value: f64) -> f64 {
        self.top + self.height * (1.0 - (value / self.most).clamp(0.0, 1.0))
    }

    fn grid(&self, svg: &mut Svg, ticks: &[f64]) {
        for tick in ticks {
            let y = self.y(*tick);
            svg.segment((LEFT, y), (LEFT + PLOT, y), GRID);
            svg.text(LEFT - 8.0, y + 4.0, Anchor::End, QUIET, &short(*tick));
        }
    }
}

/// A number in few letters: `1500` is `1.5k`.
fn short(value: f64) -> String {
    for (unit, size) in [("G", 1e9), ("M", 1e6), ("k", 1e3)] {
        if value >= size {
            return format!("{}{unit}", number(value / size));
        }
    }
    number(value)
}

fn load_panel(svg: &mut Svg, load: &Load, time: &Time, top: f64) {
    time.grid(svg, top, LOAD_HEIGHT, false);
    // Columns have different units: with several, each is drawn against its own largest value.
    let alone = load.columns.len() == 1;
    let mut x = LEFT;
    for (at, column) in load.columns.iter().enumerate() {
        let color = LOAD_COLORS[at % LOAD_COLORS.len()];
        let most = largest(&column.series);
        let ticks = axis::values(most.max(0.001), 3);
        let scale = Scale {
            top,
            height: LOAD_HEIGHT,
            most: ticks[ticks.len() - 1],
        };
        if alone {
            scale.grid(svg, &ticks);
        }
        let label = if alone {
            column.name.clone()
        } else {
            format!("{} (at most {})", column.name, short(most))
        };
        x = legend(svg, x, top - 12.0, &format!("fill=\"{color}\""), &label);
        let points = column.series.points().iter();
        let steps: Vec<(Timestamp, Option<f64>)> = points
            .map(|point| (point.at, point.value.map(MilliValue::as_f64)))
            .collect();
        let style = format!("fill=\"none\" stroke=\"{color}\" stroke-width=\"1.5\"");
        for part in staircase(&steps, time, &scale) {
            svg.path(&part, false, &style);
        }
    }
}

fn replicas_panel(svg: &mut Svg, runs: &[Run<'_>], time: &Time, top: f64) {
    let tracks = runs.iter().flat_map(|run| run.track);
    let most = tracks
        .map(|entry| entry.replicas.max(entry.needed.unwrap_or(0)))
        .max()
        .unwrap_or(0);
    let highest = runs
        .iter()
        .flat_map(|run| run.track)
        .map(|entry| entry.replicas)
        .max()
        .unwrap_or(0);
    // What the load needs may be far beyond what the spec allows; the replicas must stay readable.
    let most = most.min(highest.saturating_mul(3).max(10));
    let ticks = axis::whole_values(most, 5);
    let scale = Scale {
        top,
        height: REPLICAS_HEIGHT,
        most: ticks[ticks.len() - 1],
    };
    let needs: Vec<(Timestamp, Option<f64>)> = runs
        .first()
        .map(|run| {
            run.track
                .iter()
                .map(|entry| (entry.at, entry.needed.map(f64::from)))
                .collect()
        })
        .unwrap_or_default();
    for part in staircase(&needs, time, &scale) {
        svg.path(&under(part, &scale), true, NEEDED);
    }
    for [from, to, above, below] in
        shortages(runs.first().map_or(&[][..], |run| run.track), time, &scale)
    {
        svg.rectangle([from, above, (to - from).max(0.5), below - above], SHORT);
    }
    time.grid(svg, top, REPLICAS_HEIGHT, true);
    scale.grid(svg, &ticks);
    let mut x = LEFT;
    for (at, run) in runs.iter().enumerate() {
        let color = RUN_COLORS[at % RUN_COLORS.len()];
        let steps: Vec<(Timestamp, Option<f64>)> = run
            .track
            .iter()
            .map(|entry| (entry.at, Some(f64::from(entry.replicas))))
            .collect();
        let dash = if at == 0 {
            ""
        } else {
            " stroke-dasharray=\"6 3\""
        };
        let style = format!("fill=\"none\" stroke=\"{color}\" stroke-width=\"2\"{dash}");
        for part in staircase(&steps, time, &scale) {
            svg.path(&part, false, &style);
        }
        x = legend(svg, x, top - 12.0, &format!("fill=\"{color}\""), run.label);
    }
    if needs.iter().any(|(_, needed)| needed.is_some()) {
        x = legend(svg, x, top - 12.0, NEEDED, "needed by the load");
        let whose = if runs.len() > 1 {
            "too few ready (the first)"
        } else {
            "too few ready"
        };
        legend(svg, x, top - 12.0, SHORT, whose);
    }
}

/// A patch of colour and its meaning; gives where the next one goes.
fn legend(svg: &mut Svg, x: f64, y: f64, style: &str, label: &str) -> f64 {
    svg.rectangle([x, y - 9.0, 10.0, 10.0], style);
    svg.text(x + 15.0, y, Anchor::Start, QUIET, label);
    // The width of letters is not known here; a generous mean keeps entries apart.
    x + 15.0 + 7.0 * label.chars().count() as f64 + 18.0
}

fn largest(series: &Series) -> f64 {
    let values = series.points().iter().filter_map(|point| point.value);
    values.max().unwrap_or(MilliValue::ZERO).as_f64()
}

/// The line through steps that each hold until the next; a new part after each gap. Where several
/// steps fall on one column of the picture, the column shows the lowest and the highest of them.
fn staircase(
    steps: &[(Timestamp, Option<f64>)],
    time: &Time,
    scale: &Scale,
) -> Vec<Vec<(f64, f64)>> {
    let mut parts: Vec<Vec<(f64, f64)>> = Vec::new();
    let mut part: Vec<(f64, f64)> = Vec::new();
    let mut at = 0;
    while at < steps.len() {
        let x = time.x(steps[at].0);
        let column = x.floor();
        let mut after = at + 1;
        while after < steps.len() && time.x(steps[after].0).floor() == column {
            after += 1;
        }
        let crowded = after - at > 2;
        let (from, until) = if crowded { (column, column) } else { (x, x) };
        if crowded {
            let known = steps[at..after].iter().filter_map(|step| step.1);
            let low = known.clone().fold(f64::INFINITY, f64::min);
            let high = known.fold(f64::NEG_INFINITY, f64::max);
            if low <= high {
                extend(&mut part, from, scale.y(low));
                part.push((until, scale.y(high)));
            }
        }
        let single = if crowded {
            &steps[after - 1..after]
        } else {
            &steps[at..after]
        };
        for (moment, value) in single {
            let x = if crowded { until } else { time.x(*moment) };
            match value {
                Some(value) => extend(&mut part, x, scale.y(*value)),
                None => {
                    if let Some((_, y)) = part.last().copied() {
                        part.push((x, y));
                    }
                    parts.push(std::mem::take(&mut part));
                }
            }
        }
        at = after;
    }
    if let Some((_, y)) = part.last().copied() {
        part.push((LEFT + PLOT, y));
    }
    parts.push(part);
    parts.retain(|part| !part.is_empty());
    parts
}

/// Goes level to `x`, then up or down to `y`.
fn extend(part: &mut Vec<(f64, f64)>, x: f64, y: f64) {
    if let Some((_, level)) = part.last().copied() {
        part.push((x, level));
    }
    part.push((x, y));
}

/// The area under a line.
fn under(mut line: Vec<(f64, f64)>, scale: &Scale) -> Vec<(f64, f64)> {
    let floor = scale.y(0.0);
    if let (Some(first), Some(last)) = (line.first().copied(), line.last().copied()) {
        line.push((last.0, floor));
        line.push((first.0, floor));
    }
    line
}

/// The areas between the pods that are ready and those that are needed, where these are more: left,
/// right, upper and lower edge. Areas closer together than a pixel are one.
fn shortages(track: &[Track], time: &Time, scale: &Scale) -> Vec<[f64; 4]> {
    let mut areas: Vec<[f64; 4]> = Vec::new();
    for (at, entry) in track.iter().enumerate() {
        let Some(needed) = entry.needed.filter(|needed| entry.ready < *needed) else {
            continue;
        };
        let from = time.x(entry.at);
        let to = track
            .get(at + 1)
            .map_or(LEFT + PLOT, |next| time.x(next.at));
        let (above, below) = (scale.y(f64::from(needed)), scale.y(f64::from(entry.ready)));
        match areas.last_mut() {
            Some(last) if to - last[0] < 1.0 => {
                *last = [last[0], to, last[2].min(above), last[3].max(below)];
            }
            Some(last) if from <= last[1] && last[2..] == [above, below] => last[1] = to,
            _ => areas.push([from, to, above, below]),
        }
    }
    areas
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::generate;

    fn track(second: i64, replicas: i32, ready: i32, needed: i32) -> Track {
        let at = Timestamp::from_millis(second * 1000);
        Track {
            at,
            replicas,
            ready,
            needed: Some(needed),
        }
    }

    #[test]
    fn shortages_lie_between_ready_and_needed() {
        let end = Timestamp::from_millis(PLOT as i64 * 1000);
        let time = Time {
            start: Timestamp::from_millis(0),
            end,
            calendar: false,
        };
        let scale = Scale {
            top: 0.0,
            height: 40.0,
            most: 4.0,
        };
        let track = [
            track(0, 1, 1, 1),
            track(100, 1, 1, 3),
            track(200, 3, 1, 3),
            track(300, 3, 3, 3),
            track(600, 3, 3, 4),
        ];
        let areas = shortages(&track, &time, &scale);
        let expected = [
            [LEFT + 100.0, LEFT + 300.0, 10.0, 30.0],
            [LEFT + 600.0, LEFT + PLOT, 0.0, 10.0],
        ];
        assert_eq!(areas, expected);
    }

    #[test]
    fn a_year_of_minutes_stays_a_small_picture() {
        let load = generate("sine,low=0,high=100,period=24h,noise=0.3,for=365d,step=1m").unwrap();
        let track: Vec<Track> = (0..525_600)
            .map(|minute| track(minute * 60, (minute % 7) as i32, 3, 4))
            .collect();
        let svg = draw(
            &load,
            &[Run {
                label: "a",
                track: &track,
            }],
        );
        assert!(svg.len() < 200_000, "{} bytes", svg.len());
    }

    #[test]
    fn a_gap_in_the_load_is_a_gap_in_the_line() {
        let time = Time {
            start: Timestamp::from_millis(0),
            end: Timestamp::from_millis(4_000),
            calendar: false,
        };
        let scale = Scale {
            top: 0.0,
            height: 100.0,
            most: 10.0,
        };
        let second = |second: i64| Timestamp::from_millis(second * 1000);
        let steps = [
            (second(0), Some(1.0)),
            (second(1), None),
            (second(2), Some(3.0)),
        ];
        let parts = staircase(&steps, &time, &scale);
        assert_eq!(parts.len(), 2);
        assert_eq!(parts[0].last().unwrap().0, time.x(second(1)));
        assert_eq!(parts[1][0].0, time.x(second(2)));
    }
}
