//! Records of a run: what is in their values, how large they are, and which keys they have.
//!
//! *Owns*: the value's first 24 bytes, the filler after them, sizes and keys. *Never*: allocates for a record,
//! reads a clock. *Runs on*: every generator thread, one [`Payload`] and one [`Keys`] each.
//!
//! A value begins, big-endian, with the run's tag (u32), the stream (u32), the record's sequence in its stream
//! (u64), and the moment it was to be sent (u64, nanoseconds since the zero of the run's clock). The rest is filler.

use std::fmt;
use std::sync::Arc;

use crate::base::rng::Rng;

/// What the head of a value takes: the smallest value of a run.
pub const VALUE_HEAD_BYTES: usize = 24;

/// The largest value of a run.
pub const VALUE_BYTES_MAX: usize = 64 << 20;

/// The filler repeats after this many bytes: more than a batch usually has, so that a compressor finds nothing twice
/// in it, and little enough to stay in a processor's cache.
const POOL_BYTES: usize = 1 << 20;

/// The filler's pattern: its first part is noise, the rest zeros.
const POOL_BLOCK_BYTES: usize = 256;

/// The bytes of every key: its number in hexadecimal digits.
pub const KEY_BYTES: usize = 8;

/// Keys a Zipf distribution may have: a table of 16 bytes each is built for it.
pub const ZIPF_KEYS_MAX: u32 = 4 << 20;

/// Sizes a file of sizes may list.
pub const SIZES_LISTED_MAX: usize = 16 << 20;

/// Tells the records of one run from those of older runs in the same topic, and from foreign ones.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RunTag(u32);

impl RunTag {
    /// From anything that differs from run to run.
    pub fn new(run: u64) -> RunTag {
        // Zeros and ASCII, which foreign values often begin with, are never a tag.
        RunTag(Rng::new(run).next_u64() as u32 | 0x8000_0000)
    }
}

/// The intended time of records that no latency is measured of: those of a backlog.
pub const UNMEASURED_NS: u64 = u64::MAX;

/// The head of a value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ValueHead {
    /// One producer's records in one partition, so that their order is defined. See [`stream_id`].
    pub stream: u32,
    /// From 0, without gaps.
    pub sequence: u64,
    /// Since the zero of the run's clock, or [`UNMEASURED_NS`].
    pub intended_ns: u64,
}

/// The number of the stream of a producer in a partition, both counted over the whole run.
pub fn stream_id(producer: u32, partition: u32, partitions: u32) -> u32 {
    assert!(partition < partitions, "a partition's number is below their count");
    let id = u64::from(producer) * u64::from(partitions) + u64::from(partition);
    u32::try_from(id).expect("a workload has fewer than 2^32 streams")
}

/// The partition that a stream is in.
pub fn partition_of_stream(stream: u32, partitions: u32) -> u32 {
    stream % partitions
}

impl ValueHead {
    /// `None` for a value that is not of the run.
    #[inline]
    pub fn read(value: &[u8], tag: RunTag) -> Option<ValueHead> {
        let head = value.first_chunk::<VALUE_HEAD_BYTES>()?;
        let (words, _) = head.as_chunks::<8>();
        let first = u64::from_be_bytes(words[0]);
        (first >> 32 == u64::from(tag.0)).then_some(ValueHead {
            stream: first as u32,
            sequence: u64::from_be_bytes(words[1]),
            intended_ns: u64::from_be_bytes(words[2]),
        })
    }

    fn to_bytes(self, tag: RunTag) -> [u8; VALUE_HEAD_BYTES] {
        let mut bytes = [0; VALUE_HEAD_BYTES];
        bytes[0..8].copy_from_slice(&(u64::from(tag.0) << 32 | u64::from(self.stream)).to_be_bytes());
        bytes[8..16].copy_from_slice(&self.sequence.to_be_bytes());
        bytes[16..24].copy_from_slice(&self.intended_ns.to_be_bytes());
        bytes
    }
}

/// Bytes that the fillers of all threads are taken from.
#[derive(Clone, Debug)]
pub struct FillerPool {
    /// Invariant: `POOL_BYTES`, and after them the first ones again, as many as the largest filler has.
    bytes: Arc<[u8]>,
    filler_bytes_max: usize,
}

impl FillerPool {
    /// `ratio` is how many times smaller a compressor makes the filler, about: 1 for filler that does not compress.
    /// Above 5 snappy falls behind the others.
    pub fn new(ratio: f64, value_bytes_max: usize, seed: u64) -> Result<FillerPool, PayloadError> {
        if !(1.0..=POOL_BLOCK_BYTES as f64).contains(&ratio) {
            return Err(PayloadError::Ratio { ratio });
        }
        check_size(value_bytes_max)?;
        let filler_bytes_max = value_bytes_max - VALUE_HEAD_BYTES;
        let noise = (POOL_BLOCK_BYTES as f64 / ratio).round() as usize;
        let mut rng = Rng::new(seed);
        let mut bytes = vec![0; POOL_BYTES];
        for block in bytes.chunks_mut(POOL_BLOCK_BYTES) {
            for piece in block[..noise].chunks_mut(8) {
                piece.copy_from_slice(&rng.next_u64().to_le_bytes()[..piece.len()]);
            }
        }
        for at in 0..filler_bytes_max {
            bytes.push(bytes[at]);
        }
        Ok(FillerPool { bytes: bytes.into(), filler_bytes_max })
    }
}

/// Sizes of values.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Sizes {
    Fixed(u32),
    /// Both ends included.
    Uniform(u32, u32),
    /// Each as likely as it is often listed. In order.
    Listed(Arc<[u32]>),
}

/// As a workload has it, whatever file a list was read from.
impl fmt::Display for Sizes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Sizes::Fixed(size) => write!(f, "{size}"),
            Sizes::Uniform(min, max) => write!(f, "{min}-{max}"),
            Sizes::Listed(sizes) => {
                for (place, same) in sizes.chunk_by(|a, b| a == b).enumerate() {
                    let comma = if place > 0 { "," } else { "" };
                    match same.len() {
                        1 => write!(f, "{comma}{}", same[0])?,
                        times => write!(f, "{comma}{}*{times}", same[0])?,
                    }
                }
                Ok(())
            }
        }
    }
}

impl Sizes {
    /// Reads a list of sizes in bytes, one a line. Empty lines and lines that begin with `#` do not count.
    pub fn parse_list(text: &str) -> Result<Sizes, PayloadError> {
        let mut sizes = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let size = line.parse::<u32>().ok().filter(|&size| check_size(size as usize).is_ok());
            sizes.push(size.ok_or_else(|| PayloadError::SizeLine { line: index + 1, text: shorten(line) })?);
            if sizes.len() > SIZES_LISTED_MAX {
                return Err(PayloadError::SizeLines);
            }
        }
        Sizes::listed(sizes)
    }

    /// Reads a list as [`Sizes`] shows it: `100,200*3` is one of 100 bytes for three of 200.
    pub fn parse_shown(text: &str) -> Result<Sizes, PayloadError> {
        let mut sizes = Vec::new();
        for part in text.split(',').map(str::trim) {
            let (size, times) = part.split_once('*').unwrap_or((part, "1"));
            let wrong = || PayloadError::SizePart { text: shorten(part) };
            let size = size.parse::<u32>().ok().filter(|&size| check_size(size as usize).is_ok()).ok_or_else(wrong)?;
            let times = times.parse::<usize>().ok().filter(|&times| times > 0).ok_or_else(wrong)?;
            if times > SIZES_LISTED_MAX - sizes.len() {
                return Err(PayloadError::SizeLines);
            }
            sizes.extend(std::iter::repeat_n(size, times));
        }
        Sizes::listed(sizes)
    }

    fn listed(mut sizes: Vec<u32>) -> Result<Sizes, PayloadError> {
        if sizes.is_empty() {
            return Err(PayloadError::NoSizes);
        }
        sizes.sort_unstable();
        Ok(Sizes::Listed(sizes.into()))
    }

    /// Whether every size can be made. To be asked before the first record.
    pub fn check(&self) -> Result<(), PayloadError> {
        match self {
            Sizes::Fixed(size) => check_size(*size as usize),
            Sizes::Uniform(min, max) if min > max => Err(PayloadError::SizeRange { min: *min, max: *max }),
            Sizes::Uniform(min, max) => check_size(*min as usize).and_then(|()| check_size(*max as usize)),
            Sizes::Listed(sizes) if sizes.is_empty() => Err(PayloadError::NoSizes),
            Sizes::Listed(sizes) => sizes.iter().try_for_each(|&size| check_size(size as usize)),
        }
    }

    pub fn bytes_max(&self) -> usize {
        match self {
            Sizes::Fixed(size) => *size as usize,
            Sizes::Uniform(_, max) => *max as usize,
            Sizes::Listed(sizes) => sizes.iter().max().copied().unwrap_or(0) as usize,
        }
    }

    pub fn mean_bytes(&self) -> f64 {
        match self {
            Sizes::Fixed(size) => f64::from(*size),
            Sizes::Uniform(min, max) => (f64::from(*min) + f64::from(*max)) / 2.0,
            Sizes::Listed(sizes) => sizes.iter().map(|&size| f64::from(size)).sum::<f64>() / sizes.len().max(1) as f64,
        }
    }
}

/// Makes the values of one thread's records.
#[derive(Clone, Debug)]
pub struct Payload {
    tag: RunTag,
    sizes: Sizes,
    pool: FillerPool,
    rng: Rng,
    /// Where the next filler begins. Invariant: below `POOL_BYTES`.
    at: usize,
}

/// Where a record lies within its batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RecordPlace {
    pub offset_delta: u32,
    /// Milliseconds after the batch's first record.
    pub timestamp_delta_ms: i64,
}

/// The most bytes a record takes besides its key and value: seven varints and the attributes.
pub const RECORD_EXTRA_BYTES_MAX: usize = 5 + 1 + 10 + 5 + 5 + 5 + 1;

impl Payload {
    /// The pool must be for values as large as `sizes` has them.
    pub fn new(tag: RunTag, sizes: Sizes, pool: FillerPool, seed: u64) -> Result<Payload, PayloadError> {
        sizes.check()?;
        assert!(sizes.bytes_max() <= pool.filler_bytes_max + VALUE_HEAD_BYTES, "the pool is for values of that size");
        let mut rng = Rng::new(seed);
        let at = rng.below(POOL_BYTES as u64) as usize;
        Ok(Payload { tag, sizes, pool, rng, at })
    }

    /// The size of the next value.
    #[inline]
    pub fn next_size(&mut self) -> usize {
        (match &self.sizes {
            Sizes::Fixed(size) => *size,
            Sizes::Uniform(min, max) => min + self.rng.below(u64::from(max - min) + 1) as u32,
            Sizes::Listed(sizes) => sizes[self.rng.below(sizes.len() as u64) as usize],
        }) as usize
    }

    /// Appends a whole record without headers, as it lies in a batch. `size` is what [`Payload::next_size`] gave.
    #[inline]
    pub fn append_record(
        &mut self,
        out: &mut Vec<u8>,
        place: RecordPlace,
        key: Option<&[u8; KEY_BYTES]>,
        size: usize,
        head: ValueHead,
    ) {
        let filler = self.next_filler(size);
        let mut front = Front::new();
        front.byte(0);
        front.varint(place.timestamp_delta_ms);
        front.varint(i64::from(place.offset_delta));
        match key {
            Some(key) => {
                front.varint(KEY_BYTES as i64);
                front.append(key);
            }
            None => front.varint(-1),
        }
        front.varint(size as i64);
        front.append(&head.to_bytes(self.tag));
        let mut length = Front::new();
        // One more for the count of headers at the end.
        length.varint((front.len + filler.len() + 1) as i64);
        let filler = &self.pool.bytes[filler];
        out.reserve(length.len + front.len + filler.len() + 1);
        out.extend_from_slice(length.as_slice());
        out.extend_from_slice(front.as_slice());
        out.extend_from_slice(filler);
        out.push(0);
    }

    /// Appends the value alone.
    pub fn append_value(&mut self, out: &mut Vec<u8>, size: usize, head: ValueHead) {
        let filler = self.next_filler(size);
        out.extend_from_slice(&head.to_bytes(self.tag));
        out.extend_from_slice(&self.pool.bytes[filler]);
    }

    #[inline]
    fn next_filler(&mut self, size: usize) -> std::ops::Range<usize> {
        assert!(size >= VALUE_HEAD_BYTES, "a value has room for its head");
        let filler = self.at..self.at + (size - VALUE_HEAD_BYTES);
        assert!(filler.len() <= self.pool.filler_bytes_max);
        self.at = filler.end % POOL_BYTES;
        filler
    }
}

/// What a record begins with, put together where it costs nothing.
struct Front {
    bytes: [u8; RECORD_EXTRA_BYTES_MAX + KEY_BYTES + VALUE_HEAD_BYTES],
    len: usize,
}

impl Front {
    #[inline]
    fn new() -> Front {
        Front { bytes: [0; RECORD_EXTRA_BYTES_MAX + KEY_BYTES + VALUE_HEAD_BYTES], len: 0 }
    }

    #[inline]
    fn byte(&mut self, byte: u8) {
        self.bytes[self.len] = byte;
        self.len += 1;
    }

    #[inline]
    fn append<const N: usize>(&mut self, bytes: &[u8; N]) {
        self.bytes[self.len..self.len + N].copy_from_slice(bytes);
        self.len += N;
    }

    /// Zigzag, seven bits to a byte, the lowest first.
    #[inline]
    fn varint(&mut self, value: i64) {
        let mut rest = ((value << 1) ^ (value >> 63)) as u64;
        while rest >= 0x80 {
            self.byte(rest as u8 | 0x80);
            rest >>= 7;
        }
        self.byte(rest as u8);
    }

    #[inline]
    fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// How keys are spread.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum KeySpread {
    None,
    /// That many keys, each as likely.
    Uniform(u32),
    /// That many keys; the k-th is as likely as 1/k^exponent.
    Zipf(u32, f64),
}

/// Draws the keys of one thread's records.
#[derive(Clone, Debug)]
pub struct Keys {
    draw: Draw,
    rng: Rng,
}

#[derive(Clone, Debug)]
enum Draw {
    None,
    Uniform(u32),
    Alias(Arc<[AliasRow]>),
}

impl Keys {
    pub fn new(spread: KeySpread, seed: u64) -> Result<Keys, PayloadError> {
        let draw = match spread {
            KeySpread::None => Draw::None,
            KeySpread::Uniform(0) | KeySpread::Zipf(0, _) => return Err(PayloadError::NoKeys),
            KeySpread::Uniform(count) => Draw::Uniform(count),
            KeySpread::Zipf(count, _) if count > ZIPF_KEYS_MAX => return Err(PayloadError::ZipfKeys { count }),
            KeySpread::Zipf(_, exponent) if !(0.0..=100.0).contains(&exponent) => {
                return Err(PayloadError::ZipfExponent { exponent });
            }
            KeySpread::Zipf(count, exponent) => Draw::Alias(zipf_table(count, exponent).into()),
        };
        Ok(Keys { draw, rng: Rng::new(seed) })
    }

    /// The same keys in another order, for another thread, without building the table again.
    pub fn with_seed(&self, seed: u64) -> Keys {
        Keys { draw: self.draw.clone(), rng: Rng::new(seed) }
    }

    #[inline]
    pub fn next_key(&mut self) -> Option<[u8; KEY_BYTES]> {
        let number = match &self.draw {
            Draw::None => return None,
            Draw::Uniform(count) => self.rng.below(u64::from(*count)) as u32,
            Draw::Alias(rows) => {
                // The high half chooses the row, the low half decides between its two keys.
                let product = u128::from(self.rng.next_u64()) * rows.len() as u128;
                let row = rows[(product >> 64) as usize];
                if product as u64 <= row.threshold { (product >> 64) as u32 } else { row.other }
            }
        };
        Some(key_bytes(number))
    }
}

/// The partition that Kafka's clients choose for a key: murmur2 without its sign, modulo the count
/// (`BuiltInPartitioner.partitionForKey`).
#[inline]
pub fn partition_of_key(key: &[u8], partitions: u32) -> u32 {
    (murmur2(key) & 0x7fff_ffff) % partitions
}

/// MurmurHash2 by Austin Appleby with the seed of Kafka's `Utils.murmur2`.
#[inline]
fn murmur2(bytes: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let mut hash = 0x9747_b28c ^ bytes.len() as u32;
    let (words, rest) = bytes.as_chunks::<4>();
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(M);
        k = (k ^ (k >> 24)).wrapping_mul(M);
        hash = hash.wrapping_mul(M) ^ k;
    }
    if !rest.is_empty() {
        let mut last = [0; 4];
        last[..rest.len()].copy_from_slice(rest);
        hash = (hash ^ u32::from_le_bytes(last)).wrapping_mul(M);
    }
    hash = (hash ^ (hash >> 13)).wrapping_mul(M);
    hash ^ (hash >> 15)
}

#[inline]
fn key_bytes(number: u32) -> [u8; KEY_BYTES] {
    let mut bytes = [0; KEY_BYTES];
    for (place, byte) in bytes.iter_mut().enumerate() {
        let digit = (number >> (28 - 4 * place)) as u8 & 0xf;
        *byte = if digit < 10 { b'0' + digit } else { b'a' + digit - 10 };
    }
    bytes
}

/// One row of an alias table: its own key up to the threshold of a 64-bit draw, above it the other one.
#[derive(Clone, Copy, Debug)]
struct AliasRow {
    threshold: u64,
    other: u32,
}

/// Draws from any distribution at the same cost (Vose 1991).
fn zipf_table(count: u32, exponent: f64) -> Vec<AliasRow> {
    let weights: Vec<f64> = (1..=count).map(|k| f64::from(k).powf(-exponent)).collect();
    let mean = weights.iter().sum::<f64>() / f64::from(count);
    let mut shares: Vec<f64> = weights.iter().map(|weight| weight / mean).collect();
    let mut rows: Vec<AliasRow> = (0..count).map(|own| AliasRow { threshold: u64::MAX, other: own }).collect();
    let (mut small, mut large): (Vec<u32>, Vec<u32>) = (0..count).partition(|&k| shares[k as usize] < 1.0);
    while let (Some(&low), Some(&high)) = (small.last(), large.last()) {
        small.pop();
        rows[low as usize] = AliasRow { threshold: (shares[low as usize] * 2f64.powi(64)) as u64, other: high };
        shares[high as usize] -= 1.0 - shares[low as usize];
        if shares[high as usize] < 1.0 {
            large.pop();
            small.push(high);
        }
    }
    rows
}

fn check_size(size: usize) -> Result<(), PayloadError> {
    match (VALUE_HEAD_BYTES..=VALUE_BYTES_MAX).contains(&size) {
        true => Ok(()),
        false => Err(PayloadError::Size { size }),
    }
}

/// Keeps an error on one line.
fn shorten(text: &str) -> String {
    match text.char_indices().nth(40) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// A wish that no record can meet. Nothing was made.
#[derive(Clone, PartialEq, Debug)]
pub enum PayloadError {
    Size { size: usize },
    SizeRange { min: u32, max: u32 },
    SizeLine { line: usize, text: String },
    SizePart { text: String },
    SizeLines,
    NoSizes,
    Ratio { ratio: f64 },
    NoKeys,
    ZipfKeys { count: u32 },
    ZipfExponent { exponent: f64 },
}

impl fmt::Display for PayloadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let range = format!("{VALUE_HEAD_BYTES} to {VALUE_BYTES_MAX}");
        match self {
            PayloadError::Size { size } => write!(f, "a record of {size} bytes: it must be {range} bytes"),
            PayloadError::SizeRange { min, max } => write!(f, "sizes from {min} to {max}: the first is the larger one"),
            PayloadError::SizeLine { line, text } => {
                write!(f, "line {line}: \"{text}\" is not a number of bytes from {range}")
            }
            PayloadError::SizePart { text } => {
                write!(f, "`{text}` is no size: a number of bytes from {range}, and with *N behind it N of them")
            }
            PayloadError::SizeLines => write!(f, "more than {SIZES_LISTED_MAX} sizes"),
            PayloadError::NoSizes => write!(f, "there is no size in it"),
            PayloadError::Ratio { ratio } => {
                write!(f, "a compression ratio of {ratio}: it must be 1 to {POOL_BLOCK_BYTES}")
            }
            PayloadError::NoKeys => write!(f, "0 keys: there must be one, or none at all"),
            PayloadError::ZipfKeys { count } => write!(f, "{count} Zipf keys: at most {ZIPF_KEYS_MAX} can be drawn"),
            PayloadError::ZipfExponent { exponent } => {
                write!(f, "a Zipf exponent of {exponent}: it must be 0 to 100")
            }
        }
    }
}

impl std::error::Error for PayloadError {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::compression::Compression;
    use crate::wire::record::{read_record, write_record};

    fn payload(sizes: Sizes, ratio: f64) -> Payload {
        let pool = FillerPool::new(ratio, sizes.bytes_max(), 1).expect("a good ratio");
        Payload::new(RunTag::new(7), sizes, pool, 2).expect("good sizes")
    }

    fn head(sequence: u64) -> ValueHead {
        ValueHead { stream: 0xfedc_ba98, sequence, intended_ns: u64::MAX - sequence }
    }

    #[test]
    fn a_record_is_what_the_wire_would_write() {
        let check = |size: u32, place: RecordPlace, key: Option<&[u8; KEY_BYTES]>| {
            let mut payload = payload(Sizes::Fixed(size), 1.0);
            let mut twin = payload.clone();
            let (mut out, mut value, mut expect) = (vec![9], Vec::new(), vec![9]);
            payload.append_record(&mut out, place, key, size as usize, head(5));
            twin.append_value(&mut value, size as usize, head(5));
            assert_eq!(value.len(), size as usize);
            let deltas = (place.timestamp_delta_ms, place.offset_delta as i32);
            write_record(&mut expect, &mut Vec::new(), deltas, (key.map(|k| &k[..]), Some(&value)), &[]);
            assert_eq!(out, expect, "{size} bytes at {place:?}");
            assert!(out.len() <= 1 + size as usize + KEY_BYTES + RECORD_EXTRA_BYTES_MAX);
            let record = read_record(&mut &out[1..]).expect("it is whole");
            assert_eq!(ValueHead::read(record.value.expect("a value"), RunTag::new(7)), Some(head(5)));
        };
        for size in [24, 25, 40, 63, 64, 100, 127, 128, 1000, 8191, 8192, 100_000, 3_000_000] {
            for (offset_delta, timestamp_delta_ms) in
                [(0, 0), (63, -1), (64, 64), (8192, i64::MAX), (1 << 30, i64::MIN)]
            {
                let place = RecordPlace { offset_delta, timestamp_delta_ms };
                check(size, place, None);
                check(size, place, Some(b"0000002a"));
            }
        }
    }

    #[test]
    fn values_of_others_are_told_apart() {
        let mut ours = Vec::new();
        payload(Sizes::Fixed(24), 1.0).append_value(&mut ours, 24, head(1));
        let check = |value: &[u8], run: u64, expect: bool| {
            assert_eq!(ValueHead::read(value, RunTag::new(run)).is_some(), expect, "{value:x?} in run {run}");
        };
        check(&ours, 7, true);
        check(&ours, 8, false);
        check(&ours[..23], 7, false);
        check(&[], 7, false);
        check(&[0; 24], 0, false);
        check(&[b'a'; 100], 7, false);
    }

    #[test]
    fn sizes_are_drawn_as_told() {
        let listed = Sizes::parse_list("# of a day\n24\n\n  100 \n100\n").expect("a good list");
        for (sizes, min, max, mean) in [
            (Sizes::Fixed(77), 77, 77, 77.0),
            (Sizes::Uniform(24, 26), 24, 26, 25.0),
            (Sizes::Uniform(30, 30), 30, 30, 30.0),
            (listed, 24, 100, 224.0 / 3.0),
        ] {
            assert_eq!((sizes.bytes_max(), sizes.mean_bytes()), (max, mean));
            let mut payload = payload(sizes.clone(), 1.0);
            let drawn: Vec<_> = (0..3000).map(|_| payload.next_size()).collect();
            assert_eq!((drawn.iter().min(), drawn.iter().max()), (Some(&min), Some(&max)), "{sizes:?}");
            let found = drawn.iter().sum::<usize>() as f64 / drawn.len() as f64;
            assert!((found - mean).abs() < 2.5, "{sizes:?}: {found}");
        }
    }

    #[test]
    fn impossible_wishes_say_what_is_wrong() {
        let check = |result: Result<(), PayloadError>, expect: &str| {
            assert_eq!(result.expect_err(expect).to_string(), expect);
        };
        let list = |text: &str| Sizes::parse_list(text).map(drop);
        check(list("100\n# two\nten\n"), "line 3: \"ten\" is not a number of bytes from 24 to 67108864");
        check(list("23"), "line 1: \"23\" is not a number of bytes from 24 to 67108864");
        check(list("24\n-1"), "line 2: \"-1\" is not a number of bytes from 24 to 67108864");
        check(list("\n#\n"), "there is no size in it");
        check(Sizes::Fixed(23).check(), "a record of 23 bytes: it must be 24 to 67108864 bytes");
        check(Sizes::Uniform(0, 50).check(), "a record of 0 bytes: it must be 24 to 67108864 bytes");
        check(Sizes::Uniform(50, 49).check(), "sizes from 50 to 49: the first is the larger one");
        let pool = |ratio: f64| FillerPool::new(ratio, 100, 1).map(drop);
        check(pool(0.5), "a compression ratio of 0.5: it must be 1 to 256");
        check(pool(f64::NAN), "a compression ratio of NaN: it must be 1 to 256");
        let keys = |spread: KeySpread| Keys::new(spread, 1).map(drop);
        check(keys(KeySpread::Uniform(0)), "0 keys: there must be one, or none at all");
        check(keys(KeySpread::Zipf(5_000_000, 1.0)), "5000000 Zipf keys: at most 4194304 can be drawn");
        check(keys(KeySpread::Zipf(5, -1.0)), "a Zipf exponent of -1: it must be 0 to 100");
    }

    #[test]
    fn filler_compresses_as_told() {
        for (ratio, least, most) in [(1.0, 0.95, 1.1), (2.0, 1.7, 2.3), (4.0, 3.0, 5.0), (10.0, 5.5, 13.0)] {
            let mut payload = payload(Sizes::Fixed(1024), ratio);
            let mut out = Vec::new();
            (0..500).for_each(|sequence| payload.append_value(&mut out, 1024, head(sequence)));
            for compression in Compression::ALL.into_iter().skip(1) {
                let found = out.len() as f64 / compression.compress(&out).len() as f64;
                assert!((least..=most).contains(&found), "{} at {ratio}: {found}", compression.name());
            }
        }
    }

    #[test]
    fn keys_are_spread_as_told() {
        let check = |spread: KeySpread, shares: &[(u32, f64)]| {
            let mut keys = Keys::new(spread, 3).expect("a good spread");
            let mut again = keys.with_seed(3);
            let mut counts = std::collections::BTreeMap::new();
            for _ in 0..100_000 {
                let key = keys.next_key().expect("there are keys");
                assert_eq!(again.next_key(), Some(key));
                *counts.entry(key).or_insert(0u32) += 1;
            }
            for &(number, share) in shares {
                let found = f64::from(counts.get(&key_bytes(number)).copied().unwrap_or(0)) / 100_000.0;
                assert!((found - share).abs() < 0.006, "{spread:?}, key {number}: {found}, not {share}");
            }
        };
        check(KeySpread::Uniform(1), &[(0, 1.0)]);
        check(KeySpread::Uniform(4), &[(0, 0.25), (3, 0.25), (4, 0.0)]);
        check(KeySpread::Zipf(3, 1.0), &[(0, 6.0 / 11.0), (1, 3.0 / 11.0), (2, 2.0 / 11.0)]);
        check(KeySpread::Zipf(2, 0.0), &[(0, 0.5), (1, 0.5)]);
        // The sum of 1/k to 1000 is 7.4855.
        check(KeySpread::Zipf(1000, 1.0), &[(0, 0.1336), (1, 0.0668), (9, 0.0134), (1000, 0.0)]);
        assert_eq!(Keys::new(KeySpread::None, 1).expect("no keys").next_key(), None);
    }

    #[test]
    fn keys_go_where_kafkas_clients_send_them() {
        // From the tests of Kafka's `Utils.murmur2`.
        for (text, expect) in [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
        ] {
            assert_eq!(murmur2(text.as_bytes()) as i32, expect, "{text}");
        }
        assert_eq!(partition_of_key(b"21", 7), (-973_932_308i32 as u32 & 0x7fff_ffff) % 7);
        assert_eq!(&key_bytes(0x0123_abcf), b"0123abcf");
    }

    #[test]
    fn streams_have_numbers_of_their_own() {
        let ids: Vec<_> = (0..3).flat_map(|producer| (0..4).map(move |p| stream_id(producer, p, 4))).collect();
        assert_eq!(ids, (0..12).collect::<Vec<_>>());
    }
}
