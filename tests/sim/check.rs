//! What must be true of the logs, from what clients sent and what they were told.
//!
//! A record has an identity of its own, so each can be recognised wherever it turns up. A violation is a panic that
//! says what was promised and what was seen.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use corelog::base::checksum::crc32c;
use corelog::base::rng::Rng;
use corelog::wire::batch::{BatchHeader, CHECKSUM_FROM};
use corelog::wire::record::Record;
use corelog::wire::records::BatchRecords;

use crate::plan::Plan;

/// Topic and partition.
pub type Part = (usize, i32);

/// A stream is what keeps its order: all of an idempotent producer, one connection of a plain one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct RecordId {
    pub stream: u32,
    pub number: u64,
}

/// What a record was made with.
#[derive(Clone, Copy, Debug)]
pub struct Made {
    /// By its producer's clock.
    pub timestamp_ms: i64,
    pub key: Option<u64>,
    pub is_tombstone: bool,
}

#[derive(Default)]
pub struct Model {
    /// Where a log begins is promised only to who had records deleted: each of several replicas removes by itself what is
    /// too old.
    has_replicas: bool,
    /// Topics of which of each key the last record stays; a tombstone so many milliseconds.
    compacted: BTreeMap<usize, i64>,
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
    /// Everything that was ever sent.
    sent: BTreeMap<RecordId, Made>,
    /// What each offset is known to hold, from acks and fetches.
    known: BTreeMap<i64, RecordId>,
    places: BTreeMap<RecordId, i64>,
    acked: BTreeSet<i64>,
    /// What a leader has acknowledged by itself, which may be lost with it: epoch, offset and record.
    unsettled: Vec<(i32, i64, RecordId)>,
    /// Offsets of the records that were fetched since an audit began.
    seen: BTreeSet<i64>,
    /// The greatest start anyone was shown.
    start: i64,
    /// The same before an audit began: what is old may go while it reads.
    start_before: i64,
    /// Below this some replica has removed everything, and with it what it knew of who had sent it.
    removed: i64,
    /// The greatest end anyone was shown.
    end: i64,
}

impl Model {
    pub fn new(plan: &Plan) -> Model {
        let topics = plan.topics.iter().enumerate();
        let compacted =
            topics.filter_map(|(topic, plan)| Some((topic, plan.compacted?.delete_retention_ms as i64))).collect();
        Model { has_replicas: plan.nodes > 1, compacted, ..Model::default() }
    }

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

    pub fn on_sent(&mut self, part: Part, id: RecordId, made: Made) {
        self.parts.entry(part).or_default().sent.insert(id, made);
    }

    /// The leader's log begins at `log_start`.
    pub fn on_acked(&mut self, part: Part, ids: impl Iterator<Item = RecordId>, base: i64, log_start: i64) {
        self.on_removed(part, log_start);
        let model = self.parts.entry(part).or_default();
        for (offset, id) in (base..).zip(ids) {
            model.place(part, offset, id, "acknowledged");
            model.acked.insert(offset);
            self.acked += 1;
        }
    }

    /// The same of a leader in that epoch, which has not waited for others.
    pub fn on_acked_by_leader(&mut self, part: Part, ids: impl Iterator<Item = RecordId>, base: i64, epoch: i32) {
        let rows = (base..).zip(ids).map(|(offset, id)| (epoch, offset, id));
        self.parts.entry(part).or_default().unsettled.extend(rows);
    }

    /// Partitions of which something was acknowledged by a leader alone.
    pub fn unsettled(&self) -> Vec<Part> {
        let parts = self.parts.iter().filter(|(_, model)| !model.unsettled.is_empty());
        parts.map(|(part, _)| *part).collect()
    }

    /// What the leader in that epoch has below the high watermark stays.
    pub fn on_committed(&mut self, part: Part, epoch: i32, high_watermark: i64) {
        let model = self.parts.entry(part).or_default();
        let is_committed = |row: &mut (i32, i64, RecordId)| row.0 == epoch && row.1 < high_watermark;
        let committed: Vec<_> = model.unsettled.extract_if(.., is_committed).collect();
        for (_, offset, id) in committed {
            model.place(part, offset, id, "acknowledged and committed");
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

    /// A reply said so on the way. Of several replicas it may be one that leads no more, and has not heard of that.
    pub fn on_start_seen(&mut self, part: Part, start: i64, known_start: i64) {
        self.on_removed(part, start);
        if !self.has_replicas {
            self.on_start(part, start, known_start);
        }
    }

    /// One alone goes on from what it knew of producers, whatever it removes.
    fn on_removed(&mut self, part: Part, log_start: i64) {
        if self.has_replicas {
            let model = self.parts.entry(part).or_default();
            model.removed = model.removed.max(log_start);
        }
    }

    /// Bytes of a Fetch reply for `from`. Returns the offset after the last batch.
    pub fn on_fetched(&mut self, part: Part, from: i64, high_watermark: i64, bytes: Bytes) -> i64 {
        let mut rest = bytes;
        let mut next = None;
        while !rest.is_empty() {
            let header = BatchHeader::read(&rest).expect("a fetch has whole batches");
            assert!(header.size_bytes() <= rest.len(), "a fetch has whole batches");
            let batch = rest.split_to(header.size_bytes());
            let expect = next.unwrap_or(header.base_offset);
            // What is left of a compacted batch may be passed over when it is nothing.
            let follows = if self.compacted.contains_key(&part.0) {
                header.base_offset >= expect
            } else {
                header.base_offset == expect && (next.is_some() || header.base_offset <= from)
            };
            assert!(follows, "{part:?}: a batch at {} where one at {expect} belongs, from {from}", header.base_offset);
            next = Some(self.on_batch(part, &header, &batch));
        }
        let Some(next) = next else { return from };
        assert!(next > from, "{part:?}: a fetch from {from} ends at {next}");
        assert!(next <= high_watermark, "{part:?}: records up to {next} beyond the high watermark {high_watermark}");
        next
    }

    /// An audit begins to read everything.
    pub fn begin_audit(&mut self) {
        for model in self.parts.values_mut() {
            model.seen.clear();
            model.start_before = model.start;
        }
    }

    /// Everything from `start` to `end` was read, and nobody was writing.
    pub fn on_audit(&mut self, part: Part, (start, end): (i64, i64), may_have_lost: bool, now_ms: i64) {
        let delete_retention_ms = self.compacted.get(&part.0).copied();
        let model = self.parts.entry(part).or_default();
        if may_have_lost {
            model.forget_from(end);
        }
        assert!(model.end <= end, "{part:?} ended at {} and now at {end}: it lost what it had shown", model.end);
        let before = model.start_before;
        assert!(start >= before, "{part:?} began at {before} and now at {start}: what was removed is back");
        let last = model.known.range(start..).next_back().map_or(start, |(last, _)| last + 1);
        assert!(last <= end, "{part:?}: {last} records were acknowledged or read, and {end} are there");
        match delete_retention_ms {
            Some(delete_retention_ms) => model.check_latest(part, start, now_ms - delete_retention_ms),
            None => {
                for (expect, (offset, _)) in (start..end).zip(model.known.range(start..)) {
                    assert_eq!(expect, *offset, "{part:?}: offsets are dense");
                }
                assert_eq!(last, end, "{part:?}: the log ends at {end} and holds {last} records");
            }
        }
        model.end = end;
    }

    fn on_batch(&mut self, part: Part, header: &BatchHeader, batch: &Bytes) -> i64 {
        let is_compacted = self.compacted.contains_key(&part.0);
        let model = self.parts.entry(part).or_default();
        let records = BatchRecords::open(batch).expect("a batch is what was sent");
        let mut next = header.base_offset;
        for record in records.iter() {
            let record = record.expect("a record is what was sent");
            let offset = record.offset.0;
            let follows = if is_compacted { offset >= next } else { offset == next };
            assert!(follows, "{part:?}: a record at {offset} where one at {next} belongs");
            let id = read_id(&record.record)
                .unwrap_or_else(|| panic!("{part:?}: the record at {offset} is not one that was sent"));
            let Some(made) = model.sent.get(&id) else {
                panic!("{part:?}: the record at {offset} ({id:?}) was sent elsewhere")
            };
            let time = made.timestamp_ms;
            assert_eq!(record.timestamp, time, "{part:?}: the record at {offset} has its producer's timestamp");
            let key = made.key.map(|key| format!("key {key}").into_bytes());
            assert_eq!(record.record.key, key.as_deref(), "{part:?}: the record at {offset} has its key");
            model.place(part, offset, id, "fetched");
            model.seen.insert(offset);
            next = offset + 1;
            self.fetched += 1;
        }
        let end = header.next_offset().0;
        assert!(is_compacted || next == end, "{part:?}: a batch up to {end} has records up to {next}");
        end
    }
}

impl PartModel {
    fn place(&mut self, part: Part, offset: i64, id: RecordId, how: &str) {
        if let Some(other) = self.known.get(&offset) {
            assert_eq!(*other, id, "{part:?}: {how} at offset {offset}, where another record was before");
            return;
        }
        if let Some(other) = self.places.insert(id, offset) {
            // As in Kafka: who follows from behind the record on does not know that its producer has sent it already.
            let is_removed = other < self.removed;
            assert!(
                is_removed,
                "{part:?}: {id:?} is {how} at offset {offset} and was at {other} before: it is there twice"
            );
            self.known.insert(offset, id);
            return;
        }
        let stream = RecordId { number: 0, ..id }..RecordId { number: u64::MAX, ..id };
        let before = self.places.range(stream.start..id).next_back().map(|(_, place)| *place);
        let after = self.places.range(id..stream.end).nth(1).map(|(_, place)| *place);
        let ordered = before.is_none_or(|before| before < offset) && after.is_none_or(|after| offset < after);
        assert!(ordered, "{part:?}: {id:?} is {how} at {offset}, not between {before:?} and {after:?}");
        self.known.insert(offset, id);
    }

    /// Of each key the last record from `start` on was seen, unless it is a tombstone of this time or before.
    fn check_latest(&self, part: Part, start: i64, gone_ms: i64) {
        let may_be_gone = |made: &Made| made.is_tombstone && made.timestamp_ms <= gone_ms;
        let known = self.known.iter().map(|(offset, id)| (self.sent[id].key, (*offset, self.sent[id])));
        let latest: BTreeMap<_, _> = known.collect();
        // A tombstone that nobody has heard of again may have been the last.
        let unheard = self.sent.iter().filter(|(id, made)| may_be_gone(made) && !self.places.contains_key(id));
        let unheard: BTreeSet<_> = unheard.map(|(_, made)| made.key).collect();
        for (key, (offset, made)) in latest {
            let is_there = offset < start || self.seen.contains(&offset);
            let is_fine = is_there || may_be_gone(&made) || unheard.contains(&key);
            assert!(is_fine, "{part:?}: the last record of key {key:?}, at {offset}, is gone: {made:?}");
        }
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

/// The identity of a record; a tombstone has it in a header.
fn read_id(record: &Record) -> Option<RecordId> {
    let value = record.value.or_else(|| record.headers().next().and_then(|(_, value)| value));
    read_value(value.unwrap_or_default())
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
