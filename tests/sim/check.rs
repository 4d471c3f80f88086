//! What must be true of the logs, from what clients sent and what they were told.
//!
//! A record has an identity of its own, so each can be recognised wherever it turns up. A violation is a panic that
//! says what was promised and what was seen.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use corelog::base::checksum::crc32c;
use corelog::base::rng::Rng;
use corelog::wire::batch::{BatchHeader, CHECKSUM_FROM};
use corelog::wire::records::BatchRecords;

/// Topic and partition.
pub type Part = (usize, i32);

/// A stream is what keeps its order: all of an idempotent producer, one connection of a plain one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct RecordId {
    pub stream: u32,
    pub number: u64,
}

#[derive(Default)]
pub struct Model {
    parts: BTreeMap<Part, PartModel>,
    streams: u32,
    identities: BTreeSet<i64>,
    /// Partitions whose files the device has damaged.
    pub rotten: BTreeSet<Part>,
    pub acked: u64,
    pub fetched: u64,
}

#[derive(Default)]
struct PartModel {
    /// Everything that was ever sent, and when by its producer's clock.
    sent: BTreeMap<RecordId, i64>,
    /// What each offset is known to hold, from acks and fetches.
    known: BTreeMap<i64, RecordId>,
    places: BTreeMap<RecordId, i64>,
    acked: BTreeSet<i64>,
    /// The greatest start anyone was shown.
    start: i64,
    /// The greatest end anyone was shown.
    end: i64,
}

impl Model {
    /// Whether these are whole batches as somebody built them, which every client looks at. Only damage excuses others.
    pub fn are_sound(&self, part: Part, bytes: &Bytes) -> bool {
        let mut rest = &bytes[..];
        let mut sound = true;
        while let Some(header) = BatchHeader::read(rest).filter(|header| header.size_bytes() <= rest.len()) {
            let batch = &rest[..header.size_bytes()];
            sound &= batch.len() > CHECKSUM_FROM && crc32c(&batch[CHECKSUM_FROM..]) == header.crc;
            rest = &rest[header.size_bytes()..];
        }
        sound &= rest.is_empty();
        assert!(sound || self.rotten.contains(&part), "{part:?}: a batch is not what was sent");
        sound
    }

    pub fn new_stream(&mut self) -> u32 {
        self.streams += 1;
        self.streams
    }

    /// A producer was given its number.
    pub fn on_identity(&mut self, id: i64) {
        assert!(self.identities.insert(id), "producer id {id} is given twice");
    }

    pub fn on_sent(&mut self, part: Part, id: RecordId, timestamp_ms: i64) {
        self.parts.entry(part).or_default().sent.insert(id, timestamp_ms);
    }

    pub fn on_acked(&mut self, part: Part, ids: impl Iterator<Item = RecordId>, base: i64) {
        let model = self.parts.entry(part).or_default();
        for (offset, id) in (base..).zip(ids) {
            model.place(part, offset, id, "acknowledged");
            model.acked.insert(offset);
            self.acked += 1;
        }
    }

    /// The greatest end that may not be undercut from now on.
    pub fn end(&self, part: Part) -> i64 {
        self.parts.get(&part).map_or(0, |model| model.end)
    }

    /// A reply said that the log ends at `end`; the request left when `known_end` was known.
    pub fn on_end(&mut self, part: Part, end: i64, known_end: i64) {
        assert!(end >= known_end, "{part:?} ended at {known_end} and now at {end}: it lost what it had shown");
        let model = self.parts.entry(part).or_default();
        model.end = model.end.max(end);
    }

    /// The greatest start that may not be undercut from now on.
    pub fn start(&self, part: Part) -> i64 {
        self.parts.get(&part).map_or(0, |model| model.start)
    }

    /// A reply said that the log begins at `start`; the request left when `known_start` was known.
    pub fn on_start(&mut self, part: Part, start: i64, known_start: i64) {
        assert!(start >= known_start, "{part:?} began at {known_start} and now at {start}: what was removed is back");
        let model = self.parts.entry(part).or_default();
        model.start = model.start.max(start);
    }

    /// Bytes of a Fetch reply for `from`. Returns the offset after the last record.
    pub fn on_fetched(&mut self, part: Part, from: i64, high_watermark: i64, bytes: Bytes) -> i64 {
        let mut rest = bytes;
        let mut next = None;
        while !rest.is_empty() {
            let header = BatchHeader::read(&rest).expect("a fetch has whole batches");
            assert!(header.size_bytes() <= rest.len(), "a fetch has whole batches");
            let batch = rest.split_to(header.size_bytes());
            let expect = next.unwrap_or(header.base_offset);
            assert_eq!(header.base_offset, expect, "{part:?}: batches follow each other without gap");
            assert!(next.is_some() || header.base_offset <= from, "{part:?}: what was asked for comes first");
            next = Some(self.on_batch(part, header.base_offset, &batch));
        }
        let Some(next) = next else { return from };
        assert!(next > from, "{part:?}: a fetch from {from} ends at {next}");
        assert!(next <= high_watermark, "{part:?}: records up to {next} beyond the high watermark {high_watermark}");
        next
    }

    /// Everything from `start` to `end` was read, and nobody was writing.
    pub fn on_audit(&mut self, part: Part, start: i64, end: i64, may_have_lost: bool) {
        let model = self.parts.entry(part).or_default();
        if may_have_lost {
            model.forget_from(end);
        }
        assert!(model.end <= end, "{part:?} ended at {} and now at {end}: it lost what it had shown", model.end);
        for (expect, (offset, _)) in (start..end).zip(model.known.range(start..)) {
            assert_eq!(expect, *offset, "{part:?}: offsets are dense");
        }
        let last = model.known.range(start..).next_back().map_or(start, |(last, _)| last + 1);
        assert!(last <= end, "{part:?}: {last} records were acknowledged or read, and {end} are there");
        assert_eq!(last, end, "{part:?}: the log ends at {end} and holds {last} records");
        model.end = end;
    }

    fn on_batch(&mut self, part: Part, base: i64, batch: &Bytes) -> i64 {
        let model = self.parts.entry(part).or_default();
        let records = BatchRecords::open(batch).expect("a batch is what was sent");
        let mut next = base;
        for record in records.iter() {
            let record = record.expect("a record is what was sent");
            assert_eq!(record.offset.0, next, "{part:?}: offsets are dense");
            let id = read_value(record.record.value.unwrap_or_default())
                .unwrap_or_else(|| panic!("{part:?}: the record at {next} is not one that was sent"));
            let Some(sent_ms) = model.sent.get(&id) else {
                panic!("{part:?}: the record at {next} ({id:?}) was sent elsewhere")
            };
            assert_eq!(record.timestamp, *sent_ms, "{part:?}: the record at {next} has its producer's timestamp");
            model.place(part, next, id, "fetched");
            next += 1;
            self.fetched += 1;
        }
        next
    }
}

impl PartModel {
    fn place(&mut self, part: Part, offset: i64, id: RecordId, how: &str) {
        if let Some(other) = self.known.get(&offset) {
            assert_eq!(*other, id, "{part:?}: {how} at offset {offset}, where another record was before");
            return;
        }
        if let Some(other) = self.places.insert(id, offset) {
            panic!("{part:?}: {id:?} is {how} at offset {offset} and was at {other} before: it is there twice");
        }
        let stream = RecordId { number: 0, ..id }..RecordId { number: u64::MAX, ..id };
        let before = self.places.range(stream.start..id).next_back().map(|(_, place)| *place);
        let after = self.places.range(id..stream.end).nth(1).map(|(_, place)| *place);
        let ordered = before.is_none_or(|before| before < offset) && after.is_none_or(|after| offset < after);
        assert!(ordered, "{part:?}: {id:?} is {how} at {offset}, not between {before:?} and {after:?}");
        self.known.insert(offset, id);
    }

    fn forget_from(&mut self, end: i64) {
        for (_, id) in self.known.split_off(&end) {
            self.places.remove(&id);
        }
        self.acked.split_off(&end);
        self.end = self.end.min(end);
    }
}

/// The value of a record, of 16 bytes or more: its identity, filling that only this record has, and a checksum.
pub fn value(id: RecordId, bytes: usize) -> Vec<u8> {
    let body = bytes.max(16) - 4;
    let mut value = Vec::with_capacity(body + 8);
    value.extend_from_slice(&id.stream.to_be_bytes());
    value.extend_from_slice(&id.number.to_be_bytes());
    let mut rng = Rng::new(u64::from(id.stream) << 40 ^ id.number);
    while value.len() < body {
        value.extend_from_slice(&rng.next_u64().to_be_bytes());
    }
    value.truncate(body);
    value.extend_from_slice(&crc32c(&value).to_be_bytes());
    value
}

pub fn read_value(value: &[u8]) -> Option<RecordId> {
    let (body, sum) = value.split_last_chunk::<4>()?;
    if crc32c(body) != u32::from_be_bytes(*sum) {
        return None;
    }
    let stream = u32::from_be_bytes(*body.first_chunk()?);
    let number = u64::from_be_bytes(*body[4..].first_chunk()?);
    Some(RecordId { stream, number })
}
