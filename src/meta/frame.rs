//! The frames a metadata file is made of: each is one write, whole or not there.
//!
//! A file is a snapshot frame and the log frames after it. Every frame begins at a block boundary, so that no write
//! ever touches the bytes of an earlier one:
//!
//! | bytes | field |
//! |---|---|
//! | 0..4 | `CLMF` |
//! | 4 | version of what the payload is: 1 records, 2 items (`contents.rs`) |
//! | 5..8 | 0 |
//! | 8..16 | generation of the file |
//! | 16..24 | index of the frame in the file; 0 is the snapshot |
//! | 24..28 | length of the payload |
//! | 28..32 | CRC-32 of the payload |
//! | 32..36 | CRC-32 of bytes 0..32 |
//! | 36.. | payload; then one byte A5, then zeros to the block boundary |
//!
//! *Owns*: the layout, and telling a write cut short (undone) from damage to what was acknowledged (an error).
//! *Never*: does I/O. *Runs on*: core 0.

use super::record::RecordError;
use crate::base::checksum::crc32;
use crate::base::disk::BLOCK_BYTES;

const MAGIC: [u8; 4] = *b"CLMF";
/// The only version that is written.
pub(super) const VERSION: u8 = 2;
/// Of brokers that stood alone: payloads are records.
pub(super) const VERSION_OF_RECORDS: u8 = 1;
const HEADER_BYTES: usize = 36;
/// Ends every frame. Not zero, so that a frame whose end was never written shows it.
const TRAILER: u8 = 0xA5;
/// What a device writes whole or not at all, at the least.
const SECTOR_BYTES: usize = 512;

/// Bytes of a frame around its payload, at the most.
pub(super) const FRAME_OVERHEAD_BYTES: usize = HEADER_BYTES + 1 + BLOCK_BYTES;

const _: () = assert!(BLOCK_BYTES.is_multiple_of(SECTOR_BYTES));
const _: () = assert!(HEADER_BYTES <= SECTOR_BYTES);

/// One frame, up to the block boundary.
pub(super) fn encode_frame(generation: u64, index: u64, payload: &[u8]) -> Vec<u8> {
    encode_frame_of(VERSION, generation, index, payload)
}

pub(super) fn encode_frame_of(version: u8, generation: u64, index: u64, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(whole_blocks(HEADER_BYTES + payload.len() + 1));
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&[version, 0, 0, 0]);
    out.extend_from_slice(&generation.to_be_bytes());
    out.extend_from_slice(&index.to_be_bytes());
    let len = u32::try_from(payload.len()).expect("a frame is bounded well below 4 GiB");
    out.extend_from_slice(&len.to_be_bytes());
    out.extend_from_slice(&crc32(payload).to_be_bytes());
    let crc = crc32(&out);
    out.extend_from_slice(&crc.to_be_bytes());
    assert!(out.len() == HEADER_BYTES);
    out.extend_from_slice(payload);
    out.push(TRAILER);
    out.resize(whole_blocks(out.len()), 0);
    out
}

/// Why a file cannot be used. Nothing was changed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Damage {
    /// Bytes that were acknowledged are not what was written.
    At {
        position: usize,
    },
    /// Written by a version of the broker that this one does not know.
    Unknown {
        position: usize,
        version: u8,
    },
    Record {
        position: usize,
        error: RecordError,
    },
}

/// The payloads of a file, with where each frame begins.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Frames<'a> {
    pub version: u8,
    pub payloads: Vec<(usize, &'a [u8])>,
}

/// Reads a whole file: the snapshot, then the log up to the last whole frame. A last frame that was cut short is left
/// out: its write never completed, so nobody was told.
pub(super) fn read_file(generation: u64, file: &[u8]) -> Result<Frames<'_>, Damage> {
    let version = if file.get(4) == Some(&VERSION_OF_RECORDS) { VERSION_OF_RECORDS } else { VERSION };
    let kind = Kind { version, generation };
    let mut payloads = Vec::new();
    let mut position = 0;
    while let Some(tail) = file.get(position..).filter(|tail| tail.iter().any(|byte| *byte != 0)) {
        let index = payloads.len() as u64;
        let Some(payload) = whole_frame(kind, index, tail) else {
            if let Some(version) = foreign_version(tail) {
                return Err(Damage::Unknown { position, version });
            }
            // The snapshot was put in place whole, so it cannot have been cut short.
            if index > 0 && was_cut_short(kind, index, tail) {
                break;
            }
            return Err(Damage::At { position });
        };
        payloads.push((position, payload));
        position += whole_blocks(HEADER_BYTES + payload.len() + 1);
    }
    if payloads.is_empty() { Err(Damage::At { position: 0 }) } else { Ok(Frames { version, payloads }) }
}

/// What all frames of a file have in common.
#[derive(Clone, Copy)]
struct Kind {
    version: u8,
    generation: u64,
}

struct Header {
    index: u64,
    payload_bytes: usize,
    payload_crc: u32,
}

fn header(kind: Kind, bytes: &[u8]) -> Option<Header> {
    let bytes = bytes.first_chunk::<HEADER_BYTES>()?;
    let u32_at = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().expect("4 bytes"));
    let u64_at = |at: usize| u64::from_be_bytes(bytes[at..at + 8].try_into().expect("8 bytes"));
    let sound = bytes[..8] == [MAGIC[0], MAGIC[1], MAGIC[2], MAGIC[3], kind.version, 0, 0, 0]
        && u64_at(8) == kind.generation
        && u32_at(32) == crc32(&bytes[..32]);
    sound.then(|| Header { index: u64_at(16), payload_bytes: u32_at(24) as usize, payload_crc: u32_at(28) })
}

fn whole_frame(kind: Kind, index: u64, tail: &[u8]) -> Option<&[u8]> {
    let header = header(kind, tail)?;
    let payload = tail.get(HEADER_BYTES..HEADER_BYTES + header.payload_bytes)?;
    let trailer = tail.get(HEADER_BYTES + header.payload_bytes)?;
    (header.index == index && *trailer == TRAILER && crc32(payload) == header.payload_crc).then_some(payload)
}

/// The version of a sound header of a version that is not known.
fn foreign_version(tail: &[u8]) -> Option<u8> {
    let bytes = tail.first_chunk::<HEADER_BYTES>()?;
    let crc = u32::from_be_bytes(bytes[32..].try_into().expect("4 bytes"));
    (bytes[..4] == MAGIC && !matches!(bytes[4], VERSION_OF_RECORDS | VERSION) && crc == crc32(&bytes[..32]))
        .then_some(bytes[4])
}

/// Whether the frame at the front of `tail`, which is not whole, can be a write that never completed: then parts of
/// it are still as the file was before, that is zero or beyond the end. One changed byte leaves no such part.
fn was_cut_short(kind: Kind, index: u64, tail: &[u8]) -> bool {
    // The next write begins after the last one was synced: a later frame proves that this one was whole.
    let later = tail.chunks(BLOCK_BYTES).skip(1).any(|block| header(kind, block).is_some_and(|h| h.index > index));
    if later {
        return false;
    }
    match header(kind, tail) {
        Some(header) => {
            let frame_bytes = HEADER_BYTES + header.payload_bytes + 1;
            match tail.get(..frame_bytes) {
                None => true,
                Some(frame) => frame.last() == Some(&0) || frame.chunks(SECTOR_BYTES).any(is_zero),
            }
        }
        // The header lies in one sector: it is missing with that sector, or the write ended within it.
        None => is_zero(&tail[..tail.len().min(SECTOR_BYTES)]) || is_zero(&tail[tail.len().min(HEADER_BYTES)..]),
    }
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}

fn whole_blocks(bytes: usize) -> usize {
    bytes.next_multiple_of(BLOCK_BYTES)
}

#[cfg(test)]
mod tests {
    use super::super::record::MetaRecord;
    use super::*;

    const GENERATION: u64 = 3;

    /// The records of all frames, which are payloads as good as any.
    fn read_records(generation: u64, file: &[u8]) -> Result<Vec<MetaRecord>, Damage> {
        let frames = read_file(generation, file)?;
        let mut records = Vec::new();
        for (position, mut rest) in frames.payloads {
            while !rest.is_empty() {
                records.push(MetaRecord::decode(&mut rest).map_err(|error| Damage::Record { position, error })?);
            }
        }
        Ok(records)
    }

    fn record(next: i64) -> MetaRecord {
        MetaRecord::ProducerIdsTaken { next }
    }

    /// A frame of `count` records whose payload fills several sectors when `count` is large.
    fn frame(index: u64, first: i64, count: i64) -> Vec<u8> {
        let mut payload = Vec::new();
        (first..first + count).for_each(|next| record(next).encode(&mut payload));
        encode_frame(GENERATION, index, &payload)
    }

    /// Snapshot of one record, a frame over two blocks, a small one.
    fn file() -> (Vec<u8>, [usize; 3]) {
        let frames = [frame(0, 1, 1), frame(1, 2, 600), frame(2, 602, 1)];
        let ends = [frames[0].len(), frames[0].len() + frames[1].len(), frames.concat().len()];
        (frames.concat(), ends)
    }

    fn records(last: i64) -> Vec<MetaRecord> {
        (1..=last).map(record).collect()
    }

    #[test]
    fn a_file_cut_or_zeroed_anywhere_in_its_last_frame_has_what_came_before() {
        let (file, ends) = file();
        assert_eq!(read_records(GENERATION, &file), Ok(records(602)));
        for len in ends[0]..=file.len() {
            let last_frame_end = ends[1] + HEADER_BYTES + 9 + 1;
            let block_two_end = ends[0] + HEADER_BYTES + 600 * 9 + 1;
            let expect = match len {
                len if len >= last_frame_end => 602,
                len if len >= block_two_end => 601,
                _ => 1,
            };
            assert_eq!(read_records(GENERATION, &file[..len]), Ok(records(expect)), "cut at {len}");
            let mut zeroed = file.clone();
            zeroed[len..].fill(0);
            assert_eq!(read_records(GENERATION, &zeroed), Ok(records(expect)), "zero from {len}");
        }
    }

    #[test]
    fn a_last_frame_with_lost_sectors_is_left_out() {
        let (file, ends) = file();
        let sectors: Vec<usize> = (ends[0]..ends[1]).step_by(SECTOR_BYTES).collect();
        for lost in 1u32..1 << sectors.len().min(12) {
            let mut torn = file[..ends[1]].to_vec();
            for (bit, at) in sectors.iter().enumerate() {
                if lost & 1 << bit != 0 {
                    torn[*at..at + SECTOR_BYTES].fill(0);
                }
            }
            let got = read_records(GENERATION, &torn).expect("torn is not damaged");
            // Losing only what lies behind the frame's end loses nothing.
            assert!(got == records(1) || (got == records(601) && torn == file[..ends[1]]), "{lost:b}");
        }
    }

    #[test]
    fn a_lost_frame_before_a_later_one_is_damage() {
        let (file, ends) = file();
        for at in (ends[0]..ends[1]).step_by(SECTOR_BYTES) {
            let mut lost = file.clone();
            if is_zero(&lost[at..at + SECTOR_BYTES]) {
                continue;
            }
            lost[at..at + SECTOR_BYTES].fill(0);
            assert_eq!(read_records(GENERATION, &lost), Err(Damage::At { position: ends[0] }), "sector at {at}");
        }
    }

    #[test]
    fn no_changed_byte_yields_a_wrong_record() {
        let (file, _) = file();
        for at in 0..file.len() {
            let mut flipped = file.clone();
            flipped[at] ^= [0x01, 0x80, 0xff][at % 3];
            match read_records(GENERATION, &flipped) {
                // A byte behind the end of a frame means nothing.
                Ok(got) => assert!(got == records(602) && file[at] == 0, "byte {at}"),
                Err(Damage::At { .. }) => {}
                Err(other) => panic!("byte {at}: {other:?}"),
            }
        }
    }

    #[test]
    fn other_versions_and_generations_are_told_apart() {
        let older = encode_frame_of(VERSION_OF_RECORDS, GENERATION, 0, b"records");
        let payloads = vec![(0, &b"records"[..])];
        assert_eq!(read_file(GENERATION, &older), Ok(Frames { version: VERSION_OF_RECORDS, payloads }));
        let mut newer = frame(0, 1, 1);
        newer[4] = 3;
        let crc = crc32(&newer[..32]).to_be_bytes();
        newer[32..36].copy_from_slice(&crc);
        assert_eq!(read_records(GENERATION, &newer), Err(Damage::Unknown { position: 0, version: 3 }));
        assert_eq!(read_records(GENERATION + 1, &frame(0, 1, 1)), Err(Damage::At { position: 0 }));
        assert_eq!(read_records(GENERATION, &[]), Err(Damage::At { position: 0 }));
        assert_eq!(read_records(GENERATION, &[0; 8192]), Err(Damage::At { position: 0 }));
    }
}
