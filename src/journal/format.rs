//! The form of a journal's file: header slots, and commits with their entries. All numbers are little endian.
//!
//! *Owns*: how a field is laid out and what is covered by a checksum. *Never*: trusts a length or a number from a
//! file: what does not hold together is told apart from what is whole, and that is all. *Runs on*: every core.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use bytes::Bytes;

use crate::base::checksum::{crc32, crc32_of};
use crate::base::disk::BLOCK_BYTES;
use crate::base::fields::Fields;
use crate::base::ids::{CoreId, LeaderEpoch, Offset, PartitionIndex, TopicId};
use crate::base::limits::{CLUSTER_ID_BYTES_MAX, JOURNAL_BYTES_MAX, JOURNAL_COMMIT_BYTES_MAX, TRUNCATIONS_MAX};

/// Where journals are, in the data directory.
pub const DIR: &str = "journal";

/// The version of everything in this file.
pub const VERSION: u32 = 1;

/// Slots at the start of the file, a block each.
pub const HEADER_SLOTS: u64 = 2;

/// Where the ring begins in the file.
pub const RING_START: u64 = HEADER_SLOTS * BLOCK_BYTES as u64;

pub const COMMIT_HEAD_BYTES: usize = 40;
pub const ENTRY_HEAD_BYTES: usize = 60;

const HEADER_MAGIC: [u8; 4] = *b"CLJH";
const COMMIT_MAGIC: [u8; 4] = *b"CLJC";
/// What a commit's checksum covers begins here.
const COMMIT_SUMMED_FROM: usize = 8;
/// A commit's count of entries has the lower bits of its field, [`CommitHead::unsure`] those above.
const UNSURE_SHIFT: u32 = 24;
const ENTRIES_MASK: u32 = (1 << UNSURE_SHIFT) - 1;
const _: () = assert!(JOURNAL_COMMIT_BYTES_MAX / ENTRY_HEAD_BYTES <= ENTRIES_MASK as usize);
/// Of what no reader looks at.
const RESERVED: u8 = 1;
/// Where a segment may be told to be written. Far beyond what a segment can be.
const POSITION_MAX: u64 = 1 << 39;
/// Of its field; the bits above have [`EntryHead::truncations`].
const POSITION_BITS: u32 = 40;
const POSITION_MASK: u64 = (1 << POSITION_BITS) - 1;
const _: () = assert!(TRUNCATIONS_MAX as u64 == u64::MAX >> POSITION_BITS);

/// What kind of file in [`DIR`] a name is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum FileName {
    Journal(CoreId),
    /// A journal that was found damaged, with a number. It is kept until somebody has looked at it.
    Damaged(CoreId, u32),
}

impl FileName {
    pub fn parse(name: &str) -> Option<FileName> {
        let mut parts = name.split('.');
        let core = CoreId(number(parts.next()?)?);
        match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some("journal"), None, None, None) => Some(FileName::Journal(core)),
            (Some("journal"), Some(count), Some("damaged"), None) => Some(FileName::Damaged(core, number(count)?)),
            _ => None,
        }
    }

    pub fn path(self) -> PathBuf {
        Path::new(DIR).join(match self {
            FileName::Journal(core) => format!("{core}.journal"),
            FileName::Damaged(core, count) => format!("{core}.journal.{count}.damaged"),
        })
    }
}

/// A number in the one form that is written.
pub(super) fn number<T: FromStr + ToString>(text: &str) -> Option<T> {
    text.parse().ok().filter(|number: &T| number.to_string() == text)
}

/// Whose journal it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// At most `limits::CLUSTER_ID_BYTES_MAX` bytes.
    pub cluster: String,
    pub node: i32,
    pub core: CoreId,
    /// How many cores there were.
    pub cores: u16,
}

/// Tells the commits of one opening of the journal from those of all others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Run {
    /// Counts the openings.
    pub generation: u64,
    /// A random number that no client knows: none can put into its records what looks like a commit.
    pub key: u64,
}

/// The oldest commit that is still needed; where the next one goes when none is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tail {
    /// In the ring.
    pub position: u64,
    pub sequence: u64,
}

/// What a header slot says. Of two whole ones that with the higher `count` is in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    pub identity: Identity,
    pub run: Run,
    /// Headers written to this file so far, this one included: says in which slot it is.
    pub count: u64,
    /// As far as the ring has grown; there may be more of the file.
    pub ring_bytes: u64,
    pub tail: Tail,
    /// The sequence behind the last commit, when the journal was closed and there are no others.
    pub end: Option<u64>,
}

/// Why a block is no header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeaderError {
    /// All zeros: no header was written yet.
    Blank,
    /// Torn or changed.
    Damaged,
    /// Whole, and of another version than [`VERSION`].
    Version(u32),
}

impl Header {
    /// Where in the file this header is written.
    pub fn position(&self) -> u64 {
        self.count % HEADER_SLOTS * BLOCK_BYTES as u64
    }

    pub fn encode(&self) -> Bytes {
        let cluster = self.identity.cluster.as_bytes();
        assert!(cluster.len() <= CLUSTER_ID_BYTES_MAX, "a cluster id has its bound");
        let mut bytes = Vec::with_capacity(BLOCK_BYTES);
        bytes.extend_from_slice(&HEADER_MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        let Header { run, tail, .. } = self;
        let end = self.end.unwrap_or(0);
        for number in [self.count, run.generation, run.key, self.ring_bytes, tail.position, tail.sequence, end] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes.extend_from_slice(&self.identity.node.to_le_bytes());
        bytes.extend_from_slice(&self.identity.core.0.to_le_bytes());
        bytes.extend_from_slice(&self.identity.cores.to_le_bytes());
        bytes.push(RESERVED);
        bytes.push(cluster.len() as u8);
        bytes.extend_from_slice(cluster);
        bytes.resize(BLOCK_BYTES - 4, 0);
        let sum = crc32(&bytes);
        bytes.extend_from_slice(&sum.to_le_bytes());
        Bytes::from(bytes)
    }

    /// `block` is a slot; a shorter one is damaged.
    pub fn decode(block: &[u8]) -> Result<Header, HeaderError> {
        if block.len() == BLOCK_BYTES && block.iter().all(|byte| *byte == 0) {
            return Err(HeaderError::Blank);
        }
        let (body, sum) = block.split_last_chunk::<4>().ok_or(HeaderError::Damaged)?;
        let mut fields = Fields(body);
        let magic = fields.take::<4>().ok_or(HeaderError::Damaged)?;
        if block.len() != BLOCK_BYTES || magic != HEADER_MAGIC || crc32(body) != u32::from_le_bytes(*sum) {
            return Err(HeaderError::Damaged);
        }
        match fields.u32() {
            Some(VERSION) => {}
            Some(version) => return Err(HeaderError::Version(version)),
            None => return Err(HeaderError::Damaged),
        }
        Header::fields(&mut fields).filter(Header::holds_together).ok_or(HeaderError::Damaged)
    }

    fn fields(fields: &mut Fields<'_>) -> Option<Header> {
        let count = fields.u64()?;
        let run = Run { generation: fields.u64()?, key: fields.u64()? };
        let ring_bytes = fields.u64()?;
        let tail = Tail { position: fields.u64()?, sequence: fields.u64()? };
        let end = Some(fields.u64()?).filter(|end| *end > 0);
        let node = fields.i32()?;
        let (core, cores) = (CoreId(fields.u16()?), fields.u16()?);
        let [_, cluster_bytes] = fields.take()?;
        let cluster = fields.0.get(..usize::from(cluster_bytes))?;
        let cluster = std::str::from_utf8(cluster).ok()?.to_owned();
        Some(Header { identity: Identity { cluster, node, core, cores }, run, count, ring_bytes, tail, end })
    }

    fn holds_together(&self) -> bool {
        let in_blocks = |bytes: u64| bytes.is_multiple_of(BLOCK_BYTES as u64);
        let counts = self.count < u64::MAX / 2 && self.run.generation < u64::MAX / 2;
        counts
            && in_blocks(self.ring_bytes)
            && in_blocks(self.tail.position)
            && self.ring_bytes <= JOURNAL_BYTES_MAX
            && self.tail.position < self.ring_bytes
            && (1..u64::MAX / 2).contains(&self.tail.sequence)
            && self.end.is_none_or(|end| end >= self.tail.sequence && end < u64::MAX / 2)
            && self.identity.core.0 < self.identity.cores
            && self.identity.cluster.len() <= CLUSTER_ID_BYTES_MAX
    }
}

/// The header in force among the slots at the start of a file, if one is whole; or the version of one that is whole
/// and of another version.
pub fn newest_header(bytes: &[u8]) -> Result<Option<Header>, u32> {
    let mut newest: Option<Header> = None;
    for slot in bytes.chunks(BLOCK_BYTES).take(HEADER_SLOTS as usize) {
        match Header::decode(slot) {
            Ok(header) if newest.as_ref().is_none_or(|newest| newest.count < header.count) => newest = Some(header),
            Ok(_) | Err(HeaderError::Blank | HeaderError::Damaged) => {}
            Err(HeaderError::Version(version)) => return Err(version),
        }
    }
    Ok(newest)
}

/// Where an entry's payload belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EntryHead {
    pub topic: TopicId,
    pub partition: PartitionIndex,
    pub epoch: LeaderEpoch,
    /// The first offset of the segment.
    pub segment: Offset,
    /// In the segment's file, of the payload's first byte.
    pub position: u64,
    /// How often the partition's log had been truncated: what was handed over before the last time is void.
    pub truncations: u32,
    /// Of the payload's first record.
    pub base: Offset,
    /// Behind its last.
    pub next: Offset,
    /// Bytes of payload.
    pub len: u32,
}

impl EntryHead {
    fn encode(&self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(&self.topic.0);
        bytes.extend_from_slice(&self.partition.0.to_le_bytes());
        bytes.extend_from_slice(&self.epoch.0.to_le_bytes());
        bytes.extend_from_slice(&self.segment.0.to_le_bytes());
        let position = self.position | u64::from(self.truncations) << POSITION_BITS;
        bytes.extend_from_slice(&position.to_le_bytes());
        bytes.extend_from_slice(&self.base.0.to_le_bytes());
        bytes.extend_from_slice(&self.next.0.to_le_bytes());
        bytes.extend_from_slice(&self.len.to_le_bytes());
    }

    fn read(fields: &mut Fields<'_>) -> Option<EntryHead> {
        let (topic, partition) = (TopicId(fields.take()?), PartitionIndex(fields.i32()?));
        let (epoch, segment) = (LeaderEpoch(fields.i32()?), Offset(fields.i64()?));
        let position = fields.u64()?;
        let head = EntryHead {
            topic,
            partition,
            epoch,
            segment,
            position: position & POSITION_MASK,
            truncations: (position >> POSITION_BITS) as u32,
            base: Offset(fields.i64()?),
            next: Offset(fields.i64()?),
            len: fields.u32()?,
        };
        head.holds_together().then_some(head)
    }

    fn holds_together(&self) -> bool {
        let ordered = self.segment.0 >= 0 && self.base >= self.segment && self.next > self.base;
        ordered
            && self.partition.0 >= 0
            && self.len > 0
            && self.position < POSITION_MAX
            && self.truncations <= TRUNCATIONS_MAX
    }
}

/// Builds a commit without copying a payload.
#[derive(Debug)]
pub(super) struct CommitWriter {
    heads: Vec<u8>,
    data: Vec<Bytes>,
    payload_bytes: usize,
    entries: u32,
}

impl CommitWriter {
    /// Room for that many entries of that many slices together.
    pub(super) fn new(entries: usize, slices: usize) -> CommitWriter {
        let mut heads = Vec::with_capacity(COMMIT_HEAD_BYTES + entries * ENTRY_HEAD_BYTES);
        heads.resize(COMMIT_HEAD_BYTES, 0);
        let mut data = Vec::with_capacity(1 + slices);
        // The place of the heads, which are known last.
        data.push(Bytes::new());
        CommitWriter { heads, data, payload_bytes: 0, entries: 0 }
    }

    pub(super) fn push(&mut self, head: &EntryHead, slices: impl IntoIterator<Item = Bytes>) {
        assert!(head.holds_together(), "an entry that could not be read back: {head:?}");
        head.encode(&mut self.heads);
        let before = self.payload_bytes;
        for slice in slices {
            self.payload_bytes += slice.len();
            self.data.push(slice);
        }
        assert!(self.payload_bytes - before == head.len as usize, "an entry has the length it says");
        self.entries += 1;
    }

    /// What is to be written, padding left out. So many commits right before it are on their way.
    pub(super) fn finish(mut self, run: Run, sequence: u64, unsure: u8) -> Vec<Bytes> {
        let bytes = self.heads.len() + self.payload_bytes;
        assert!(self.entries > 0 && bytes <= JOURNAL_COMMIT_BYTES_MAX);
        let heads = &mut self.heads;
        heads[..4].copy_from_slice(&COMMIT_MAGIC);
        heads[8..16].copy_from_slice(&run.generation.to_le_bytes());
        heads[16..24].copy_from_slice(&run.key.to_le_bytes());
        heads[24..32].copy_from_slice(&sequence.to_le_bytes());
        heads[32..36].copy_from_slice(&(bytes as u32).to_le_bytes());
        heads[36..40].copy_from_slice(&(self.entries | u32::from(unsure) << UNSURE_SHIFT).to_le_bytes());
        let payload = self.data[1..].iter().map(|slice| &slice[..]);
        let sum = crc32_of(std::iter::once(&heads[COMMIT_SUMMED_FROM..]).chain(payload));
        heads[4..8].copy_from_slice(&sum.to_le_bytes());
        self.data[0] = Bytes::from(self.heads);
        self.data
    }
}

/// The start of a commit, as far as it says how to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CommitHead {
    pub run: Run,
    pub sequence: u64,
    /// Of the whole commit, padding left out.
    pub bytes: usize,
    pub entries: usize,
    /// Of the commits before it, all but so many were durable when it was begun.
    pub unsure: u8,
    sum: u32,
}

impl CommitHead {
    /// `bytes` begin with the head of a commit, or with anything else. A head that is not whole passes: only
    /// [`read_commit`] knows.
    pub fn read(bytes: &[u8]) -> Option<CommitHead> {
        let mut fields = Fields(bytes);
        if fields.take::<4>()? != COMMIT_MAGIC {
            return None;
        }
        let sum = fields.u32()?;
        let run = Run { generation: fields.u64()?, key: fields.u64()? };
        let sequence = fields.u64()?;
        let bytes = usize::try_from(fields.u32()?).ok()?;
        let counts = fields.u32()?;
        let (unsure, entries) = ((counts >> UNSURE_SHIFT) as u8, (counts & ENTRIES_MASK) as usize);
        let fits = entries > 0
            && bytes <= JOURNAL_COMMIT_BYTES_MAX
            && entries <= bytes.saturating_sub(COMMIT_HEAD_BYTES) / ENTRY_HEAD_BYTES;
        fits.then_some(CommitHead { run, sequence, bytes, entries, unsure, sum })
    }

    /// What it takes of the ring.
    pub fn padded_bytes(&self) -> u64 {
        self.bytes.next_multiple_of(BLOCK_BYTES) as u64
    }
}

/// A commit that is whole.
#[derive(Debug)]
pub struct Commit {
    pub head: CommitHead,
    /// With the place of each payload in the commit's bytes.
    pub entries: Vec<(EntryHead, Range<usize>)>,
}

/// `None` when a bit of it is wrong or it is cut.
pub fn read_commit(bytes: &[u8]) -> Option<Commit> {
    let head = CommitHead::read(bytes)?;
    let bytes = bytes.get(..head.bytes)?;
    if crc32(&bytes[COMMIT_SUMMED_FROM..]) != head.sum {
        return None;
    }
    let mut fields = Fields(&bytes[COMMIT_HEAD_BYTES..]);
    let mut start = COMMIT_HEAD_BYTES + head.entries * ENTRY_HEAD_BYTES;
    let mut entries = Vec::with_capacity(head.entries);
    for _ in 0..head.entries {
        let entry = EntryHead::read(&mut fields)?;
        let end = start.checked_add(usize::try_from(entry.len).ok()?).filter(|end| *end <= bytes.len())?;
        entries.push((entry, start..end));
        start = end;
    }
    (start == bytes.len()).then_some(Commit { head, entries })
}

/// Whether anything was ever written to this part of a ring: space that was only made ready is zeros.
pub fn is_written(blocks: &[u8]) -> bool {
    blocks.iter().any(|byte| *byte != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        Header {
            identity: Identity { cluster: "kraft-3".into(), node: 4, core: CoreId(1), cores: 2 },
            run: Run { generation: 7, key: 0x1234_5678_9abc_def0 },
            count: 9,
            ring_bytes: 1 << 20,
            tail: Tail { position: 8192, sequence: 77 },
            end: Some(80),
        }
    }

    fn entry(at: u64, len: u32) -> EntryHead {
        EntryHead {
            topic: TopicId([3; 16]),
            partition: PartitionIndex(5),
            epoch: LeaderEpoch(2),
            segment: Offset(100),
            position: at,
            truncations: (at % 5) as u32 * (TRUNCATIONS_MAX / 4),
            base: Offset(120),
            next: Offset(123),
            len,
        }
    }

    fn commit() -> Vec<u8> {
        let mut writer = CommitWriter::new(2, 3);
        writer.push(&entry(10, 5), [Bytes::from_static(b"ab"), Bytes::from_static(b"cde")]);
        writer.push(&entry(15, 3), [Bytes::from_static(b"fgh")]);
        writer.finish(header().run, 78, 3).concat()
    }

    #[test]
    fn a_header_reads_back_and_every_flipped_bit_is_noticed() {
        let block = header().encode();
        assert_eq!(Header::decode(&block), Ok(header()));
        assert_eq!(header().position(), BLOCK_BYTES as u64);
        assert_eq!(Header::decode(&[0; BLOCK_BYTES]), Err(HeaderError::Blank));
        for cut in [0, 3, 100, BLOCK_BYTES - 1] {
            assert_eq!(Header::decode(&block[..cut]), Err(HeaderError::Damaged), "cut at {cut}");
        }
        let mut bad = block.to_vec();
        for bit in 0..bad.len() * 8 {
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Header::decode(&bad), Err(HeaderError::Damaged), "bit {bit}");
            bad[bit / 8] ^= 1 << (bit % 8);
        }
    }

    #[test]
    fn a_header_of_another_version_says_so() {
        let mut block = header().encode().to_vec();
        block[4] = 9;
        let sum = crc32(&block[..BLOCK_BYTES - 4]).to_le_bytes();
        block[BLOCK_BYTES - 4..].copy_from_slice(&sum);
        assert_eq!(Header::decode(&block), Err(HeaderError::Version(9)));
    }

    #[test]
    fn a_whole_header_that_makes_no_sense_is_damaged() {
        let check = |change: fn(&mut Header)| {
            let mut header = header();
            change(&mut header);
            assert_eq!(Header::decode(&header.encode()), Err(HeaderError::Damaged), "{header:?}");
        };
        check(|header| header.tail.position = header.ring_bytes);
        check(|header| header.tail.position = 1);
        check(|header| header.ring_bytes += 1);
        check(|header| header.ring_bytes = u64::MAX / 4096 * 4096);
        check(|header| header.tail.sequence = u64::MAX);
        check(|header| header.tail.sequence = 0);
        check(|header| header.end = Some(76));
        check(|header| header.identity.cores = 1);
        check(|header| header.end = Some(u64::MAX));
        check(|header| header.count = u64::MAX);
        check(|header| header.run.generation = u64::MAX);
    }

    #[test]
    fn a_commit_reads_back_and_every_flipped_bit_and_every_cut_is_noticed() {
        let whole = commit();
        let Commit { head, entries } = read_commit(&whole).expect("it is whole");
        assert_eq!((head.run, head.sequence, head.unsure, head.bytes), (header().run, 78, 3, whole.len()));
        let payloads: Vec<&[u8]> = entries.iter().map(|(_, range)| &whole[range.clone()]).collect();
        assert_eq!(payloads, [&b"abcde"[..], b"fgh"]);
        assert_eq!(entries.iter().map(|(entry, _)| *entry).collect::<Vec<_>>(), [entry(10, 5), entry(15, 3)]);
        for cut in 0..whole.len() {
            assert!(read_commit(&whole[..cut]).is_none(), "cut at {cut}");
        }
        for bit in 0..whole.len() * 8 {
            let mut bad = whole.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(read_commit(&bad).is_none(), "bit {bit}");
        }
    }

    #[test]
    fn a_summed_commit_that_makes_no_sense_is_refused() {
        let check = |at: usize, bytes: &[u8]| {
            let mut bad = commit();
            bad[at..at + bytes.len()].copy_from_slice(bytes);
            let sum = crc32(&bad[8..]).to_le_bytes();
            bad[4..8].copy_from_slice(&sum);
            assert!(read_commit(&bad).is_none(), "{bytes:?} at {at}");
        };
        check(32, &u32::MAX.to_le_bytes());
        check(32, &41u32.to_le_bytes());
        check(36, &0u32.to_le_bytes());
        check(36, &u32::MAX.to_le_bytes());
        let first = COMMIT_HEAD_BYTES;
        check(first + 16, &(-1i32).to_le_bytes());
        check(first + 24, &(-1i64).to_le_bytes());
        check(first + 32, &u64::MAX.to_le_bytes());
        check(first + 40, &99i64.to_le_bytes());
        check(first + 48, &120i64.to_le_bytes());
        check(first + 56, &u32::MAX.to_le_bytes());
        check(first + 56, &6u32.to_le_bytes());
        check(first + 56, &0u32.to_le_bytes());
    }

    #[test]
    fn names_are_taken_in_one_form_only() {
        let check = |name: &str, expect: Option<FileName>| {
            assert_eq!(FileName::parse(name), expect, "{name}");
            if let Some(parsed) = expect {
                assert_eq!(parsed.path(), Path::new(DIR).join(name));
            }
        };
        check("0.journal", Some(FileName::Journal(CoreId(0))));
        check("17.journal", Some(FileName::Journal(CoreId(17))));
        check("17.journal.3.damaged", Some(FileName::Damaged(CoreId(17), 3)));
        for name in [
            "1.journal.damaged",
            "1.journal.03.damaged",
            "1.journal.3.damaged.4",
            "",
            "a",
            "00.journal",
            "+1.journal",
            "-1.journal",
            "70000.journal",
            "1.journa",
            "1",
        ] {
            check(name, None);
        }
    }
}
