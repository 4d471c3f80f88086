//! What a log knows beside its batches, in one file: written at a clean close (`checkpoint`) and at each roll
//! (`<base>.snapshot`), so that recovery reads batches only from there on.
//!
//! *Owns*: the form of these files. *Never*: is needed for correctness; without one, recovery reads every batch.
//! *Runs on*: the core that owns the partition.

use bytes::Bytes;

use crate::base::bounds::Bounds;
use crate::base::disk::BLOCK_BYTES;
use crate::base::ids::Offset;

use super::epochs::Epochs;
use super::file::{FileWriter, Kind, open_file};
use super::index::Index;
use super::producer::Producers;
use super::write::Mark;

const KIND: Kind = *b"CLS1";

const SEALED_ROW_BYTES: usize = 24;

/// In the place of a timestamp.
const NOT_KNOWN: i64 = i64::MAX;

/// A sealed segment, so that nothing of it must be read to know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SealedRow {
    pub(super) base: Offset,
    pub(super) len: u64,
    /// `None` when the index must be asked.
    pub(super) max_timestamp: Option<i64>,
}

/// Everything below `mark` of the segment that begins at `segment` is accounted for, and durable.
#[derive(Debug)]
pub(super) struct State {
    pub(super) segment: Offset,
    pub(super) mark: Mark,
    pub(super) first_timestamp: Option<i64>,
    /// Of the segment, up to `mark`.
    pub(super) index: Index,
    pub(super) sealed: Vec<SealedRow>,
    pub(super) epochs: Epochs,
    pub(super) producers: Producers,
}

/// The same, borrowed from a log.
pub(super) struct StateView<'a> {
    pub(super) segment: Offset,
    pub(super) mark: &'a Mark,
    pub(super) first_timestamp: Option<i64>,
    pub(super) index: &'a Index,
    pub(super) sealed: &'a [SealedRow],
    pub(super) epochs: &'a Epochs,
    pub(super) producers: &'a Producers,
}

impl StateView<'_> {
    pub(super) fn to_file(&self) -> Bytes {
        let mut file = FileWriter::new(KIND);
        file.put_i64(self.segment.0);
        file.put_i64(self.mark.next.0);
        file.put_u64(self.mark.position);
        file.put_i64(self.mark.max_timestamp);
        file.put_bytes(&self.mark.tail);
        file.put_count(usize::from(self.first_timestamp.is_some()));
        if let Some(first) = self.first_timestamp {
            file.put_i64(first);
        }
        self.index.encode(&mut file);
        file.put_count(self.sealed.len());
        for row in self.sealed {
            file.put_i64(row.base.0);
            file.put_u64(row.len);
            file.put_i64(row.max_timestamp.unwrap_or(NOT_KNOWN));
        }
        self.epochs.encode(self.mark.next, &mut file);
        self.producers.encode(self.mark.next, &mut file);
        file.finish()
    }
}

impl State {
    pub(super) fn from_file(bytes: &[u8]) -> Option<State> {
        let mut file = open_file(KIND, bytes)?;
        let segment = Offset(file.i64()?);
        let (next, position, max_timestamp) = (Offset(file.i64()?), file.u64()?, file.i64()?);
        let mark = Mark { next, position, max_timestamp, tail: Bytes::copy_from_slice(file.bytes()?) };
        let first_timestamp = match file.u32()? {
            0 => None,
            1 => Some(file.i64()?),
            _ => return None,
        };
        let index = Index::decode(&mut file)?;
        let mut sealed = Vec::with_capacity(file.count(SEALED_ROW_BYTES)?);
        for _ in 0..sealed.capacity() {
            let (base, len, max_timestamp) = (Offset(file.i64()?), file.u64()?, file.i64()?);
            let max_timestamp = (max_timestamp != NOT_KNOWN).then_some(max_timestamp);
            sealed.push(SealedRow { base, len, max_timestamp });
        }
        let mut epochs = Epochs::decode(&mut file)?;
        let mut producers = Producers::decode(&mut file)?;
        file.end()?;
        epochs.cut(next);
        producers.cut(next);
        let holds = segment <= next
            && segment >= Offset(0)
            && index.base() == segment
            && mark.tail.len() as u64 == position % BLOCK_BYTES as u64;
        holds.then_some(State { segment, mark, first_timestamp, index, sealed, epochs, producers })
    }

    /// Its segment may have been rewritten since: where it says that a batch ends, none does, or one of others.
    pub(super) fn is_outdated(&self, bounds: Bounds) -> bool {
        self.segment < bounds.rewritten && self.mark.position > 0
    }

    /// The state before the first batch of a segment of which nothing is known.
    pub(super) fn nothing(base: Offset, index_interval_bytes: u32) -> State {
        State {
            segment: base,
            mark: Mark::start_of(base),
            first_timestamp: None,
            index: Index::new(base, index_interval_bytes),
            sealed: Vec::new(),
            epochs: Epochs::default(),
            producers: Producers::default(),
        }
    }
}
