//! What openraft asks of the crate `base2histogram`, in a kilobyte.
//!
//! The crate of that name, in version 0.2.3, computes the boundaries of all its sixteen resolutions
//! when the first histogram is made: 26 MiB that stay, more than all else a coordinator of a small
//! cluster keeps. openraft makes one histogram, of batch sizes, and reads none unless its feature
//! `runtime-stats` is on. This one counts by powers of two.

use std::fmt;
use std::marker::PhantomData;

/// Counts of values by their number of significant bits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Histogram<T = ()> {
    counts: [u64; BUCKETS],
    of: PhantomData<T>,
}

/// Zero, and one for each number of significant bits.
const BUCKETS: usize = 65;

impl<T> Histogram<T> {
    /// An empty one.
    pub fn new() -> Self {
        Self {
            counts: [0; BUCKETS],
            of: PhantomData,
        }
    }

    /// Counts a value.
    pub fn record(&mut self, value: u64) {
        self.record_n(value, 1);
    }

    /// Counts a value `count` times.
    pub fn record_n(&mut self, value: u64, count: u64) {
        let bits = (u64::BITS - value.leading_zeros()) as usize;
        self.counts[bits] += count;
    }

    /// The smallest value that the bucket of the percentile `p` holds, for `p` from 0 to 1; 0 of none.
    fn percentile(&self, p: f64) -> u64 {
        let samples: u64 = self.counts.iter().sum();
        let wanted = (samples as f64 * p).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (bits, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return if bits == 0 { 0 } else { 1 << (bits - 1) };
            }
        }
        0
    }

    /// The usual percentiles.
    pub fn percentile_stats(&self) -> PercentileStats {
        PercentileStats {
            samples: self.counts.iter().sum(),
            p0_1: self.percentile(0.001),
            p1: self.percentile(0.01),
            p5: self.percentile(0.05),
            p10: self.percentile(0.1),
            p50: self.percentile(0.5),
            p90: self.percentile(0.9),
            p99: self.percentile(0.99),
            p99_9: self.percentile(0.999),
        }
    }
}

impl<T> Default for Histogram<T> {
    fn default() -> Self {
        Self::new()
    }
}

/// Percentiles of what was counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "each field is the percentile of its name")]
pub struct PercentileStats {
    pub samples: u64,
    pub p0_1: u64,
    pub p1: u64,
    pub p5: u64,
    pub p10: u64,
    pub p50: u64,
    pub p90: u64,
    pub p99: u64,
    pub p99_9: u64,
}

impl fmt::Display for PercentileStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} samples, p50 {}, p90 {}, p99 {}",
            self.samples, self.p50, self.p90, self.p99
        )
    }
}

/// Several histograms, printed a line each.
#[derive(Debug, Clone, Default)]
pub struct AsciiChart {
    lines: Vec<(String, PercentileStats)>,
}

impl AsciiChart {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a histogram under a name.
    #[must_use]
    pub fn add(mut self, name: impl Into<String>, histogram: Histogram) -> Self {
        self.lines.push((name.into(), histogram.percentile_stats()));
        self
    }

    /// How it is printed.
    pub fn detailed(&self) -> &Self {
        self
    }
}

impl fmt::Display for AsciiChart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, stats) in &self.lines {
            writeln!(f, "{name}: {stats}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_the_lower_ends_of_their_buckets() {
        let mut histogram = Histogram::<()>::new();
        assert_eq!(histogram.percentile_stats().p50, 0);
        for value in [0, 1, 5, 6, 7, 1000, u64::MAX] {
            histogram.record(value);
        }
        let stats = histogram.percentile_stats();
        assert_eq!((stats.samples, stats.p0_1, stats.p50), (7, 0, 4));
        assert_eq!((stats.p90, stats.p99), (1 << 63, 1 << 63));
        let chart = AsciiChart::new().add("batch", histogram);
        assert!(chart.detailed().to_string().starts_with("batch: 7 samples"));
    }
}
