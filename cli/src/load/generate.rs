//! A load made up from a shape: `generate:SHAPE,KEY=VALUE,...`.

use std::collections::BTreeMap;
use std::f64::consts::TAU;
use std::time::Duration;

use neap_units::{MilliValue, Timestamp};

use super::series::{Column, Load, MAX_POINTS, Point, Series};
use crate::duration;

/// The shapes with what they need and what they may have.
pub(super) const HELP: &str = "constant,value=N | step,from=N,to=N[,at=T] | ramp,from=N,to=N[,at=T][,over=T] | \
spike,base=N,peak=N[,at=T][,over=T] | square,low=N,high=N[,period=T] | sine,low=N,high=N[,period=T]; \
each also with [,for=T][,step=T][,noise=F][,seed=N][,name=COLUMN]";

/// Why a shape cannot be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GenerateError {
    /// There is no such shape.
    #[error("generate: {0:?} is no shape; shapes are {HELP}")]
    Shape(String),
    /// A setting that this shape does not have.
    #[error("generate: {shape} has no setting {key:?}; shapes are {HELP}")]
    Key {
        /// The shape.
        shape: String,
        /// The setting.
        key: String,
    },
    /// A setting that is needed.
    #[error("generate: {shape} needs {key}=NUMBER; shapes are {HELP}")]
    Missing {
        /// The shape.
        shape: String,
        /// The setting.
        key: &'static str,
    },
    /// A setting that holds what is not allowed.
    #[error("generate: {key}: {value:?} is not allowed: {allowed}")]
    Value {
        /// The setting.
        key: String,
        /// What it holds.
        value: String,
        /// What it may hold.
        allowed: String,
    },
}

/// Makes the load that `text` describes: `SHAPE,KEY=VALUE,...`, from time 0. The same text gives the
/// same load.
///
/// # Errors
/// [`GenerateError`].
pub fn generate(text: &str) -> Result<Load, GenerateError> {
    let mut parts = text.split(',').map(str::trim);
    let shape = parts.next().unwrap_or_default().to_owned();
    let mut settings = Settings {
        shape,
        given: BTreeMap::new(),
    };
    for part in parts {
        let (key, value) = part.split_once('=').unwrap_or((part, ""));
        settings
            .given
            .insert(key.trim().to_owned(), value.trim().to_owned());
    }
    let length = settings.duration("for", 3_600)?;
    let step = settings.duration("step", 15)?;
    let noise = settings.number("noise", Some(0.0))?;
    let seed = settings.number("seed", Some(1.0))?;
    let name = settings
        .given
        .remove("name")
        .unwrap_or_else(|| "value".to_owned());
    let curve = Curve::read(&mut settings, length)?;
    if let Some(key) = settings.given.keys().next() {
        return Err(GenerateError::Key {
            shape: settings.shape,
            key: key.clone(),
        });
    }
    let value_fault = |key: &str, value: String, allowed: &str| GenerateError::Value {
        key: key.to_owned(),
        value,
        allowed: allowed.to_owned(),
    };
    if step.is_zero() || length < step {
        return Err(value_fault(
            "step",
            duration::format(step),
            "it must be above 0 and at most the value of for",
        ));
    }
    let count = length.as_millis() / step.as_millis().max(1);
    let count = usize::try_from(count)
        .ok()
        .filter(|count| *count <= MAX_POINTS)
        .ok_or_else(|| {
            value_fault(
                "for",
                duration::format(length),
                &format!("it must be at most {MAX_POINTS} steps long"),
            )
        })?;
    if !(0.0..=1.0).contains(&noise) {
        return Err(value_fault(
            "noise",
            noise.to_string(),
            "it must be a share from 0 to 1",
        ));
    }
    let mut random = Random(seed.to_bits() | 1);
    let points = (0..count).map(|index| {
        let millis = step.as_millis() as i64 * index as i64;
        let factor = 1.0 + noise * random.signed();
        let value = MilliValue::from_metric_f64(curve.at(millis as f64 / 1000.0) * factor);
        Point {
            at: Timestamp::from_millis(millis),
            value: Some(value),
        }
    });
    let series = Series::new(points.collect())
        .map_err(|error| value_fault("for", duration::format(length), &error.to_string()))?;
    Ok(Load {
        columns: vec![Column { name, series }],
        calendar: false,
    })
}

struct Settings {
    shape: String,
    given: BTreeMap<String, String>,
}

impl Settings {
    fn number(&mut self, key: &'static str, default: Option<f64>) -> Result<f64, GenerateError> {
        let Some(text) = self.given.remove(key) else {
            return default.ok_or_else(|| GenerateError::Missing {
                shape: self.shape.clone(),
                key,
            });
        };
        match text.parse::<f64>() {
            Ok(number) if number.is_finite() && number >= 0.0 => Ok(number),
            _ => Err(GenerateError::Value {
                key: key.to_owned(),
                value: text,
                allowed: "it must be a number of 0 or more".to_owned(),
            }),
        }
    }

    fn duration(&mut self, key: &str, default: u64) -> Result<Duration, GenerateError> {
        let Some(text) = self.given.remove(key) else {
            return Ok(Duration::from_secs(default));
        };
        duration::parse(&text).map_err(|allowed| GenerateError::Value {
            key: key.to_owned(),
            value: text.clone(),
            allowed,
        })
    }
}

/// A shape over time in seconds.
enum Curve {
    /// Straight from one value to another within `over`, and back at once after it if `returns`.
    Line {
        from: f64,
        to: f64,
        at: f64,
        over: f64,
        returns: bool,
    },
    Square {
        low: f64,
        high: f64,
        period: f64,
    },
    Sine {
        low: f64,
        high: f64,
        period: f64,
    },
}

impl Curve {
    fn read(settings: &mut Settings, length: Duration) -> Result<Self, GenerateError> {
        let seconds = length.as_secs();
        match settings.shape.as_str() {
            "constant" => {
                let value = settings.number("value", None)?;
                Ok(Self::Line {
                    from: value,
                    to: value,
                    at: 0.0,
                    over: 0.0,
                    returns: false,
                })
            }
            "step" => Self::line(settings, ["from", "to"], seconds, 0, false),
            "ramp" => Self::line(
                settings,
                ["from", "to"],
                seconds,
                (seconds / 2).max(1),
                false,
            ),
            "spike" => Self::line(
                settings,
                ["base", "peak"],
                seconds,
                (seconds / 10).max(1),
                true,
            ),
            "square" => Ok(Self::Square {
                low: settings.number("low", None)?,
                high: settings.number("high", None)?,
                period: Self::period(settings, seconds)?,
            }),
            "sine" => Ok(Self::Sine {
                low: settings.number("low", None)?,
                high: settings.number("high", None)?,
                period: Self::period(settings, seconds)?,
            }),
            other => Err(GenerateError::Shape(other.to_owned())),
        }
    }

    /// A straight line; one that takes no time (`over` of 0) is a step and has no such setting.
    fn line(
        settings: &mut Settings,
        [from, to]: [&'static str; 2],
        seconds: u64,
        over: u64,
        returns: bool,
    ) -> Result<Self, GenerateError> {
        let over = match over {
            0 => 0.0,
            over => settings.duration("over", over)?.as_secs_f64(),
        };
        Ok(Self::Line {
            from: settings.number(from, None)?,
            to: settings.number(to, None)?,
            at: settings.duration("at", seconds / 4)?.as_secs_f64(),
            over,
            returns,
        })
    }

    fn period(settings: &mut Settings, seconds: u64) -> Result<f64, GenerateError> {
        let period = settings
            .duration("period", (seconds / 2).max(1))?
            .as_secs_f64();
        if period > 0.0 {
            return Ok(period);
        }
        Err(GenerateError::Value {
            key: "period".to_owned(),
            value: "0".to_owned(),
            allowed: "it must be above 0".to_owned(),
        })
    }

    fn at(&self, second: f64) -> f64 {
        match *self {
            Self::Line {
                from,
                to,
                at,
                over,
                returns,
            } => {
                if second < at {
                    from
                } else if returns {
                    if second < at + over { to } else { from }
                } else if second >= at + over {
                    to
                } else {
                    from + (to - from) * (second - at) / over
                }
            }
            Self::Square { low, high, period } => {
                if (second / period).fract() < 0.5 {
                    low
                } else {
                    high
                }
            }
            // From the low point: a day begins quietly.
            Self::Sine { low, high, period } => {
                low + (high - low) * (1.0 - (TAU * second / period).cos()) / 2.0
            }
        }
    }
}

/// A small generator (xorshift64*): the same seed gives the same load everywhere.
struct Random(u64);

impl Random {
    /// From -1 to 1.
    fn signed(&mut self) -> f64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let bits = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 11;
        bits as f64 / (1_u64 << 52) as f64 - 1.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(text: &str) -> Vec<f64> {
        let load = generate(text).unwrap();
        let points = load.columns[0].series.points().iter();
        points.map(|point| point.value.unwrap().as_f64()).collect()
    }

    #[test]
    fn shapes() {
        assert_eq!(values("constant,value=5,for=1m,step=20s"), [5.0; 3]);
        assert_eq!(
            values("step,from=1,to=9,at=40s,for=1m,step=20s"),
            [1.0, 1.0, 9.0]
        );
        assert_eq!(
            values("ramp,from=0,to=8,at=20s,over=40s,for=80s,step=20s"),
            [0.0, 0.0, 4.0, 8.0]
        );
        assert_eq!(
            values("spike,base=1,peak=7,at=20s,over=20s,for=80s,step=20s"),
            [1.0, 7.0, 1.0, 1.0]
        );
        assert_eq!(
            values("square,low=0,high=2,period=40s,for=80s,step=20s"),
            [0.0, 2.0, 0.0, 2.0]
        );
        assert_eq!(
            values("sine,low=0,high=2,period=40s,for=40s,step=10s"),
            [0.0, 1.0, 2.0, 1.0]
        );
    }

    #[test]
    fn noise_is_repeatable_and_bounded() {
        let text = "constant,value=100,noise=0.2,seed=7,for=1h,step=1s";
        let first = values(text);
        assert_eq!(first, values(text));
        assert!(first.iter().all(|value| (80.0..=120.0).contains(value)));
        assert!(
            first.iter().any(|value| *value > 110.0) && first.iter().any(|value| *value < 90.0)
        );
        assert_ne!(
            first,
            values("constant,value=100,noise=0.2,seed=8,for=1h,step=1s")
        );
    }

    #[test]
    fn faults_say_what_is_allowed() {
        let cases = [
            ("wave,low=1", "\"wave\" is no shape; shapes are constant"),
            ("constant", "constant needs value=NUMBER"),
            (
                "constant,value=-1",
                "value: \"-1\" is not allowed: it must be a number of 0 or more",
            ),
            (
                "constant,value=1,peak=2",
                "constant has no setting \"peak\"",
            ),
            ("constant,value=1,for=soon", "for: \"soon\" is not allowed"),
            ("constant,value=1,step=0", "step: \"0s\" is not allowed"),
            (
                "constant,value=1,for=10000d,step=1ms",
                "for: \"10000d\" is not allowed",
            ),
            ("constant,value=1,noise=2", "noise: \"2\" is not allowed"),
            ("sine,low=1,high=2,period=0", "period: \"0\" is not allowed"),
        ];
        for (text, part) in cases {
            let fault = generate(text).unwrap_err().to_string();
            assert!(fault.contains(part), "{text}: {fault}");
        }
    }
}
