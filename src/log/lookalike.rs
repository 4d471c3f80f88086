//! What lies in a segment that would pass for the head of a batch to come.
//!
//! A file that is used again still holds the bytes of an earlier segment. Genuine batches among them have offsets that
//! are gone by. But a record may hold any bytes: those of a whole batch with an offset to come. Should a crash end the
//! new segment right before them, and with that offset, recovery would take what nobody has sent, perhaps in the name
//! of another producer. So everything that is written to a segment is searched for such heads, at every byte, and the
//! file is used again only for offsets below the least that was found (`horizon`). To look once more when the file is
//! to be used would mean to read all of it.
//!
//! A head that a crash puts together, half of it from a sector of the earlier segment and half from one of the new, is
//! not found: whoever wants that must have written, in the same place of the earlier segment, what the new one will
//! have before it.
//!
//! *Owns*: that search. *Never*: finds the batches of the log itself; keeps a batch from being written. *Runs on*: the
//! core that owns the partition.

use std::ops::Range;

use bytes::Bytes;

use crate::base::ids::Offset;
use crate::wire::batch::{BatchHeader, CHECKSUM_FROM, HEADER_BYTES};

/// A file whose batches end at some offset is used for offsets up to so many times that. What chance, or the fields of
/// real batches read in the wrong place, put into a head is mostly beyond.
const HORIZON_TIMES: i64 = 16;

/// No horizon is beyond. So a head begins with three zeros.
const OFFSETS_MAX: i64 = 1 << 40;

/// Bytes that are looked at together.
const PIECE_BYTES: usize = 256;

/// Starts that wait for the bytes behind them.
const CARRY_BYTES: usize = HEADER_BYTES - 1;

/// Bytes of a real batch in which no other is looked for: the broker's fields, the checksum and the attributes. Read as
/// an offset, the first eight of them are beyond the horizon, and those behind are followed by no head.
const STAMPED_BYTES: usize = CHECKSUM_FROM + 2;

/// Where in a head the format's number is, and the number.
const MAGIC_AT: usize = 16;
const MAGIC: u8 = 2;

/// Below which offsets the file may be used again whose batches end at `end`.
pub(super) fn horizon(end: Offset) -> Offset {
    Offset(end.0.saturating_mul(HORIZON_TIMES).min(OFFSETS_MAX))
}

/// Of one segment.
#[derive(Debug)]
pub(super) struct Lookalikes {
    /// The last bytes before the next batch.
    carry: Vec<u8>,
    /// The least offset that was found, of those that were to come.
    least: i64,
}

impl Default for Lookalikes {
    fn default() -> Self {
        Lookalikes { carry: Vec::new(), least: i64::MAX }
    }
}

impl Lookalikes {
    /// Of a segment that holds something already.
    pub(super) fn unknown() -> Lookalikes {
        Lookalikes { carry: Vec::new(), least: 0 }
    }

    /// The least offset of all, once all bytes of the segment were looked at.
    pub(super) fn least(&self) -> Offset {
        Offset(self.least)
    }

    /// The segment's next batch, whose first offset is `base`.
    pub(super) fn look(&mut self, base: Offset, batch: &[Bytes; 2]) {
        if self.least == 0 {
            return;
        }
        let [head, rest] = batch;
        let edge = &mut self.carry;
        let own = edge.len();
        edge.extend_from_slice(head);
        edge.extend_from_slice(&rest[..rest.len().min(CARRY_BYTES)]);
        let before = least_in(&edge[..(own + CARRY_BYTES).min(edge.len())], base);
        let within = least_in(&edge[(own + STAMPED_BYTES).min(edge.len())..], base);
        self.least = self.least.min(before).min(within).min(least_in(rest, base));
        if rest.len() >= CARRY_BYTES {
            edge.clear();
            edge.extend_from_slice(&rest[rest.len() - CARRY_BYTES..]);
        } else {
            edge.drain(..edge.len().saturating_sub(CARRY_BYTES));
        }
    }
}

/// The least offset above `base` of any head that begins here and is whole.
fn least_in(bytes: &[u8], base: Offset) -> i64 {
    let starts = bytes.len().saturating_sub(CARRY_BYTES);
    let pieces = (0..starts).step_by(PIECE_BYTES).map(|at| at..(at + PIECE_BYTES).min(starts));
    let worth =
        |piece: &Range<usize>| has_zeros(bytes, piece.start, piece.end) && may_begin(bytes, piece.start, piece.end);
    let found = pieces.filter(worth).flatten();
    found.filter_map(|at| offset_of(&bytes[at..], base)).min().unwrap_or(i64::MAX)
}

/// Whether there is a pair of zeros at an even distance from `at`: where three begin in `at..end`, two of them are one.
/// Most data has none, and to look for pairs takes a fraction of what [`may_begin`] does.
fn has_zeros(bytes: &[u8], at: usize, end: usize) -> bool {
    let (pairs, _) = bytes[at..end + 2].as_chunks::<2>();
    // All bits or none, as the comparison of many at a time gives them.
    let is_zero = |pair: &[u8; 2]| if u16::from_ne_bytes(*pair) == 0 { u16::MAX } else { 0 };
    pairs.iter().fold(0, |any, pair| any | is_zero(pair)) != 0
}

/// Whether three zeros with the format's number behind them begin in `at..end`. Without a branch for each byte, so that
/// many are looked at in one instruction.
fn may_begin(bytes: &[u8], at: usize, end: usize) -> bool {
    let shifted = |by: usize| &bytes[at + by..end + by];
    let zeros = shifted(0).iter().zip(shifted(1)).zip(shifted(2));
    let all = zeros.zip(shifted(MAGIC_AT));
    all.fold(0, |any, (((a, b), c), magic)| any | u8::from((a | b | c | (magic ^ MAGIC)) == 0)) != 0
}

/// If a batch may begin here that recovery would take, were its checksum right.
fn offset_of(bytes: &[u8], base: Offset) -> Option<i64> {
    let header = BatchHeader::read(bytes)?;
    let span = i64::from(header.last_offset_delta) + 1;
    let fits = header.magic == MAGIC as i8
        && (base.0 + 1..OFFSETS_MAX).contains(&header.base_offset)
        && header.batch_length >= 0
        && header.size_bytes() >= HEADER_BYTES
        && header.partition_leader_epoch >= 0
        && span > 0
        && (0..=span).contains(&i64::from(header.records_count));
    fits.then_some(header.base_offset)
}

#[cfg(test)]
mod tests {
    use super::super::testing::stored;
    use super::*;
    use crate::base::ids::LeaderEpoch;
    use crate::wire::compression::Compression;
    use crate::wire::records::BatchBuilder;

    /// A batch of the log with these bytes behind its records, cut in two where a stamped one may be.
    fn holding(bytes: &[u8], cut: usize) -> [Bytes; 2] {
        let mut batch = stored(100, 1);
        batch.extend_from_slice(bytes);
        let batch = Bytes::from(batch);
        [batch.slice(..cut), batch.slice(cut..)]
    }

    #[test]
    fn a_head_with_an_offset_to_come_is_found_wherever_it_begins() {
        let check = |hidden: &[u8], expect: Option<i64>| {
            for before in (0..140).chain([200, 255, 256, 300, 5000]) {
                for cut in [21, HEADER_BYTES] {
                    let record = [&vec![b'x'; before][..], hidden, &[b'y'; 9]].concat();
                    let mut lookalikes = Lookalikes::default();
                    lookalikes.look(Offset(100), &holding(&record, cut));
                    lookalikes.look(Offset(102), &holding(b"more", cut));
                    let expect = Offset(expect.unwrap_or(i64::MAX));
                    assert_eq!(lookalikes.least(), expect, "{before} bytes before it, cut at {cut}");
                }
            }
        };
        let header = |base: i64| stored(base, 1)[..HEADER_BYTES].to_vec();
        check(&header(103), Some(103));
        check(&header(OFFSETS_MAX - 1), Some(OFFSETS_MAX - 1));
        check(&[header(900), header(700), header(800)].concat(), Some(700));
        // Of these none can be taken: the log is beyond, never gets there, or would not take them.
        check(&header(100), None);
        check(&header(OFFSETS_MAX), None);
        for (at, byte) in [(8, 0x80), (12, 0x80), (MAGIC_AT, 1), (23, 0x80), (57, 0x7f)] {
            let mut other = header(103);
            other[at] = byte;
            check(&other, None);
        }
        check(&header(103)[..HEADER_BYTES - 10], None);
        check(&[0; 4000], None);
        check(&[2; 4000], None);
    }

    #[test]
    fn a_head_in_two_batches_is_found() {
        let header = &stored(300, 1)[..HEADER_BYTES];
        // The next batch's first bytes are the broker's, so that only a head that goes on with them can be there.
        let next = holding(b"", 21);
        let whole = [&next[0][..], &next[1][..]].concat();
        for own in MAGIC_AT + 1..HEADER_BYTES {
            let mut lookalikes = Lookalikes::default();
            lookalikes.look(Offset(100), &holding(&header[..own], 21));
            lookalikes.look(Offset(102), &next);
            let joined = [&header[..own], &whole[..HEADER_BYTES - own]].concat();
            let expect = offset_of(&joined, Offset(102)).unwrap_or(i64::MAX);
            assert_eq!(lookalikes.least(), Offset(expect), "{own} bytes of it");
        }
    }

    #[test]
    fn what_a_log_writes_itself_lies_beyond_the_horizon() {
        let now_ms = 1_763_000_000_000;
        for (compression, records) in [Compression::None, Compression::Snappy].into_iter().zip([1, 3]) {
            for first in [1000, 1_000_000] {
                let (mut lookalikes, mut base) = (Lookalikes::default(), first);
                for number in 0..1000 {
                    let sequence = (first + records * number) as i32;
                    let mut builder = BatchBuilder::new(compression).producer(number % 5, 0, sequence);
                    for record in 0..records {
                        let value = format!("{{\"number\":{number}}}").repeat(1 + (number + record) as usize % 20);
                        builder.push(now_ms + 7 * number + record, None, Some(value.as_bytes()));
                    }
                    let batch = builder.build().stamp(Offset(base), LeaderEpoch(1), None);
                    lookalikes.look(Offset(base), &[batch.head, batch.rest]);
                    base += records;
                }
                assert!(lookalikes.least() >= horizon(Offset(base)), "{:?} at {first}", lookalikes.least());
            }
        }
        assert_eq!(Lookalikes::unknown().least(), Offset(0));
    }
}
