//! The four compressions of record batches, in the forms that Kafka's clients write.
//!
//! *Owns*: the framing around each algorithm, and the bound on what comes out. *Never*: holds state, allocates for
//! a length that the compressed bytes only claim. *Runs on*: every core.
//!
//! Forms: gzip (RFC 1952), the LZ4 frame format, zstd frames (RFC 8878), and snappy both raw (librdkafka, Sarama)
//! and in the frames of the Java library snappy-java (Xerial).

use std::io::{self, Read, Write};

use super::batch::BatchError;

/// What the records of a batch are compressed with (attributes bits 0–2).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(u8)]
pub enum Compression {
    #[default]
    None = 0,
    Gzip = 1,
    Snappy = 2,
    Lz4 = 3,
    Zstd = 4,
}

impl Compression {
    pub const ALL: [Compression; 5] =
        [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];

    /// The compression with that number in the attributes, if there is one.
    pub fn from_id(id: i16) -> Option<Compression> {
        Compression::ALL.into_iter().find(|compression| compression.id() == id)
    }

    /// Its number in the attributes.
    pub fn id(self) -> i16 {
        self as i16
    }

    /// Its name in `compression.type`.
    pub fn name(self) -> &'static str {
        match self {
            Compression::None => "none",
            Compression::Gzip => "gzip",
            Compression::Snappy => "snappy",
            Compression::Lz4 => "lz4",
            Compression::Zstd => "zstd",
        }
    }

    /// Compresses at the default level, in the form that Kafka's Java client writes.
    pub fn compress(self, bytes: &[u8]) -> Vec<u8> {
        let written = match self {
            Compression::None => Ok(bytes.to_vec()),
            Compression::Gzip => {
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
                encoder.write_all(bytes).and_then(|()| encoder.finish())
            }
            Compression::Snappy => Ok(compress_xerial(bytes)),
            Compression::Lz4 => {
                let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
                encoder.write_all(bytes).and_then(|()| encoder.finish().map_err(io::Error::from))
            }
            Compression::Zstd => zstd::bulk::compress(bytes, zstd::DEFAULT_COMPRESSION_LEVEL),
        };
        written.expect("compressing from memory to memory has nothing to fail on")
    }

    /// Expands to at most `bytes_max`. Damaged bytes and those that expand to more are the same error: whoever asks
    /// can do no more with the one than with the other.
    pub fn decompress(self, bytes: &[u8], bytes_max: usize) -> Result<Vec<u8>, BatchError> {
        let read = match self {
            Compression::None if bytes.len() > bytes_max => None,
            Compression::None => Some(bytes.to_vec()),
            Compression::Gzip => read_bounded(flate2::bufread::MultiGzDecoder::new(bytes), bytes_max),
            Compression::Snappy => decompress_snappy(bytes, bytes_max),
            Compression::Lz4 => read_bounded(lz4_flex::frame::FrameDecoder::new(bytes), bytes_max),
            Compression::Zstd => zstd::stream::read::Decoder::with_buffer(bytes)
                .ok()
                .and_then(|decoder| read_bounded(decoder, bytes_max)),
        };
        read.ok_or(BatchError::Compressed { compression: self })
    }
}

/// Everything the decoder gives, if it ends well and within the bound. Memory grows with what has come out.
fn read_bounded(decoder: impl Read, bytes_max: usize) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let limit = u64::try_from(bytes_max).ok()?.checked_add(1)?;
    decoder.take(limit).read_to_end(&mut out).ok()?;
    (out.len() <= bytes_max).then_some(out)
}

const XERIAL_MAGIC: &[u8; 8] = b"\x82SNAPPY\0";

/// The magic, the version, and the lowest version that can read it.
const XERIAL_HEADER_BYTES: usize = 16;

/// What the Java client compresses at a time.
const XERIAL_BLOCK_BYTES: usize = 32 << 10;

/// The most that one byte of snappy can stand for: a copy of 64 bytes takes 3, so this is generous.
const SNAPPY_EXPANSION_MAX: usize = 64;

fn compress_xerial(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(XERIAL_HEADER_BYTES + bytes.len() / 2);
    out.extend_from_slice(XERIAL_MAGIC);
    out.extend_from_slice(&1u32.to_be_bytes());
    out.extend_from_slice(&1u32.to_be_bytes());
    let mut encoder = snap::raw::Encoder::new();
    for block in bytes.chunks(XERIAL_BLOCK_BYTES) {
        let block = encoder.compress_vec(block).expect("32 KiB are far below what snappy can take");
        let length = u32::try_from(block.len()).expect("as said");
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(&block);
    }
    out
}

fn decompress_snappy(bytes: &[u8], bytes_max: usize) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    if !bytes.starts_with(XERIAL_MAGIC) {
        append_raw_snappy(bytes, bytes_max, &mut out)?;
        return Some(out);
    }
    let mut rest = bytes.get(XERIAL_HEADER_BYTES..)?;
    while !rest.is_empty() {
        let (length, after) = rest.split_first_chunk::<4>()?;
        let (block, after) = after.split_at_checked(u32::from_be_bytes(*length) as usize)?;
        append_raw_snappy(block, bytes_max, &mut out)?;
        rest = after;
    }
    Some(out)
}

fn append_raw_snappy(block: &[u8], bytes_max: usize, out: &mut Vec<u8>) -> Option<()> {
    let claimed = snap::raw::decompress_len(block).ok()?;
    let start = out.len();
    if claimed > block.len().saturating_mul(SNAPPY_EXPANSION_MAX) || claimed > bytes_max.checked_sub(start)? {
        return None;
    }
    out.resize(start + claimed, 0);
    let written = snap::raw::Decoder::new().decompress(block, &mut out[start..]).ok()?;
    (written == claimed).then_some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::rng::Rng;

    const REAL: [Compression; 4] = [Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];

    /// Half noise, half repetition, as records are.
    fn sample(bytes: usize) -> Vec<u8> {
        let mut rng = Rng::new(bytes as u64);
        (0..bytes).map(|i| if i % 64 < 32 { rng.next_u64() as u8 } else { i as u8 }).collect()
    }

    #[test]
    fn what_goes_in_comes_out() {
        for compression in Compression::ALL {
            assert_eq!(Compression::from_id(compression.id()), Some(compression));
            for size in [0, 1, 100, 32 << 10, (32 << 10) + 1, 100_000] {
                let bytes = sample(size);
                let packed = compression.compress(&bytes);
                assert_eq!(compression.decompress(&packed, size), Ok(bytes), "{} of {size}", compression.name());
                if size > 0 {
                    let error = BatchError::Compressed { compression };
                    assert_eq!(compression.decompress(&packed, size - 1), Err(error), "{size}");
                }
            }
        }
        for id in [5, 6, 7, -1] {
            assert_eq!(Compression::from_id(id), None);
        }
    }

    #[test]
    fn both_forms_of_snappy() {
        let bytes = sample(70_000);
        let raw = snap::raw::Encoder::new().compress_vec(&bytes).expect("it fits");
        assert_eq!(Compression::Snappy.decompress(&raw, bytes.len()), Ok(bytes.clone()));
        let xerial = Compression::Snappy.compress(&bytes);
        assert!(xerial.starts_with(b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01"));
        assert_eq!(Compression::Snappy.decompress(&xerial, bytes.len()), Ok(bytes));
        // By hand, from the descriptions of both formats: one block, one literal of five bytes.
        let one_literal = b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01\0\0\0\x07\x05\x10hello";
        assert_eq!(Compression::Snappy.decompress(one_literal, 5), Ok(b"hello".to_vec()));
    }

    #[test]
    fn bombs_stop_at_the_bound() {
        let zeros = vec![0; 8 << 20];
        for compression in REAL {
            let packed = compression.compress(&zeros);
            assert!(packed.len() < zeros.len() / 15, "{}", compression.name());
            let error = BatchError::Compressed { compression };
            assert_eq!(compression.decompress(&packed, 1 << 20), Err(error), "{}", compression.name());
        }
        let check = |bytes: &[u8]| {
            let error = BatchError::Compressed { compression: Compression::Snappy };
            assert_eq!(Compression::Snappy.decompress(bytes, usize::MAX), Err(error), "{bytes:x?}");
        };
        // Lengths that are only claimed: of the whole, and of a block.
        check(b"\xff\xff\xff\xff\x0fabc");
        check(b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01\xff\xff\xff\xffabc");
        check(b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01\0\0");
        check(b"\x82SNAPPY\0\0\0");
        check(b"");
    }

    #[test]
    fn a_cut_is_an_error_or_gives_less_but_never_other_bytes() {
        let bytes = sample(1000);
        for compression in REAL {
            let packed = compression.compress(&bytes);
            for cut in 0..packed.len() {
                if let Ok(got) = compression.decompress(&packed[..cut], bytes.len()) {
                    assert!(bytes.starts_with(&got), "{} cut at {cut}", compression.name());
                }
            }
        }
    }

    #[test]
    fn seeded_damage_never_panics_and_stays_within_the_bound() {
        let mut rng = Rng::new(3);
        let bytes = sample(300);
        for round in 0..8_000 {
            let compression = REAL[round % REAL.len()];
            let mut packed = compression.compress(&bytes);
            for _ in 0..=rng.below(3) {
                let at = rng.below(packed.len() as u64) as usize;
                packed[at] = rng.next_u64() as u8;
            }
            if let Ok(got) = compression.decompress(&packed, 4096) {
                assert!(got.len() <= 4096);
            }
        }
    }
}
