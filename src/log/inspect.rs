//! Looking at a log from outside: which batches a segment holds, the first byte that is none, and whether indexes
//! and snapshots tell the truth.
//!
//! *Owns*: the verdicts. *Never*: changes anything; believes an index, a snapshot or a file's length. *Runs on*: a
//! thread of the command line, while no broker has the files.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};

use crate::base::bounds::Bounds;
use crate::base::ids::{LeaderEpoch, Offset};
use crate::wire::batch::{BatchHeader, HEADER_BYTES, StoredError, check_stored};

use super::index::SealedIndex;
pub use super::segment::FileName;
use super::stale::Search;
use super::state::State;

/// The files of a log that count, by the first offset of their segments.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct LogFiles {
    /// Ascending.
    pub segments: Vec<Offset>,
    pub indexes: Vec<Offset>,
    pub snapshots: Vec<Offset>,
    pub has_checkpoint: bool,
    pub has_must_reach: bool,
    pub has_bounds: bool,
    /// Of compactions that are not finished: a file for all segments from the first offset to before the second.
    pub swaps: Vec<(Offset, Offset)>,
    /// Names that mean nothing to the broker.
    pub strangers: Vec<String>,
}

impl LogFiles {
    /// Takes what compactions left as a broker that starts does: their files stand for the old ones.
    pub fn finish_swaps(&mut self) {
        for &(base, end) in &self.swaps {
            for bases in [&mut self.segments, &mut self.indexes, &mut self.snapshots] {
                bases.retain(|old| *old < base || *old >= end);
            }
            self.segments.push(base);
            self.segments.sort_unstable();
        }
    }

    /// The file that a segment is in.
    pub fn segment_file(&self, base: Offset) -> FileName {
        let swap = self.swaps.iter().find(|(swap, _)| *swap == base);
        swap.map_or(FileName::Segment(base), |(base, end)| FileName::Swap(*base, *end))
    }

    pub fn of(names: impl IntoIterator<Item = String>) -> LogFiles {
        let mut files = LogFiles::default();
        for name in names {
            match FileName::parse(&name) {
                Some(FileName::Segment(base)) => files.segments.push(base),
                Some(FileName::Index(base)) => files.indexes.push(base),
                Some(FileName::Snapshot(base)) => files.snapshots.push(base),
                Some(FileName::Checkpoint) => files.has_checkpoint = true,
                Some(FileName::MustReach) => files.has_must_reach = true,
                Some(FileName::Bounds) => files.has_bounds = true,
                // It holds nothing of the log any more.
                Some(FileName::Spare(_)) => {}
                Some(FileName::Swap(base, end)) => files.swaps.push((base, end)),
                // What a broker that starts deletes.
                Some(FileName::Cleaned(_)) => {}
                None => files.strangers.push(name),
            }
        }
        files.swaps.sort_unstable();
        for bases in [&mut files.segments, &mut files.indexes, &mut files.snapshots] {
            bases.sort_unstable();
        }
        files.strangers.sort_unstable();
        files
    }
}

/// A whole batch where it belongs.
#[derive(Clone, Debug)]
pub struct PlacedBatch {
    /// Of its first byte in the file.
    pub position: u64,
    pub header: BatchHeader,
    /// All of it, header included.
    pub bytes: Bytes,
}

/// What lies after the last good batch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Rest {
    /// Nothing.
    None,
    /// Zeros: space that was reserved and never written. A broker that was killed leaves it, and takes it back when
    /// it starts.
    Unused { bytes: u64 },
    /// What a recycled file still has of an earlier segment. As good as zeros.
    Older { bytes: u64 },
    /// Something that is not the batch that belongs there.
    Bad { bytes: u64, why: StoredError },
}

/// What a segment's bytes add up to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SegmentEnd {
    pub base: Offset,
    /// Bytes of good batches: the first bad or unused byte.
    pub position: u64,
    /// Of the batch that would follow.
    pub next: Offset,
    pub epoch: LeaderEpoch,
    pub batches: u64,
    pub records: u64,
    pub rest: Rest,
}

/// Reads one segment from its first byte to its last.
#[derive(Debug)]
pub struct SegmentReader {
    end: SegmentEnd,
    file_len: u64,
    /// Bytes from `end.position` on that are no whole batch yet.
    have: BytesMut,
    /// Of `have`, before it is worth another look.
    need: usize,
    /// Set at the first bad byte.
    why: Option<StoredError>,
    /// What came after it: how much, and whether it was nothing but zeros.
    beyond: u64,
    all_zeros: bool,
    search: Search,
}

impl SegmentReader {
    /// The segment that begins with offset `base`, after batches of leader epochs up to `epoch`.
    pub fn new(base: Offset, epoch: LeaderEpoch, file_len: u64) -> SegmentReader {
        let end = SegmentEnd { base, position: 0, next: base, epoch, batches: 0, records: 0, rest: Rest::None };
        SegmentReader {
            end,
            file_len,
            have: BytesMut::new(),
            need: 0,
            why: None,
            beyond: 0,
            all_zeros: true,
            search: Search::new(base),
        }
    }

    /// The first offset of the batch that belongs next, and its place.
    pub fn next(&self) -> (Offset, u64) {
        (self.end.next, self.end.position)
    }

    /// The next bytes of the file. `on_batch` is given each batch that they complete.
    pub fn push(&mut self, bytes: &[u8], mut on_batch: impl FnMut(&PlacedBatch)) {
        if self.why.is_some() {
            return self.pass(bytes);
        }
        self.have.extend_from_slice(bytes);
        while self.have.len() >= self.need {
            match check_stored(&self.have, self.end.next, self.end.epoch) {
                Ok(header) => {
                    let bytes = self.have.split_to(header.size_bytes()).freeze();
                    let batch = PlacedBatch { position: self.end.position, header, bytes };
                    on_batch(&batch);
                    self.end.position += batch.bytes.len() as u64;
                    self.end.next = header.next_offset();
                    self.end.epoch = header.epoch();
                    self.end.batches += 1;
                    self.end.records += u64::try_from(header.records_count).unwrap_or(0);
                    self.need = HEADER_BYTES;
                }
                // Memory is bounded by the file, whatever a length in it says.
                Err(StoredError::Cut { wanted }) if wanted as u64 <= self.file_len - self.end.position => {
                    self.need = wanted;
                }
                Err(why) => return self.stop(why),
            }
        }
    }

    /// There are no more bytes.
    pub fn finish(mut self) -> SegmentEnd {
        if self.why.is_none() && !self.have.is_empty() {
            let wanted = self.need.max(HEADER_BYTES);
            self.stop(StoredError::Cut { wanted });
        }
        let bytes = self.beyond;
        self.end.rest = match self.why {
            None => Rest::None,
            Some(_) if self.all_zeros => Rest::Unused { bytes },
            Some(why) => match self.search.finish() {
                (true, false) => Rest::Older { bytes },
                _ => Rest::Bad { bytes, why },
            },
        };
        self.end
    }

    fn stop(&mut self, why: StoredError) {
        self.why = Some(why);
        let have = std::mem::take(&mut self.have);
        self.pass(&have);
    }

    fn pass(&mut self, bytes: &[u8]) {
        self.beyond += bytes.len() as u64;
        self.all_zeros &= bytes.iter().all(|byte| *byte == 0);
        self.search.push(bytes);
    }
}

/// What has to go so that a log is whole again. Everything before stays.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cut {
    /// The segment that is cut, and where.
    pub segment: Offset,
    pub position: u64,
    /// The first offset that is lost.
    pub offset: Offset,
    /// Segments after it, which follow on what is lost.
    pub later: Vec<Offset>,
    /// For people.
    pub why: String,
}

/// The first place where a log's batches do not go on, if there is one. `ends` are all of its segments, ascending.
pub fn plan_cut(ends: &[SegmentEnd]) -> Option<Cut> {
    for (at, end) in ends.iter().enumerate() {
        let later = || ends[at + 1..].iter().map(|end| end.base).collect();
        let cut = |why| Cut { segment: end.base, position: end.position, offset: end.next, later: later(), why };
        match (&end.rest, ends.get(at + 1)) {
            (Rest::Bad { why, .. }, _) => return Some(cut(why.to_string())),
            (_, Some(next)) if next.base != end.next => {
                let why = format!("the next segment begins with offset {}, not {}", next.base, end.next);
                return Some(cut(why));
            }
            (Rest::None | Rest::Unused { .. } | Rest::Older { .. }, _) => {}
        }
    }
    None
}

/// What the files beside the segments say about them. Each statement is checked while the segments are read.
#[derive(Clone, Default, Debug)]
pub struct Claims {
    /// By segment and place in it.
    open: BTreeMap<(Offset, u64), Vec<Claim>>,
    /// What segments below are, or were, nobody is bound to.
    bounds: Bounds,
    findings: Vec<(FileName, String)>,
}

/// That a batch ends, or the segment begins, at some place.
#[derive(Clone, Copy, Debug)]
struct Claim {
    by: FileName,
    /// The offset after that place, if it is said.
    next: Option<Offset>,
}

impl Claims {
    /// Takes what the bounds of the log say, before the other files.
    pub fn read_bounds(&mut self, bytes: &[u8]) -> Bounds {
        match Bounds::from_file(bytes) {
            Some(bounds) => self.bounds = bounds,
            None => self.findings.push((FileName::Bounds, "is damaged: where the log begins is not known".to_owned())),
        }
        self.bounds
    }

    /// Takes what a file says; `bytes` are all of it.
    pub fn read(&mut self, file: FileName, bytes: &[u8]) {
        match file {
            FileName::Segment(_)
            | FileName::MustReach
            | FileName::Bounds
            | FileName::Spare(_)
            | FileName::Cleaned(_)
            | FileName::Swap(..) => {}
            FileName::Index(base) => match SealedIndex::from_file(bytes, base) {
                Some(sealed) => {
                    for (offset, position) in sealed.index.places() {
                        self.add(file, base, position, Some(offset));
                    }
                    self.add(file, base, sealed.len, None);
                }
                None => self.findings.push((file, "is not an index of this segment, or is damaged".to_owned())),
            },
            FileName::Snapshot(_) | FileName::Checkpoint => match State::from_file(bytes) {
                Some(state) => {
                    let next = state.mark.next;
                    // What is left to say then: if a segment begins there, it begins with that offset.
                    let is_outdated = state.is_outdated(self.bounds);
                    let place = if is_outdated { (next, 0) } else { (state.segment, state.mark.position) };
                    self.add(file, place.0, place.1, Some(next));
                    let ends = state.sealed.iter().skip(1).map(|row| row.base).chain([state.segment]);
                    for (row, end) in state.sealed.iter().zip(ends) {
                        if end > self.bounds.start && row.base >= self.bounds.rewritten {
                            self.add(file, row.base, row.len, None);
                        }
                    }
                }
                None => self.findings.push((file, "is not a snapshot of a log, or is damaged".to_owned())),
            },
        }
    }

    fn add(&mut self, by: FileName, segment: Offset, position: u64, next: Option<Offset>) {
        self.open.entry((segment, position)).or_default().push(Claim { by, next });
    }

    /// In that segment the batch with offset `next` begins at `position`, or would.
    pub fn on_place(&mut self, segment: Offset, position: u64, next: Offset) {
        for claim in self.open.remove(&(segment, position)).unwrap_or_default() {
            if let Some(claimed) = claim.next.filter(|claimed| *claimed != next) {
                let what =
                    format!("says offset {claimed} is at byte {position} of segment {segment}, which has {next}");
                self.findings.push((claim.by, what));
            }
        }
    }

    /// What is wrong, one finding a file, given that the log's segments are `ends`. An index may be left of a segment
    /// that is gone, and a snapshot may be there before the segment that it begins.
    pub fn finish(mut self, ends: &[SegmentEnd]) -> Vec<(FileName, String)> {
        let log_end = ends.last().map_or(Offset(0), |end| end.next);
        for ((segment, position), claims) in std::mem::take(&mut self.open) {
            let is_there = ends.iter().any(|end| end.base == segment);
            for claim in claims {
                let what = match (claim.by, claim.next) {
                    _ if is_there => {
                        format!("says a batch ends at byte {position} of segment {segment}, where none does")
                    }
                    (FileName::Index(_) | FileName::Segment(_), _) => continue,
                    (_, Some(next)) if next <= log_end => continue,
                    (_, Some(next)) => format!("tells of offsets up to {next}, and the segments end with {log_end}"),
                    (_, None) => format!("tells of segment {segment}, which is missing"),
                };
                self.findings.push((claim.by, what));
            }
        }
        self.findings.sort_by_key(|(file, _)| *file);
        self.findings.dedup_by_key(|(file, _)| *file);
        self.findings
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::epochs::Epochs;
    use crate::log::index::Index;
    use crate::log::producer::Producers;
    use crate::log::state::{SealedRow, StateView};
    use crate::log::testing::stored;
    use crate::log::write::Mark;

    /// Whatever the pieces the file is read in, the answer is the same.
    fn read(base: i64, bytes: &[u8]) -> SegmentEnd {
        let ends = [1, 7, 100, 1 << 20].map(|piece| {
            let mut reader = SegmentReader::new(Offset(base), LeaderEpoch(0), bytes.len() as u64);
            let mut seen = 0;
            for piece in bytes.chunks(piece) {
                reader.push(piece, |batch| {
                    assert_eq!(batch.position, seen);
                    seen += batch.bytes.len() as u64;
                });
            }
            assert_eq!(reader.next().1, seen);
            reader.finish()
        });
        assert!(ends.iter().all(|end| *end == ends[0]), "{ends:?}");
        ends[0].clone()
    }

    #[test]
    fn a_segment_is_read_to_its_end() {
        let bytes = stored(10, 3);
        let end = read(10, &bytes);
        assert_eq!((end.next, end.position, end.batches, end.records), (Offset(16), bytes.len() as u64, 3, 6));
        assert_eq!((end.epoch, end.rest), (LeaderEpoch(3), Rest::None));
        assert_eq!(read(10, &[]).rest, Rest::None);
    }

    #[test]
    fn the_first_bad_byte_is_that_of_the_batch_it_is_in() {
        let good = stored(0, 2);
        let one = good.len() as u64 / 2;
        let check = |bytes: &[u8], position: u64, expect: &str| {
            let end = read(0, bytes);
            assert_eq!(end.position, position);
            match end.rest {
                Rest::Bad { bytes: rest, why } => {
                    assert_eq!(rest, bytes.len() as u64 - position);
                    assert!(why.to_string().contains(expect), "{why}");
                }
                other => panic!("{other:?}"),
            }
        };
        let changed = |at: usize, byte: u8| {
            let mut bytes = good.clone();
            bytes[at] ^= byte;
            bytes
        };
        check(&changed(one as usize + 70, 1), one, "checksum");
        check(&changed(70, 1), 0, "checksum");
        check(&changed(7, 1), 0, "does not belong here");
        // A length of 2 GiB.
        check(&changed(one as usize + 8, 0x7f), one, "more than there are");
        check(&changed(16, 3), 0, "no batch: format 1");
        check(&good[..good.len() - 1], one, "more than there are");
        check(&[&good[..], &stored(0, 1)].concat(), 2 * one, "does not belong here");
    }

    #[test]
    fn zeros_at_the_end_are_space_and_not_damage() {
        let good = stored(0, 2);
        for zeros in [1, 60, 61, 5000] {
            let end = read(0, &[good.clone(), vec![0; zeros]].concat());
            assert_eq!((end.position, end.rest), (good.len() as u64, Rest::Unused { bytes: zeros as u64 }));
        }
        let end = read(0, &[good.clone(), vec![0; 5000], vec![1]].concat());
        assert!(matches!(end.rest, Rest::Bad { bytes: 5001, .. }), "{end:?}");
    }

    #[test]
    fn older_batches_at_the_end_are_space_and_later_ones_damage() {
        let good = stored(10, 2);
        let position = good.len() as u64;
        let check = |behind: &[u8], is_space: bool| {
            let end = read(10, &[&good[..], behind].concat());
            let bytes = behind.len() as u64;
            assert_eq!(end.position, position);
            assert_eq!(end.rest == Rest::Older { bytes }, is_space, "{end:?}");
            assert_eq!(plan_cut(&[end]).is_none(), is_space);
        };
        let older = stored(0, 3);
        check(&older, true);
        check(&older[40..], true);
        check(&[&[0; 300], &older[40..], &[0; 300]].concat(), true);
        check(&older[older.len() / 3 * 2 + 40..], false);
        check(&[&older[40..], &stored(16, 1)].concat(), false);
        check(&[&[1; 10], &stored(14, 1)[..]].concat(), false);
    }

    #[test]
    fn a_cut_takes_what_follows_on_the_bad_place() {
        let (first, second) = (stored(0, 2), stored(4, 2));
        let ends = |first: &[u8], second: &[u8], base: i64| vec![read(0, first), read(base, second)];
        assert_eq!(plan_cut(&ends(&first, &second, 4)), None);
        // A killed broker's last segment ends in unused space.
        assert_eq!(plan_cut(&ends(&first, &[second.clone(), vec![0; 100]].concat(), 4)), None);
        let mut bad = first.clone();
        bad[first.len() - 1] ^= 1;
        let cut = plan_cut(&ends(&bad, &second, 4)).unwrap();
        assert_eq!((cut.segment, cut.position, cut.offset), (Offset(0), first.len() as u64 / 2, Offset(2)));
        assert_eq!(cut.later, [Offset(4)]);
        let cut = plan_cut(&ends(&first, &stored(6, 1), 6)).unwrap();
        assert_eq!((cut.position, cut.offset, cut.later), (first.len() as u64, Offset(4), vec![Offset(6)]));
        assert_eq!(cut.why, "the next segment begins with offset 6, not 4");
    }

    #[test]
    fn an_index_that_points_elsewhere_is_found_out() {
        let bytes = stored(0, 4);
        let one = bytes.len() as u64 / 4;
        let verdict = |offset: i64, position: u64, len: u64| {
            let mut index = Index::new(Offset(0), 1);
            index.on_batch(Offset(offset), position, 5);
            let mut claims = Claims::default();
            claims.read(FileName::Index(Offset(0)), &SealedIndex { index, len, max_timestamp: 5 }.to_file());
            let mut reader = SegmentReader::new(Offset(0), LeaderEpoch(0), bytes.len() as u64);
            reader.push(&bytes, |batch| claims.on_place(Offset(0), batch.position, batch.header.first_offset()));
            claims.on_place(Offset(0), reader.next().1, reader.next().0);
            claims.finish(&[reader.finish()]).into_iter().map(|(_, what)| what).collect::<Vec<_>>()
        };
        assert_eq!(verdict(2, one, 4 * one), [""; 0]);
        assert_eq!(verdict(4, one, 4 * one), [format!("says offset 4 is at byte {one} of segment 0, which has 2")]);
        let nowhere = format!("says a batch ends at byte {} of segment 0, where none does", one + 1);
        assert_eq!(verdict(2, one + 1, 4 * one), [nowhere.as_str()]);
        assert_eq!(verdict(2, one, 4 * one - 1).len(), 1);
        let mut claims = Claims::default();
        claims.read(FileName::Checkpoint, b"nonsense");
        assert_eq!(claims.finish(&[])[0].1, "is not a snapshot of a log, or is damaged");
    }

    #[test]
    fn a_snapshot_that_tells_of_what_is_gone_is_found_out() {
        let bytes = stored(4, 2);
        let snapshot = |segment: i64, position: u64, next: i64, sealed: &[i64]| {
            let rows = sealed.iter().map(|base| SealedRow { base: Offset(*base), len: 100, max_timestamp: Some(5) });
            let tail = vec![0; position as usize].into();
            let mark = Mark { next: Offset(next), position, tail, ..Mark::start_of(Offset(next)) };
            let view = StateView {
                segment: Offset(segment),
                mark: &mark,
                first_timestamp: None,
                index: &Index::new(Offset(segment), 1),
                sealed: &rows.collect::<Vec<_>>(),
                epochs: &Epochs::default(),
                producers: &Producers::default(),
            };
            view.to_file()
        };
        let check = |rewritten: Offset, file: &[u8], expect: &[&str]| {
            let mut claims = Claims::default();
            claims.read_bounds(&Bounds { rewritten, ..Bounds::default() }.to_file());
            claims.read(FileName::Checkpoint, file);
            let found: Vec<String> = claims.finish(&[read(4, &bytes)]).into_iter().map(|(_, what)| what).collect();
            assert_eq!(found, expect);
        };
        // The segment that it begins may not be there yet.
        check(Offset(0), &snapshot(8, 0, 8, &[]), &[]);
        check(Offset(0), &snapshot(8, 0, 9, &[]), &["tells of offsets up to 9, and the segments end with 8"]);
        check(Offset(0), &snapshot(8, 0, 8, &[0]), &["tells of segment 0, which is missing"]);
        check(Offset(4), &snapshot(4, 1, 6, &[]), &["says a batch ends at byte 1 of segment 4, where none does"]);
        // The segment has been rewritten.
        check(Offset(8), &snapshot(4, 1, 6, &[]), &[]);
        check(Offset(8), &snapshot(4, 1, 9, &[]), &["tells of offsets up to 9, and the segments end with 8"]);
    }

    #[test]
    fn files_are_known_by_their_names() {
        let names =
            ["00000000000000000007.log", "00000000000000000000.log", "checkpoint", "00000000000000000000.index"];
        let files =
            LogFiles::of(names.into_iter().chain(["00000000000000000005.spare", "notes.txt"]).map(str::to_owned));
        assert_eq!(files.segments, [Offset(0), Offset(7)]);
        assert_eq!((files.indexes, files.snapshots), (vec![Offset(0)], vec![]));
        assert!(files.has_checkpoint);
        assert_eq!(files.strangers, ["notes.txt"]);
    }
}
