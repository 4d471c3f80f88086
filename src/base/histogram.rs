//! Latency histograms: HdrHistogram with this project's two shapes. Values are nanoseconds everywhere.
//!
//! *Owns*: the ranges and precisions, and that a value out of range is counted at the bound instead of lost.
//! *Never*: averages percentiles. *Runs on*: every core, and the generator's threads.

use std::fmt;

use hdrhistogram::serialization::{Deserializer, Serializer, V2Serializer};

/// The shortest time told apart from nothing.
pub const LOWEST_NS: u64 = 1_000;

/// The longest time told apart from longer ones: a minute for a broker's stage, an hour for a client's wait.
pub const STAGE_HIGHEST_NS: u64 = 60_000_000_000;
pub const CLIENT_HIGHEST_NS: u64 = 3_600_000_000_000;

/// Counts of times, at a fixed relative precision.
#[derive(Clone, PartialEq)]
pub struct Histogram {
    inner: hdrhistogram::Histogram<u64>,
}

/// Bytes that are no histogram.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HistogramError {
    pub message: String,
}

impl Histogram {
    /// What a broker keeps of each stage: 1 µs to a minute, two significant digits.
    pub fn of_stage() -> Histogram {
        Histogram::with_range(STAGE_HIGHEST_NS, 2)
    }

    /// What a client keeps: 1 µs to an hour, three significant digits.
    pub fn of_client() -> Histogram {
        Histogram::with_range(CLIENT_HIGHEST_NS, 3)
    }

    fn with_range(highest_ns: u64, digits: u8) -> Histogram {
        let inner = hdrhistogram::Histogram::new_with_bounds(LOWEST_NS, highest_ns, digits);
        Histogram { inner: inner.expect("the bounds are in order and the digits few") }
    }

    /// Counts one value. Beyond the range it is counted at its end.
    #[inline]
    pub fn record(&mut self, value_ns: u64) {
        self.inner.saturating_record(value_ns);
    }

    #[inline]
    pub fn record_n(&mut self, value_ns: u64, count: u64) {
        self.inner.saturating_record_n(value_ns, count);
    }

    /// Adds what another one counted; of another range or precision, as closely as this one can tell.
    pub fn merge(&mut self, other: &Histogram) {
        if self.inner.high() >= other.inner.high() {
            self.inner.add(&other.inner).expect("everything the other holds is in range");
        } else {
            for value in other.inner.iter_recorded() {
                self.inner.saturating_record_n(value.value_iterated_to(), value.count_at_value());
            }
        }
    }

    pub fn clear(&mut self) {
        self.inner.reset();
    }

    pub fn count(&self) -> u64 {
        self.inner.len()
    }

    pub fn is_empty(&self) -> bool {
        self.inner.is_empty()
    }

    /// 0 when nothing was counted.
    pub fn max_ns(&self) -> u64 {
        if self.is_empty() { 0 } else { self.inner.max() }
    }

    pub fn min_ns(&self) -> u64 {
        if self.is_empty() { 0 } else { self.inner.min() }
    }

    pub fn mean_ns(&self) -> f64 {
        self.inner.mean()
    }

    /// The value that a share `quantile` (0 to 1) of all counted ones does not exceed.
    pub fn value_at(&self, quantile: f64) -> u64 {
        if self.is_empty() { 0 } else { self.inner.value_at_quantile(quantile) }
    }

    /// Every value that was counted, lowest first, with how often.
    pub fn counted(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.inner.iter_recorded().map(|value| (value.value_iterated_to(), value.count_at_value()))
    }

    /// HdrHistogram's binary form, version 2, not compressed.
    pub fn to_v2(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        V2Serializer::new().serialize(&self.inner, &mut bytes).expect("a vector takes everything");
        bytes
    }

    /// Reads HdrHistogram's binary forms, versions 2 and 2 deflated.
    pub fn from_v2(bytes: &[u8]) -> Result<Histogram, HistogramError> {
        let read = Deserializer::new().deserialize(&mut &bytes[..]);
        read.map(|inner| Histogram { inner }).map_err(|error| HistogramError { message: error.to_string() })
    }

    /// The library's own, for its log writer.
    pub fn as_hdr(&self) -> &hdrhistogram::Histogram<u64> {
        &self.inner
    }
}

impl From<hdrhistogram::Histogram<u64>> for Histogram {
    fn from(inner: hdrhistogram::Histogram<u64>) -> Histogram {
        Histogram { inner }
    }
}

impl fmt::Debug for Histogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Histogram({} values, p50 {} ns, max {} ns)", self.count(), self.value_at(0.5), self.max_ns())
    }
}

impl fmt::Display for HistogramError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not a histogram: {}", self.message)
    }
}

impl std::error::Error for HistogramError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_keep_their_precision_and_none_is_lost() {
        for (mut histogram, error, highest) in
            [(Histogram::of_stage(), 0.01, STAGE_HIGHEST_NS), (Histogram::of_client(), 0.001, CLIENT_HIGHEST_NS)]
        {
            assert_eq!((histogram.max_ns(), histogram.value_at(0.5)), (0, 0));
            for value in [0, 1_500, 1_000_000, 59_000_000_000, u64::MAX] {
                histogram.record(value);
            }
            assert_eq!(histogram.count(), 5);
            let near = |quantile: f64, expect: u64| {
                let value = histogram.value_at(quantile) as f64;
                assert!((value - expect as f64).abs() <= expect as f64 * error + 512.0, "{quantile}: {value}");
            };
            near(0.6, 1_000_000);
            near(0.8, 59_000_000_000);
            near(1.0, highest);
        }
    }

    #[test]
    fn histograms_of_two_shapes_are_merged() {
        let (mut wide, mut narrow) = (Histogram::of_client(), Histogram::of_stage());
        wide.record(CLIENT_HIGHEST_NS);
        narrow.record_n(5_000_000, 3);
        narrow.merge(&wide);
        assert_eq!(narrow.count(), 4);
        assert!(narrow.max_ns() >= STAGE_HIGHEST_NS);
        wide.merge(&narrow);
        assert_eq!(wide.count(), 5);
    }

    #[test]
    fn the_binary_form_goes_both_ways_and_noise_is_refused() {
        let mut histogram = Histogram::of_client();
        (0..1000).for_each(|i| histogram.record(i * i * 1000));
        let bytes = histogram.to_v2();
        assert_eq!(Histogram::from_v2(&bytes), Ok(histogram));
        for cut in [0, 3, bytes.len() - 1] {
            assert!(Histogram::from_v2(&bytes[..cut]).is_err());
        }
    }
}
