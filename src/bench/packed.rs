//! An interval's histogram, packed: what a run keeps of every second without keeping 200 KB of it.
//!
//! The counts lie as HdrHistogram's V2 form has them (ZigZag LEB128, runs of empty buckets as one number), and are
//! read from there. Bytes from a file are checked once, when they are packed.
//!
//! *Owns*: the arithmetic of HdrHistogram's buckets, and its V2 form. *Never*: trusts a length. *Runs on*: any thread.

use std::fmt;
use std::io::Read;

use flate2::Compression;
use flate2::read::{ZlibDecoder, ZlibEncoder};

use crate::base::histogram::{Histogram, HistogramError};

const V2_COOKIE: u32 = 0x1c84_9303;
const V2_DEFLATED_COOKIE: u32 = 0x1c84_9304;
/// The bits in which writers note the size of a word; readers look past them.
const COOKIE_MASK: u32 = !0xf0;
const HEADER_BYTES: usize = 40;

/// The largest histogram that a file may bring, not deflated: what 5 digits over the whole range may take.
const V2_BYTES_MAX: usize = HEADER_BYTES + 9 * 6_000_000;

/// Where the borders of buckets lie. Two histograms of one shape count in the same buckets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shape {
    lowest: u64,
    /// Only for those who read the V2 form: says nothing of the borders, and differs between histograms that grew.
    highest: u64,
    digits: u8,
    unit_magnitude: u8,
    half_count_magnitude: u8,
}

/// Counts of values that cannot be added to.
#[derive(Clone, PartialEq)]
pub struct Packed {
    shape: Shape,
    /// Invariant: decodes without error, buckets in order, none twice, the last with a count.
    counts: Box<[u8]>,
    count: u64,
}

/// One bucket with something in it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bucket {
    /// The lowest and the highest value that it counts, both included.
    pub lowest: u64,
    pub highest: u64,
    pub count: u64,
}

/// Several histograms added up.
#[derive(Clone, Default, Debug)]
pub struct Sum {
    shape: Option<Shape>,
    counts: Vec<u64>,
}

impl Shape {
    fn new(lowest: u64, highest: u64, digits: u8) -> Result<Shape, HistogramError> {
        let error = |message: &str| Err(HistogramError { message: message.to_owned() });
        if lowest == 0 || highest / 2 < lowest || digits > 5 {
            return error("its range or precision is none that HdrHistogram has");
        }
        let unit_magnitude = lowest.ilog2() as u8;
        let sub_buckets = (2 * 10u64.pow(u32::from(digits))).next_power_of_two();
        let half_count_magnitude = sub_buckets.ilog2() as u8 - 1;
        if unit_magnitude + half_count_magnitude > 62 {
            return error("its lowest value is too large for its precision");
        }
        Ok(Shape { lowest, highest, digits, unit_magnitude, half_count_magnitude })
    }

    fn same_buckets(&self, other: &Shape) -> bool {
        (self.unit_magnitude, self.half_count_magnitude) == (other.unit_magnitude, other.half_count_magnitude)
    }

    /// How many buckets there can be at all, up to the highest 64-bit value.
    fn buckets_max(&self) -> usize {
        let doublings = 64 - usize::from(self.unit_magnitude) - usize::from(self.half_count_magnitude);
        (doublings + 1) << self.half_count_magnitude
    }

    /// The lowest and highest value of a bucket.
    fn values(&self, index: usize) -> (u64, u64) {
        let half_count = 1u64 << self.half_count_magnitude;
        let index = index as u64;
        let (doubling, sub) = match index >> self.half_count_magnitude {
            0 => (0, index),
            doubling => (doubling - 1, (index & (half_count - 1)) + half_count),
        };
        let shift = doubling + u64::from(self.unit_magnitude);
        let lowest = u128::from(sub) << shift;
        let highest = lowest + (1u128 << shift) - 1;
        (u64::try_from(lowest).unwrap_or(u64::MAX), u64::try_from(highest).unwrap_or(u64::MAX))
    }

    fn index(&self, value: u64) -> usize {
        let (unit, half) = (u32::from(self.unit_magnitude), u32::from(self.half_count_magnitude));
        let doubling = (value >> unit >> half).checked_ilog2().unwrap_or(0);
        let sub = value >> (unit + doubling);
        ((doubling as usize) << half) + sub as usize
    }
}

impl Packed {
    /// Nothing counted, in the shape that clients count with.
    pub fn empty() -> Packed {
        Packed::from(&Histogram::of_client())
    }

    pub fn count(&self) -> u64 {
        self.count
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Lowest first.
    pub fn buckets(&self) -> impl Iterator<Item = Bucket> + '_ {
        self.indices().map(|(index, count)| {
            let (lowest, highest) = self.shape.values(index);
            Bucket { lowest, highest, count }
        })
    }

    /// Every value that was counted, lowest first, with how often. As [`Histogram::counted`].
    pub fn counted(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.buckets().map(|bucket| (bucket.highest, bucket.count))
    }

    /// The value that a share `quantile` (0 to 1) of all counted ones does not exceed; 0 when nothing was counted.
    pub fn value_at(&self, quantile: f64) -> u64 {
        self.values_at(&[quantile])[0]
    }

    /// The same for several, ascending, in one pass.
    pub fn values_at(&self, quantiles: &[f64]) -> Vec<u64> {
        let mut values = Vec::with_capacity(quantiles.len());
        let ranks = quantiles.iter().map(|quantile| ((quantile * self.count as f64).ceil() as u64).max(1));
        let mut ranks = ranks.map(|rank| rank.min(self.count)).peekable();
        let mut passed = 0;
        for bucket in self.buckets() {
            passed += bucket.count;
            while ranks.next_if(|rank| *rank <= passed).is_some() {
                values.push(bucket.highest);
            }
        }
        values.resize(quantiles.len(), 0);
        values
    }

    /// 0 when nothing was counted.
    pub fn max_ns(&self) -> u64 {
        self.buckets().last().map_or(0, |bucket| bucket.highest)
    }

    /// 0 when nothing was counted.
    pub fn min_ns(&self) -> u64 {
        self.buckets().next().map_or(0, |bucket| bucket.lowest)
    }

    pub fn mean_ns(&self) -> f64 {
        self.moments().0
    }

    /// Mean and standard deviation, every value taken for the middle of its bucket.
    pub fn moments(&self) -> (f64, f64) {
        if self.is_empty() {
            return (0.0, 0.0);
        }
        let middle = |bucket: Bucket| (bucket.lowest as f64 + bucket.highest as f64 + 1.0) / 2.0;
        let count = self.count as f64;
        let mean = self.buckets().map(|bucket| middle(bucket) * bucket.count as f64).sum::<f64>() / count;
        let squares = self.buckets().map(|bucket| (middle(bucket) - mean).powi(2) * bucket.count as f64);
        (mean, (squares.sum::<f64>() / count).sqrt())
    }

    /// How many doublings of the value there are buckets for, and how many buckets in the first.
    pub fn layout(&self) -> (u32, u32) {
        let half = u32::from(self.shape.half_count_magnitude);
        let covered = u32::from(self.shape.unit_magnitude) + half + 1;
        ((self.shape.highest.ilog2() + 1).saturating_sub(covered) + 1, 2 << half)
    }

    /// A histogram that can be added to. Values beyond what clients measure are counted at the bound.
    pub fn unpack(&self) -> Histogram {
        let mut histogram = Histogram::of_client();
        self.counted().for_each(|(value, count)| histogram.record_n(value, count));
        histogram
    }

    /// HdrHistogram's binary form, version 2.
    pub fn to_v2(&self) -> Vec<u8> {
        // Other readers expect at least one bucket.
        let counts: &[u8] = if self.is_empty() { &[0] } else { &self.counts };
        let mut bytes = Vec::with_capacity(HEADER_BYTES + counts.len());
        bytes.extend((V2_COOKIE | 0x10).to_be_bytes());
        bytes.extend((counts.len() as u32).to_be_bytes());
        bytes.extend(0u32.to_be_bytes());
        bytes.extend(u32::from(self.shape.digits).to_be_bytes());
        bytes.extend(self.shape.lowest.to_be_bytes());
        bytes.extend(self.shape.highest.to_be_bytes());
        bytes.extend(1f64.to_be_bytes());
        bytes.extend(counts);
        bytes
    }

    /// The same, deflated: what every reader of histogram logs takes.
    pub fn to_v2_deflated(&self) -> Vec<u8> {
        let mut bytes = [(V2_DEFLATED_COOKIE | 0x10).to_be_bytes(), [0; 4]].concat();
        let plain = self.to_v2();
        let read = ZlibEncoder::new(&plain[..], Compression::fast()).read_to_end(&mut bytes);
        let deflated = read.expect("a slice is read and a vector written");
        bytes[4..8].copy_from_slice(&(deflated as u32).to_be_bytes());
        bytes
    }

    /// Reads both forms, whoever wrote them.
    pub fn from_v2(bytes: &[u8]) -> Result<Packed, HistogramError> {
        let error = |message: &str| HistogramError { message: message.to_owned() };
        let (head, rest) = bytes.split_at_checked(8).ok_or_else(|| error("it is cut off"))?;
        let length = u32_at(head, 4) as usize;
        match u32_at(head, 0) & COOKIE_MASK {
            cookie if cookie == V2_COOKIE & COOKIE_MASK => Packed::from_plain(bytes),
            cookie if cookie == V2_DEFLATED_COOKIE & COOKIE_MASK => {
                let deflated = rest.get(..length).ok_or_else(|| error("it is cut off"))?;
                let mut plain = Vec::new();
                let mut reader = ZlibDecoder::new(deflated).take(V2_BYTES_MAX as u64 + 1);
                reader.read_to_end(&mut plain).map_err(|_| error("it cannot be inflated"))?;
                if plain.len() > V2_BYTES_MAX {
                    return Err(error("it is longer than any histogram can be"));
                }
                Packed::from_plain(&plain)
            }
            _ => Err(error("it is not HdrHistogram's form V2")),
        }
    }

    fn from_plain(bytes: &[u8]) -> Result<Packed, HistogramError> {
        let error = |message: &str| HistogramError { message: message.to_owned() };
        let (head, counts) = bytes.split_at_checked(HEADER_BYTES).ok_or_else(|| error("it is cut off"))?;
        if u32_at(head, 0) & COOKIE_MASK != V2_COOKIE & COOKIE_MASK {
            return Err(error("it is not HdrHistogram's form V2"));
        }
        let counts = counts.get(..u32_at(head, 4) as usize).ok_or_else(|| error("it is cut off"))?;
        if u32_at(head, 8) != 0 {
            return Err(error("its counts are shifted (a normalizing offset), which is not supported"));
        }
        let ratio = f64::from_bits(u64_at(head, 32));
        if ratio != 1.0 {
            return Err(error("it counts fractions (an integer-to-double ratio), which is not supported"));
        }
        let digits = u8::try_from(u32_at(head, 12)).unwrap_or(u8::MAX);
        let shape = Shape::new(u64_at(head, 16), u64_at(head, 24), digits)?;
        let buckets_max = shape.buckets_max();
        let mut packing = Packing::new(shape);
        let mut index = 0;
        let mut at = 0;
        while at < counts.len() {
            let number = decode(counts, &mut at).ok_or_else(|| error("it is cut off"))?;
            if number < 0 {
                index += usize::try_from(number.unsigned_abs()).unwrap_or(usize::MAX).min(buckets_max);
            } else {
                packing.push(index, number as u64)?;
                index += 1;
            }
            if index > buckets_max {
                return Err(error("it has more buckets than its range"));
            }
        }
        Ok(packing.done())
    }

    fn indices(&self) -> impl Iterator<Item = (usize, u64)> + '_ {
        let (mut index, mut at) = (0, 0);
        std::iter::from_fn(move || {
            while at < self.counts.len() {
                let number = decode(&self.counts, &mut at)?;
                if number > 0 {
                    index += 1;
                    return Some((index - 1, number as u64));
                }
                index += number.unsigned_abs().max(1) as usize;
            }
            None
        })
    }
}

impl From<&Histogram> for Packed {
    fn from(histogram: &Histogram) -> Packed {
        Packed::from_plain(&histogram.to_v2()).expect("what the library writes is its form")
    }
}

impl fmt::Debug for Packed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Packed({} values, p50 {} ns, max {} ns)", self.count(), self.value_at(0.5), self.max_ns())
    }
}

impl Sum {
    pub fn of<'a>(histograms: impl IntoIterator<Item = &'a Packed>) -> Packed {
        let mut sum = Sum::default();
        histograms.into_iter().for_each(|histogram| sum.add(histogram));
        sum.pack()
    }

    /// Of another shape than the first one: as closely as that can tell.
    pub fn add(&mut self, other: &Packed) {
        let shape = self.shape.get_or_insert(other.shape);
        shape.highest = shape.highest.max(other.shape.highest);
        let shape = *shape;
        if shape.same_buckets(&other.shape) {
            other.indices().for_each(|(index, count)| self.count_at(index, count));
        } else {
            other.counted().for_each(|(value, count)| self.count_at(shape.index(value), count));
        }
    }

    fn count_at(&mut self, index: usize, count: u64) {
        if index >= self.counts.len() {
            self.counts.resize(index + 1, 0);
        }
        self.counts[index] = self.counts[index].saturating_add(count);
    }

    pub fn pack(&self) -> Packed {
        let Some(shape) = self.shape else { return Packed::empty() };
        let mut packing = Packing::new(shape);
        for (index, count) in self.counts.iter().enumerate() {
            // A sum beyond what the form can write is counted at the most it can.
            let left = i64::MAX as u64 - packing.count;
            packing.push(index, (*count).min(left)).expect("never more than is left");
        }
        packing.done()
    }
}

/// Writes counts, lowest bucket first.
struct Packing {
    shape: Shape,
    bytes: Vec<u8>,
    next: usize,
    count: u64,
}

impl Packing {
    fn new(shape: Shape) -> Packing {
        Packing { shape, bytes: Vec::new(), next: 0, count: 0 }
    }

    /// Buckets in order.
    fn push(&mut self, index: usize, count: u64) -> Result<(), HistogramError> {
        if count == 0 {
            return Ok(());
        }
        let total = self.count.checked_add(count).filter(|total| *total <= i64::MAX as u64);
        self.count = total.ok_or_else(|| HistogramError { message: "it counts more than 2^63 values".to_owned() })?;
        match index - self.next {
            0 => {}
            1 => encode(0, &mut self.bytes),
            empty => encode(-(empty as i64), &mut self.bytes),
        }
        encode(count as i64, &mut self.bytes);
        self.next = index + 1;
        Ok(())
    }

    fn done(self) -> Packed {
        Packed { shape: self.shape, counts: self.bytes.into_boxed_slice(), count: self.count }
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_be_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

/// Seven bits a byte, lowest first; the ninth byte has eight.
fn encode(number: i64, bytes: &mut Vec<u8>) {
    let mut left = ((number << 1) ^ (number >> 63)) as u64;
    for _ in 0..8 {
        if left < 0x80 {
            break;
        }
        bytes.push(left as u8 | 0x80);
        left >>= 7;
    }
    bytes.push(left as u8);
}

/// `None` when the bytes end within the number.
fn decode(bytes: &[u8], at: &mut usize) -> Option<i64> {
    let mut number = 0u64;
    for place in 0..9 {
        let byte = *bytes.get(*at)?;
        *at += 1;
        if place == 8 {
            number |= u64::from(byte) << 56;
            break;
        }
        number |= u64::from(byte & 0x7f) << (7 * place);
        if byte < 0x80 {
            break;
        }
    }
    Some((number >> 1) as i64 ^ -((number & 1) as i64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::rng::Rng;

    fn histogram(values: impl IntoIterator<Item = u64>) -> Histogram {
        let mut histogram = Histogram::of_client();
        values.into_iter().for_each(|value| histogram.record(value));
        histogram
    }

    #[track_caller]
    fn check_same(packed: &Packed, plain: &Histogram) {
        assert_eq!(packed.count(), plain.count());
        assert_eq!(packed.counted().collect::<Vec<_>>(), plain.counted().collect::<Vec<_>>());
        assert_eq!((packed.min_ns(), packed.max_ns()), (plain.min_ns(), plain.max_ns()));
        assert!((packed.mean_ns() - plain.mean_ns()).abs() <= plain.mean_ns() * 1e-9);
        assert!((packed.moments().1 - plain.as_hdr().stdev()).abs() <= plain.as_hdr().stdev() * 1e-6 + 1e-6);
        for quantile in [0.001, 0.5, 0.9, 0.99, 0.999, 0.99999, 1.0] {
            assert_eq!(packed.value_at(quantile), plain.value_at(quantile), "{quantile}");
        }
        assert_eq!(&packed.unpack(), plain);
    }

    #[test]
    fn packed_says_what_the_library_says() {
        let mut rng = Rng::new(1);
        for values in [0, 1, 10, 10_000] {
            let plain = histogram((0..values).map(|_| {
                let bits = rng.below(42) as u32;
                rng.next_u64() >> (63 - bits)
            }));
            let packed = Packed::from(&plain);
            check_same(&packed, &plain);
            for bytes in [packed.to_v2(), packed.to_v2_deflated()] {
                assert_eq!(Packed::from_v2(&bytes), Ok(packed.clone()));
                assert_eq!(Histogram::from_v2(&bytes), Ok(plain.clone()));
            }
        }
    }

    #[test]
    fn other_shapes_are_read() {
        for (low, high, digits) in [(1, 2, 0), (1, u64::MAX, 5), (1, 3_600_000_000_000, 3), (1 << 40, u64::MAX, 3)] {
            let mut plain = hdrhistogram::Histogram::<u64>::new_with_bounds(low, high, digits).expect("a shape");
            for shift in 1..64 {
                plain.saturating_record(u64::MAX >> shift);
                plain.saturating_record((u64::MAX >> shift) / 3);
            }
            let plain = Histogram::from(plain);
            let packed = Packed::from(&plain);
            assert_eq!(packed.counted().collect::<Vec<_>>(), plain.counted().collect::<Vec<_>>());
            for (index, _) in packed.indices() {
                let (lowest, highest) = packed.shape.values(index);
                assert_eq!((packed.shape.index(lowest), packed.shape.index(highest)), (index, index));
            }
        }
    }

    #[test]
    fn sums_are_those_of_all_values() {
        let parts: Vec<Histogram> = (0..5).map(|i| histogram((0..100).map(|v| (v * v * v) << i))).collect();
        let packed: Vec<Packed> = parts.iter().map(Packed::from).collect();
        let mut all = Histogram::of_client();
        parts.iter().for_each(|part| all.merge(part));
        check_same(&Sum::of(&packed), &all);
        assert_eq!(Sum::of([]), Packed::empty());
        let mut stage = Histogram::of_stage();
        stage.record_n(5_000_000, 3);
        let mut sum = Sum::default();
        sum.add(&packed[0]);
        sum.add(&Packed::from(&stage));
        assert_eq!(sum.pack().count(), 103);
        assert!(sum.pack().max_ns().abs_diff(5_000_000) < 50_000);
    }

    #[test]
    fn hostile_bytes_are_refused() {
        let good = Packed::from(&histogram([1_000_000, 2_000_000])).to_v2();
        let check = |change: &dyn Fn(&mut Vec<u8>), expect: &str| {
            let mut bytes = good.clone();
            change(&mut bytes);
            let error = Packed::from_v2(&bytes).expect_err(expect).to_string();
            assert!(error.contains(expect), "{expect}: {error}");
        };
        for length in 0..good.len() {
            check(&|bytes| bytes.truncate(length), "cut off");
        }
        check(&|bytes| bytes[0] = 0, "not HdrHistogram's form V2");
        check(&|bytes| bytes[4] = 0xff, "cut off");
        check(&|bytes| bytes[11] = 1, "normalizing offset");
        check(&|bytes| bytes[15] = 6, "range or precision");
        check(&|bytes| bytes[16..24].fill(0), "range or precision");
        check(&|bytes| bytes[16..24].fill(0x7f), "range or precision");
        check(&|bytes| bytes[32] = 0, "ratio");
        // A run of empty buckets beyond the range; a count and then another that pass 2^63; a number cut off.
        let with = |counts: &[i64]| {
            let mut bytes = good[..HEADER_BYTES].to_vec();
            counts.iter().for_each(|count| encode(*count, &mut bytes));
            let length = (bytes.len() - HEADER_BYTES) as u32;
            bytes[4..8].copy_from_slice(&length.to_be_bytes());
            Packed::from_v2(&bytes)
        };
        assert!(with(&[i64::MIN, 1]).is_err());
        assert!(with(&[-1_000_000_000, 1]).is_err());
        assert!(with(&[i64::MAX, 1]).is_err());
        assert_eq!(with(&[i64::MAX]).map(|packed| packed.count()), Ok(i64::MAX as u64));
        assert_eq!(with(&[0, 0, 5, 0, 0]).map(|packed| packed.count()), Ok(5));
        // What inflates to more than it may.
        let zeros = vec![0; V2_BYTES_MAX + 2];
        let mut bytes = [V2_DEFLATED_COOKIE.to_be_bytes(), [0; 4]].concat();
        let deflated = ZlibEncoder::new(&zeros[..], Compression::fast()).read_to_end(&mut bytes).expect("deflated");
        bytes[4..8].copy_from_slice(&(deflated as u32).to_be_bytes());
        assert!(Packed::from_v2(&bytes).expect_err("too long").to_string().contains("longer than any"));
    }
}
