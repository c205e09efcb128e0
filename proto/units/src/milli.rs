use std::fmt;

use serde::{Deserialize, Serialize};

/// A number in thousandths: 500 is 0.5 (half a core, half a message, 500 milli-bytes).
///
/// The unit in which the HPA and KEDA count every metric (`resource.Quantity.MilliValue`), so that
/// their rounding can be reproduced exactly. Arithmetic saturates where Go's would wrap.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct MilliValue(i64);

impl MilliValue {
    /// Nothing.
    pub const ZERO: Self = Self(0);
    /// The largest value; what a sum that does not fit becomes.
    pub const MAX: Self = Self(i64::MAX);

    /// `thousandths` of one.
    #[must_use]
    pub const fn new(thousandths: i64) -> Self {
        Self(thousandths)
    }

    /// The whole number `units`; saturates.
    #[must_use]
    pub const fn from_units(units: i64) -> Self {
        Self(units.saturating_mul(1000))
    }

    /// The number of thousandths.
    #[must_use]
    pub const fn get(self) -> i64 {
        self.0
    }

    /// As a floating point number of whole units.
    #[must_use]
    pub fn as_f64(self) -> f64 {
        self.0 as f64 / 1000.0
    }

    /// A float as KEDA hands it to the HPA: its exact binary value rounded at three decimals (Go's `%.3f`);
    /// negative, NaN and infinite values become 0 (`keda-core.md` 2.5).
    ///
    /// Values beyond the range saturate.
    #[must_use]
    pub fn from_metric_f64(value: f64) -> Self {
        if !value.is_finite() || value < 0.0 {
            return Self::ZERO;
        }
        // Printing with three decimals rounds the exact binary value, as Go does; multiplying by
        // 1000 first would round twice.
        let text = format!("{value:.3}");
        let digits: String = text.chars().filter(char::is_ascii_digit).collect();
        Self(digits.parse().unwrap_or(i64::MAX))
    }

    /// The sum, held within the range.
    #[must_use]
    pub const fn saturating_add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// The sum, or `None` where it leaves the range.
    #[must_use]
    pub const fn checked_add(self, other: Self) -> Option<Self> {
        match self.0.checked_add(other.0) {
            Some(sum) => Some(Self(sum)),
            None => None,
        }
    }
}

impl fmt::Display for MilliValue {
    /// A decimal number without trailing zeros, e.g. `0.5`, `12`, `-1.025`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let magnitude = self.0.unsigned_abs();
        let (whole, part) = (magnitude / 1000, magnitude % 1000);
        match (part, part % 10, part % 100) {
            (0, _, _) => write!(f, "{sign}{whole}"),
            (_, _, 0) => write!(f, "{sign}{whole}.{}", part / 100),
            (_, 0, _) => write!(f, "{sign}{whole}.{:02}", part / 10),
            _ => write!(f, "{sign}{whole}.{part:03}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_without_trailing_zeros() {
        let cases = [
            (0, "0"),
            (500, "0.5"),
            (12_000, "12"),
            (-1_025, "-1.025"),
            (1_020, "1.02"),
        ];
        for (milli, text) in cases {
            assert_eq!(MilliValue::new(milli).to_string(), text);
        }
    }

    #[test]
    fn floats_are_read_as_keda_hands_them_over() {
        let cases = [
            (0.0005, 1),
            (0.0004, 0),
            (0.0015, 2),
            (1.0, 1000),
            (2.0005, 2001),
            (-1.0, 0),
            (f64::NAN, 0),
            (f64::INFINITY, 0),
            (1e300, i64::MAX),
        ];
        for (float, milli) in cases {
            assert_eq!(MilliValue::from_metric_f64(float).get(), milli, "{float}");
        }
    }

    #[test]
    fn a_million_steps_do_not_drift() {
        let step = MilliValue::new(1);
        let sum = (0..1_000_000).fold(MilliValue::ZERO, |sum, _| sum.saturating_add(step));
        assert_eq!(sum, MilliValue::from_units(1000));
    }
}
