use std::fmt;

use serde::{Deserialize, Serialize};

use crate::MilliValue;

/// An amount of memory or disk in bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Bytes(u64);

impl Bytes {
    /// `n` bytes.
    #[must_use]
    pub const fn new(n: u64) -> Self {
        Self(n)
    }

    /// The number of bytes.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// Thousandths of a byte, the unit in which the HPA computes memory; saturates.
    #[must_use]
    pub fn milli(self) -> MilliValue {
        let milli = i128::from(self.0) * 1000;
        MilliValue::new(i64::try_from(milli).unwrap_or(i64::MAX))
    }

    /// The sum, at most `u64::MAX`.
    #[must_use]
    pub const fn saturating_add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// The difference, at least 0.
    #[must_use]
    pub const fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl fmt::Display for Bytes {
    /// With a binary unit and one decimal above 1 KiB, e.g. `1.5MiB`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
        if self.0 < 1024 {
            return write!(f, "{}B", self.0);
        }
        let mut value = self.0 as f64 / 1024.0;
        let mut unit = 0;
        while value >= 1024.0 && unit + 1 < UNITS.len() {
            value /= 1024.0;
            unit += 1;
        }
        write!(f, "{value:.1}{}", UNITS[unit])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_with_binary_units() {
        assert_eq!(Bytes::new(1023).to_string(), "1023B");
        assert_eq!(Bytes::new(1536).to_string(), "1.5KiB");
        assert_eq!(Bytes::new(u64::MAX).to_string(), "16.0EiB");
    }

    #[test]
    fn milli_saturates() {
        assert_eq!(Bytes::new(2).milli(), MilliValue::new(2000));
        assert_eq!(Bytes::new(u64::MAX).milli(), MilliValue::new(i64::MAX));
    }
}
